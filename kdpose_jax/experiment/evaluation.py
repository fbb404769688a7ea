"""Measures scores and costs of one network.

They are kept in the network's folder, so that a resumed run does not measure them again.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from kdpose_jax import files, processes
from kdpose_jax.contracts import Predict, Source
from kdpose_jax.evaluate import cost, runner
from kdpose_jax.evaluate.example_scores import ExampleScores
from kdpose_jax.evaluate.extremes import Extremes
from kdpose_jax.experiment import configs, existing, stored_runs
from kdpose_jax.experiment.run import Context, Run, open_protocol
from kdpose_jax.folders import RunFolder
from kdpose_jax.page import extremes as seen
from kdpose_jax.report import results
from kdpose_jax.train import compiling, sharding
from kdpose_jax.untrusted.documents import load_json

RECORD_VERSION = 4  # a stored evaluation.json of another version is measured again
EXTREMES = 10  # test examples that the page shows, of the best and of the worst


def evaluate_network(
    run: Run, checkpoint: str, context: Context
) -> tuple[dict[str, Any], Extremes]:
    """Runs the whole protocol on a trained network, in float32, and measures its cost.

    Args:
      run: the run that trained the network.
      checkpoint: the network's folder, or a PyTorch file.
      context: test data and devices.

    Returns:
      A record for `results.json`: which checkpoint was `loaded`, `scores`, their `table` row and
        `breakdown`, what the first figure of the row is made of (`examples`, an `ExampleScores` or
        None), and `cost`. Second, the test examples with the best and the worst predictions.

    Raises:
      UserError: the checkpoint holds another network.
    """
    protocol = open_protocol(run, context)
    example = protocol.source.gather(np.arange(1))
    trained = existing.restore(run, checkpoint, example, sharding.replicated(context.mesh))
    method, student, model_state = trained.method, trained.params, trained.model_state
    batch = sharding.evaluation_batch(run.config.eval.batch, context.mesh)
    over_batch = sharding.over_batch(context.mesh)
    predictors = {"plain": method.predict, "flip": method.predict_with_flip}
    shown = predictors["flip" if protocol.flip else "plain"]
    extremes: list[Extremes] = []
    examples: list[ExampleScores | None] = []

    def predict(function: Predict, source: Source | None = None) -> Any:
        context.stop.obey()
        source = protocol.source if source is None else source
        prediction = runner.predict_all(
            compiling.jit(function, context.mesh),
            student,
            model_state,
            source,
            batch=batch,
            sharding=over_batch,
        )
        if function is shown and source is protocol.source:
            extremes.append(protocol.extremes(prediction, EXTREMES))
            examples.append(protocol.example_scores(prediction))
        return prediction

    context.show(f"evaluating {checkpoint} on {protocol.test_set}")
    with jax.default_matmul_precision("highest"):  # on TPU the default is one bfloat16 pass
        scores = protocol.full(predictors, predict)
    record = {
        "loaded": stored_runs.which_checkpoint(checkpoint),
        "scores": scores,
        "table": protocol.row(scores),
        "breakdown": protocol.breakdown(scores),
        "examples": examples[0],
        "cost": cost_of(
            method.predict, student, model_state, protocol.source, run.config, context.show
        ),
    }
    return record, extremes[0]


def cost_of(
    predict: Predict,
    params: Any,
    model_state: Any,
    source: Any,
    config: ConfigDict,
    show: Callable[[str], None],
) -> dict[str, Any]:
    """Measures parameters, multiply-adds, latency and rate, on one device and without flip."""
    alone = jax.sharding.Mesh(jax.local_devices()[:1], ("data",))
    device = sharding.replicated(alone)
    compiled = compiling.jit(predict, alone)
    local = jax.device_put(jax.tree.map(np.asarray, (params, model_state)), device)
    latencies = {}
    for batch in config.eval.latency_batches:
        limit = cost.LONGEST_S
        longest = f"up to {limit:g} s (up to {3 * limit:g} s where one call takes seconds)"
        show(
            f"measuring the speed at {batch} example(s) per call: compiles, then calls for "
            f"{longest}"
        )
        arrays = jax.device_put(source.gather(np.arange(batch) % len(source)), device)
        latencies[batch] = cost.measure_latency(
            compiled,
            *local,
            arrays,
            warmup=config.eval.latency_warmup,
            runs=config.eval.latency_runs,
        )
        show(f"timed {latencies[batch].runs} call(s), median {latencies[batch].median_s:.3g} s")
    macs = cost.count_macs(predict, params, model_state, source.gather(np.arange(1)))
    return cost.Cost(cost.count_parameters(params), macs, source.unit[1], latencies).as_dict()


def keep_record(path: epath.Path, asked: dict[str, Any], record: dict[str, Any]) -> None:
    """Stores a record with the question that it answers."""
    files.write_json(path, {"asked": asked, "record": record})


def kept_record(path: epath.Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the record that `keep_record` stored if it answers the question `asked`, else None.

    A damaged file counts as absent.
    """
    try:
        found = load_json(path) if path.exists() else None
        record = found["record"] if found is not None and found["asked"] == asked else None
    except (ValueError, KeyError, TypeError):
        return None
    return record if isinstance(record, dict) else None


def evaluate_once(
    folder: RunFolder, run: Run, checkpoint: str, metadata: dict[str, Any], context: Context
) -> dict[str, Any]:
    """Returns the stored record of `evaluate_network`, or calls it and stores what it returns.

    Args:
      folder: the network's folder, which keeps the record. Only process 0 needs to see it.
      run: the run that trained the network.
      checkpoint: the network's folder, or a PyTorch file. A record is looked for there too: another
        experiment may have scored its teacher on the same data.
      metadata: the data set's metadata.
      context: test data and devices.
    """
    values = configs.as_dict(run.config)
    asked = {
        "version": RECORD_VERSION,
        "checkpoint": checkpoint,
        "data": configs.data_checksum(metadata),
        "split": "test",
    }
    asked |= {block: values[block] for block in ("eval", "decode") if block in values}
    # Latencies depend on the device.
    asked["device"] = f"{jax.devices()[0].device_kind}, {results.host_cores()} cores"
    places = (folder, RunFolder(stored_runs.run_folder(checkpoint)))
    stored = (kept_record(place.evaluation, asked) for place in places)
    record = next((record for record in stored if record is not None), None)
    if processes.first_process_says(record is not None):
        return record if record is not None else {}
    record, extremes = evaluate_network(run, checkpoint, context)
    record = results.plain(record)
    if jax.process_index() == 0:
        folder.path.mkdir(parents=True, exist_ok=True)
        files.write_json(folder.extremes, seen.pack(extremes, metadata), indent=None)
        keep_record(folder.evaluation, asked, record)
    return record
