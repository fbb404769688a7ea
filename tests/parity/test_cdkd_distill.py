"""SAPE, CCA and the temperature against CDKD's distill_loss.py, temp_global.py and train.py (files
cdkd_* of the golden folder).
"""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import close, golden_files, numbers_in, single_slack

from kdpose_jax.methods.cdkd import losses
from kdpose_jax.methods.cdkd.adapters import SCALES, ProjectorEnsemble, ScaleAdaptiveProjection
from kdpose_jax.methods.cdkd.temperature import reversal_strength, temperature

FILES = golden_files("cdkd_distill*")
# The README: 1e-9 in float64; in float32 ten times what the reference is off its own float64 twin,
# and at least these.
RELATIVE = {
    np.float64: {"output": 1e-9, "grad": 1e-9, "train": 1e-9, "inter": 5e-6},
    np.float32: {"output": 7.3e-6, "grad": 4.8e-5, "train": 7.4e-7, "inter": 5e-6},
}
MODES = pytest.mark.parametrize("chunked", [False, True])


def convert(state, joints):
    """The reference's state_dict -> our variables: (params, batch_stats)."""
    area = state["linear_1.weight"].shape[0] // joints
    ensemble = sum(1 for name in state if re.fullmatch(r"linear_\d+\.weight", name))
    # [J, N, A, I].
    kernel = np.stack(
        [state[f"linear_{i + 1}.weight"].reshape(joints, area, -1) for i in range(ensemble)], 1
    )
    bias = np.stack(
        [state[f"linear_{i + 1}.bias"].reshape(joints, area) for i in range(ensemble)], 1
    )
    attention, statistics = {}, {}
    for number, scale in enumerate(SCALES):
        weight = state[f"convs.{number}.0.weight"].transpose(2, 3, 1, 0)
        attention[f"conv_{scale}"] = {"kernel": weight, "bias": state[f"convs.{number}.0.bias"]}
        attention[f"norm_{scale}"] = {
            "scale": state[f"convs.{number}.1.weight"],
            "bias": state[f"convs.{number}.1.bias"],
        }
        running = {
            "mean": state[f"convs.{number}.1.running_mean"],
            "var": state[f"convs.{number}.1.running_var"],
        }
        statistics[f"norm_{scale}"] = running
    attention["squeeze"] = {"kernel": state["fc.weight"].T, "bias": state["fc.bias"]}
    for branch in range(ensemble + 1):
        attention[f"branch_{branch}"] = {
            "kernel": state[f"fcs.{branch}.weight"].T,
            "bias": state[f"fcs.{branch}.bias"],
        }
    params = {
        "projectors": {"kernel": kernel.transpose(0, 1, 3, 2), "bias": bias},
        "attention": attention,
    }
    return params, {"attention": statistics}


