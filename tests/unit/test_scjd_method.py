"""SCJD put together: its invariants (spec 6), every option against a numpy oracle, and the options it refuses."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import example_batch, quick_compiles, shrink  # noqa: F401

from configs import scjd as config_file
from kdpose_jax import codecs
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate.pose3d import flip_averaged
from kdpose_jax.experiment import training
from kdpose_jax.losses import lifting_loss
from kdpose_jax.methods.scjd import losses, method
from kdpose_jax.skeletons import H36M_17

pytestmark = pytest.mark.usefixtures("quick_compiles")
KEY = jax.random.key(11)
J, FLIP = 17, H36M_17.flip_permutation


def config_with(**changes):
    """The tiny experiment: 9 frames, r = 3, student of 2 layers and width 8, teacher of 3 and width 16."""
    config = shrink(config_file.get_config("demo"))
    config.student.network.depth, config.teacher.network.depth = 2, 3
    config.student.network.drop_path = config.teacher.network.drop_path = 0.0
    config.student.input.phase_augmentation = False
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in changes.items()})
    return config


def build(**changes):
    config = config_with(**changes)
    return training.build_method(config, training.plan_of(config, 64))


class Scene:
    """One batch with random networks, and what student and teacher show of it, numpy."""

    def __init__(self, **changes):
        self.changes = changes
        self.method, self.config = build(**changes)
        self.batch = example_batch(self.config, seed=3)
        self.student = method.build_student(self.config, H36M_17, training=True)
        self.distillation = method.build_distillation(self.config, H36M_17)
        generator = np.random.default_rng(4)

        def drawn(path, leaf):  # norms about one, everything else about zero
            return (0.3 * generator.normal(size=leaf.shape) + ("scale" in str(path[-1]))).astype(np.float32)

        params, _, frozen = jax.tree.map_with_path(drawn, jax.eval_shape(self.method.init, KEY, self.batch))
        self.params, self.frozen = params, frozen
        points = self.batch["keypoints_2d"]
        both = jnp.concatenate([points, codecs.flip(points, FLIP)])
        run = jax.jit(lambda params, frozen: (self.lift(params), self.distillation.teacher.apply({"params": frozen["teacher"]}, both)))
        (self.predicted, features), (poses, taught) = jax.tree.map(np.asarray, run(params, frozen))
        self.pose, self.pose_of_flipped = poses[:2], poses[2:]
        self.taught = jax.tree.map(lambda array: array[:2], taught)
        self.predict = jax.jit(self.method.predict)
        self.keyframes, self.network, self.matrix = features["keyframes"], features["network"], features["matrix"]
        self.features = features

    def lift(self, params):
        """Pose and features of the student, in training form."""
        return self.student.apply({"params": params["student"]}, self.batch["keypoints_2d"])

    def terms(self, key=KEY, batch=None, frozen=None, **changes):
        """The terms that the options ask for, by our code, `[B]` each."""
        compute = compiled_terms(tuple(sorted({**self.changes, **changes}.items())))
        frozen, batch = (self.frozen if frozen is None else frozen), (self.batch if batch is None else batch)
        return compute(self.params, frozen, batch, self.predicted, self.features, key)


@functools.cache
def compiled_terms(changes):
    distillation = method.build_distillation(config_with(**dict(changes)), H36M_17)
    return jax.jit(functools.partial(method.distillation_terms, distillation))


@pytest.fixture(scope="module")
def scene():
    return Scene()


ONLY = {
    name: {f"distill__weights__{other}": float(other == name) for other in ("embedding", "attention", "temporal")}
    for name in ("embedding", "attention", "temporal")
}


def alpha_oracle(embeddings, keyframes, context, reach):
    frames = embeddings.shape[1]
    alpha = np.zeros((*embeddings.shape[:1], len(keyframes), J, frames))  # over all frames
    unit = embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)
    for k, middle in enumerate(keyframes):
        near = slice(max(0, middle - reach), middle + reach + 1)
        cosine = (unit[:, middle, None] * unit[:, near]).sum(-1)  # [B, N, J]
        score = {"dynamic": np.exp(cosine / 0.1), "mean": np.ones_like(cosine)}[context]
        alpha[:, k, :, near] = (score / score.sum(1, keepdims=True)).transpose(0, 2, 1)
    return alpha


def normed(values):
    centred = values - values.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)


@pytest.mark.parametrize("changes", [
    {},
    {"distill__embedding__context": "mean"},
    {"distill__embedding__context": "keyframe"},
    {"distill__embedding__feature": "temporal", "distill__embedding__reach": 1},
    {"distill__embedding__motion_weight": True},
    {"distill__embedding__layers": (1,), "distill__embedding__reach": 0},
])  # fmt: skip
def test_embedding_term(scene, changes):
    """DJED of the last student layer with teacher layer 3, context over one stride to either side."""
    found = scene.terms(**ONLY["embedding"], **changes)
    assert found.keys() == {"embedding"}
    feature = changes.get("distill__embedding__feature", "spatial")
    embeddings = scene.taught[feature][2].astype(np.float64)
    context = changes.get("distill__embedding__context", "dynamic")
    reach = 0 if context == "keyframe" else changes.get("distill__embedding__reach", 3)
    alpha = alpha_oracle(embeddings, scene.keyframes, "mean" if context == "keyframe" else context, reach)
    target = np.einsum("bkjm,bmjc->bkjc", alpha, embeddings)
    projector = scene.params["projectors"]["layer_1"]
    projected = scene.network[feature][1] @ projector["kernel"].astype(np.float64) + projector["bias"]
    squared = ((normed(projected) - normed(target)) ** 2).mean(-1)
    if "distill__embedding__motion_weight" in changes:
        squared = squared * losses.motion_weights(scene.batch["keypoints_2d"], jnp.asarray(scene.keyframes), 3)
    np.testing.assert_allclose(found["embedding"], squared.mean((1, 2)), rtol=1e-4)


@pytest.mark.parametrize("kind", ["mse", "full"])
@pytest.mark.parametrize("gather", ["keyframe", "context"])
def test_attention_term(scene, kind, gather):
    """AJAD: all student layers, 1 with teacher layer 2 and 2 with 3, heads averaged."""
    found = scene.terms(**ONLY["attention"], distill__attention__kind=kind, distill__attention__gather=gather)
    assert found.keys() == {"attention"}
    adjacent, expected = losses.adjacency(H36M_17.hops(), kind), 0.0
    for layer, teacher_layer in ((0, 1), (1, 2)):
        target = scene.taught["spatial_attention"][teacher_layer].mean(2).astype(np.float64)  # [B, F, J, J]
        if gather == "context":
            alpha = alpha_oracle(scene.taught["spatial"][teacher_layer].astype(np.float64), scene.keyframes, "dynamic", 3)
            target = np.einsum("bkim,bmij->bkij", alpha, target)  # the weights of the query joint
            np.testing.assert_allclose(target.sum(-1), 1, atol=1e-5)
        else:
            target = target[:, scene.keyframes]
        ours = scene.network["spatial_attention"][layer].mean(2)
        expected = expected + (adjacent * (ours - target) ** 2).sum((2, 3)).mean(1) / adjacent.sum() / 2
    np.testing.assert_allclose(found["attention"], expected, rtol=1e-4)


def gamma(features):
    unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
    return np.einsum("btjc,bsjc->bjts", unit, unit)


def temporal_oracle(scene, pose, velocity, correlation):
    distance = np.linalg.norm(scene.predicted - pose, axis=-1)
    value = (distance * np.asarray(H36M_17.loss_weights)).mean((1, 2))
    steps = np.diff(scene.predicted, axis=1) - np.diff(pose, axis=1)
    return value + velocity * np.linalg.norm(steps, axis=-1).mean((1, 2)) + correlation * correlation_oracle(scene).mean(1)


def correlation_oracle(scene):
    """Per joint, `[B, J]`."""
    dense = np.einsum("fk,bkjc->bfjc", scene.matrix, scene.network["temporal"][-1])
    return ((gamma(dense) - gamma(scene.taught["temporal"][-1])) ** 2).mean((2, 3))


@pytest.mark.parametrize(("velocity", "correlation"), [(2.0, 0.1), (0.0, 0.1), (1.5, 0.0)])
def test_temporal_term(scene, velocity, correlation):
    found = scene.terms(**ONLY["temporal"], distill__temporal__velocity=velocity, distill__temporal__correlation=correlation)
    assert found.keys() == {"temporal"}
    np.testing.assert_allclose(found["temporal"], temporal_oracle(scene, scene.pose, velocity, correlation), rtol=1e-4)


def test_correlation_of_some_joints(scene):
    """With 2 of 17 joints the term is the mean over some pair of joints, and another pair with another key."""
    options = {**ONLY["temporal"], "distill__temporal__velocity": 0.0}
    without = np.asarray(scene.terms(**options, distill__temporal__correlation=0.0)["temporal"])
    per_joint = correlation_oracle(scene)
    seen = set()
    for seed in range(3):
        value = scene.terms(jax.random.key(seed), **options, distill__temporal__correlation=100.0, distill__temporal__correlation_joints=2)
        part = (np.asarray(value["temporal"]) - without) / 100
        pairs = {(i, j) for i in range(J) for j in range(i) if np.allclose(per_joint[:, [i, j]].mean(1), part, rtol=1e-4)}
        assert len(pairs) == 1
        seen |= pairs
    assert len(seen) > 1
    everything = scene.terms(**options, distill__temporal__correlation=100.0, distill__temporal__correlation_joints=40)
    np.testing.assert_allclose((everything["temporal"] - without) / 100, per_joint.mean(1), rtol=1e-3)


def test_flip_averaged_targets(scene):
    averaged = (scene.pose + codecs.flip(scene.pose_of_flipped, FLIP)) / 2
    options = {**ONLY["temporal"], "distill__flip_averaged_targets": True}
    expected = temporal_oracle(scene, averaged, 2.0, 0.1)
    np.testing.assert_allclose(scene.terms(**options)["temporal"], expected, rtol=1e-4)
    assert np.abs(expected - temporal_oracle(scene, scene.pose, 2.0, 0.1)).min() > 1e-3

    cached = build(**options, distill__cache_teacher_poses=True)[0].cached_targets
    targets = jax.jit(cached)(scene.frozen, {"keypoints_2d": scene.batch["keypoints_2d"]})
    assert targets.keys() == {"teacher_pose"}
    np.testing.assert_allclose(targets["teacher_pose"], averaged, atol=1e-5)


def test_cached_poses_spare_the_teacher(scene):
    """Where nothing but its poses is asked for, the teacher is not run: it may as well be no numbers at all."""
    options = {**ONLY["temporal"], "distill__temporal__correlation": 0.0}
    batch = {**scene.batch, "teacher_pose": jnp.asarray(scene.pose)}
    broken = jax.tree.map(lambda leaf: leaf * np.nan, scene.frozen)
    expected = temporal_oracle(scene, scene.pose, 2.0, 0.0)
    np.testing.assert_allclose(scene.terms(batch=batch, frozen=broken, **options)["temporal"], expected, rtol=1e-4)
    assert np.isnan(scene.terms(frozen=broken, **options)["temporal"]).all()


@pytest.mark.parametrize(("changes", "caches"), [
    ({}, False),
    ({"distill__cache_teacher_poses": True}, True),
    ({"distill__cache_teacher_poses": True, "distill__weights__temporal": 0.0}, False),
])  # fmt: skip
def test_poses_are_cached_on_request_alone(changes, caches):
    assert (build(**changes)[0].cached_targets is not None) == caches


def test_loss_is_the_weighted_sum(scene):
    """L_task + the ramped embedding and attention terms + the temporal term, which is not ramped (spec 3.8 and 6)."""
    weights = {"embedding": 0.5, "attention": 30.0, "temporal": 0.7}
    scjd, config = build(
        **{f"distill__weights__{name}": weight for name, weight in weights.items()}, distill__warmup_epochs=0.5, distill__decay_fraction=0.5
    )
    warmup, steps = int(0.5 * 64 / config.student.train.batch), config.run.steps
    terms = {name: np.asarray(value) for name, value in scene.terms().items()}
    loss = jax.jit(scjd.loss)
    for step, ramp in ((0, 0.0), (warmup // 2, 0.5), (warmup, 1.0), (steps // 2, 1.0), (3 * steps // 4, 0.5)):
        value, (metrics, _) = loss(scene.params, {}, scene.frozen, scene.batch, KEY, jnp.asarray(step))
        expected = metrics["task"][0]
        for name, weight in weights.items():
            part = weight * (1.0 if name == "temporal" else ramp) * terms[name]
            np.testing.assert_allclose(metrics[f"weighted_{name}"][0], part.sum(), rtol=1e-4, atol=1e-6)
            expected = expected + part.sum()
        np.testing.assert_allclose(metrics["loss"][0], expected, rtol=1e-5)
        np.testing.assert_allclose(value, expected / 2, rtol=1e-5)


def test_phases_are_drawn_in_training(scene):
    """With phase augmentation every step lifts the keyframes of one offset, another one with another key; its loss is the task's."""
    scjd, config = build(
        **{f"distill__weights__{name}": 0.0 for name in ONLY},
        student__input__phase_augmentation=True,
        student__loss__smoothness=0.3,
        student__loss__velocity=1.7,
    )
    student = method.build_student(config, H36M_17, training=True)
    lift = jax.jit(lambda offset: student.apply({"params": scene.params["student"]}, scene.batch["keypoints_2d"], offset)[0])
    expected = []
    for offset in range(3):
        options = {"joint_weights": np.asarray(H36M_17.loss_weights), "smoothness_weight": 0.3, "velocity_weight": 1.7}
        expected.append(float(lifting_loss(lift(offset), scene.batch["pose_3d"], **options)[0].mean()))
    assert np.diff(sorted(expected)).min() > 1e-4
    loss, seen = jax.jit(scjd.loss), set()
    for seed in range(12):
        value, _ = loss(scene.params, {}, {}, scene.batch, jax.random.key(seed), jnp.asarray(0))
        matching = [offset for offset in range(3) if np.isclose(value, expected[offset], rtol=1e-5)]
        assert len(matching) == 1
        seen |= set(matching)
    assert seen == {0, 1, 2}


