"""The terms of the published ways to distil against plain numpy in double precision, and what their
method makes of them.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import precision
from tiny import (
    built_on,
    example_batch,
    shrink,
)

from configs import baselines as config_file
from kdpose_jax.errors import UserError
from kdpose_jax.methods.baselines import losses, terms
from kdpose_jax.methods.baselines import method as method_module
from kdpose_jax.models.mixste import MixSTE
from kdpose_jax.skeletons import H36M_17

B, F, K, J, C, D = 2, 4, 5, 3, 6, 7
KEY = jax.random.key(5)
NAMES = ("output", "hints", "attention", "relations")


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def call(function, *arguments):
    """Our function in double precision, numpy."""
    with precision(np.float64):
        return jax.tree.map(np.asarray, jax.jit(function)(*jax.tree.map(jnp.asarray, arguments)))


def close(found, expected):
    assert found.dtype == np.float64 and found.shape == expected.shape == (B,)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_output():
    student, teacher, weights = (
        draw(B, F, J, 3),
        draw(B, F, J, 3, seed=1),
        np.array([1.0, 2.5, 4.0]),
    )
    expected = (np.sqrt(((student - teacher) ** 2).sum(-1)) * weights).mean((1, 2))
    close(
        call(lambda one, other: losses.output_loss(one, other, weights), student, teacher), expected
    )


def test_hints():
    guided, hint = draw(B, K, J, D), draw(B, K, J, D, seed=1)
    close(call(losses.hint_loss, guided, hint), ((guided - hint) ** 2).mean((1, 2, 3)) / 2)
    with pytest.raises((ValueError, TypeError)):
        losses.hint_loss(jnp.asarray(guided), jnp.asarray(hint[:, :1]))


def attention_oracle(student, teacher):
    total = np.zeros(B)
    for b, k in np.ndindex(student.shape[:2]):
        one, other = student[b, k].ravel(), teacher[b, k].ravel()
        total[b] += 2 - 2 * one @ other / np.linalg.norm(one) / np.linalg.norm(
            other
        )  # |u - v|^2 of unit vectors
    return total / student.shape[1]


def test_attention():
    """Features of any width give a map of the joints.

    Only where a map is high counts, not how high.
    """
    student, teacher = draw(B, K, J, C), draw(B, K, J, D, seed=1)
    energies = [np.einsum("bkjc,bkjc->bkj", each, each) for each in (student, teacher)]
    maps = [call(losses.activation_map, each) for each in (student, teacher)]
    for found, expected in zip(maps, energies, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    close(call(losses.attention_loss, *energies), attention_oracle(*energies))
    np.testing.assert_allclose(
        call(losses.attention_loss, 3.0 * energies[0], energies[0]), 0, atol=1e-15
    )
    with pytest.raises((ValueError, TypeError)):
        losses.attention_loss(*(jnp.asarray(each) for each in (maps[0], maps[1][:, :1])))


def huber(difference):
    return difference**2 / 2 if abs(difference) <= 1 else abs(difference) - 0.5


def distance_oracle(student, teacher):
    pairs = list(itertools.permutations(range(student.shape[0]), 2))
    apart = [
        {(i, j): np.linalg.norm(frames[i] - frames[j]) for i, j in pairs}
        for frames in (student, teacher)
    ]
    means = [np.mean(list(distances.values())) for distances in apart]
    return np.mean([huber(apart[0][pair] / means[0] - apart[1][pair] / means[1]) for pair in pairs])


def angle_oracle(student, teacher):
    def cosine(frames, i, j, k):
        one, other = frames[i] - frames[j], frames[k] - frames[j]
        return one @ other / np.linalg.norm(one) / np.linalg.norm(other)

    triples = itertools.permutations(range(student.shape[0]), 3)
    return np.mean(
        [huber(cosine(student, *triple) - cosine(teacher, *triple)) for triple in triples]
    )


def test_relations():
    """All pairs and triples one by one; some of them beyond Huber's bend."""
    student, teacher = draw(B, K, C), draw(B, K, D, seed=1)
    student[:, 0] *= 20
    by_distance, by_angle = call(losses.relation_losses, student, teacher)
    close(
        by_distance,
        np.array([distance_oracle(*window) for window in zip(student, teacher, strict=True)]),
    )
    close(
        by_angle, np.array([angle_oracle(*window) for window in zip(student, teacher, strict=True)])
    )
    with pytest.raises((ValueError, TypeError)):
        losses.relation_losses(jnp.asarray(student), jnp.asarray(teacher[:, 1:]))


