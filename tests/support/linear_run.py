"""One process of a pod that fits a line.

`python linear_run.py FOLDER`. Prints what it saw as one line of JSON.
"""

import json
import os
import pathlib
import signal
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from networks import abstract

from kdpose_jax import processes
from kdpose_jax.checkpoint.manager import Checkpoints
from kdpose_jax.contracts import Method
from kdpose_jax.data.batches import TrainBatches, to_global
from kdpose_jax.evaluate import runner
from kdpose_jax.methods.loss_terms import as_metrics
from kdpose_jax.train import loop, preemption, sharding, state
from kdpose_jax.train.logs import MetricsLog, Progress
from kdpose_jax.train.step import build_step

EXAMPLES, BATCH, RATE, SEED, STEPS, SIGNAL_AT = 11, 4, 0.05, 3, 40, 3


class Line:
    """Examples of y = x w, drawn from a fixed seed; remembers which were asked for."""

    unit = ("points", 1)

    def __init__(self):
        generator = np.random.default_rng(0)
        self.x, self.y = (
            generator.normal(size=(EXAMPLES, 3)).astype(np.float32),
            generator.normal(size=EXAMPLES).astype(np.float32),
        )
        self.read = []

    def __len__(self):
        return EXAMPLES

    def gather(self, examples, passes=None):
        self.read.append(examples.tolist())
        return {"x": self.x[examples], "y": self.y[examples]}


def method():
    """Least squares from w = 0."""

    def loss(params, model_state, frozen, batch, key, step):
        error = jnp.square(batch["x"] @ params["student"] - batch["y"])
        return error.mean(), (as_metrics({"loss": error}), model_state)

    def predict(params, model_state, batch):
        return batch["x"] @ params["student"]

    return Method(
        init=lambda key, batch: ({"student": jnp.zeros(3)}, {}, {}),
        loss=loss,
        predict=predict,
        predict_with_flip=predict,
    )


def open_checkpoints(folder):
    """Checkpoints of the run."""
    return Checkpoints(
        folder,
        keep_latest=2,
        keep_best=0,
        best_metric="error",
        best_is_lowest=True,
        asynchronous=True,
    )


class SignalledStop(preemption.Stop):
    """Asked as by the loop; one process signals itself at a question."""

    def __init__(self, signals):
        super().__init__()
        self._signals, self._asked = signals, 0

    def requested(self):
        self._asked += 1
        if self._asked == SIGNAL_AT and self._signals:
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)  # as if a step took as long; word of the signal travels meanwhile
        return super().requested()


def new_state(mesh):
    """The state at step 0 and the optimiser."""
    optimizer, batch = (
        optax.sgd(RATE),
        to_global(
            Line().gather(np.arange(BATCH // jax.process_count())), sharding.over_batch(mesh)
        ),
    )
    key = jax.jit(lambda: jax.random.key(SEED), out_shardings=sharding.replicated(mesh))()
    return (
        state.create(method(), optimizer, batch, key, with_ema=False, mesh=mesh, fsdp=False),
        optimizer,
        key,
    )


def main(folder):
    """Trains until the signal that the last process sends itself, and predicts all examples."""
    number, count = int(os.environ["KDPOSE_PROCESS"]), int(os.environ["KDPOSE_PROCESSES"])
    jax.distributed.initialize(os.environ["KDPOSE_COORDINATOR"], count, number)
    mesh = sharding.make_mesh()
    sharding.meet(mesh)
    order = []
    if number == count - 1:
        time.sleep(0.3)  # it would be first otherwise
    with processes.first_process_first():
        order = [path.name for path in folder.glob("was-*")]
        (folder / f"was-{number}").touch()
    current, optimizer, key = new_state(mesh)
    tested, trained, stop = Line(), Line(), SignalledStop(number == count - 1)

    def predictions(current):
        return runner.predict_all(
            jax.jit(method().predict),
            current.params,
            {},
            tested,
            batch=BATCH,
            sharding=sharding.over_batch(mesh),
        )

    checkpoints, interrupted = (
        open_checkpoints(folder / "checkpoints"),
        open_checkpoints(folder / "interrupted"),
    )
    log = MetricsLog(str(folder), first_step=0, writes=number == 0)
    batches = TrainBatches(
        trained,
        seed=SEED,
        batch=BATCH,
        first_step=0,
        sharding=sharding.over_batch(mesh),
        patience=60.0,
    )
    stopped = None
    try:
        step = build_step(
            method(),
            optimizer,
            ema_decay=0.0,
            accumulate=1,
            statistics_per_device=False,
            layout=state.layout(current),
        )
        plan = loop.Plan(
            steps=STEPS,
            steps_per_epoch=EXAMPLES / BATCH,
            log_every=1,
            save_every=0,
            evaluate_every=0,
        )
        loop.Training(
            current,
            [],
            computation=loop.Computation(
                step, {}, key, lambda step: RATE, lambda current: {}, "val"
            ),
            batches=batches,
            plan=plan,
            storage=loop.Storage(checkpoints, interrupted, {}, log, None),
            progress=Progress(
                "line",
                first_step=0,
                steps=plan.steps,
                steps_per_epoch=plan.steps_per_epoch,
                unit=("points", BATCH),
                shown=("loss",),
                show=lambda line: None,
            ),
            stop=stop,
        ).run()
    except preemption.Stopped as said:
        stopped = str(said)
    batches.close()
    step = interrupted.latest_step()
    restored, _ = interrupted.restore(vars(abstract(new_state(mesh)[0])))
    checkpoints.close()
    interrupted.close()
    log.close()
    seen = {
        "stopped": stopped,
        "step": step,
        "order": order,
        "read": trained.read,
        "tested": tested.read,
        "obeys": stop.requested(),
        "predicted": predictions(state.TrainState(**restored)).tolist(),
        "all_say": [processes.all_processes_say(True), processes.all_processes_say(number == 0)],
        "first_says": processes.first_process_says(number == 0),
        "first_text": processes.first_process_text(f"text of {number}"),
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
