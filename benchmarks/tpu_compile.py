"""Compiles the full-size training steps with the real TPU compiler, on a machine without a TPU.

It compiles every stage of SCJD's and CDKD's full-size presets, with each kind of projector, in
float32 and bfloat16. A program is compiled and not run, so that no number is a measured time.

  python -m benchmarks.tpu_compile [--topologies v5e:2x4 v5e:16x16 v6e:2x4] [--only REGEX]
      [--per-chip N ...] [--out FILE]

It needs an environment with the compiler: pip install -r requirements.txt -r requirements-tpu.txt.
A row is a line of JSON in FILE. Rows that were made from the same code by the same compiler are
kept, so that the command can be repeated after an interruption. Each row has a process of its own:
the memory is freed, and a crash of the compiler costs one row.
"""

import argparse
import dataclasses
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import command
from benchmarks.chips import GENERATIONS
from kdpose_jax import entry
from kdpose_jax.contracts import Column
from kdpose_jax.errors import UserError
from kdpose_jax.report.tables import markdown_table

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
# What decides a program, beside the versions of JAX and its compiler.
CODE = ("kdpose_jax", "configs", "benchmarks/hlo.py", "benchmarks/networks.py")
TYPES = ("float32", "bfloat16")
STAGES = ("teacher", "student")
PROJECTORS = ("dense", "lowrank", "per_joint", "kron")
# Lets libtpu load on a machine without a TPU, and in several processes.
WITHOUT_A_TPU = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One program to compile.

    Attributes:
      preset: names the experiment, for example `scjd:h36m`.
      stage: `teacher` or `student`.
      projector: CDKD's kind of projector; empty where there is none.
      compute: the type that both networks compute in.
      topology: generation and shape of the chips, for example `v5e:2x4`.
      per_chip: examples on each chip; 0: as many as the preset's batch gives.
    """

    preset: str
    stage: str
    projector: str
    compute: str
    topology: str
    per_chip: int

    @property
    def name(self) -> str:
        """The name that --only is looked for in."""
        share = f", {self.per_chip} a chip" if self.per_chip else ""
        words = [self.preset, self.stage, *([self.projector] if self.projector else [])]
        return f"{' '.join(words)}, {self.compute}, {self.topology}{share}"


def cases(topologies: Sequence[str], shares: Sequence[int]) -> Iterator[Case]:
    """Lists the programs, the cheap ones of each topology first."""
    runs = [(f"scjd:{name}", stage, "") for name in ("h36m", "3dhp") for stage in STAGES]
    for name in ("mpii32", "mpii64", "coco32", "coco64"):
        runs.append((f"cdkd:{name}", "teacher", ""))
        runs += [(f"cdkd:{name}", "student", kind) for kind in PROJECTORS]
    for topology in topologies:
        for compute in TYPES:
            for run in runs:
                for share in shares:
                    yield Case(*run, compute, topology, share)


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit code 0, 1 if a step did not compile, 2 if refused."""
    try:
        options = parse(arguments)
        if options.row:
            print(json.dumps(compiled(Case(**json.loads(options.row)))))
            return 0
        return make_rows(options)
    except Exception as error:
        return entry.tell(error)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Reads the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--topologies", nargs="+", default=["v5e:2x4"], metavar="CHIP:AxB")
    parser.add_argument("--only", default="", metavar="REGEX", help="compile what it is found in")
    parser.add_argument(
        "--per-chip", nargs="+", type=int, default=[0], metavar="N", help="0: the preset's batch"
    )
    parser.add_argument(
        "--out", type=pathlib.Path, default=command.RESULTS / "tpu_compile.jsonl", metavar="FILE"
    )
    parser.add_argument("--row", default="", help=argparse.SUPPRESS)  # one case, as JSON
    options = parser.parse_args(arguments)
    for topology in options.topologies:
        if topology.partition(":")[0] not in GENERATIONS:
            raise UserError(f"--topologies has '{topology}': use one of {', '.join(GENERATIONS)}.")
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("libtpu is not installed: pip install -r requirements-tpu.txt.")
    return options


def make_rows(options: argparse.Namespace) -> int:
    """Compiles every chosen case that has no row yet, and prints the table of all of them."""
    chosen = command.choose(cases(options.topologies, options.per_chip), options.only)
    code = fingerprint()
    rows = {row["name"]: row for row in read(options.out) if row["code"] == code}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for number, case in enumerate(chosen, 1):
        if case.name in rows:
            continue
        print(f"{number} of {len(chosen)}: {case.name}", file=sys.stderr, flush=True)
        row = {"name": case.name, **dataclasses.asdict(case), "code": code, **in_a_process(case)}
        rows[case.name] = row
        with options.out.open("a") as out:
            out.write(json.dumps(row) + "\n")
    made = [rows[case.name] for case in chosen]
    print(table(made))
    return int(any("error" in row for row in made))


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reads rows. The last one may be cut off, and is made again."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def fingerprint() -> str:
    """Computes a checksum of all that decides a row."""
    found = hashlib.sha256()
    for name in CODE:
        path = REPOSITORY / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            found.update(file.read_bytes())
    for library in ("jax", "jaxlib", "libtpu", "flax", "optax"):
        found.update(importlib.metadata.version(library).encode())
    return found.hexdigest()[:16]


