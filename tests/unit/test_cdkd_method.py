"""CDKD's wiring.

Which gradients flow in which mode, terms that add up to the loss, the baseline, refused options.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from kdpose_jax.contracts import Group
from kdpose_jax.errors import UserError
from kdpose_jax.methods.cdkd import method as cdkd
from kdpose_jax.train.optim import build_optimizer

NETWORK = {
    "name": "hrnet",
    "width": 4,
    "stem_width": 4,
    "blocks": 1,
    "modules": (1,),
    "head": "simdr",
    "head_start": "uniform",
    "compute": "float32",
    "remat": False,
}
STEPS = 8
MODES = {
    "paper": {},
    "release": {
        "projection.student_gradient": False,
        "projection.trained": False,
        "alignment.reduction": "release",
        "alignment.target_gradient": False,
        "temperature.reversal": (1.0, 0.0),
        "temperature.trained": False,
    },
}


def small_config(**changes):
    config = ConfigDict(
        {
            "data": {"skeleton": "mpii_16", "joints": 16, "split_ratio": 2.0},
            "student": {
                "network": NETWORK,
                "input": {"size": 32},
                "loss": {"form": "mean", "smoothing": 0.1, "sigma": 1.5, "scale": 1.0},
            },
            "teacher": {
                "network": {**NETWORK, "width": 8},
                "input": {"size": 64},
                "checkpoint": "teacher",
            },
            "decode": {
                "flip_shift": "one",
                "coordinate": "argmax",
                "score": "max",
                "merge": "probabilities",
            },
            "distill": {
                "weights": {"projection": 0.5, "alignment": 0.25},
                "projection": {
                    "kind": "kron",
                    "rank": 4,
                    "ensemble": 3,
                    "projector_activation": "relu",
                    "teacher_activation": "none",
                    "student_gradient": True,
                    "trained": True,
                    "chunked": False,
                },
                "alignment": {
                    "grouping": "floor",
                    "order": "temper_then_sum",
                    "mask": "none",
                    "reduction": "mean",
                    "target_gradient": True,
                },
                "temperature": {
                    "start": 1.0,
                    "range": 20.0,
                    "initial": 1.0,
                    "reversal": (0.0, -1.0),
                    "loops": 0,
                    "trained": True,
                    "learning_rate_factor": 1.0,
                    "limit": 6.0,
                },
            },
            "run": {"steps": STEPS, "steps_per_epoch": 2.0},
        }
    )
    config.update_from_flattened_dict(
        {name.replace("__", "."): value for name, value in changes.items()}
    )
    return config


def batch_of(count=2):
    generator = np.random.default_rng(0)
    return {
        "image": jnp.asarray(generator.integers(0, 256, (count, 32, 32, 3)), jnp.uint8),
        "teacher_image": jnp.asarray(generator.integers(0, 256, (count, 64, 64, 3)), jnp.uint8),
        "joints": jnp.asarray(generator.uniform(0, 31, (count, 16, 2)), jnp.float32),
        "joint_weight": jnp.ones((count, 16), jnp.float32),
    }


class Scene:
    """One mode.

    Its method, variables whose maps are of size 1, and everything that its loss gives at a step.
    """

    def __init__(self, mode):
        self.config = small_config(
            **{f"distill.{name}": value for name, value in MODES[mode].items()}
        )
        self.method, self.batch = cdkd.build(self.config.lock(), "student"), batch_of()
        self.params, self.model_state, self.frozen = jax.jit(self.method.init)(
            jax.random.key(0), self.batch
        )
        for network in (self.params["student"], self.frozen["teacher"]["params"]):
            network["final_layer"]["kernel"] = network["final_layer"]["kernel"] * 1e9
            # Joints differ even where maps do not.
            network["final_layer"]["bias"] = jnp.linspace(-1, 1, 16)
        self.answers = self.compute(jnp.asarray(STEPS // 2))

    def compute(self, step):
        def everything(params, frozen):
            def terms(params, frozen):
                found = self.method.terms(
                    params, self.model_state, frozen, self.batch, jax.random.key(1), step
                )
                return found, found

            answers, found = jax.jacrev(terms, argnums=(0, 1), has_aux=True)(params, frozen)
            loss = self.method.loss(
                params, self.model_state, frozen, self.batch, jax.random.key(1), step
            )
            gradients, to_teacher = (
                {name: answers[name][number] for name in answers} for number in (0, 1)
            )
            return *loss, found, gradients, to_teacher

        return jax.tree.map(np.asarray, jax.jit(everything)(self.params, self.frozen))


@pytest.fixture(scope="module")
def scenes():
    return {mode: Scene(mode) for mode in MODES}


def largest(tree):
    return max(np.abs(leaf).max() for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("mode", MODES)
def test_terms_add_up(scenes, mode):
    value, (metrics, state), terms, _, _ = scenes[mode].answers
    assert set(terms) == {"task", "projection", "alignment"} and all(
        np.isfinite(term) for term in terms.values()
    )
    np.testing.assert_allclose(sum(terms.values()), value, rtol=1e-6)
    means = {name: total / count for name, (total, count) in metrics.items()}
    np.testing.assert_allclose(means["loss"], value, rtol=1e-6)
    for name, weight in scenes[mode].config.distill.weights.items():
        np.testing.assert_allclose(means[f"weighted_{name}"], terms[name], rtol=1e-6)
        np.testing.assert_allclose(means[name] * weight, terms[name], rtol=1e-6)
    np.testing.assert_allclose(means["temperature"], 15.621172, rtol=1e-6)
    assert jax.tree.structure(state) == jax.tree.structure(scenes[mode].model_state)


def test_gradients_in_paper_mode(scenes):
    """Every term reaches the student.

    Projectors and temperature are trained by their own term alone.
    """
    _, _, _, gradients, to_teacher = scenes["paper"].answers
    for name in ("task", "projection", "alignment"):
        assert largest(gradients[name]["student"]) > 0, name
    assert (
        largest(gradients["projection"]["projection"]) > 0
        and gradients["alignment"]["temperature"] != 0
    )
    assert largest([gradients[name]["projection"] for name in ("task", "alignment")]) == 0
    assert largest([gradients[name]["temperature"] for name in ("task", "projection")]) == 0
    assert largest(to_teacher) == 0


def test_missing_gradients_in_release_mode(scenes):
    """SAPE gives the student exactly nothing, and neither the projectors nor the temperature are
    trained.
    """
    _, (_, state), _, gradients, _ = scenes["release"].answers
    assert largest(gradients["projection"]) == 0 and largest(gradients["alignment"]["student"]) > 0
    assert all(
        largest(gradients[name][adapter]) == 0
        for name in gradients
        for adapter in ("projection", "temperature")
    )
    before = scenes["release"].model_state["projection"]
    assert largest(jax.tree.map(np.subtract, state["projection"], before)) > 0, (
        "its norms still count batches"
    )


def test_release_is_the_sum(scenes):
    """The alignment of the release is B J / M times the mean; the rest of the loss is the same.

    See docs/methods/cdkd.md#class-alignment.
    """
    paper, release = (scenes[mode].answers[2] for mode in ("paper", "release"))
    np.testing.assert_allclose(release["alignment"], paper["alignment"] * 2 * 16 / 64, rtol=1e-5)
    np.testing.assert_allclose(
        [release["task"], release["projection"]], [paper["task"], paper["projection"]], rtol=1e-5
    )


def test_groups(scenes):
    """The temperature takes plain steps; frozen projectors take none, whatever the decay."""
    assert scenes["paper"].method.groups == (
        Group("^temperature", learning_rate_factor=1.0, plain_sgd=True),
    )
    params = {
        "student": {"a": jnp.ones(())},
        "projection": {"b": jnp.ones(())},
        "temperature": jnp.ones(()),
    }
    options = {"weight_decay": 0.5, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "clip_norm": 0.0}
    for mode, projection in (("paper", -0.15), ("release", 0.0)):
        optimizer = build_optimizer(
            lambda step: jnp.asarray(0.1), groups=scenes[mode].method.groups, **options
        )
        gradients = jax.tree.map(lambda leaf: 0.01 * leaf, params)
        with jax.numpy_dtype_promotion("standard"):
            updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        np.testing.assert_allclose(updates["temperature"], -0.001, rtol=1e-6)
        np.testing.assert_allclose(updates["projection"]["b"], projection, rtol=1e-4)
        assert optax.apply_updates(params, updates)["student"]["a"] < 1


def test_the_baseline_has_no_teacher():
    config = small_config(distill__weights__projection=0.0, distill__weights__alignment=0.0)
    method, batch = cdkd.build(config, "student"), batch_of()
    del batch["teacher_image"]
    params, model_state, frozen = jax.eval_shape(method.init, jax.random.key(0), batch)
    assert (set(params), set(model_state), frozen) == ({"student"}, {"student"}, {})
    assert method.teachers == method.groups == ()
    step = jax.ShapeDtypeStruct((), jnp.int32)
    terms = jax.eval_shape(
        method.terms, params, model_state, frozen, batch, jax.random.key(0), step
    )
    assert set(terms) == {"task"}
    assert cdkd.reads(config, "student", training=True) == {"views": {"image": 32}}
    assert cdkd.reads(small_config(), "student", training=True) == {
        "views": {"image": 32, "teacher_image": 64}
    }
    assert cdkd.reads(small_config(), "student", training=False) == {"views": {"image": 32}}


def test_a_mask_leaves_out_unseen_joints():
    """With no joint visible nothing is aligned."""
    method, batch = (
        cdkd.build(
            small_config(distill__alignment__mask="visible", distill__weights__projection=0.0),
            "student",
        ),
        batch_of(),
    )
    params, model_state, frozen = jax.jit(method.init)(jax.random.key(0), batch)
    frozen["teacher"]["params"]["head"]["x"]["bias"] = jnp.linspace(0, 5, 128)
    assert set(params) == {"student", "temperature"}
    terms = jax.jit(
        lambda batch: method.terms(
            params, model_state, frozen, batch, jax.random.key(0), jnp.asarray(0)
        )
    )
    assert terms(batch)["alignment"] > 0
    assert terms({**batch, "joint_weight": 0 * batch["joint_weight"]})["alignment"] == 0


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("distill.weights.projection", -1.0, "0 or more"),
        ("distill.projection.kind", "conv", "distill.projection.kind"),
        ("distill.projection.ensemble", 0, "at least 1"),
        ("distill.projection.teacher_activation", "gelu", "teacher_activation"),
        ("distill.alignment.grouping", "ceil", "distill.alignment.grouping"),
        ("distill.alignment.reduction", "sum", "distill.alignment.reduction"),
        ("distill.temperature.reversal", (0.9,), "distill.temperature.reversal is .* two numbers"),
        ("distill.temperature.reversal", ("release", "paper"), "two numbers from -1 to 1"),
        ("distill.temperature.reversal", (0.0, -2.0), "two numbers from -1 to 1"),
        ("distill.temperature.reversal", (float("nan"), 0.0), "two numbers from -1 to 1"),
        ("distill.temperature.start", 0.0, "above 0"),
        ("teacher.network.head", "heatmap", "distill.weights.alignment=0"),
        ("teacher.input.size", 96, None),
        ("teacher.input.size", 128, None),
        ("student.input.size", 64, "a teacher sees more pixels"),
        ("teacher.network.width", 0, "teacher.network"),
    ],
)
def test_refused(name, value, words):
    """A teacher of three times the size is fine; one of one and a half times needs the hat."""
    config = small_config(**{name: value})
    if words is None:
        cdkd.build(config, "student")
        return
    with pytest.raises(UserError, match=words) as error:
        cdkd.build(config, "student")
    assert str(error.value).endswith(".")


def test_ratios_that_are_no_number():
    config = small_config(**{"student.input.size": 64, "teacher.input.size": 96})
    with pytest.raises(UserError, match="set it to 'hat'"):
        cdkd.build(config, "student")
    config.distill.alignment.grouping = "hat"
    cdkd.build(config, "student")
