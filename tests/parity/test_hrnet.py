"""Our HRNet with imported weights against the released network (files hrnet_* of the golden
folder).
"""

import contextlib
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import golden_files, numbers_in, single_slack
from torch_states import hrnet_state

from kdpose_jax.models.pose_net import PoseNet
from kdpose_jax.pytorch.hrnet import convert_hrnet_state

FILES = golden_files("hrnet_*")
FLOAT64_RELATIVE = 1e-9
# The README's for HRNets in float32, of the array's largest value. Gradients were recorded in
# float32 alone, whose own error it gives.
FLOAT32_RELATIVE = 5e-5
GRADIENT_RELATIVE = 5e-5
LOSS_RELATIVE = 1e-6


def close(ours, reference, relative, name):
    """Compares with the largest value of the array, as the README asks.

    Small entries carry the error of large ones.
    """
    ours, reference = np.asarray(ours), np.asarray(reference)
    assert ours.shape == reference.shape, name
    np.testing.assert_allclose(
        ours, reference, rtol=0, atol=relative * np.abs(reference).max(), err_msg=name
    )


@contextlib.contextmanager
def precision(dtype):
    """Computes in this type."""
    with jax.enable_x64(dtype == np.float64):
        yield


def rows_of_images(images):
    return images.transpose(0, 2, 3, 1)  # [B, 3, H, W] -> [B, H, W, 3]


class Reference:
    """One golden file: its arrays, and our network with its weights."""

    def __init__(self, path):
        with np.load(path, allow_pickle=False) as file:
            self.arrays = dict(file)
        self.config = json.loads(str(self.arrays["config"][0]))["config"]
        self.state = self.part("param/")
        self.params, self.batch_stats, sizes = convert_hrnet_state(self.state)
        model = self.config["MODEL"]
        stages = [model["EXTRA"][f"STAGE{stage}"] for stage in (2, 3, 4)]
        heatmap = model["COORD_REPRESENTATION"] == "heatmap"
        self.network = PoseNet(
            joints=model["NUM_JOINTS"],
            size=tuple(model["IMAGE_SIZE"]),
            width=stages[0]["NUM_CHANNELS"][0],
            stem_width=self.state["conv1.weight"].shape[0],
            blocks=stages[0]["NUM_BLOCKS"][0],
            modules=tuple(stage["NUM_MODULES"] for stage in stages),
            head="heatmap" if heatmap else "simdr",
            split_ratio=model["SIMDR_SPLIT_RATIO"],
        )
        assert {len(set(stage["NUM_BLOCKS"])) for stage in stages} == {1}, (
            "our blocks are the same number everywhere"
        )
        shown = {name: value for name, value in sizes.items() if value is not None}
        assert shown == {name: getattr(self.network, name) for name in shown}, (
            "the importer reads other sizes off the weights"
        )
        assert heatmap == ("size" not in shown)

    def part(self, prefix):
        return {
            name.removeprefix(prefix): array
            for name, array in self.arrays.items()
            if name.startswith(prefix)
        }

    def variables(self, dtype):
        trees = {"params": self.params, "batch_stats": self.batch_stats}
        return jax.tree.map(lambda array: jnp.asarray(array, dtype), trees)

    @functools.cache  # noqa: B019 (a handful of files)
    def forward(self, dtype):
        """(prediction, features, values on the way by module), numpy arrays."""

        def watched(module, method):
            return module.name is not None and module.name.startswith(
                ("layer1_3", "transition1_", "stage", "final_layer")
            )

        def run(variables, images):
            (prediction, features), state = self.network.apply(
                variables,
                images,
                train=False,
                capture_intermediates=watched,
                mutable=["intermediates"],
            )
            return prediction, features, state["intermediates"]

        # A deep network has many operations of few kinds, which compile sooner one by one.
        run = run if sum(self.network.modules) > 5 else jax.jit(run)
        with precision(dtype):
            images = jnp.asarray(rows_of_images(self.arrays["input/image"]), dtype)
            return jax.tree.map(np.asarray, run(self.variables(dtype), images))


@pytest.fixture(scope="module")
def reference():
    return functools.cache(Reference)