class Reference:
    """One golden file: its arrays, and our adapter with its weights."""

    def __init__(self, path):
        with np.load(path, allow_pickle=False) as file:
            self.arrays = dict(file)
        self.config = json.loads(str(self.arrays["config"][0]))["config"]
        self.variables = convert(self.part("param/"), self.config["joints"])
        self.ensemble = self.variables[0]["projectors"]["kernel"].shape[1]
        self.start, self.reach = numbers_in(
            self.config["temperature"], r"([\d.]+) \+ ([\d.]+) \* sigmoid"
        )
        self.answers = {}

    def relative(self, dtype):
        """What may be between ours and the reference's, by kind of value."""
        given = RELATIVE[dtype]
        if dtype == np.float64:
            return given
        return {kind: single_slack(self.arrays, kind, least) for kind, least in given.items()}

    def part(self, prefix):
        return {
            name.removeprefix(prefix): array
            for name, array in self.arrays.items()
            if name.startswith(prefix)
        }

    def adapter(self, chunked):
        options = {
            "kind": "dense",
            "ensemble": self.ensemble,
            "size": self.config["high_size"],
            "rank": 1,
            "activation": "relu",
        }
        return ScaleAdaptiveProjection(ProjectorEnsemble(**options, chunked=chunked))

    def precision(self, dtype):
        return jax.enable_x64(dtype == np.float64)

    def run(self, dtype, chunked=False):
        """Losses as in the release (train and eval), their gradients and the new statistics, once
        per precision.
        """
        if (dtype, chunked) not in self.answers:
            with self.precision(dtype), jax.numpy_dtype_promotion("standard"):
                given = {
                    name: jnp.asarray(array, dtype) for name, array in self.part("input/").items()
                }
                # The reference's float64 twin has the decimal number, not its float32 neighbour.
                given["global_T"] = jnp.asarray(float(str(self.arrays["input/global_T"])), dtype)
                params, statistics = jax.tree.map(
                    lambda array: jnp.asarray(array, dtype), self.variables
                )
                self.answers[dtype, chunked] = jax.tree.map(
                    np.asarray, jax.jit(self.compute(chunked))(given, params, statistics)
                )
        return self.answers[dtype, chunked]

    def compute(self, chunked):
        adapter, share = self.adapter(chunked), self.config["distill_attn_param"]

        def project(params, maps, high, statistics, train, stop):
            maps = jax.lax.stop_gradient(maps) if stop else maps
            merged, updated = adapter.apply(
                {"params": params, "batch_stats": statistics},
                maps,
                train,
                mutable=["batch_stats", "intermediates"],
                capture_intermediates=lambda module, _: module.name in ("squeeze", "attention"),
            )
            return share * losses.projection_loss(merged, high).mean(), updated

        def align(low_x, low_y, tau, given):
            heat = temperature(
                tau, given["decay"], start=self.start, reach=self.reach, limit=np.inf, trained=True
            )
            student, teacher = (
                {"x": low_x, "y": low_y},
                {"x": given["high_x"], "y": given["high_y"]},
            )
            options = {
                "grouping": "floor",
                "order": "temper_then_sum",
                "reduction": "release",
                "weight": None,
            }
            return share * losses.alignment_loss(
                student, teacher, heat, **options, target_gradient=False
            ).mean(), heat

        def everything(given, params, statistics):
            low, high = given["low_feature"], given["high_feature"]
            (line, updated), gradient = jax.value_and_grad(project, has_aux=True)(
                params, low, high, statistics, True, True
            )
            released, free = (
                jax.grad(
                    lambda low, stop=stop: project(params, low, high, statistics, True, stop)[0]
                )(low)
                for stop in (True, False)
            )
            evaluated, shown = project(params, low, high, statistics, False, True)
            (adaptive, heat), gradients = jax.value_and_grad(
                align, argnums=(0, 1, 2), has_aux=True
            )(given["low_x"], given["low_y"], given["global_T"], given)
            return {
                "line": line,
                "updated": updated,
                "gradient": gradient,
                "released": released,
                "free": free,
                "evaluated": evaluated,
                "shown": shown,
                "adaptive": adaptive,
                "heat": heat,
                "align_gradients": gradients,
            }

        return everything


@pytest.fixture(scope="module", params=FILES)
def reference(request):
    if request.param is None:
        pytest.skip("no golden file cdkd_distill*")
    return Reference(request.param)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@MODES