def test_relations_do_not_see_place_turn_and_size():
    student, turn = draw(B, K, C), np.linalg.qr(draw(C, C, seed=1))[0]
    for found in call(losses.relation_losses, 40.0 + 3.0 * student @ turn, student):
        np.testing.assert_allclose(found, 0, atol=1e-15)


def test_frames_in_one_place_have_a_gradient():
    """Where frames coincide, relations are 0 and not NaN, and so are their gradients."""
    still, moving = np.ones((B, K, C)), draw(B, K, D)
    still[:, :2] = 2.0
    gradient = call(
        jax.grad(
            lambda each: sum(
                value.sum() for value in losses.relation_losses(each, jnp.asarray(moving))
            )
        ),
        still,
    )
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    assert np.isfinite(call(losses.relation_losses, np.ones((B, K, C)), moving)).all()


def config_with(**changes):
    """The tiny experiment.

    9 frames, r = 3, student of 2 layers and width 8, teacher of 3 and width 16.
    """
    config = shrink(config_file.get_config("demo"))
    config.student.network.depth, config.teacher.network.depth = 2, 3
    config.student.input.phase_augmentation = False
    config.update_from_flattened_dict({f"distill.weights.{name}": 0.0 for name in NAMES})
    config.update_from_flattened_dict(
        {name.replace("__", "."): value for name, value in changes.items()}
    )
    return config


def build(**changes):
    config = config_with(**changes)
    return built_on(config, 64)


def layers(depth, frames, width, seed):
    """What a MixSTE of two heads shows, drawn at random."""
    joints = H36M_17.num_joints
    embeddings = draw(2, depth, B, frames, joints, width, seed=seed)
    scores = np.exp(draw(depth, B, frames, 2, joints, joints, seed=seed))
    maps = scores / scores.sum(-1, keepdims=True)
    return {
        "spatial": tuple(embeddings[0]),
        "temporal": tuple(embeddings[1]),
        "spatial_attention": tuple(maps),
    }


