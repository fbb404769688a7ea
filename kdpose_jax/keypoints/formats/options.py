"""What a user says about a file of keypoints, which every reader takes."""

import dataclasses
from collections.abc import Mapping

from kdpose_jax.keypoints.sizes import Beside


@dataclasses.dataclass(frozen=True)
class Options:
    """What the file may not say itself.

    Attributes:
      joints: the layout that `--joints` names; None to find it.
      names: the content of `--map`, the file's name of a joint -> ours; None without it.
      size: width and height of the video, pixels, by `--size`; None to find them.
      fps: frames per second, by `--fps`; None to find them.
      clip: the video that `--clip` names, in a file of several; None for the only one.
      near: what a picture or video beside the file says, which counts where the file says nothing;
        None if there is none.
    """

    joints: str | None = None
    names: Mapping[str, str] | None = None
    size: tuple[int, int] | None = None
    fps: float | None = None
    clip: str | None = None
    near: Beside | None = None