def test_projection(reference, dtype, chunked):
    """Value in training and evaluation mode, gradients of every recorded weight, and the new
    statistics.
    """
    answers, arrays, relative = (
        reference.run(dtype, chunked),
        reference.arrays,
        reference.relative(dtype),
    )
    suffix = "64" if dtype == np.float64 else ""
    close(answers["line"], arrays[f"output{suffix}/train/loss_line"], relative["output"], "train")
    close(
        answers["evaluated"], arrays[f"output{suffix}/eval/loss_line"], relative["output"], "eval"
    )
    ours, recorded = answers["gradient"], reference.part(f"grad{suffix}/param/")
    assert recorded
    largest = max(np.abs(value).max() for value in recorded.values())
    for name, tree in {"convs.{}.0": "conv_", "convs.{}.1": "norm_"}.items():
        for number, scale in enumerate(SCALES):
            found = ours["attention"][f"{tree}{scale}"]
            weight = found["kernel"].transpose(3, 2, 0, 1) if tree == "conv_" else found["scale"]
            close(weight, recorded[name.format(number) + ".weight"], relative["grad"], name)
            # A bias before a norm has no gradient but round-off.
            close(
                found["bias"],
                recorded[name.format(number) + ".bias"],
                relative["grad"],
                name,
                absolute=1e-6 * largest,
            )
    for name, tree in {
        "fc": "squeeze",
        **{f"fcs.{i}": f"branch_{i}" for i in range(reference.ensemble + 1)},
    }.items():
        close(
            ours["attention"][tree]["kernel"].T, recorded[f"{name}.weight"], relative["grad"], name
        )
        close(ours["attention"][tree]["bias"], recorded[f"{name}.bias"], relative["grad"], name)
    for name, reference_values in reference.part(f"train{suffix}/state_after/").items():
        number, entry = re.fullmatch(r"convs\.(\d+)\.1\.running_(mean|var)", name).groups()
        found = answers["updated"]["batch_stats"]["attention"][f"norm_{SCALES[int(number)]}"][entry]
        close(found, reference_values, relative["train"], name)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_values_on_the_way(reference, mode):
    answers, arrays = reference.run(np.float64), reference.arrays
    shown = answers["updated" if mode == "train" else "shown"]["intermediates"]["attention"]
    close(shown["squeeze"]["__call__"][0], arrays[f"inter/{mode}/fc"], 5e-6, "fc")
    close(shown["__call__"][0], arrays[f"inter/{mode}/attention_vectors"], 5e-6, "attention")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_alignment(reference, dtype):
    """CCA's sum, the temperature, and the gradients.

    Of both logits, and of tau times the strength.
    """
    answers, arrays, relative = reference.run(dtype), reference.arrays, reference.relative(dtype)
    suffix = "64" if dtype == np.float64 else ""
    close(
        answers["heat"],
        arrays[f"output{suffix}/train/temperature"].reshape(()),
        relative["output"],
        "temperature",
    )
    close(
        answers["adaptive"],
        arrays[f"output{suffix}/train/loss_adaptive"],
        relative["output"],
        "loss",
    )
    assert arrays["output/train/loss_adaptive"] == arrays["output/eval/loss_adaptive"]
    for name, ours in zip(("low_x", "low_y", "global_T"), answers["align_gradients"], strict=True):
        close(ours, arrays[f"grad{suffix}/{name}"].reshape(ours.shape), relative["grad"], name)


def test_missing_gradients(reference):
    """The released code gives the student's maps no gradient; ours does where it is let through."""
    assert not reference.arrays["output/train/grad_exists_low_feature"]
    answers = reference.run(np.float64)
    assert (answers["released"] == 0).all()
    assert np.abs(answers["free"]).max() > 0


@pytest.mark.parametrize("path", golden_files("cdkd_cosine_decay*"))
def test_strength(path):
    """The schedule between the file's ends, and the same curve one lower, which is CTKD's where
    they are 1 and 0.
    """
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    config = json.loads(str(arrays["config"][0]))["config"]
    # A half cosine from the one to the other.
    first, last = ends = (config["max_value"], config["min_value"])
    options = {"loops": config["num_loops"], "steps": 1, "steps_per_epoch": 7.0}
    steps = jnp.asarray(7 * arrays["input/epoch"])
    size = 1e-6 * max(1.0, abs(first), abs(last))
    release = jax.jit(jax.vmap(lambda step: reversal_strength(step, ends=ends, **options)))(steps)
    np.testing.assert_allclose(release, arrays["output/value"], atol=size)
    moved = jax.vmap(lambda step: reversal_strength(step, ends=(first - 1, last - 1), **options))(
        steps
    )
    np.testing.assert_allclose(moved, arrays["output/value"] - 1, atol=size)
