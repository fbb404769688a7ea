"""The stages of a run in their order: data, teacher, baseline, student, evaluation, report."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from kdpose_jax import buckets, files, processes
from kdpose_jax.checkpoint import loading as checkpoint_teacher
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.experiment import configs, data, weights
from kdpose_jax.experiment.evaluation import evaluate_network, evaluate_once
from kdpose_jax.experiment.training import (
    Run,
    Surroundings,
    build_method,
    build_optimizer,
    check_run,
    open_protocol,
    open_training,
    plan_of,
    train_run,
)
from kdpose_jax.report import results, run_page
from kdpose_jax.train import devices, sharding
from kdpose_jax.train.preemption import Stop

RESULTS = "results.json"
MEANING = ("pose_source",)  # settings of converters that say what the poses are
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def train_and_report(config: ConfigDict, workdir: epath.Path, show: Callable[[str], None], stop: Stop) -> None:
    """Everything that `--mode train` does; what is done already is not done again.

    Args:
      config: of the experiment.
      workdir: where everything is written.
      show: prints one line.
      stop: whether the run was told to stop.

    Raises:
      UserError: any mistake of the user's, as one sentence.
      Stopped: the run was told to stop while it trained.
    """
    configs.check(config)
    resolve_paths(config)
    buckets.check_access(workdir, writes=True)
    check_what_is_read(config)
    assumed = weights.adopt_teacher(config)
    if config.teacher.checkpoint and not weights.is_weight_file(config.teacher.checkpoint):
        checkpoint_teacher.require_step(config.teacher.checkpoint)
    configs.refuse_other_run(workdir, config)
    runs = planned_runs(config)
    notes = [*assumed, *check_before_data(runs)]
    mesh = start_devices(config.platform)
    if processes.first_process_says((workdir / RESULTS).exists()):
        show(f"done already: delete '{workdir}' or give another --workdir to run it again\n")
        if jax.process_index() == 0:
            files.tidy(workdir, below=written_below(runs))
            show((workdir / "results.md").read_text(errors="replace"))
        return
    for run in runs:
        if not is_given(run, config):
            stage = "teacher" if run.name == "teacher" else "student"
            block = run.config.student.train
            sharding.check_batch(f"{stage}.train.batch", block.batch, block.accumulate, mesh)
    announce(config, workdir, runs, mesh, show)
    for note in notes:
        show(note)
    with held_by_first_process(workdir, written_below(runs), show):
        run_stages(config, workdir, runs, mesh, show, stop)


@contextlib.contextmanager
def held_by_first_process(
    workdir: epath.Path, below: list[str], show: Callable[[str], None]
) -> Iterator[None]:
    """Holds a folder for all processes of this run, which shows too whether it can be written.

    Args:
      workdir: made if needed.
      below: see `files.held`.
      show: prints one line.

    Raises:
      UserError: another run holds it, or it cannot be written.
    """
    refusal = UserError(f"'{workdir}' is in use by another run, as process 0 says: wait until it ends, or use another --workdir.")
    refused = False
    with contextlib.ExitStack() as stack:
        if jax.process_index() == 0:
            try:
                stack.enter_context(files.held(workdir, show, below))
            except UserError as error:
                refusal, refused = error, True
            except OSError as error:
                said = files.sentence(error) if error.errno in files.DISK_FULL else None
                remedy = "name another folder with --workdir"
                cannot = f"'{workdir}' cannot be written ({error.strerror}): {remedy}."
                refusal, refused = UserError(said or cannot), True
        if processes.first_process_says(refused):
            raise refusal
        yield


def run_stages(
    config: ConfigDict, workdir: epath.Path, runs: list[Run], mesh: Any, show: Callable[[str], None], stop: Stop
) -> None:
    """Data, the networks one after another, the report; see `train_and_report`."""
    with processes.first_process_first():
        records = data.prepare_records(config, workdir, show)
    metadata = check_records(config, records)
    if processes.first_process_says(configs.holds_other_data(workdir, metadata)):
        raise UserError(f"'{workdir}' holds a run on other data ({configs.DATA_FILE} says which): use another --workdir, or that data.")
    around = open_surroundings(config, records, workdir, mesh, show, stop, training=True)
    for run in runs:
        if not is_given(run, config):
            check_run(run, around)
    with processes.first_process_first():
        if jax.process_index() == 0:
            configs.claim(workdir, config, metadata)
    require_shared(workdir)
    networks_done, teacher_run = {}, config.teacher.checkpoint
    for run in runs:
        around.stop.obey()
        if run.name == "teacher":
            checkpoint = teacher_run
            if not checkpoint:
                checkpoint = teacher_run = str(train_run(run, around))
        else:
            run.config.teacher.checkpoint = teacher_run
            checkpoint = str(train_run(run, around))
        record = evaluate_once(workdir / run.name, copy_of(run.config), checkpoint, metadata, around)
        networks_done[run.name] = {"title": run.title, "checkpoint": checkpoint, **record}
    if jax.process_index() == 0:
        protocol = open_protocol(config, around)
        extra = origin_of(config, metadata, around, protocol)
        extra["teachers"] = checkpoint_teacher.run_meta(str(workdir / runs[-1].name))["teachers"]
        origin = results.fingerprint(REPOSITORY, config.student.network.compute, extra)
        run_page.tell(workdir, networks_done, origin, protocol, metadata, show)
        run_page.draw(workdir, networks_done, protocol, metadata)
        results.write_results(workdir / RESULTS, networks_done, origin)  # last: the run is done
        show(f"results in {workdir}: {RESULTS}, results.md, {run_page.FIGURES}/")
    processes.wait_for_all("report")


def evaluate_and_report(
    config: ConfigDict | None,
    checkpoint: str,
    records: str,
    workdir: epath.Path | None,
    show: Callable[[str], None],
    stop: Stop,
) -> None:
    """Everything that `--mode eval` does: restores a checkpoint on any number of devices and scores it.

    Args:
      config: of the experiment; None takes the checkpoint's own. A PyTorch file needs one, and is taken for its teacher.
      checkpoint: a network of ours (its folder or one of its steps) or a PyTorch file.
      records: to score it on; empty: those of the config.
      workdir: where the results go; None: into the network's folder.
      show: prints one line.
      stop: whether the program was told to stop.

    Raises:
      UserError: the checkpoint is of another model or method, or any other mistake of the user's.
    """
    checkpoint, records = weights.resolve(checkpoint), weights.resolve(records)
    buckets.check_access(checkpoint, writes=workdir is None)
    if workdir is not None:
        buckets.check_access(workdir, writes=True)
    checkpoint = checkpoint_teacher.explicit(checkpoint)
    if config is not None:
        resolve_paths(config)
        if records:
            config.data.records, config.data.source = records, ""
    # A run's own platform is where it was trained; where it is scored the command says.
    mesh = start_devices("" if config is None else config.platform)
    if weights.is_weight_file(checkpoint):
        if config is None:
            raise UserError(
                f"'{checkpoint}' says nothing of its data: give its experiment with --config, for example configs/scjd.py:h36m."
            )
        config.teacher.checkpoint = checkpoint
        notes = weights.adopt_teacher(config, named="--checkpoint")
        config = configs.of_teacher(config)
    else:
        stored = weights.stored_config(checkpoint)
        checkpoint_teacher.require_step(checkpoint)
        notes = checkpoint_teacher.passed_over(checkpoint)
        if config is not None:
            refuse_other_network(config, stored, checkpoint)
            if config.data.records or config.data.source:
                stored.data.update({name: config.data[name] for name in ("records", "source", "converter")})
            stored.eval = ConfigDict(configs.as_tuples(config.eval.to_dict()))
        config = stored
    if records:
        config.data.records, config.data.source = records, ""
    configs.check(config)
    buckets.check_access(config.data.records, writes=False)  # of the other paths nothing is read
    home = place_of_results(checkpoint) if workdir is None else workdir
    for note in notes:
        show(note)
    with held_by_first_process(home / "eval", [run_page.FIGURES], show):
        with processes.first_process_first():
            network = weights.run_folder(checkpoint)
            found = data.find_records(config, checkpoint, network, workdir, show)
        metadata = check_records(config, found)
        around = open_surroundings(config, found, home, mesh, show, stop, training=False)
        record = evaluate_network(copy_of(config), checkpoint, around)
        if jax.process_index() == 0:
            report_evaluation(home / "eval", checkpoint, record, config, metadata, around, show)
        processes.wait_for_all("report")


def report_evaluation(
    directory: epath.Path,
    checkpoint: str,
    record: dict[str, Any],
    config: ConfigDict,
    metadata: dict[str, Any],
    around: Surroundings,
    show: Callable[[str], None],
) -> None:
    """Shows and writes what an evaluation gave; pictures last, so that none costs the scores."""
    protocol = open_protocol(config, around)
    extra = origin_of(config, metadata, around, protocol)
    origin = results.fingerprint(REPOSITORY, config.student.network.compute, extra)
    name = pathlib.Path(checkpoint).name
    network = {name: {"title": name, "checkpoint": checkpoint, **record}}
    run_page.tell(directory, network, origin, protocol, metadata, show)
    results.write_results(directory / RESULTS, network, origin)
    run_page.draw(directory, network, protocol, metadata)
    show(f"results in {directory}: {RESULTS}, results.md, {run_page.FIGURES}/")


def written_below(runs: list[Run]) -> list[str]:
    """The folders of a work directory that a run writes small files into."""
    return [run_page.FIGURES, *(run.name for run in runs)]


def place_of_results(checkpoint: str) -> epath.Path:
    """The folder into which an evaluation writes where no --workdir is given: the network's.

    Raises:
      UserError: the checkpoint lies by itself. Then its parents are anybody's.
    """
    home = weights.run_folder(checkpoint)
    trained = (home / "metrics.jsonl").exists() or checkpoint_teacher.holds_checkpoints(checkpoint)
    if weights.is_weight_file(checkpoint) or trained:
        return home
    raise UserError(
        f"'{checkpoint}' does not lie in the folder of a network: say with --workdir DIR where the "
        "results are to go."
    )


def require_shared(workdir: epath.Path) -> None:
    """Refuses a work directory that some process does not see as process 0 does, before anything is trained into it.

    Raises:
      UserError: on all processes.
    """
    if not processes.all_processes_say((workdir / configs.CONFIG_FILE).exists()):
        raise UserError(f"'{workdir}' is not the same folder on all {jax.process_count()} processes: use a disk that all of them share.")


def planned_runs(config: ConfigDict) -> list[Run]:
    """Teacher, student without distillation where asked for, student; of a method without a teacher the student alone."""
    title = configs.load("methods", config.method, "method").TITLE
    if not title:
        return [Run("student", "student", copy_of(config))]
    runs = [Run("teacher", "teacher", configs.of_teacher(config))]
    if config.baseline:
        runs.append(Run("baseline", "student without distillation", configs.of_baseline(config)))
    return [*runs, Run("student", f"student with {title}", copy_of(config))]


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
    return ConfigDict(configs.as_tuples(config.to_dict()))


def is_given(run: Run, config: ConfigDict) -> bool:
    """Whether a run needs no training: a teacher that exists."""
    return run.name == "teacher" and bool(config.teacher.checkpoint)


def check_records(config: ConfigDict, records: str) -> dict[str, Any]:
    """The metadata of the records, which must be those of the config.

    Raises:
      UserError: they have another skeleton, or hold what the config's reader does not read.
    """
    reader = configs.load("data", config.data.reader, "data.reader")
    metadata = schema.read_metadata(records, reader.KIND)
    if metadata["skeleton"] != config.data.skeleton:
        raise UserError(
            f"'{records}' has skeleton {metadata['skeleton']}, and data.skeleton is {config.data.skeleton}: give other records."
        )
    made, wanted = metadata["settings"], config.data.converter.settings
    for name in MEANING:
        if name in made and name in wanted and made[name] != wanted[name]:
            raise UserError(
                f"'{records}' was converted with {name} {made[name]}, and data.converter.settings.{name} is {wanted[name]}: convert again, "
                "or give the config's option for these records."
            )
    return metadata


def open_surroundings(
    config: ConfigDict, records: str, workdir: epath.Path, mesh: Any, show: Callable[[str], None], stop: Stop, *, training: bool
) -> Surroundings:
    """Reads the data that all networks share."""
    reader = configs.load("data", config.data.reader, "data.reader")
    protocol = configs.load("evaluate", config.eval.protocol, "eval.protocol")
    training_data = reader.read(records, config.data.train_split) if training else None
    around = Surroundings(workdir, training_data, protocol.read(records, config.data.test_split), mesh, show, stop)
    if training:
        source = open_training(config, around)
        each = f" of {source.unit[1]} {source.unit[0]}" if source.unit[1] > 1 else ""
        show(f"data  {len(source):,} training examples{each}, {open_protocol(config, around).test_set} to test on, from {records}")
    return around


def resolve_paths(config: ConfigDict) -> None:
    """Makes paths absolute, so that what a run stores of them is true from any folder."""
    teacher = weights.resolve(config.teacher.checkpoint)
    config.teacher.checkpoint = checkpoint_teacher.explicit(teacher)
    for name in ("records", "source"):
        config.data[name] = weights.resolve(config.data[name])
    for stage in (config.teacher, config.student):
        stage.pretrained = weights.resolve(stage.pretrained)


def check_what_is_read(config: ConfigDict) -> None:
    """Asks the buckets among the config's paths for access, before any work.

    Raises:
      UserError: one of them cannot be read.
    """
    for path in (config.data.records, config.teacher.checkpoint, config.teacher.pretrained, config.student.pretrained):
        buckets.check_access(path, writes=False)


def start_devices(platform: str) -> jax.sharding.Mesh:
    """The mesh of all devices; the first question to them.

    Raises:
      UserError: there are none that can be used, or they are not of the platform that is asked for, unless that is "".
    """
    devices.find(platform)
    mesh = sharding.make_mesh()
    sharding.meet(mesh)
    return mesh


def announce(config: ConfigDict, workdir: epath.Path, runs: list[Run], mesh: Any, show: Callable[[str], None]) -> None:
    """Says in a few lines what will be done, and on which devices."""
    found = jax.devices()
    show(f"{config.name}  method {config.method}, seed {config.seed}, into {workdir}")
    show(f"devices  {len(found)} x {found[0].device_kind} ({found[0].platform}), {jax.process_count()} process(es)")
    for run in runs:
        network, block = run.config.student.network, run.config.student.train
        how = f"from {config.teacher.checkpoint}" if is_given(run, config) else f"{block.epochs:g} epochs in batches of {block.batch}"
        sizes = ", ".join(f"{name} {value}" for name, value in network.items() if type(value) is int)
        show(f"{run.name:9s} {network.name}, {sizes}: {how}")


def refuse_other_network(config: ConfigDict, stored: ConfigDict, checkpoint: str) -> None:
    """Compares what decides the network: method, the trained network's blocks and what fits them."""
    if stored.method == config.teacher.method and stored.method != config.method:
        config = configs.of_teacher(config)  # the checkpoint is the teacher of such an experiment
    if config.method != stored.method:  # another method has other blocks, which cannot be compared
        raise UserError(
            f"'{checkpoint}' has method {stored.method} and the config says {config.method}: give the config it was trained "
            "with, or no --config."
        )
    pairs = [("student." + part, config.student[part].to_dict(), stored.student[part].to_dict()) for part in config.student.shape]
    pairs += [(f"data.{name}", config.data[name], stored.data[name]) for name in config.data.must_fit]
    asked, found = (configs.flatten({name: pair[side] for name, *pair in pairs}) for side in (0, 1))
    for name in sorted(asked | found):
        values = [values[name] if name in values else "none" for values in (found, asked)]
        if values[0] != values[1]:
            raise UserError(
                f"'{checkpoint}' has {name} {values[0]} and the config says {values[1]}: give the config it was trained with, or no "
                "--config."
            )


def origin_of(config: ConfigDict, metadata: dict[str, Any], around: Surroundings, protocol: Any) -> dict[str, Any]:
    """What the results depend on beside code and devices."""
    return {
        "config": configs.as_dict(config),
        "scored_in": {"compute": "float32", "matmul_precision": "highest"},
        "seed": config.seed,
        "conditions": protocol.conditions,
        "data": {name: metadata[name] for name in ("keypoints", "generated", "splits", "sources", "settings")},
        "test_examples": len(protocol.source),
        "train_examples": len(open_training(config, around)) if around.training_data is not None else None,
    }
