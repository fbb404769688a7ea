"""Runs the stages in order: data, teacher, baseline, student, evaluation, report."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from kdpose_jax import buckets, files, processes
from kdpose_jax.checkpoint import loading
from kdpose_jax.contracts import Converters, EvaluationProtocol
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.experiment import (
    checks,
    configs,
    data,
    modules,
    splits,
    stored_runs,
    taught_poses,
    teachers,
    weights,
)
from kdpose_jax.experiment.evaluation import evaluate_once
from kdpose_jax.experiment.run import (
    Context,
    Run,
    build,
    open_protocol,
    open_selection,
    open_training,
)
from kdpose_jax.experiment.training import check_run, train_run
from kdpose_jax.folders import RunFolder, WorkFolder
from kdpose_jax.page import extremes, run_report
from kdpose_jax.report import results, run_page
from kdpose_jax.report.training_cost import training_cost
from kdpose_jax.train import compiled, devices, sharding
from kdpose_jax.train.preemption import Stop

MEANING = ("pose_source",)  # converter settings that decide what the poses mean


def train_and_report(
    config: ConfigDict,
    workdir: epath.Path,
    converters: Converters,
    show: Callable[[str], None],
    stop: Stop,
) -> None:
    """Does everything that `--mode train` does, except what is done already.

    Args:
      config: the experiment's config.
      workdir: the folder that everything is written into.
      converters: make records from raw files.
      show: prints one line.
      stop: whether the program was told to stop.

    Raises:
      UserError: any mistake of the user's, as one sentence.
      Stopped: the run was told to stop while it trained.
    """
    checks.check(config)
    resolve_paths(config)
    buckets.check_access(workdir, writes=True)
    check_what_is_read(config)
    assumed = teachers.adopt_teacher(config)
    assumed += teachers.teacher_runs(config)[1]
    for teacher in (config.teacher.checkpoint, *teachers.further_teachers(config)):
        if teacher and not weights.is_weight_file(teacher):
            loading.require_step(teacher)
    configs.refuse_other_run(workdir, config)
    runs = planned_runs(config)
    notes = [*assumed, *check_before_data(runs)]
    mesh = start_devices(config.platform)
    folder = WorkFolder(workdir)
    # A run whose table was deleted makes its report again.
    if processes.first_process_says(folder.results.exists() and folder.table.exists()):
        show(f"done already: delete '{workdir}' or give another --workdir to run it again\n")
        if jax.process_index() == 0:
            files.tidy(workdir, below=written_below(runs))
            show(folder.table.read_bytes().decode(errors="replace"))
        return
    for run in runs:
        if not is_given(run, config):
            block = run.block.train
            sharding.check_batch(f"{run.stage}.train.batch", block.batch, block.accumulate, mesh)
    announce(config, workdir, runs, mesh, show)
    for note in notes:
        show(note)
    with held_by_first_process(workdir, written_below(runs), show):
        compiled.keep(folder)
        run_stages(config, workdir, runs, converters, mesh, show, stop)


@contextlib.contextmanager
def held_by_first_process(
    workdir: epath.Path, below: list[str], show: Callable[[str], None]
) -> Iterator[None]:
    """Holds a folder for all processes of this run, and checks that it can be written.

    Args:
      workdir: the folder, which is made if needed.
      below: as for `files.held`.
      show: prints one line.

    Raises:
      UserError: another run holds the folder, or it cannot be written.
    """
    refusal = UserError(
        f"'{workdir}' is in use by another run, as process 0 says: wait until it ends, or use "
        f"another --workdir."
    )
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
    config: ConfigDict,
    workdir: epath.Path,
    runs: list[Run],
    converters: Converters,
    mesh: jax.sharding.Mesh,
    show: Callable[[str], None],
    stop: Stop,
) -> None:
    """Makes the data, the networks one after another, and the report.

    Arguments and errors are as in `train_and_report`.
    """
    with processes.first_process_first():
        records = data.prepare_records(config, workdir, converters, show)
    metadata = check_records(config, records)
    if processes.first_process_says(configs.holds_other_data(workdir, metadata)):
        which = WorkFolder(workdir).data_identity.name
        raise UserError(
            f"'{workdir}' holds a run on other data ({which} says which): use another --workdir, "
            "or that data."
        )
    context = open_context(runs[-1], records, workdir, mesh, show, stop, training=True)
    for run in runs:
        if not is_given(run, config):
            check_run(run, context)
    with processes.first_process_first():
        if jax.process_index() == 0:
            configs.claim(workdir, config, metadata)
    require_shared(workdir)
    networks_done, teacher_run = {}, config.teacher.checkpoint
    for run in runs:
        context.stop.obey()
        if run.stage == "teacher":
            teacher_run = teacher_run or str(train_run(run, context))
            checkpoint = teacher_run
        else:
            run.config.teacher.checkpoint = teacher_run
            context = taught_poses.teach(run, metadata, context)
            checkpoint = str(train_run(run, context))
        run_folder = RunFolder(workdir / run.name)
        record = evaluate_once(run_folder, run, checkpoint, metadata, context)
        networks_done[run.name] = {"title": run.title, "checkpoint": checkpoint, **record}
        if run_folder.metrics.exists():  # not of a teacher that was given
            networks_done[run.name]["training"] = training_cost(
                results.read_metrics(run_folder.metrics),
                batch=run.block.train.batch,
                unit=open_training(run, context).unit,
                cores=results.host_cores(),
            )
    if jax.process_index() == 0:
        student, work_folder = runs[-1], WorkFolder(workdir)
        protocol = open_protocol(student, context)
        extra = origin_of(student, metadata, context, protocol)
        extra["teachers"] = loading.run_meta(str(workdir / student.name))["teachers"]
        origin = results.fingerprint(student.block.network.compute, extra)
        run_page.tell(work_folder, networks_done, origin, protocol, metadata, show)
        run_page.draw(work_folder, networks_done, protocol, metadata)
        examples = kept_examples(work_folder, networks_done)
        run_report.write(work_folder, networks_done, origin, protocol, metadata, examples)
        results.write_results(work_folder.results, networks_done, origin)  # last: the run is done
        show(run_page.where(work_folder))
    processes.wait_for_all("report")


def kept_examples(
    folder: WorkFolder, networks: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Reads the best and worst examples of networks, as far as their evaluations left them.

    They lie beside the record: in the folder of the run here, or of the run that was given.
    """
    found = {}
    for name, record in networks.items():
        places = (folder.run(name), RunFolder(stored_runs.run_folder(record["checkpoint"])))
        kept = (extremes.read(place.extremes) for place in places)
        packed = next((packed for packed in kept if packed is not None), None)
        if packed is not None:
            found[name] = packed
    return found


