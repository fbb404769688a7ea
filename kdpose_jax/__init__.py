"""Distillation of human-pose networks: accurate teachers, fast students.

`kdpose_jax.load(path)` gives a trained network: numpy in, numpy out.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdpose_jax.predict.loading import Network

__version__ = "0.2.0"


def load(path: "str | os.PathLike[str]", *, config: Any = None) -> "Network":
    """Loads a trained network. Neither its data set nor TensorFlow is needed.

    A lifter is called as `network(keypoints_2d, size=(width, height))`, with pixels `[T, J, 2]` of
    any number T of frames, and returns poses `[T, J, 3]` in metres. A network for pictures is
    called as `network(crops)` or `network(picture, boxes=boxes)`, and returns joints and scores.
    Both have `joints`, `parents`, `skeleton`, `frames`, `units`, `kind` and `fingerprint`.

    Args:
      path: the folder of a run, such as `runs/scjd_demo/student`, or of one of its steps, on a disk
        or in a bucket (`gs://`); a file that `--mode export` wrote; or a published file of weights.
      config: the experiment that a published file belongs to, such as `scjd:h36m`.

    Returns:
      The network: `kdpose_jax.predict.lifter.Lifter` or
      `kdpose_jax.predict.pictures.PictureNetwork`.

    Raises:
      kdpose_jax.errors.UserError: there is no such network, or it cannot be used, as one sentence.
    """
    # Not at the top: it takes seconds, and the command line tells mistakes before that.
    return importlib.import_module("kdpose_jax.predict.loading").load(path, config=config)
