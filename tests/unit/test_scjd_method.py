"""SCJD put together: its invariants, its weighted sum, and the options that it refuses.

See docs/methods/scjd.md#invariants.
"""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scjd_scene import FLIP, KEY, ONLY, alpha_oracle, build, normed

from kdpose_jax.codecs import poses
from kdpose_jax.errors import UserError
from kdpose_jax.losses.lifting import lifting_loss
from kdpose_jax.skeletons import H36M_17
from kdpose_jax.tasks import sparse_lifting


def test_loss_is_the_weighted_sum(scene):
    """L_task + the ramped embedding and attention terms + the temporal term, which is not ramped.

    docs/methods/scjd.md#total-loss, docs/methods/scjd.md#schedule
    """
    weights = {"embedding": 0.5, "attention": 30.0, "temporal": 0.7}
    scjd, config = build(
        **{f"distill__weights__{name}": weight for name, weight in weights.items()},
        distill__warmup_epochs=0.5,
        distill__decay_fraction=0.5,
    )
    warmup, steps = int(0.5 * 64 / config.student.train.batch), config.run.steps
    terms = {name: np.asarray(value) for name, value in scene.terms().items()}
    loss = jax.jit(scjd.loss)
    for step, ramp in (
        (0, 0.0),
        (warmup // 2, 0.5),
        (warmup, 1.0),
        (steps // 2, 1.0),
        (3 * steps // 4, 0.5),
    ):
        value, (metrics, _) = loss(
            scene.params, {}, scene.frozen, scene.batch, KEY, jnp.asarray(step)
        )
        expected = metrics["task"][0]
        for name, weight in weights.items():
            part = weight * (1.0 if name == "temporal" else ramp) * terms[name]
            np.testing.assert_allclose(
                metrics[f"weighted_{name}"][0], part.sum(), rtol=1e-4, atol=1e-6
            )
            expected = expected + part.sum()
        np.testing.assert_allclose(metrics["loss"][0], expected, rtol=1e-5)
        np.testing.assert_allclose(value, expected / 2, rtol=1e-5)


def test_phases_are_drawn_in_training(scene):
    """With phase augmentation every step lifts the keyframes of one offset, another one with
    another key; its loss is the task's.
    """
    scjd, config = build(
        **{f"distill__weights__{name}": 0.0 for name in ONLY},
        student__input__phase_augmentation=True,
        student__loss__smoothness=0.3,
        student__loss__velocity=1.7,
    )
    student = sparse_lifting.build_student(config, "student", H36M_17, training=True)
    lift = jax.jit(
        lambda offset: student.apply(
            {"params": scene.params["student"]}, scene.batch["keypoints_2d"], offset
        )[0]
    )
    expected = []
    for offset in range(3):
        options = {
            "joint_weights": np.asarray(H36M_17.loss_weights),
            "smoothness_weight": 0.3,
            "velocity_weight": 1.7,
        }
        expected.append(
            float(lifting_loss(lift(offset), scene.batch["pose_3d"], **options)[0].mean())
        )
    assert np.diff(sorted(expected)).min() > 1e-4
    loss, seen = jax.jit(scjd.loss), set()
    for seed in range(12):
        value, _ = loss(scene.params, {}, {}, scene.batch, jax.random.key(seed), jnp.asarray(0))
        matching = [offset for offset in range(3) if np.isclose(value, expected[offset], rtol=1e-5)]
        assert len(matching) == 1
        seen |= set(matching)
    assert seen == {0, 1, 2}


@pytest.fixture(scope="module")
def copied(wide):
    """Invariant (i): r = 1, the student a copy of the teacher, identity projections."""
    scene = copy.copy(wide)
    projector = {"kernel": np.eye(16, dtype=np.float32), "bias": np.zeros(16, np.float32)}
    scene.params = {
        "student": {"network": wide.frozen["teacher"]["params"]},
        "projectors": {"layer_2": projector},
    }
    scene.predicted, scene.features = jax.jit(wide.lift)(scene.params)
    return scene


def test_a_copy_of_the_teacher_has_no_loss(copied):
    """Computes in float64, so that only an error of ours is above rounding."""
    np.testing.assert_allclose(copied.predicted, copied.pose, atol=1e-6)
    assert copied.features["keyframes"].tolist() == list(range(9))
    exact = copy.copy(copied)
    teacher = copied.distillation.live.teacher
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):  # flax promotes
        exact.params, exact.frozen, exact.batch = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, jnp.float64),
            (copied.params, copied.frozen, copied.batch),
        )
        exact.predicted, exact.features = jax.jit(exact.lift)(exact.params)
        variables = {"params": exact.frozen["teacher"]["params"]}
        exact.batch["teacher_pose_3d"], _ = jax.jit(teacher.apply)(
            variables, exact.batch["keypoints_2d"]
        )
        terms = exact.terms(distill__embedding__context="keyframe", distill__embedding__reach=0)
    for name in ("embedding", "attention", "temporal"):
        assert terms[name].shape == (2,) and terms[name].dtype == np.float64
        np.testing.assert_allclose(terms[name], 0, atol=1e-11, err_msg=name)