@pytest.fixture(scope="module")
def wide():
    """r = 1, and a student of the teacher's size with other parameters."""
    return Scene(student__input__stride=1, student__network__width=16, student__network__depth=3)


@pytest.fixture(scope="module")
def copied(wide):
    """Invariant (i): r = 1, the student a copy of the teacher, identity projections."""
    scene = copy.copy(wide)
    projector = {"kernel": np.eye(16, dtype=np.float32), "bias": np.zeros(16, np.float32)}
    scene.params = {"student": {"network": wide.frozen["teacher"]}, "projectors": {"layer_2": projector}}
    scene.predicted, scene.features = jax.jit(wide.lift)(scene.params)
    return scene


def test_a_copy_of_the_teacher_has_no_loss(copied):
    np.testing.assert_allclose(copied.predicted, copied.pose, atol=1e-6)
    assert copied.features["keyframes"].tolist() == list(range(9))
    terms = copied.terms(distill__embedding__context="keyframe", distill__embedding__reach=0)
    for name in ("embedding", "attention", "temporal"):
        assert terms[name].shape == (2,)
        np.testing.assert_allclose(terms[name], 0, atol=2e-6, err_msg=name)


def test_a_copy_of_the_teacher_has_its_context_gap(copied):
    """With a context of several frames DJED is the distance between an embedding and its own context, and nothing else."""
    terms = copied.terms(distill__embedding__reach=2)
    embeddings = copied.taught["spatial"][2].astype(np.float64)
    target = np.einsum("bkjm,bmjc->bkjc", alpha_oracle(embeddings, np.arange(9), "dynamic", 2), embeddings)
    gap = ((normed(embeddings) - normed(target)) ** 2).mean((1, 2, 3))
    assert gap.min() > 5e-4
    np.testing.assert_allclose(terms["embedding"], gap, rtol=1e-3)
    np.testing.assert_allclose(terms["attention"], 0, atol=1e-6)