@pytest.mark.parametrize("maps", ["activations", "matrices"])
def test_every_term_reads_what_it_says(monkeypatch, maps):
    """Layers 1 and 2 of 2 meet 2 and 3 of 3 on the keyframes.

    Each term teaches the student, one the regressor, none the teacher.
    """
    weights = dict.fromkeys(NAMES, 1.0)
    config = config_with(
        **{f"distill__weights__{name}": 1.0 for name in weights}, distill__relations__angle=0.5
    )
    config.distill.attention.maps = maps
    keyframes, joints = np.array([1, 4, 7]), H36M_17.num_joints
    predicted, pose = draw(B, 9, joints, 3), draw(B, 9, joints, 3, seed=1)
    mine, taught = layers(2, 3, 8, seed=2), layers(3, 9, 16, seed=3)
    kernel, bias = draw(8, 16, seed=4), draw(16, seed=5)
    regressor = {"kernel": kernel, "bias": bias}

    def everything(predicted, mine, regressor, frozen, pose, taught):
        # A teacher that shows what is drawn, as much of it as its one parameter says.
        monkeypatch.setattr(
            MixSTE,
            "apply",
            lambda _, variables, __, attention_frames: jax.tree.map(
                lambda leaf: variables["params"] * leaf, (pose, taught)
            ),
        )
        features = {
            "network": mine,
            "keyframes": jnp.asarray(keyframes),
            "matrix": jnp.ones((9, 3)),
        }
        batch, params, frozen = (
            {"keypoints_2d": pose[..., :2]},
            {"regressor": regressor},
            {"teacher": {"params": frozen}},
        )
        return terms.distillation_terms(
            terms.build_distillation(config, H36M_17), params, frozen, batch, predicted, features
        )

    def with_gradients(*arguments):
        return everything(*arguments), jax.jacrev(
            lambda *each: jax.tree.map(jnp.sum, everything(*each)), (0, 1, 2, 3)
        )(*arguments)

    found, gradients = call(with_gradients, predicted, mine, regressor, np.ones(()), pose, taught)
    assert found.keys() == weights.keys()
    close(
        found["output"],
        (np.linalg.norm(predicted - pose, axis=-1) * np.asarray(H36M_17.loss_weights)).mean((1, 2)),
    )
    guided = mine["temporal"][0] @ kernel + bias
    close(found["hints"], ((guided - taught["temporal"][1][:, keyframes]) ** 2).mean((1, 2, 3)) / 2)
    if maps == "activations":
        looks = [
            [(layer**2).sum(-1) for layer in network["temporal"]] for network in (mine, taught)
        ]
    else:
        looks = [
            [layer.mean(2) for layer in network["spatial_attention"]] for network in (mine, taught)
        ]
    pairs = [(looks[0][layer], looks[1][other][:, keyframes]) for layer, other in ((0, 1), (1, 2))]
    close(found["attention"], np.mean([attention_oracle(*pair) for pair in pairs], axis=0))
    windows = zip(
        mine["temporal"][1].reshape(B, 3, -1),
        taught["temporal"][2][:, keyframes].reshape(B, 3, -1),
        strict=True,
    )
    close(
        found["relations"],
        np.array([distance_oracle(*window) + 0.5 * angle_oracle(*window) for window in windows]),
    )
    for name, by in gradients.items():
        moves = [
            any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient)) for gradient in by
        ]
        assert moves == [name == "output", name != "output", name == "hints", False], name


def test_terms_are_weighted(monkeypatch):
    """The loss is the task's and each term times its weight."""
    weights = {"output": 2.0, "hints": 3.0, "attention": 5.0, "relations": 7.0}
    config = config_with(
        **{f"distill__weights__{name}": weight for name, weight in weights.items()}
    )
    config.student.network.depth = 1
    method, config = built_on(config, 64)
    monkeypatch.setattr(
        method_module,
        "distillation_terms",
        lambda *_: {name: jnp.asarray([1.0, 2.0]) for name in weights},
    )
    batch = example_batch(config)
    found = jax.jit(
        lambda: method.terms(
            method.init(KEY, batch)[0], {}, {}, batch, KEY, jnp.asarray(0, jnp.int32)
        )
    )()
    assert found.pop("task") > 0 and {name: float(value) for name, value in found.items()} == {
        name: 1.5 * weight for name, weight in weights.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_term_without_a_weight_is_not_computed(name):
    config = shrink(config_file.get_config(f"demo,kd={name}"))
    method, config = built_on(config, 64)
    batch = example_batch(config)
    params, _, frozen = jax.eval_shape(method.init, KEY, batch)
    assert ("regressor" in params) == (name == "hints") and set(frozen) == {"teacher"}
    terms = jax.eval_shape(method.terms, params, {}, frozen, batch, KEY, jnp.asarray(0, jnp.int32))
    assert set(terms) == {"task", name}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distill__hints__layer": 2}, "distill.hints.layer is 2: use 0 to 1"),
        ({"distill__hints__layer": -2}, "distill.hints.layer is -2"),
        ({"distill__attention__maps": "gradients"}, "distill.attention.maps is 'gradients'"),
        ({"distill__relations__angle": -1.0}, "distill.relations.angle is -1"),
        (
            {"distill__weights__relations": 1.0, "student__input__stride": 5},
            "stride 5 leaves 2 keyframes, which make no angle",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(UserError, match=message) as caught:
        build(**changes)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_unknown_ways_are_refused():
    with pytest.raises(
        UserError,
        match="option kd of preset mocap is 'flow': use one of output, hints, attention, relations",
    ):
        config_file.get_config("mocap,kd=flow")
