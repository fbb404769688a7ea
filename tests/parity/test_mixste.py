"""Our MixSTE with imported weights against the released network (files mixste_* of the golden
folder).
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden import close, golden_files, numbers_in, precision, single_slack

from kdpose_jax.losses.lifting import lifting_loss
from kdpose_jax.models.attending import probabilities
from kdpose_jax.models.mixste import MixSTE
from kdpose_jax.pytorch.mixste import convert_mixste_state
from kdpose_jax.tasks.lifting import flip_averaged
from kdpose_jax.train.optim import build_optimizer

# Every file of the kind but those of the loss, which have a test of their own.
FILES = [
    file for file in golden_files("mixste_*") if not file.id.startswith("mixste_loss")
] or golden_files("mixste_f*")
# The README: float64 to 1e-9; float32 to ten times what the reference is off its own float64 twin,
# which a file of this kind shows by its `output/` and `output64/`, and which for the values on the
# way is 1.2e-6 of the largest value in the worst file.
FLOAT64_RELATIVE = 1e-9
FLOAT32_RELATIVE = 1.2e-5
GRADIENT_RELATIVE = 5.4e-6
LOSS_RELATIVE = 2.2e-6
# "good to 1e-6 over all steps", ten times; 1 - 0.999 in float32, as optax takes it, costs 6e-6 of a
# step.
TRAINED_LOSS_RELATIVE = 1e-5
TRAINED_RELATIVE = 2.9e-6


class Reference:
    """One golden file: its arrays, and our network with its weights."""

    def __init__(self, path):
        with np.load(path, allow_pickle=False) as file:
            self.arrays = dict(file)
        self.config = json.loads(str(self.arrays["config"][0]))["config"]
        self.params, sizes = convert_mixste_state(self.part("param/"))
        self.network = MixSTE(
            joints=self.config["num_joints"],
            frames=self.config["num_frame"],
            width=self.config["embed_dim_ratio"],
            depth=self.config["depth"],
            heads=self.config["num_heads"],
            mlp_ratio=self.config["mlp_ratio"],
            drop_path=float(self.config["drop_path_rate"]),
        )
        assert sizes == {name: getattr(self.network, name) for name in sizes}, (
            "the importer reads other sizes off the weights"
        )
        permutation = np.arange(self.network.joints)
        permutation[self.config["joints_left"] + self.config["joints_right"]] = (
            self.config["joints_right"] + self.config["joints_left"]
        )
        self.flip_permutation = tuple(permutation.tolist())

    def part(self, prefix):
        return {
            name.removeprefix(prefix): array
            for name, array in self.arrays.items()
            if name.startswith(prefix)
        }

    @functools.cache  # noqa: B019 (a handful of files)
    def forward(self, dtype):
        """(pose, flip-averaged pose, features, values by module and call), numpy arrays."""

        def run(params, keypoints_2d):
            def predict(params, _, batch):
                return self.network.apply({"params": params}, batch["keypoints_2d"])[0]

            batch = {"keypoints_2d": keypoints_2d}
            (pose, features), state = self.network.apply(
                {"params": params}, keypoints_2d, capture_intermediates=True
            )
            averaged = flip_averaged(predict, self.flip_permutation)(params, {}, batch)
            return pose, averaged, features, state["intermediates"]

        with precision(dtype):
            return jax.tree.map(np.asarray, jax.jit(run)(*self.inputs(dtype, "pose2d")))

    def inputs(self, dtype, *names):
        """Weights and inputs of one precision."""
        params = jax.tree.map(lambda array: jnp.asarray(array, dtype), self.params)
        return params, *(jnp.asarray(self.arrays[f"input/{name}"], dtype) for name in names)

    def names(self):
        """The reference's name of every leaf of our tree, in a tree of the same structure."""
        state = self.part("param/")
        numbered, _ = convert_mixste_state(
            {name: np.full(array.shape, float(i)) for i, (name, array) in enumerate(state.items())}
        )
        return jax.tree.map(lambda leaf: list(state)[int(leaf.flat[0])], numbered)


