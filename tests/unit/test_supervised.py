"""The supervised method.

The task loss with the config's weights, and predictions relative to the root.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import (
    example_batch,
    run_of,
)

from kdpose_jax.experiment.run import build
from kdpose_jax.losses.lifting import lifting_loss
from kdpose_jax.skeletons import H36M_17
from kdpose_jax.tasks.lifting_networks import build_mixste


@pytest.fixture(scope="module")
def scene():
    """The tiny teacher's method with weights of its own, its config, a batch, parameters, and the
    network's plain pose.
    """
    run = run_of("scjd", "demo", "teacher")
    run.block.loss.smoothness, run.block.loss.velocity = 0.3, 1.7
    run.block.network.drop_path = 0.0
    built = build(run, 64)
    method, config = built.method, built.run.config
    batch = example_batch(config, stage="teacher")
    params, model_state, frozen = jax.jit(method.init)(jax.random.key(0), batch)
    assert (set(params), model_state, frozen) == ({"student"}, {}, {})
    network = build_mixste(
        config.teacher.network,
        joints=17,
        frames=config.data.frames,
        training=True,
        place="teacher.network",
    )
    pose, _ = jax.jit(network.apply)({"params": params["student"]}, batch["keypoints_2d"])
    return method, config, batch, params, pose


def test_loss_is_the_task_loss(scene):
    method, _, batch, params, pose = scene
    loss, (metrics, model_state) = jax.jit(method.loss)(
        params, {}, {}, batch, jax.random.key(1), jnp.asarray(0)
    )
    weights = np.asarray(H36M_17.loss_weights)
    total, terms = lifting_loss(
        pose, batch["pose_3d"], joint_weights=weights, smoothness_weight=0.3, velocity_weight=1.7
    )
    np.testing.assert_allclose(loss, total.mean(), rtol=1e-5)
    assert model_state == {} and set(metrics) == {"loss", *terms}
    for name, value in terms.items():
        np.testing.assert_allclose(metrics[name][0], value.sum(), rtol=1e-5)


def test_prediction_is_relative_to_the_root(scene):
    method, _, batch, params, pose = scene
    found = np.asarray(jax.jit(method.predict)(params, {}, {"keypoints_2d": batch["keypoints_2d"]}))
    np.testing.assert_allclose(found[:, :, 1:], pose[:, :, 1:], atol=1e-6)
    assert (found[:, :, 0] == 0).all() and np.abs(pose[:, :, 0]).max() > 0


def test_it_has_no_teacher(scene):
    method, *_ = scene
    assert (method.teachers, method.groups, method.notes) == ((), (), ())
