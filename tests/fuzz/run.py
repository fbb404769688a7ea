"""Fuzzes the readers of users' files, each in a process of its own: `python -m tests.fuzz.run
--seconds 1200`.

Prints a table (reader, executions, findings, seconds) and what was found; exits with 1 if anything
was. Linux on x86-64, where atheris is.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from tests.fuzz.readers import READERS
from tests.support.repository import REPOSITORY

SECONDS_PER_INPUT = 10
# LibFuzzer's names for inputs that end the process.
ENDS = ("ended-crash", "ended-timeout", "ended-oom")
SHOWN = 20
SUPPORT = REPOSITORY / "tests" / "support"


def environment() -> dict[str, str]:
    """Returns the variables of a fuzzing process. It finds the tests' helpers as pytest does."""
    paths = [str(SUPPORT), *([os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else [])]
    return {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(paths)}


def fuzz(name: str, folder: pathlib.Path, seconds: int) -> tuple[int, float, list[dict]]:
    """Runs one reader for a time, again and again where an input ends the process.

    Returns:
      Executions, seconds, and the findings: {"said", "input" in hexadecimal digits}.
    """
    started, ended = time.monotonic(), []
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    while (
        (left := int(seconds - (time.monotonic() - started))) > 0
        or not ended
        and not (folder / "count").exists()
    ):
        options = [f"-max_total_time={max(left, 1)}", f"-timeout={SECONDS_PER_INPUT}"]
        with open(folder / "log", "ab") as log:
            command = [sys.executable, "-m", "tests.fuzz.target", name, str(folder), *options]
            code = subprocess.run(
                command,
                cwd=REPOSITORY,
                stdout=log,
                stderr=log,
                env=environment(),
            ).returncode
        new = [
            path
            for path in folder.iterdir()
            if path.name.startswith(ENDS) and path not in [known for known, _ in ended]
        ]
        ended += [(path, code) for path in new]
        if not code:
            break
        if not new:
            raise SystemExit(
                f"error: fuzzing {name} ended with code {code} and no input: see {folder}/log."
            )
    found = [json.loads(path.read_text()) for path in sorted((folder / "found").iterdir())]
    found += [
        {"said": f"{path.name.split('-')[1]} ended the process", "input": path.read_bytes().hex()}
        for path, _ in ended
    ]
    return (
        int.from_bytes((folder / "count").read_bytes(), "little"),
        time.monotonic() - started,
        found,
    )


def main() -> int:
    """Fuzzes the readers that the command line names, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds", type=int, default=1200, help="of all readers together (default 1200)"
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        help="folder for the corpus and the findings (default: a new one under /tmp)",
    )
    parser.add_argument(
        "readers", nargs="*", metavar="READER", help=f"some of {', '.join(READERS)} (default: all)"
    )
    arguments = parser.parse_args()
    names = arguments.readers or list(READERS)
    unknown = [name for name in names if name not in READERS]
    if unknown:
        parser.error(f"'{unknown[0]}' is not a reader: name some of {', '.join(READERS)}")
    if importlib.util.find_spec("atheris") is None:
        parser.error(
            "atheris is not installed (it is made for Linux on x86-64): install "
            "requirements-dev.txt there"
        )
    out = arguments.out or pathlib.Path(tempfile.mkdtemp(prefix="fuzz-"))
    shares = sum(READERS[name].share for name in names)
    total, findings = 0, 0
    print(
        f"{'reader':<18} {'executions':>12} {'findings':>8} {'seconds':>8}   (files in {out})",
        flush=True,
    )
    for name in names:
        executions, seconds, found = fuzz(
            name, out / name, round(arguments.seconds * READERS[name].share / shares)
        )
        total, findings = total + executions, findings + len(found)
        print(f"{name:<18} {executions:>12,} {len(found):>8} {seconds:>8.0f}", flush=True)
        for one in found[:SHOWN]:
            print(
                f"  {one['said']}; {len(one['input']) // 2} bytes: {one['input'][:120]}", flush=True
            )
    print(f"{'all':<18} {total:>12,} {findings:>8}")
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main())