def test_a_copy_of_the_teacher_has_its_context_gap(copied):
    """With a context of several frames DJED is the distance between an embedding and its own
    context, and nothing else.
    """
    terms = copied.terms(distill__embedding__reach=2)
    embeddings = copied.taught["spatial"][2].astype(np.float64)
    target = np.einsum(
        "bkjm,bmjc->bkjc", alpha_oracle(embeddings, np.arange(9), "dynamic", 2), embeddings
    )
    gap = ((normed(embeddings) - normed(target)) ** 2).mean((1, 2, 3))
    assert gap.min() > 5e-4
    np.testing.assert_allclose(terms["embedding"], gap, rtol=1e-3)
    np.testing.assert_allclose(terms["attention"], 0, atol=1e-6)


def test_flip_averaging_is_equivariant(scene):
    """Invariant (iv).

    The averaged prediction of the mirrored input is the mirrored averaged prediction.
    """
    averaged = jax.jit(scene.method.predict_with_flip)
    mirrored = {"keypoints_2d": poses.flip(scene.batch["keypoints_2d"], FLIP)}
    plain, other = averaged(scene.params, {}, scene.batch), averaged(scene.params, {}, mirrored)
    np.testing.assert_allclose(other, poses.flip(plain, FLIP), atol=1e-5)
    single = scene.predict(scene.params, {}, scene.batch), scene.predict(scene.params, {}, mirrored)
    assert np.abs(single[1] - poses.flip(single[0], FLIP)).max() > 1e-2


def test_prediction_is_relative_to_the_root(scene):
    """The student's own pose on the centred grid with the root at zero.

    Its parameters hold no projector (invariant ix).
    """
    found = jax.jit(scene.method.predict)({"student": scene.params["student"]}, {}, scene.batch)
    np.testing.assert_allclose(found[:, :, 1:], scene.predicted[:, :, 1:], atol=1e-5)
    assert (np.asarray(found[:, :, 0]) == 0).all() and np.abs(scene.predicted[:, :, 0]).max() > 0
    paths = [
        jax.tree_util.keystr(where)
        for where, _ in jax.tree.leaves_with_path(scene.params["student"])
    ]
    assert paths and not any("projector" in path or "layer_" in path for path in paths)


def test_terms_without_a_weight_are_not_computed(scene):
    for name, options in ONLY.items():
        scjd, _ = build(**options)
        _, (metrics, _) = jax.eval_shape(
            scjd.loss, scene.params, {}, scene.frozen, scene.batch, KEY, jnp.asarray(0)
        )
        assert {metric for metric in metrics if metric.startswith("weighted_")} == {
            f"weighted_{name}"
        }
        params, _, frozen = jax.eval_shape(scjd.init, KEY, scene.batch)
        assert ("projectors" in params) == (name == "embedding")
        # The poses of the temporal term were computed before.
        assert set(frozen) == (set() if name == "temporal" else {"teacher"})
        assert scjd.reads_teacher_poses == (name == "temporal")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student__input__selection": "random"}, "student.input.selection is 'random'"),
        ({"student__input__upsampling": "cubic"}, "student.input.upsampling is 'cubic'"),
        ({"student__input__ends": "wrap"}, "student.input.ends is 'wrap'"),
        ({"student__input__stride": 0}, "student.input.stride is 0"),
        ({"student__input__stride": 10}, "student.input.stride is 10"),
        ({"student__input__offset": 3}, "student.input.offset is 3"),
        (
            {
                "student__input__upsampling": "cross_attn",
                "student__input__phase_augmentation": True,
            },
            "is not told the phase",
        ),
        (
            {"student__input__selection": "correlated", "student__input__phase_augmentation": True},
            "no meaning for correlated",
        ),
        (
            {"student__input__selection": "correlated", "student__input__upsampling": "learned"},
            "needs student.input.selection 'uniform'",
        ),
        ({"distill__embedding__context": "none"}, "distill.embedding.context is 'none'"),
        ({"distill__embedding__feature": "head"}, "distill.embedding.feature is 'head'"),
        ({"distill__embedding__layers": (2,)}, "the student has layers 0 to 1"),
        ({"distill__attention__kind": "l1"}, "distill.attention.kind is 'l1'"),
        ({"distill__attention__heads": "all"}, "distill.attention.heads is 'all'"),
        ({"distill__attention__heads": "each"}, "needs equal heads and widths"),
        ({"distill__attention__gather": "mean"}, "distill.attention.gather is 'mean'"),
        (
            {"student__network__heads": 3},
            "student.network.width 8 is not a multiple of student.network.heads 3",
        ),
        ({"teacher__network__depth": 0}, "teacher.network has depth 0"),
        ({"student__network__drop_path": 1.0}, "student.network.drop_path is 1.0"),
        ({"student__network__compute": "float16"}, "student.network.compute is 'float16'"),
    ],
)
def test_options_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        build(**changes)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("frames", "stride", "words"),
    [
        (27, 3, None),
        (243, 9, None),
        (243, 5, "49 keyframes 2 to 242, and the centre frame 121 is not one of them"),
        (9, 2, "5 keyframes 0 to 8, and the centre frame 4 is one of them"),
    ],
)
def test_grids_that_are_not_symmetric_are_announced(frames, stride, words):
    notes = build(data__frames=frames, student__input__stride=stride)[0].notes
    assert notes == () if words is None else words in notes[0]