def test_attention_head_by_head(wide):
    """With equal heads and widths the maps may be compared per head, which is more than that of their means."""
    each, mean = (np.asarray(wide.terms(**ONLY["attention"], distill__attention__heads=heads)["attention"]) for heads in ("each", "mean"))
    adjacent, expected = losses.adjacency(H36M_17.hops(), "mse"), 0.0
    for ours, target in zip(wide.network["spatial_attention"], wide.taught["spatial_attention"], strict=True):
        expected = expected + (adjacent * (ours - target) ** 2).sum((3, 4)).mean((1, 2)) / adjacent.sum() / 3
    np.testing.assert_allclose(each, expected, rtol=1e-4)
    assert (each > mean).all()


def test_flip_averaging_is_equivariant(scene):
    """Invariant (iv): the averaged prediction of the mirrored input is the mirrored averaged prediction."""
    averaged = flip_averaged(scene.predict, FLIP)
    mirrored = {"keypoints_2d": codecs.flip(scene.batch["keypoints_2d"], FLIP)}
    plain, other = averaged(scene.params, {}, scene.batch), averaged(scene.params, {}, mirrored)
    np.testing.assert_allclose(other, codecs.flip(plain, FLIP), atol=1e-5)
    single = scene.predict(scene.params, {}, scene.batch), scene.predict(scene.params, {}, mirrored)
    assert np.abs(single[1] - codecs.flip(single[0], FLIP)).max() > 1e-2


