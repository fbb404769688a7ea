"""The stages of a run in their order: data, teacher, baseline, student, evaluation, report."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from kdpose_jax.checkpoint import teacher as checkpoint_teacher
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.experiment import data, networks, settings, summary
from kdpose_jax.experiment.evaluation import evaluate_network, evaluate_once
from kdpose_jax.experiment.training import Run, Surroundings, build_method, build_optimizer, plan_of, train_run
from kdpose_jax.report import results
from kdpose_jax.train import sharding

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def train_and_report(config: ConfigDict, workdir: epath.Path, show: Callable[[str], None]) -> None:
    """Everything that `--mode train` does; what is done already is not done again.

    Args:
      config: of the experiment.
      workdir: where everything is written.
      show: prints one line.

    Raises:
      UserError: any mistake of the user's, as one sentence.
    """
    settings.check(config)
    resolve_paths(config)
    networks.adopt_teacher(config)
    settings.refuse_other_run(workdir, config)
    runs = planned_runs(config)
    notes = check_before_data(runs)
    if sharding.first_process_says((workdir / "results.json").exists()):
        show(f"done already: delete '{workdir}' or give another --workdir to run it again\n")
        if jax.process_index() == 0:
            show((workdir / "results.md").read_text())
        return
    mesh = start_devices(config)
    for run in runs:
        sharding.check_batch(f"train.batch of the {run.name}", run.config.student.train.batch, mesh)
    announce(config, workdir, runs, mesh, show)
    for note in notes:
        show(note)
    with sharding.first_process_first():
        records = data.prepare_records(config, workdir)
    around = open_surroundings(config, records, workdir, mesh, show, training=True)
    metadata = schema.read_metadata(records)
    if jax.process_index() == 0:
        settings.claim(workdir, config, metadata)
    networks_done, teacher_run = {}, config.teacher.checkpoint
    for run in runs:
        if run.name == "teacher":
            checkpoint = teacher_run
            if not checkpoint:
                checkpoint = teacher_run = str(train_run(run, around))
        else:
            run.config.teacher.checkpoint = teacher_run
            checkpoint = str(train_run(run, around))
        record = evaluate_once(workdir / run.name, copy_of(run.config), checkpoint, around)
        networks_done[run.name] = {"title": run.title, "checkpoint": checkpoint, **record}
    if jax.process_index() == 0:
        origin = results.fingerprint(REPOSITORY, config.student.network.compute, origin_of(config, metadata, around))
        summary.write(workdir, networks_done, origin, around.protocol, metadata, show)


def evaluate_and_report(config: ConfigDict | None, checkpoint: str, workdir: epath.Path | None, show: Callable[[str], None]) -> None:
    """Everything that `--mode eval` does: restores a checkpoint on any number of devices and scores it.

    Args:
      config: of the experiment; None takes the checkpoint's own. A PyTorch file needs one, and is taken for its teacher.
      checkpoint: a run of ours or a PyTorch file.
      workdir: where the results go; None: beside the checkpoint's run.
      show: prints one line.

    Raises:
      UserError: the checkpoint is of another model or method, or any other mistake of the user's.
    """
    checkpoint = networks.resolve(checkpoint)
    if config is not None:
        resolve_paths(config)
    if networks.is_weight_file(checkpoint):
        if config is None:
            raise UserError(
                f"'{checkpoint}' says nothing of its data: give its experiment with --config, for example configs/scjd.py:h36m."
            )
        config.teacher.checkpoint = checkpoint
        networks.adopt_teacher(config)
        config = settings.of_teacher(config)
    else:
        stored = settings.from_dict(checkpoint_teacher.run_meta(checkpoint)["config"])
        if config is not None:
            refuse_other_network(config, stored, checkpoint)
            stored.data.update({name: config.data[name] for name in ("records", "source") if config.data[name]})
            stored.eval = ConfigDict(settings.as_tuples(config.eval.to_dict()))
        config = stored
    settings.check(config)
    home = run_folder(checkpoint) if workdir is None else workdir
    mesh = start_devices(config)
    with sharding.first_process_first():
        records = data.prepare_records(config, home.parent if workdir is None else home)
    around = open_surroundings(config, records, home, mesh, show, training=False)
    record = evaluate_network(config, checkpoint, around)
    if jax.process_index() == 0:
        home.mkdir(parents=True, exist_ok=True)
        metadata = schema.read_metadata(records)
        origin = results.fingerprint(REPOSITORY, "float32", origin_of(config, metadata, around))
        name = pathlib.Path(checkpoint).name
        summary.write(home / "eval", {name: {"title": name, "checkpoint": checkpoint, **record}}, origin, around.protocol, metadata, show)


def run_folder(checkpoint: str) -> epath.Path:
    """The folder of the run that a checkpoint belongs to; for a PyTorch file one under `runs`, as it has none."""
    path = epath.Path(checkpoint)
    if networks.is_weight_file(checkpoint):
        return epath.Path("runs").resolve() / path.name / "imported"
    parts = path.parts
    return epath.Path(*parts[: parts.index("checkpoints")]) if "checkpoints" in parts else path


def planned_runs(config: ConfigDict) -> list[Run]:
    """Teacher, student without distillation where asked for, student."""
    runs = [Run("teacher", "teacher", settings.of_teacher(config))]
    if config.baseline:
        runs.append(Run("baseline", "student without distillation", settings.of_baseline(config)))
    return [*runs, Run("student", f"student with {config.method.upper()}", copy_of(config))]


def check_before_data(runs: list[Run]) -> list[str]:
    """Builds every method once on a guessed length, so that a bad option is found before any work; returns their notes."""
    notes = []
    for run in runs:
        trial = copy_of(run.config)
        plan = plan_of(trial, 1)
        method, _ = build_method(trial, plan)
        build_optimizer(method, trial, plan)
        notes += [note for note in method.notes if note not in notes]
    return notes


def copy_of(config: ConfigDict) -> ConfigDict:
    """An unlocked copy."""
    return ConfigDict(settings.as_tuples(config.to_dict()))


def open_surroundings(
    config: ConfigDict, records: str, workdir: epath.Path, mesh: Any, show: Callable[[str], None], *, training: bool
) -> Surroundings:
    """Reads the data that a run needs."""
    reader = settings.load("data", config.data.reader, "data.reader")
    protocol = settings.load("evaluate", config.eval.protocol, "eval.protocol")
    source = None
    skeleton = schema.read_metadata(records)["skeleton"]
    if skeleton != config.data.skeleton:
        raise UserError(f"'{records}' has skeleton {skeleton}, and data.skeleton is {config.data.skeleton}: give other records.")
    if training:
        source = reader.open_training(
            records, split=config.data.train_split, frames=config.data.frames, **config.data.training
        )
        show(f"data  {len(source):,} training examples of {source.unit[1]} {source.unit[0]} from {records}")
    opened = protocol.open_protocol(
        records, split=config.data.test_split, frames=config.data.frames, **config.eval.settings
    )
    return Surroundings(workdir, source, opened, mesh, show)


def resolve_paths(config: ConfigDict) -> None:
    """Makes paths absolute, so that what a run stores of them is true from any folder."""
    config.teacher.checkpoint = networks.resolve(config.teacher.checkpoint)
    for name in ("records", "source"):
        config.data[name] = networks.resolve(config.data[name])


def start_devices(config: ConfigDict) -> jax.sharding.Mesh:
    """The mesh of all devices; the first question to them.

    Raises:
      UserError: they are not of the platform that the config asks for.
    """
    found = jax.devices()[0].platform
    if config.platform and found != config.platform:
        raise UserError(
            f"platform is '{config.platform}' and jax found {found}: install the jax of that platform, or leave it empty."
        )
    return sharding.make_mesh()


def announce(config: ConfigDict, workdir: epath.Path, runs: list[Run], mesh: Any, show: Callable[[str], None]) -> None:
    """Says in a few lines what will be done, and on which devices."""
    devices = jax.devices()
    show(f"{config.name}  method {config.method}, seed {config.seed}, into {workdir}")
    show(f"devices  {len(devices)} x {devices[0].device_kind} ({devices[0].platform}), {jax.process_count()} process(es)")
    for run in runs:
        network, block = run.config.student.network, run.config.student.train
        given = config.teacher.checkpoint if run.name == "teacher" else ""
        how = f"from {given}" if given else f"{block.epochs:g} epochs in batches of {block.batch}"
        show(f"{run.name:9s} {network.name}, width {network.width}, depth {network.depth}, {network.heads} heads: {how}")


def refuse_other_network(config: ConfigDict, stored: ConfigDict, checkpoint: str) -> None:
    """Compares what decides the network: method, student block and windows."""
    if config.method != stored.method:  # another method has other blocks, which cannot be compared
        raise UserError(
            f"'{checkpoint}' has method {stored.method} and the config says {config.method}: give the config it was trained "
            "with, or no --config."
        )
    pairs = [("student." + part, config.student[part].to_dict(), stored.student[part].to_dict()) for part in config.student.shape]
    pairs += [(f"data.{name}", config.data[name], stored.data[name]) for name in config.data.must_fit]
    for name, asked, found in pairs:
        if asked == found:
            continue
        if isinstance(asked, dict):
            name, asked, found = next((f"{name}.{key}", asked[key], found[key]) for key in asked if asked[key] != found[key])
        raise UserError(
            f"'{checkpoint}' has {name} {found} and the config says {asked}: give the config it was trained with, or no --config."
        )


def origin_of(config: ConfigDict, metadata: dict[str, Any], around: Surroundings) -> dict[str, Any]:
    """What the results depend on beside code and devices."""
    return {
        "config": settings.as_dict(config),
        "seed": config.seed,
        "data": {name: metadata[name] for name in ("keypoints", "generated", "splits", "sources", "settings")},
        "test_examples": len(around.protocol.source),
        "train_examples": len(around.source) if around.source is not None else None,
    }