@pytest.mark.parametrize("path", FILES)
def test_outputs_float64(reference, path):
    golden = reference(path)
    prediction, features, _ = golden.forward(np.float64)
    recorded = golden.part("output64/")
    assert recorded.keys() == prediction.keys()
    for name, value in recorded.items():
        assert prediction[name].dtype == np.float64
        close(prediction[name], value, FLOAT64_RELATIVE, name)
    slack = single_slack(golden.arrays, "output", FLOAT32_RELATIVE)
    close(features["joint_maps"], golden.arrays["inter/final_layer"], slack, "joint_maps")


@pytest.mark.parametrize("path", FILES)
def test_outputs_float32(reference, path):
    golden = reference(path)
    prediction, features, _ = golden.forward(np.float32)
    for name, single in golden.part("output/").items():
        assert prediction[name].dtype == features["joint_maps"].dtype == np.float32
        double = golden.arrays[f"output64/{name}"]
        np.testing.assert_allclose(
            prediction[name], single, rtol=0, atol=10 * np.abs(single - double).max(), err_msg=name
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("path", FILES)
def test_values_on_the_way(reference, path, dtype):
    """Every recorded value, in both precisions (it was recorded in float32 alone)."""
    golden = reference(path)
    _, _, calls = golden.forward(dtype)
    backbone, modules = calls["backbone"], golden.network.modules

    def called(name):
        return backbone[name]["__call__"][0]

    ours = {"layer1": called("layer1_3"), "final_layer": calls["final_layer"]["__call__"][0]}
    # Recorded behind the ReLU of a transition, which is not the module's in our tree.
    ours |= {
        "transition1.0": np.maximum(called("transition1_0"), 0),
        "transition1.1.0": np.maximum(called("transition1_1"), 0),
    }
    for stage, last in zip((2, 3, 4), modules, strict=True):
        for branch, value in enumerate(called(f"stage{stage}_{last - 1}")):
            ours[f"stage{stage}/{branch}"] = value
    recorded = golden.part("inter/")
    assert recorded and recorded.keys() <= ours.keys()
    for name, value in recorded.items():
        close(
            ours[name].transpose(0, 3, 1, 2),
            value,
            single_slack(golden.arrays, "output", FLOAT32_RELATIVE),
            name,
        )


@pytest.mark.parametrize("path", FILES)
def test_names_and_shapes_are_the_released_ones(reference, path):
    """Guards the states that other tests make up: they are those of the released code."""
    golden = reference(path)
    network, head = golden.network, ()
    if network.head == "simdr":
        head = (
            *(round(side * network.split_ratio) for side in network.size),
            network.size[0] * network.size[1] // 16,
        )
    made = hrnet_state(
        network.width, network.stem_width, network.blocks, network.modules, network.joints, head
    )
    assert {name: tuple(value.shape) for name, value in made.items()} == {
        name: array.shape for name, array in golden.state.items()
    }


TRAINED = golden_files("hrnet_*_train")


def nmt_norm_criterion(prediction, target, weight, smoothing):
    """NMTNORMCritierion: mean over joints of mean over batch of w KL_sum / M, x plus y.

    See docs/methods/pose2d.md#task-losses.
    """
    total = 0.0
    for axis, logits in enumerate((prediction["x"], prediction["y"])):
        bins = logits.shape[-1]
        label = np.where(
            target[..., axis, None] == np.arange(bins), 1 - smoothing, smoothing / (bins - 1)
        )
        label = jnp.asarray(label, logits.dtype)
        # [B, J].
        divergence = jnp.sum(
            label * (jnp.log(label) - jax.nn.log_softmax(logits, axis=-1)), axis=-1
        )
        total = total + jnp.mean(weight * divergence) / bins
    return total


def training_inputs(golden, dtype):
    """Variables, images and weights of a training file, in one precision."""
    images = jnp.asarray(rows_of_images(golden.arrays["input/train_image"]), dtype)
    return (
        golden.variables(dtype),
        images,
        jnp.asarray(golden.arrays["input/train_weight"][..., 0], dtype),
    )


def training_loss(golden, variables, images, weight):
    """(loss, (prediction, running statistics)) in training mode."""
    settings = golden.config["train"]
    assert settings["criterion"] == "NMTNORMCritierion"
    (prediction, _), state = golden.network.apply(
        variables, images, train=True, mutable=["batch_stats"]
    )
    target = golden.arrays["input/train_target"]
    loss = nmt_norm_criterion(prediction, target, weight, settings["label_smoothing"])
    return loss, (prediction, state["batch_stats"])


def assert_tree_close(ours, wanted, relative):
    assert jax.tree.structure(ours) == jax.tree.structure(wanted)
    for (where, value), leaf in zip(
        jax.tree.leaves_with_path(wanted), jax.tree.leaves(ours), strict=True
    ):
        close(leaf, value, relative, jax.tree_util.keystr(where))


def assert_training_mode(golden, recorded, loss, prediction, batch_stats, relative, loss_relative):
    """Compares one training-mode pass with what is recorded under `train` or `train64`."""
    for name in ("x", "y"):
        close(prediction[name], golden.arrays[f"{recorded}/{name}"], relative, name)
    np.testing.assert_allclose(loss, golden.arrays[f"{recorded}/loss"], rtol=loss_relative)
    after = golden.part(f"{recorded}/state_after/")
    assert after.keys() == {
        name for name in golden.state if name.endswith(("running_mean", "running_var"))
    }
    assert_tree_close(batch_stats, convert_hrnet_state(golden.state | after)[1], relative)


@pytest.mark.parametrize("path", TRAINED)
def test_training_mode_float32(reference, path):
    """Prediction and loss of a batch, and the running statistics behind it."""
    golden = reference(path)
    with precision(np.float32):
        run = jax.jit(lambda *inputs: training_loss(golden, *inputs))
        loss, (prediction, batch_stats) = jax.tree.map(
            np.asarray, run(*training_inputs(golden, np.float32))
        )
    assert {leaf.dtype for leaf in jax.tree.leaves((loss, prediction, batch_stats))} == {
        np.dtype(np.float32)
    }
    slack = single_slack(golden.arrays, "train", FLOAT32_RELATIVE)
    assert_training_mode(golden, "train", loss, prediction, batch_stats, slack, LOSS_RELATIVE)


@pytest.mark.parametrize("path", TRAINED)
def test_steps_of_adam_float64(reference, path):
    """The training-mode pass, its gradients, and the losses of some steps on the one batch."""
    golden = reference(path)
    rate, count = numbers_in(
        golden.config["train"]["optimizer"], r"^Adam lr ([\d.e-]+), (\d+) steps on the one batch"
    )

    def loss(params, batch_stats, images, weight):
        return training_loss(golden, {"params": params, "batch_stats": batch_stats}, images, weight)

    steps = []
    with precision(np.float64):
        variables, images, weight = training_inputs(golden, np.float64)
        compiled = jax.jit(jax.value_and_grad(loss, has_aux=True))
        params, batch_stats = jax.tree.map(
            np.asarray, (variables["params"], variables["batch_stats"])
        )
        first = second = jax.tree.map(np.zeros_like, params)  # Adam's moments, with torch's betas
        for number in range(1, int(count) + 1):
            (total, (prediction, batch_stats)), gradient = jax.tree.map(
                np.asarray, compiled(params, batch_stats, images, weight)
            )
            steps.append((total, (prediction, batch_stats), gradient))
            first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
            second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, gradient)
            bias_1, bias_2 = 1 - 0.9**number, 1 - 0.999**number
            params = jax.tree.map(
                lambda p, m, v, a=bias_1, b=bias_2: p - rate * (m / a) / (np.sqrt(v / b) + 1e-8),
                params,
                first,
                second,
            )
    loss, (prediction, batch_stats), gradient = steps[0]
    assert_training_mode(
        golden, "train64", loss, prediction, batch_stats, FLOAT64_RELATIVE, FLOAT64_RELATIVE
    )
    gradients = golden.part("grad/")
    assert gradients.keys() == {
        name for name in golden.state if name.endswith((".weight", ".bias"))
    }
    assert_tree_close(gradient, convert_hrnet_state(golden.state | gradients)[0], GRADIENT_RELATIVE)
    wanted = golden.arrays["train64/losses_adam"]
    assert wanted[0] != wanted[-1]  # the run moved: the comparison says something
    np.testing.assert_allclose([total for total, _, _ in steps], wanted, rtol=FLOAT64_RELATIVE)