def written_below(runs: list[Run]) -> list[str]:
    """Names the folders of a work directory that a run writes small files into."""
    return [WorkFolder(epath.Path()).figures.name, *(run.name for run in runs)]


def require_shared(workdir: epath.Path) -> None:
    """Refuses a work directory that is not the same folder for every process.

    It is called before anything is trained.

    Raises:
      UserError: some process does not see process 0's files. All processes raise it.
    """
    if not processes.all_processes_say(WorkFolder(workdir).config.exists()):
        raise UserError(
            f"'{workdir}' is not the same folder on all {jax.process_count()} processes: use a "
            f"disk that all of them share."
        )


def planned_runs(config: ConfigDict) -> list[Run]:
    """Lists the runs: teacher, student without distillation if `baseline` is set, student.

    A method without a teacher trains the student alone.
    """
    title = modules.method(config.method, "method").TITLE
    if not title:
        return [Run("student", "student", "student", configs.copy_of(config))]
    runs = [teachers.teacher_run(config, "teacher")]
    if config.baseline:
        alone = configs.without_distillation(config)
        runs.append(Run("baseline", "student without distillation", "student", alone))
    return [*runs, Run("student", f"student with {title}", "student", configs.copy_of(config))]


def check_before_data(runs: list[Run]) -> list[str]:
    """Builds every run for one example, so that a bad option is found before any work.

    Returns:
      The notes of the methods.
    """
    notes: list[str] = []
    for run in runs:
        built = build(run, 1)
        notes += [note for note in built.method.notes if note not in notes]
    return notes


def is_given(run: Run, config: ConfigDict) -> bool:
    """Returns whether a run needs no training because it is a teacher that exists."""
    return run.stage == "teacher" and bool(config.teacher.checkpoint)


def check_records(config: ConfigDict, records: str) -> dict[str, Any]:
    """Reads the metadata of the records, and refuses records that do not fit the config.

    Raises:
      UserError: the records have another skeleton or pose source, or a kind that the config's
        reader does not read.
    """
    metadata = schema.read_metadata(records, modules.reader(config.data.reader).KIND)
    if metadata["skeleton"] != config.data.skeleton:
        raise UserError(
            f"'{records}' has skeleton {metadata['skeleton']}, and data.skeleton is "
            f"{config.data.skeleton}: give other records."
        )
    made, wanted = metadata["settings"], config.data.converter.settings
    for name in MEANING:
        if name in made and name in wanted and made[name] != wanted[name]:
            raise UserError(
                f"'{records}' was converted with {name} {made[name]}, and "
                f"data.converter.settings.{name} is {wanted[name]}: convert again, "
                "or give the config's option for these records."
            )
    return metadata


