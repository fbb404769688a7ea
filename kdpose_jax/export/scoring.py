"""Scores an exported file in its own runtime: `--mode eval --artifact FILE`."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from kdpose_jax import files, processes
from kdpose_jax.contracts import Converters, EvaluationProtocol, Source
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate import cost
from kdpose_jax.experiment import checks, data, existing, pipeline, scoring, stored_runs
from kdpose_jax.experiment.run import Run, open_protocol
from kdpose_jax.export.examples import predictions
from kdpose_jax.export.pipeline import FOLDER
from kdpose_jax.folders import WorkFolder
from kdpose_jax.predict import artifacts
from kdpose_jax.predict.artifacts import Artifact
from kdpose_jax.train.preemption import Stop


def evaluate_artifact(
    config: ConfigDict | None,
    path: str,
    records: str,
    workdir: epath.Path | None,
    converters: Converters,
    show: Callable[[str], None],
    stop: Stop,
) -> None:
    """Scores an exported file by its data set's protocol, without test-time flip.

    Args:
      config: a config on the command line, which decides the data and the protocol; None takes
        the config that the network was trained with.
      path: the file, or the folder of a SavedModel.
      records: folder of the records to score on; "" takes those of the network's run.
      workdir: the folder for the results; None takes the file's folder.
      converters: make records from raw files.
      show: prints one line.
      stop: whether the program was told to stop.

    Raises:
      UserError: the file cannot be read, its records are not there, or the user made any other
        mistake.
    """
    path, records = files.absolute_or_empty(path), files.absolute_or_empty(records)
    artifact = artifacts.open_artifact(path)
    run = existing.with_config(run_of(artifact), config, path)
    if records:
        run.config.data.records, run.config.data.source = records, ""
    # Exported files hold the plain prediction.
    run.config.eval.settings.flip = False
    checks.check(run.config)
    mesh = pipeline.start_devices("")
    beside = epath.Path(path).parent
    home = beside if workdir is None else workdir
    folder = WorkFolder(home).evaluation
    with pipeline.held_by_first_process(folder.path, [folder.figures.name], show):
        # A network's own folder for exports lies in the network's.
        network = beside.parent if beside.name == FOLDER else beside
        place = data.find_records(run.config, path, network, workdir, converters, show)
        metadata = pipeline.check_records(run.config, place)
        context = pipeline.open_context(run, place, home, mesh, show, stop, training=False)
        protocol = open_protocol(run, context)
        show(f"evaluating {path} on {protocol.test_set}")
        record = record_of(artifact, run, protocol, stop)
        if jax.process_index() == 0:
            scoring.report_evaluation(folder, run, path, record, None, metadata, context)
        processes.wait_for_all("report")


def run_of(artifact: Artifact) -> Run:
    """Makes the run of the network that was exported.

    Raises:
      UserError: its config is missing or of a version that this one cannot use.
    """
    stored = artifact.sidecar.get("run")
    if not isinstance(stored, dict) or "config" not in stored:
        raise UserError(
            f"The .json of '{artifact.path}' has no config of a run: export the network again."
        )
    return stored_runs.run_of_meta(stored, str(artifact.path), artifact.about.name)


def record_of(
    artifact: Artifact, run: Run, protocol: EvaluationProtocol, stop: Stop
) -> dict[str, Any]:
    """Runs the whole protocol on a file, and times it; see `evaluation.evaluate_network`."""

    def predict(_: Any, source: Source | None = None) -> Any:
        stop.obey()
        given = protocol.source if source is None else source
        return predictions(artifact.compute, artifact.about, given)

    compute: Any = artifact.compute
    scores = protocol.full({"plain": compute}, predict)
    return {
        "loaded": f"exported as {artifact.format}",
        "scores": scores,
        "table": protocol.row(scores),
        "breakdown": protocol.breakdown(scores),
        "cost": cost_of(artifact, run, protocol.source),
    }


def cost_of(artifact: Artifact, run: Run, source: Source) -> dict[str, Any]:
    """Times a file at the config's batch sizes, beside the network's parameters and MACs.

    Raises:
      UserError: the .json lacks the network's cost.
    """
    latencies = {}
    for batch in run.config.eval.latency_batches:
        arrays: Any = source.gather(np.arange(batch) % len(source))
        latencies[batch] = cost.measure_latency(
            artifact.compute,
            np.asarray(arrays[artifact.about.input_name]),
            warmup=run.config.eval.latency_warmup,
            runs=run.config.eval.latency_runs,
        )
    try:
        macs = cost.Macs(**artifact.sidecar["macs_per_example"])
        parameters = int(artifact.sidecar["parameters"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"The .json of '{artifact.path}' lacks the network's cost: export the network again."
        ) from error
    return cost.Cost(parameters, macs, source.unit[1], latencies).as_dict()
