"""Makes functions of a network that can be exported: decoding and windows inside."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdpose_jax.experiment.existing import Trained
from kdpose_jax.export.formats.signature import Functions, Signature
from kdpose_jax.export.plain import EVERYWHERE, plainly
from kdpose_jax.predict.description import LIFTER, Description


def signature_of(about: Description) -> Signature:
    """Says what a network's exported functions take and return."""
    return Signature(about.input_name, about.input_shape, about.output_names)


def functions_of(trained: Trained, about: Description) -> Functions:
    """Makes the functions of a network. Its parameters are constants in them.

    Args:
      trained: the network.
      about: its description.
    """
    # Not as they lie on the devices: those would become part of the exported program.
    params, state = jax.tree.map(np.asarray, (trained.params, trained.model_state))

    def network(examples: Any) -> tuple[Any, ...]:
        batch: Any = {about.input_name: examples}
        with jax.default_matmul_precision("highest"):  # as in evaluation
            predicted = trained.method.predict(params, state, batch)
        if isinstance(predicted, dict):
            return tuple(predicted[name] for name in about.output_names)
        return (predicted,)

    context = about.before + about.after
    if about.kind != LIFTER:
        return Functions(network, None, context)
    longer = jax.ShapeDtypeStruct((1, about.window + 1, *about.input_shape[1:]), np.float32)
    any_length = _takes(network, longer, about.predicted)
    return Functions(network, _videos(plainly(network, EVERYWHERE), about, any_length), context)


def _takes(network: Any, longer: Any, predicted: int) -> bool:
    """Tells whether a network takes a window that is longer by a frame, as convolutions do."""
    try:
        (poses,) = jax.eval_shape(network, longer)
    except Exception:  # whatever its layers raise for a shape that they do not have
        return False
    return bool(poses.shape[1] == predicted + 1)


def _videos(network: Any, about: Description, any_length: bool) -> Any:
    """Makes the function of whole videos, cut into windows as in evaluation.

    Args:
      network: windows `[W, N, J, 2]` -> a tuple with poses `[W, F, J, 3]`.
      about: the network's description.
      any_length: whether the network takes windows of any length.

    Returns:
      `[B, T, J, 2]` -> a tuple with `[B, T - context, J, 3]`. The first and the last frames are
      only read, if there is context.
    """
    if any_length:
        return network

    def lift(keypoints_2d: Any) -> tuple[Any]:
        videos, given, joints, _ = keypoints_2d.shape
        length = about.predicted
        frames = given - about.before - about.after
        count = (frames + length - 1) // length
        # The last window ends with the video.
        start = jnp.minimum(jnp.arange(count) * length, jnp.maximum(frames - length, 0))
        rows = jnp.minimum(start[:, None] + jnp.arange(about.window)[None], given - 1)
        windows = jnp.take(keypoints_2d, rows, axis=1, mode="clip")  # [B, count, N, J, 2]
        (poses,) = network(windows.reshape(videos * count, about.window, joints, 2))
        poses = poses.reshape(videos, count * length, joints, 3)
        frame = jnp.arange(frames)
        own = frame // length
        return (jnp.take(poses, own * length + frame - start[own], axis=1, mode="clip"),)

    return lift
