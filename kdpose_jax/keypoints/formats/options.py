"""What a user says about a file of keypoints, which every reader takes."""

import dataclasses
from collections.abc import Mapping, Sequence

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints.sizes import Beside

_LISTED = 12


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


def choose_clip(names: Sequence[str], chosen: str | None, place: str) -> str:
    """Returns the name of the video to read, in a file of several.

    Args:
      names: the names of the videos.
      chosen: the value of `--clip`; None for the only video.
      place: names the file in an error.

    Raises:
      UserError: there is no video, there are several and none was chosen, or none has that name.
    """
    listed = ", ".join(name[:60] for name in names[:_LISTED])
    listed += f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    if not names:
        raise UserError(f"{place} has no video: give another file.")
    if chosen is None and len(names) > 1:
        raise UserError(f"{place} has {len(names)} videos: choose one with --clip ({listed}).")
    if chosen is not None and chosen not in names:
        raise UserError(f"--clip {chosen} is not in {place}: use one of {listed}.")
    return names[0] if chosen is None else chosen