def test_prediction_is_relative_to_the_root(scene):
    """The student's own pose on the centred grid with the root at zero; its parameters hold no projector (invariant ix)."""
    found = jax.jit(scene.method.predict)({"student": scene.params["student"]}, {}, scene.batch)
    np.testing.assert_allclose(found[:, :, 1:], scene.predicted[:, :, 1:], atol=1e-5)
    assert (np.asarray(found[:, :, 0]) == 0).all() and np.abs(scene.predicted[:, :, 0]).max() > 0
    paths = [jax.tree_util.keystr(where) for where, _ in jax.tree.leaves_with_path(scene.params["student"])]
    assert paths and not any("projector" in path or "layer_" in path for path in paths)


def test_terms_without_a_weight_are_not_computed(scene):
    for name, options in ONLY.items():
        scjd, _ = build(**options)
        _, (metrics, _) = jax.eval_shape(scjd.loss, scene.params, {}, scene.frozen, scene.batch, KEY, jnp.asarray(0))
        assert {metric for metric in metrics if metric.startswith("weighted_")} == {f"weighted_{name}"}
        params, _, frozen = jax.eval_shape(scjd.init, KEY, scene.batch)
        assert ("projectors" in params) == (name == "embedding") and set(frozen) == {"teacher"}


@pytest.mark.parametrize(("changes", "message"), [
    ({"student__input__selection": "random"}, "student.input.selection is 'random'"),
    ({"student__input__upsampling": "cubic"}, "student.input.upsampling is 'cubic'"),
    ({"student__input__ends": "wrap"}, "student.input.ends is 'wrap'"),
    ({"student__input__stride": 0}, "student.input.stride is 0"),
    ({"student__input__stride": 10}, "student.input.stride is 10"),
    ({"student__input__offset": 3}, "student.input.offset is 3"),
    ({"student__input__stride": 4, "student__input__phase_augmentation": True}, "stride 4 divides"),
    ({"student__input__selection": "correlated", "student__input__phase_augmentation": True}, "no meaning for correlated"),
    ({"student__input__selection": "correlated", "student__input__upsampling": "learned"}, "needs student.input.selection 'uniform'"),
    ({"distill__embedding__context": "none"}, "distill.embedding.context is 'none'"),
    ({"distill__embedding__feature": "head"}, "distill.embedding.feature is 'head'"),
    ({"distill__embedding__layers": (2,)}, "the student has layers 0 to 1"),
    ({"distill__attention__kind": "l1"}, "distill.attention.kind is 'l1'"),
    ({"distill__attention__heads": "all"}, "distill.attention.heads is 'all'"),
    ({"distill__attention__heads": "each"}, "needs equal heads and widths"),
    ({"distill__attention__gather": "mean"}, "distill.attention.gather is 'mean'"),
    ({"student__network__heads": 3}, "student.network.width 8 is no multiple of student.network.heads 3"),
    ({"teacher__network__depth": 0}, "teacher.network has depth 0"),
    ({"student__network__drop_path": 1.0}, "student.network.drop_path is 1.0"),
    ({"student__network__compute": "float16"}, "student.network.compute is 'float16'"),
])  # fmt: skip
def test_options_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        build(**changes)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize(("frames", "stride", "words"), [
    (27, 3, None),
    (243, 9, None),
    (243, 5, "49 keyframes 2 to 242, and the centre frame 121 is not one of them"),
    (9, 2, "5 keyframes 0 to 8, and the centre frame 4 is one of them"),
])  # fmt: skip
def test_grids_that_are_not_symmetric_are_announced(frames, stride, words):
    notes = build(data__frames=frames, student__input__stride=stride)[0].notes
    assert notes == () if words is None else words in notes[0]