@pytest.fixture(scope="module")
def reference():
    return functools.cache(Reference)


@pytest.mark.parametrize("path", FILES)
def test_pose_float64(reference, path):
    golden = reference(path)
    pose, averaged, _, _ = golden.forward(np.float64)
    assert pose.dtype == np.float64
    close(pose, golden.arrays["output64/pose"], FLOAT64_RELATIVE, "pose")
    close(averaged, golden.arrays["output64/pose_flip_tta"], FLOAT64_RELATIVE, "pose_flip_tta")


@pytest.mark.parametrize("path", FILES)
def test_pose_float32(reference, path):
    golden = reference(path)
    computed = dict(zip(("pose", "pose_flip_tta"), golden.forward(np.float32), strict=False))
    for name, value in computed.items():
        assert value.dtype == np.float32
        single, double = golden.arrays[f"output/{name}"], golden.arrays[f"output64/{name}"]
        np.testing.assert_allclose(
            value, single, rtol=0, atol=10 * np.abs(single - double).max(), err_msg=name
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("path", FILES)
def test_values_on_the_way(reference, path, dtype):
    """Every recorded value, in both precisions (it was recorded in float32 alone)."""
    golden = reference(path)
    _, _, features, calls = golden.forward(dtype)
    joints = golden.network.joints

    # The reference's spatial blocks have [BF, J, C], and its temporal blocks [BJ, F, C].
    def per_frame(array):  # [B, J, F, C]
        return array.swapaxes(1, 2).reshape(-1, joints, array.shape[-1])

    def flat(array):
        return array.reshape(-1, *array.shape[2:])

    ours = {
        "patch_embedding": per_frame(calls["joint_embedding"]["__call__"][0]),
        "head_input": features["temporal"][-1],
    }
    for layer in range(golden.network.depth):
        spatial, temporal = (
            calls[f"{kind}_block_{layer}"]["__call__"][0] for kind in ("spatial", "temporal")
        )
        ours[f"STEblocks.{layer}"] = per_frame(spatial[0])
        ours[f"TTEblocks.{layer}"] = flat(temporal[0])
        ours[f"STEblocks.{layer}.softmax"] = flat(features["spatial_attention"][layer])
        ours[f"TTEblocks.{layer}.softmax"] = flat(
            probabilities(temporal[1], golden.network.heads, -2)
        )
        ours[f"Spatial_norm_call{layer}"] = flat(features["spatial"][layer])
        ours[f"Temporal_norm_call{layer}"] = flat(features["temporal"][layer].swapaxes(1, 2))
    recorded = golden.part("inter/")
    assert recorded and recorded.keys() <= ours.keys()
    for name, value in recorded.items():
        close(ours[name], value, single_slack(golden.arrays, "output", FLOAT32_RELATIVE), name)


def trained(path):
    """Whether a file has a training run."""
    with np.load(path, allow_pickle=False) as file:
        return json.loads(str(file["config"][0]))["config"]["train"] is not None


TRAINED = [file for file in FILES if file.values[0] is None or trained(file.values[0])] or [
    pytest.param(
        None,
        marks=pytest.mark.skip(reason="no golden file mixste_* with a training run"),
        id="absent",
    )
]


@functools.cache
def training(golden, dtype):
    """Two runs of some steps of our AdamW, with the plain gradient and with the loss times it, as
    run.py trains.

    Returns:
      {"plain" or "scaled": (losses, parameters after them)}, and loss terms and gradients of the
        first step.
    """
    joint_weights = np.asarray(golden.config["train"]["w_mpjpe"])
    rate, decay, count = numbers_in(
        golden.config["train"]["optimizer"],
        r"^AdamW lr ([\d.e-]+) weight_decay ([\d.e-]+), (\d+) steps on the one batch",
    )
    optimizer = build_optimizer(
        lambda step: rate,
        weight_decay=decay,
        beta1=0.9,
        beta2=0.999,
        epsilon=1e-8,
        clip_norm=0.0,
        groups=(),
    )

    def loss(params, keypoints_2d, pose_3d):
        predicted, _ = golden.network.apply({"params": params}, keypoints_2d, deterministic=False)
        total, terms = lifting_loss(
            predicted,
            pose_3d,
            joint_weights=joint_weights,
            smoothness_weight=0.5,
            velocity_weight=2.0,
        )
        return total.mean(), {name: value.mean() for name, value in terms.items()}

    def step(params, opt_state, keypoints_2d, pose_3d, scaled):
        (total, terms), gradient = jax.value_and_grad(loss, has_aux=True)(
            params, keypoints_2d, pose_3d
        )
        factor = jnp.where(scaled, total, jnp.ones_like(total))
        updates, opt_state = optimizer.update(
            jax.tree.map(lambda g: factor * g, gradient), opt_state, params
        )
        return optax.apply_updates(params, updates), opt_state, total, terms, gradient

    runs = {}
    with precision(dtype):
        compiled = jax.jit(step)
        for kind in ("plain", "scaled"):
            params, *batch = golden.inputs(dtype, "pose2d", "pose3d")
            opt_state, losses, first = optimizer.init(params), [], None
            for _ in range(int(count)):
                params, opt_state, total, terms, gradient = compiled(
                    params, opt_state, *batch, jnp.asarray(kind == "scaled")
                )
                losses.append(float(total))
                first = first or jax.tree.map(np.asarray, (terms, gradient))
            runs[kind] = (np.array(losses), jax.tree.map(np.asarray, params))
    return runs, *first


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("path", TRAINED)
def test_losses_and_gradients(reference, path, dtype):
    golden = reference(path)
    runs, terms, gradient = training(golden, dtype)
    recorded, relative = (
        ("train64", FLOAT64_RELATIVE) if dtype == np.float64 else ("train", LOSS_RELATIVE)
    )
    ours = {"loss_total": runs["plain"][0][0], "loss_weighted_mpjpe": terms["joint_error"]}
    ours["loss_smoothness"] = terms["smoothness"]
    # run.py's name for all that is not loss_3d_pos.
    ours["loss_diff"] = 0.5 * terms["smoothness"] + 2.0 * terms["velocity_error"]
    for name, value in ours.items():
        close(value, golden.arrays[f"{recorded}/{name}"], relative, name)

    double = golden.part("grad64/") if dtype == np.float64 else {}
    expected, _ = convert_mixste_state(double or golden.part("grad/"))
    relative = FLOAT64_RELATIVE if double else GRADIENT_RELATIVE
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    for (where, wanted), leaf in zip(
        jax.tree.leaves_with_path(expected), jax.tree.leaves(gradient), strict=True
    ):
        # The key third of a qkv bias has no gradient but round-off, which is measured by the
        # largest gradient.
        close(
            leaf,
            wanted,
            relative,
            jax.tree_util.keystr(where),
            absolute=1e-7 * largest * relative / GRADIENT_RELATIVE,
        )


@pytest.mark.parametrize("kind", ["plain", "scaled"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("path", TRAINED)
def test_steps_of_adamw(reference, path, dtype, kind):
    golden = reference(path)
    losses, params = training(golden, dtype)[0][kind]
    recorded, relatives = "train", (TRAINED_LOSS_RELATIVE, TRAINED_RELATIVE)
    if dtype == np.float64:
        recorded, relatives = "train64", (FLOAT64_RELATIVE, FLOAT64_RELATIVE)
    wanted = golden.arrays[f"{recorded}/losses_adamw_{kind}"]
    np.testing.assert_allclose(losses, wanted, rtol=relatives[0], atol=0)
    assert wanted[0] != wanted[-1]  # the run moved: the comparison says something
    after = golden.part(f"{recorded}/after_adamw_{kind}/")
    leaves = dict(zip(jax.tree.leaves(golden.names()), jax.tree.leaves(params), strict=True))
    assert after and after.keys() <= leaves.keys()
    for name, value in after.items():
        ours = leaves[name].T if value.shape != leaves[name].shape else leaves[name]
        close(ours, value, relatives[1], name)
