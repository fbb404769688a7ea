"""Scores and costs of one network, kept in its folder so that an interrupted run does not repeat them."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from kdpose_jax import processes
from kdpose_jax.contracts import Source
from kdpose_jax.evaluate import cost, runner
from kdpose_jax.experiment import configs, weights
from kdpose_jax.experiment.training import Surroundings, build_method, open_protocol, plan_of
from kdpose_jax.report import results
from kdpose_jax.train import sharding
from kdpose_jax.untrusted.documents import load_json

RECORD_FILE = "evaluation.json"
RECORD_VERSION = 2  # of evaluation.json; a file of another one is made again


def evaluate_network(config: ConfigDict, checkpoint: str, around: Surroundings) -> dict[str, Any]:
    """The whole protocol and the cost of a trained network, in float32.

    Args:
      config: the network stands in its `student` block; not locked.
      checkpoint: its run, or a PyTorch file.
      around: protocol and devices.

    Returns:
      A record for `results.json`: what was `loaded`, `scores`, their `table` row and `breakdown`, and `cost`.

    Raises:
      UserError: the checkpoint holds another network.
    """
    protocol = open_protocol(config, around)
    method, config = build_method(configs.of_baseline(config), plan_of(config, 1))  # without weights there is no teacher to build
    everywhere = sharding.replicated(around.mesh)
    params, model_state, _ = jax.eval_shape(method.init, jax.random.key(0), protocol.source.gather(np.arange(1)))
    target = weights.variables_of("student", params, model_state)
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), target)
    network = weights.load_network(config.student.network.name, checkpoint, target)
    student, model_state = {"student": network["params"]}, {"student": network["state"]} if network["state"] else {}
    batch, over_batch = sharding.evaluation_batch(config.eval.batch, around.mesh), sharding.over_batch(around.mesh)

    def run(function: runner.Predict, source: Source | None = None) -> Any:
        around.stop.obey()
        source = protocol.source if source is None else source
        return runner.predict_all(jax.jit(function), student, model_state, source, batch=batch, sharding=over_batch)

    around.show(f"evaluating {checkpoint} on {protocol.test_set}")
    with jax.default_matmul_precision("highest"):  # on TPU the default is one bfloat16 pass
        scores = protocol.full({"plain": method.predict, "flip": method.predict_with_flip}, run)
    return {
        "loaded": weights.which_checkpoint(checkpoint),
        "scores": scores,
        "table": protocol.row(scores),
        "breakdown": protocol.breakdown(scores),
        "cost": cost_of(method.predict, student, model_state, protocol.source, config, around.show),
    }


def cost_of(
    predict: runner.Predict, params: Any, model_state: Any, source: Any, config: ConfigDict, show: Callable[[str], None]
) -> dict[str, Any]:
    """Parameters, multiply-adds, latency and rate of one network, without test-time flip, on one device."""
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    compiled = jax.jit(predict)
    local = jax.device_put(jax.tree.map(np.asarray, (params, model_state)), device)
    latencies = {}
    for batch in config.eval.latency_batches:
        longest = f"up to {cost.LONGEST_S:g} s (up to {3 * cost.LONGEST_S:g} s where one call takes seconds)"
        show(f"measuring the speed at {batch} example(s) per call: compiles, then calls for {longest}")
        arrays = jax.device_put(source.gather(np.arange(batch) % len(source)), device)
        latencies[batch] = cost.measure_latency(
            compiled, *local, arrays, warmup=config.eval.latency_warmup, runs=config.eval.latency_runs
        )
        show(f"timed {latencies[batch].runs} call(s), median {latencies[batch].median_s:.3g} s")
    macs = cost.count_macs(predict, params, model_state, source.gather(np.arange(1)))
    return cost.Cost(cost.count_parameters(params), macs, source.unit[1], latencies).as_dict()


def kept_record(path: epath.Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """The record of a file, where it is one of what is asked; None too of a damaged file, which is made again."""
    try:
        found = load_json(path) if path.exists() else None
        record = found["record"] if found is not None and found["asked"] == asked else None
    except (ValueError, KeyError, TypeError):
        return None
    return record if isinstance(record, dict) else None


def evaluate_once(
    directory: epath.Path, config: ConfigDict, checkpoint: str, metadata: dict[str, Any], around: Surroundings
) -> dict[str, Any]:
    """`evaluate_network`, or what it gave the last time.

    Args:
      directory: of the network, in which the record is kept; only process 0 need see it.
      config: of the network.
      checkpoint: its run, or a PyTorch file; a teacher of another experiment may have been scored there, on the same data.
      metadata: of the data set.
      around: protocol and devices.
    """
    values = configs.as_dict(config)
    data = hashlib.sha256(json.dumps(configs.data_identity(metadata), sort_keys=True).encode()).hexdigest()
    asked = {"version": RECORD_VERSION, "checkpoint": checkpoint, "data": data, "split": config.data.test_split}
    asked |= {block: values[block] for block in ("eval", "decode") if block in values}
    asked["device"] = f"{jax.devices()[0].device_kind}, {results.host_cores()} cores"  # of the latencies
    folders = (directory, weights.run_folder(checkpoint))
    record = next((found for folder in folders if (found := kept_record(folder / RECORD_FILE, asked)) is not None), None)
    if processes.first_process_says(record is not None):
        return record if record is not None else {}
    record = evaluate_network(config, checkpoint, around)
    if jax.process_index() == 0:
        directory.mkdir(parents=True, exist_ok=True)
        configs.write_json(directory / RECORD_FILE, {"asked": asked, "record": record})
    return record
