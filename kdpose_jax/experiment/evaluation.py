"""Scores and costs of one network, kept in its folder so that an interrupted run does not repeat
them.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from kdpose_jax import files, processes
from kdpose_jax.contracts import Predict, Source
from kdpose_jax.evaluate import cost, runner
from kdpose_jax.experiment import configs, weights
from kdpose_jax.experiment.run import Context, Run, build_method, open_protocol, plan_of
from kdpose_jax.folders import RunFolder
from kdpose_jax.report import results
from kdpose_jax.train import sharding
from kdpose_jax.untrusted.documents import load_json

RECORD_VERSION = 2  # of evaluation.json; a file of another one is made again


def evaluate_network(run: Run, checkpoint: str, context: Context) -> dict[str, Any]:
    """The whole protocol and the cost of a trained network, in float32.

    Args:
      run: the network's.
      checkpoint: its folder, or a PyTorch file.
      context: test data and devices.

    Returns:
      A record for `results.json`: what was `loaded`, `scores`, their `table` row and `breakdown`,
        and `cost`.

    Raises:
      UserError: the checkpoint holds another network.
    """
    protocol = open_protocol(run, context)
    # Without weights of the distillation there is no teacher to build.
    alone = dataclasses.replace(run, config=configs.without_distillation(run.config))
    alone, method = build_method(alone, plan_of(run, 1))
    everywhere = sharding.replicated(context.mesh)
    params, model_state, _ = jax.eval_shape(
        method.init, jax.random.key(0), protocol.source.gather(np.arange(1))
    )
    target = weights.variables_of("student", params, model_state)
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), target
    )
    network = weights.load_network(alone.block.network.name, checkpoint, target)
    student, model_state = (
        {"student": network["params"]},
        {"student": network["state"]} if network["state"] else {},
    )
    batch = sharding.evaluation_batch(run.config.eval.batch, context.mesh)
    over_batch = sharding.over_batch(context.mesh)

    def predict(function: Predict, source: Source | None = None) -> Any:
        context.stop.obey()
        source = protocol.source if source is None else source
        return runner.predict_all(
            jax.jit(function), student, model_state, source, batch=batch, sharding=over_batch
        )

    context.show(f"evaluating {checkpoint} on {protocol.test_set}")
    with jax.default_matmul_precision("highest"):  # on TPU the default is one bfloat16 pass
        scores = protocol.full({"plain": method.predict, "flip": method.predict_with_flip}, predict)
    return {
        "loaded": weights.which_checkpoint(checkpoint),
        "scores": scores,
        "table": protocol.row(scores),
        "breakdown": protocol.breakdown(scores),
        "cost": cost_of(
            method.predict, student, model_state, protocol.source, run.config, context.show
        ),
    }


def cost_of(
    predict: Predict,
    params: Any,
    model_state: Any,
    source: Any,
    config: ConfigDict,
    show: Callable[[str], None],
) -> dict[str, Any]:
    """Parameters, multiply-adds, latency and rate of one network, without test-time flip, on one
    device.
    """
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    compiled = jax.jit(predict)
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


def kept_record(path: epath.Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """The record of a file, where it is one of what is asked.

    None too of a damaged file, which is made again.
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
    """`evaluate_network`, or what it gave the last time.

    Args:
      folder: the network's, in which the record is kept; only process 0 need see it.
      run: the network's.
      checkpoint: its folder, or a PyTorch file. A teacher of another experiment may have been
        scored there, on the same data.
      metadata: the data set's.
      context: test data and devices.
    """
    values = configs.as_dict(run.config)
    data = hashlib.sha256(
        json.dumps(configs.data_identity(metadata), sort_keys=True).encode()
    ).hexdigest()
    asked = {
        "version": RECORD_VERSION,
        "checkpoint": checkpoint,
        "data": data,
        "split": run.config.data.test_split,
    }
    asked |= {block: values[block] for block in ("eval", "decode") if block in values}
    # Of the latencies.
    asked["device"] = f"{jax.devices()[0].device_kind}, {results.host_cores()} cores"
    places = (folder.evaluation, RunFolder(weights.run_folder(checkpoint)).evaluation)
    stored = (kept_record(place, asked) for place in places)
    record = next((record for record in stored if record is not None), None)
    if processes.first_process_says(record is not None):
        return record if record is not None else {}
    record = results.plain(evaluate_network(run, checkpoint, context))
    if jax.process_index() == 0:
        folder.path.mkdir(parents=True, exist_ok=True)
        files.write_json(folder.evaluation, {"asked": asked, "record": record})
    return record