def in_a_process(case: Case) -> dict[str, Any]:
    """Compiles a case in a process of its own; {"error": ...} if that fails."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.tpu_compile", "--row", json.dumps(vars(case))],
        cwd=REPOSITORY,
        env=os.environ | WITHOUT_A_TPU,
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    told = re.search(r"RESOURCE_EXHAUSTED.*|error: .*", done.stderr)
    lines = done.stderr.splitlines() or [f"exit code {done.returncode}"]
    return {"error": (told[0] if told else lines[-1])[:500]}


def compiled(case: Case) -> dict[str, Any]:
    """Compiles a case in this process, and collects what the compiler says.

    Bytes and FLOPs are those of one chip.
    """
    from benchmarks import hlo, networks
    from kdpose_jax.evaluate.cost import macs_of
    from kdpose_jax.report import results

    run, mesh = run_of(case), mesh_of(case.topology)
    share = share_of(run, mesh.size, case.per_chip)
    traced = networks.traced_step(run, mesh, share)
    lowered, flops = traced.lower(), 2 * macs_of(traced.jaxpr.jaxpr).total / mesh.size
    start = time.perf_counter()
    step = lowered.compile()
    seconds = time.perf_counter() - start
    held, cost, program = step.memory_analysis(), step.cost_analysis(), hlo.parse(step.as_text())
    chip, counts = GENERATIONS[case.topology.partition(":")[0]], program.counts
    moved = cost["bytes accessed"] * program.loop_factor
    roofline = chip.roofline(flops, moved)
    origin = results.fingerprint(case.compute, {})
    return {
        "examples": share,
        "compile_s": seconds,
        "arguments": held.argument_size_in_bytes,
        "temporaries": held.temp_size_in_bytes,
        "memory": held.argument_size_in_bytes
        + held.output_size_in_bytes
        + held.temp_size_in_bytes
        - held.alias_size_in_bytes,
        "estimate": networks.estimated_memory(run, mesh.size, share).total,
        "flops": flops,
        "moved": moved,
        "roofline_s": roofline,
        "peak_share": flops / chip.flops / roofline,
        "cycles": dict(program.cycles_by_kind()),
        "counts": {name: counts[name] for name in ("copy", "transpose", "fusion", "custom-call")},
        "collectives": program.collectives(),
        "commit": origin["commit"],
        "uncommitted_changes": origin["uncommitted_changes"],
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "libtpu")},
    }


def run_of(case: Case) -> Any:
    """Describes the run of a case."""
    from benchmarks import networks

    file, _, preset = case.preset.partition(":")
    config = importlib.import_module(f"configs.{file}").get_config(preset)
    config.teacher.network.compute = config.student.network.compute = case.compute
    if case.projector:
        config.distill.projection.kind = case.projector
    return networks.run_of(config, case.stage)


def mesh_of(topology: str) -> Any:
    """Describes the chips of a topology such as `v5e:2x4`. They need not be there; libtpu must."""
    from jax.experimental import topologies
    from jax.sharding import AxisType, Mesh

    described = topologies.get_topology_desc(platform="tpu", topology_name=topology)
    return Mesh(described.devices, ("data",), axis_types=(AxisType.Auto,))


def share_of(run: Any, chips: int, per_chip: int) -> int:
    """Computes how many examples a chip has; `per_chip` is 0 for as many as the preset gives."""
    from benchmarks import networks

    parts = run.block.train.accumulate
    if per_chip % parts:
        raise UserError(f"--per-chip is {per_chip}: use a multiple of {parts}.")
    return per_chip or networks.share_of(run, chips)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Renders rows in Markdown. A step that did not compile has its error beside its name."""
    shown = []
    for row in rows:
        name = row["name"].removesuffix(f", {row['per_chip']} a chip")
        cycles, exchanges = row.get("cycles", {}), row.get("collectives", {})
        total = sum(cycles.values())
        shown.append(
            dict.fromkeys(column.key for column in COLUMNS)
            | row
            | {
                "name": f"{name}: {row['error']}" if "error" in row else name,
                "cycles": total or None,
                "kinds": ", ".join(
                    f"{kind} {count / total:.0%}" for kind, count in [*cycles.items()][:4]
                ),
                "exchanges": ", ".join(
                    f"{number} {kind} {size / 1e6:.1f} MB"
                    for kind, (number, size) in exchanges.items()
                ),
            }
        )
    return markdown_table(shown, COLUMNS)


COLUMNS = (
    Column("name", "step", str),
    Column("examples", "examples a chip", str),
    Column("compile_s", "compile s", "{:.0f}".format),
    Column("memory", "GiB a chip", lambda value: f"{value / 2**30:.2f}"),
    Column("estimate", "estimated", lambda value: f"{value / 2**30:.2f}"),
    Column("flops", "TFLOP", lambda value: f"{value / 1e12:.3f}"),
    Column("moved", "GB moved", lambda value: f"{value / 1e9:.1f}"),
    Column("roofline_s", "roofline ms", lambda value: f"{value * 1e3:.1f}"),
    Column("peak_share", "of the peak", "{:.0%}".format),
    Column("cycles", "M cycles", lambda value: f"{value / 1e6:.1f}"),
    Column("kinds", "of these", str),
    Column("exchanges", "exchanges", str),
)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