def open_context(
    run: Run,
    records: str,
    workdir: epath.Path,
    mesh: jax.sharding.Mesh,
    show: Callable[[str], None],
    stop: Stop,
    *,
    training: bool,
) -> Context:
    """Reads the data that all runs of an experiment share. `run` is any one of them."""
    config, reader = run.config, modules.reader(run.config.data.reader)
    protocol_module = modules.protocol(config.eval.protocol)
    training_data, selection_data, chosen_on = None, None, ""
    if training:
        metadata = schema.read_metadata(records, reader.KIND)
        splits.require_selection(config, metadata, records)
        chosen_on = splits.chosen_on(config, metadata)
        training_data = reader.read(records, *splits.training_splits(config, metadata))
    test_data = protocol_module.read(records, "test")
    if training:
        chooses = splits.selection_split(config)
        selection_data = test_data if chooses == "test" else protocol_module.read(records, chooses)
    context = Context(
        workdir, training_data, selection_data, chosen_on, test_data, mesh, show, stop
    )
    if training:
        source, protocol = open_training(run, context), open_protocol(run, context)
        each = f" of {source.unit[1]} {source.unit[0]}" if source.unit[1] > 1 else ""
        show(
            f"data  {len(source):,} training examples{each}, {protocol.test_set} to test on, from "
            f"{records}"
        )
        chosen = open_selection(run, context).test_set
        show(f"      checkpoints are chosen on {chosen_on} ({chosen})")
    return context


def resolve_paths(config: ConfigDict) -> None:
    """Makes the config's paths absolute, so that stored ones are valid from any folder."""
    configs.change_paths(config, files.absolute_or_empty)
    configs.change_paths(config, loading.explicit, configs.CHECKPOINT_PATHS)


def check_what_is_read(config: ConfigDict) -> None:
    """Checks before any work that the buckets among the config's paths can be read.

    Raises:
      UserError: a bucket cannot be read.
    """
    for path in (
        config.data.records,
        config.teacher.checkpoint,
        *teachers.further_teachers(config),
        config.teacher.pretrained,
        config.student.pretrained,
    ):
        buckets.check_access(path, writes=False)


def start_devices(platform: str) -> jax.sharding.Mesh:
    """Starts the devices and makes the mesh of all of them.

    Raises:
      UserError: no device can be used, or `platform` is not "" and the devices are of another.
    """
    devices.find(platform)
    mesh = sharding.make_mesh()
    sharding.meet(mesh)
    return mesh


def announce(
    config: ConfigDict,
    workdir: epath.Path,
    runs: list[Run],
    mesh: jax.sharding.Mesh,
    show: Callable[[str], None],
) -> None:
    """Shows in a few lines what will be done, and on which devices."""
    found = jax.devices()
    show(f"{config.name}  method {config.method}, seed {config.seed}, into {workdir}")
    show(
        f"devices  {len(found)} x {found[0].device_kind} ({found[0].platform}), "
        f"{jax.process_count()} process(es)"
    )
    for run in runs:
        network, options = run.block.network, run.block.train
        how = f"{options.epochs:g} epochs in batches of {options.batch}"
        if is_given(run, config):
            how = f"from {config.teacher.checkpoint}"
        whole_numbers = (f"{name} {value}" for name, value in network.items() if type(value) is int)
        show(f"{run.name:9s} {network.name}, {', '.join(whole_numbers)}: {how}")
    for path in teachers.further_teachers(config):
        show(f"{'teacher':9s} further one, from {path}")


def origin_of(
    run: Run, metadata: dict[str, Any], context: Context, protocol: EvaluationProtocol
) -> dict[str, Any]:
    """Collects what the results depend on, apart from code and devices."""
    identity = ("keypoints", "generated", "splits", "sources", "settings")
    trained = context.training_data is not None
    return {
        "config": configs.as_dict(run.config),
        "scored_in": {"compute": "float32", "matmul_precision": "highest"},
        "seed": run.config.seed,
        "conditions": protocol.conditions,
        "data": {name: metadata[name] for name in identity},
        "chosen_on": context.chosen_on or None,
        "test_examples": len(protocol.source),
        "train_examples": len(open_training(run, context)) if trained else None,
    }
