"""Scores a network that exists: everything that `--mode eval` does."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from kdpose_jax import buckets, files, processes
from kdpose_jax.checkpoint import loading
from kdpose_jax.contracts import Converters
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate.extremes import Extremes
from kdpose_jax.experiment import checks, data, existing, pipeline, stored_runs, weights
from kdpose_jax.experiment.evaluation import evaluate_network
from kdpose_jax.experiment.run import Context, Run, open_protocol
from kdpose_jax.folders import RunFolder, WorkFolder
from kdpose_jax.page import extremes, run_report
from kdpose_jax.report import results, run_page
from kdpose_jax.train.preemption import Stop


def evaluate_and_report(
    config: ConfigDict | None,
    checkpoint: str,
    records: str,
    workdir: epath.Path | None,
    converters: Converters,
    show: Callable[[str], None],
    stop: Stop,
) -> None:
    """Does everything that `--mode eval` does: restores a checkpoint and scores it.

    The number of devices may differ from the number in training.

    Args:
      config: the experiment's config; None takes the checkpoint's own. A PyTorch file needs a
        config, and is taken for its teacher.
      checkpoint: a network of ours (its folder or one of its steps) or a PyTorch file.
      records: folder of the records to score on; "" takes the config's.
      workdir: the folder for the results; None takes the network's folder.
      converters: make records from raw files.
      show: prints one line.
      stop: whether the program was told to stop.

    Raises:
      UserError: the checkpoint has another model or method, or the user made any other mistake.
    """
    checkpoint, records = files.absolute_or_empty(checkpoint), files.absolute_or_empty(records)
    buckets.check_access(checkpoint, writes=workdir is None)
    if workdir is not None:
        buckets.check_access(workdir, writes=True)
    checkpoint = loading.explicit(checkpoint)
    if config is not None:
        pipeline.resolve_paths(config)
        if records:
            config.data.records, config.data.source = records, ""
    # The stored config's platform says where the run was trained, not where it is scored.
    mesh = pipeline.start_devices("" if config is None else config.platform)
    run, notes = existing.find_run(checkpoint, config)
    if records:
        run.config.data.records, run.config.data.source = records, ""
    checks.check(run.config)
    # Evaluation reads nothing from the config's other paths.
    buckets.check_access(run.config.data.records, writes=False)
    home = place_of_results(checkpoint) if workdir is None else workdir
    for note in notes:
        show(note)
    folder = WorkFolder(home).evaluation
    with pipeline.held_by_first_process(folder.path, [folder.figures.name], show):
        with processes.first_process_first():
            network = stored_runs.run_folder(checkpoint)
            place = data.find_records(run.config, checkpoint, network, workdir, converters, show)
        metadata = pipeline.check_records(run.config, place)
        context = pipeline.open_context(run, place, home, mesh, show, stop, training=False)
        record, best_and_worst = evaluate_network(run, checkpoint, context)
        if jax.process_index() == 0:
            report_evaluation(folder, run, checkpoint, record, best_and_worst, metadata, context)
        processes.wait_for_all("report")


def report_evaluation(
    folder: WorkFolder,
    run: Run,
    checkpoint: str,
    record: dict[str, Any],
    best_and_worst: Extremes | None,
    metadata: dict[str, Any],
    context: Context,
) -> None:
    """Shows and writes an evaluation. Draws last, so that a failed picture loses no scores."""
    protocol = open_protocol(run, context)
    extra = pipeline.origin_of(run, metadata, context, protocol)
    origin = results.fingerprint(run.block.network.compute, extra)
    name = pathlib.Path(checkpoint).name
    network = {name: {"title": name, "checkpoint": checkpoint, **record}}
    run_page.tell(folder, network, origin, protocol, metadata, context.show)
    results.write_results(folder.results, network, origin)
    run_page.draw(folder, network, protocol, metadata)
    examples = {}
    if best_and_worst is not None:
        examples[name] = extremes.pack(best_and_worst, metadata)
    run_report.write(folder, network, origin, protocol, metadata, examples)
    context.show(run_page.where(folder))


def place_of_results(checkpoint: str) -> epath.Path:
    """Returns the network's folder, which an evaluation without --workdir writes into.

    Raises:
      UserError: the checkpoint does not lie in a network's folder, so its parents are not ours.
    """
    home = stored_runs.run_folder(checkpoint)
    trained = RunFolder(home).metrics.exists() or loading.holds_checkpoints(checkpoint)
    if weights.is_weight_file(checkpoint) or trained:
        return home
    raise UserError(
        f"'{checkpoint}' does not lie in the folder of a network: say with --workdir DIR where the "
        "results are to go."
    )
