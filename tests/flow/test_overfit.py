"""The student's network can learn: 32 generated persons by heart at 32 pixels."""

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from tiny import get_config, mesh_of, shrink

from data_prep import convert
from kdpose_jax.data import persons
from kdpose_jax.evaluate.protocols import pck
from kdpose_jax.experiment import pipeline
from kdpose_jax.experiment.run import build
from kdpose_jax.train import state
from kdpose_jax.train.step import build_step

PERSONS = 32
STEPS = 180


def test_student_learns_its_pictures_by_heart(tmp_path):
    """From the records through the demo's own loss and optimiser to scores in evaluation mode, with
    the averaged statistics.
    """
    convert.prepare(
        "people",
        str(tmp_path / "records"),
        train_pictures=PERSONS,
        val_pictures=1,
        test_pictures=1,
        picture_size=160,
        workers=1,
    )
    data = persons.read(tmp_path / "records", "train")
    views = {"image": 32}
    batch = persons.open_evaluation(data, views=views).gather(np.arange(PERSONS))
    (run,) = (
        run
        for run in pipeline.planned_runs(shrink(get_config("cdkd", "demo")))
        if run.name == "baseline"
    )
    run.config.student.train.batch, run.config.student.train.epochs = PERSONS, float(STEPS)
    run.config.student.optim.learning_rate = 1e-2
    built = build(run, PERSONS)
    method, optimizer = built.method, built.optimizer
    place = NamedSharding(mesh_of(1), PartitionSpec())
    batch, key = jax.device_put((batch, jax.random.key(0)), place)
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises a float to an integer power
        current = state.create(
            method, optimizer, batch, key, with_ema=False, mesh=mesh_of(1), fsdp=False
        )
        predict = (
            jax.jit(method.predict).lower(current.params, current.model_state, batch).compile()
        )
        step = build_step(
            method,
            optimizer,
            ema_decay=0.0,
            accumulate=1,
            statistics_per_device=False,
            layout=state.layout(current),
        )
        for _ in range(STEPS):
            current, _ = step(current, {}, batch, key)
    found = predict(current.params, current.model_state, batch)
    protocol = pck.open_protocol(data, views=views, flip=False, reference="torso", threshold=0.2)
    assert protocol.score(jax.tree.map(np.asarray, found), np.arange(PERSONS))["Mean"] > 95
