"""Prepares recorded motion for a studio.

It cuts out faulty frames, resamples to 50 frames per second, and puts the feet on the floor in
front of the cameras.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.ndimage import binary_dilation, gaussian_filter1d

from data_prep import motion
from kdpose_jax.skeletons import H36M_17

MAX_SPEED = 14.0  # a joint's, metres per second
MAX_ACCELERATION = 1000.0  # a joint's that returns to its place, metres per second squared
MIN_SPIKE = 0.02  # metres
LIMB_TOLERANCE = 0.02  # a limb's deviation from the clip's median length, metres
MARGIN = 3  # frames that are cut with a faulty one, on both sides
MIN_FRAMES = 32  # at 50 per second
# A piece's last frame may lack this part of a frame at 50 per second (0.4 ms), because files round
# the frame time, for example 1/120 to 0.0083333.
ROUNDING = 0.02
ANKLE_HEIGHT = 0.07  # a standing person's lower ankle, metres
STUDIO_RADIUS = 1.4  # metres
COURSE_SECONDS = 0.5  # slower motion is the course, quicker motion is the pose
LIMBS = tuple(
    H36M_17.joints.index(f"{side}_{part}")
    for side in ("right", "left")
    for part in ("knee", "ankle", "elbow", "wrist")
)
ANKLES = tuple(H36M_17.joints.index(f"{side}_ankle") for side in ("right", "left"))


@dataclasses.dataclass(frozen=True, eq=False)
class Cleaned:
    """Holds a file's usable motion.

    Attributes:
      pieces: `[F, 17, 3]` float32, metres, z up, 50 frames per second.
      frames: number of frames in the file.
      cut: reason -> number of frames that were cut.
      notes: sentence about a departure from the file -> how often it occurred.
    """

    pieces: list[np.ndarray]
    frames: int
    cut: dict[str, int]
    notes: dict[str, int] = dataclasses.field(default_factory=dict)


def clean(pose: np.ndarray, fps: float, breaks: Sequence[int] = ()) -> Cleaned:
    """Cuts a clip into its usable pieces.

    Args:
      pose: `[F, 17, 3]`, metres, z up, NaN in faulty frames.
      fps: frames per second.
      breaks: frames that do not follow the frame before them in time; no piece reaches across.

    Returns:
      The pieces, each in its place in the studio.
    """
    reasons = faults(pose, fps, breaks)
    cut = {name: int(faulty.sum()) for name, faulty in reasons.items()}
    faulty = np.any(list(reasons.values()), axis=0)
    near = binary_dilation(faulty, iterations=MARGIN)
    cut["beside these"] = int((near & ~faulty).sum())
    cut[f"in pieces under {MIN_FRAMES / motion.FPS:.2f} s"] = 0
    pieces = []
    # Begin and end of each good run, alternating.
    borders = np.flatnonzero(np.diff(near, prepend=True, append=True))
    cuts = sorted({*borders.tolist(), *(frame for frame in breaks if not near[frame])})
    for start, end in itertools.pairwise(cuts):
        if near[start]:
            continue
        count = int((end - start - 1) / fps * motion.FPS + ROUNDING) + 1
        if count < MIN_FRAMES:
            cut[f"in pieces under {MIN_FRAMES / motion.FPS:.2f} s"] += int(end - start)
            continue
        pieces.append(place(resample(pose[start:end], fps, count)).astype(np.float32))
    return Cleaned(pieces, len(pose), cut)


def faults(pose: np.ndarray, fps: float, breaks: Sequence[int] = ()) -> dict[str, np.ndarray]:
    """Finds faulty frames: reason -> `[F]` booleans, each frame for its first reason.

    Across `breaks` (see `clean`) no speed is known.
    """
    frames = len(pose)
    joined = np.ones(max(frames - 1, 0), bool)
    joined[np.asarray(breaks, int) - 1] = False
    lengths = np.linalg.norm(
        pose[:, LIMBS] - pose[:, [H36M_17.parents[joint] for joint in LIMBS]], axis=-1
    )
    found = {"not finite": ~np.isfinite(pose).all(axis=(1, 2))}
    with np.errstate(invalid="ignore"):  # comparisons with NaN are False
        if not found["not finite"].all():
            found["a limb of another length"] = (
                np.abs(lengths - np.nanmedian(lengths, axis=0)) > LIMB_TOLERANCE
            ).any(axis=1)
        if frames > 2:
            away = np.linalg.norm(pose[1:-1] - (pose[:-2] + pose[2:]) / 2, axis=-1)
            back = np.linalg.norm(pose[2:] - pose[:-2], axis=-1) < away
            limit = max(MAX_ACCELERATION / 2 / fps**2, MIN_SPIKE)
            found["a spike of one frame"] = np.pad(
                (back & (away > limit)).any(axis=1) & joined[:-1] & joined[1:], 1
            )
        jump = (np.linalg.norm(np.diff(pose, axis=0), axis=-1) * fps > MAX_SPEED).any(
            axis=1
        ) & joined
    found["a joint too fast"] = np.pad(jump, (0, 1)) | np.pad(jump, (1, 0))
    known = np.zeros(frames, bool)
    for name, faulty in found.items():
        found[name] = faulty & ~known
        known |= faulty
    return found


def resample(pose: np.ndarray, fps: float, count: int) -> np.ndarray:
    """Resamples `[F, 17, 3]` to `[count, 17, 3]` at 50 frames per second, cubic in time.

    Both begin with the same frame.
    """
    return CubicSpline(np.arange(len(pose)) / fps, pose)(np.arange(count) / motion.FPS)


def place(pose: np.ndarray) -> np.ndarray:
    """Puts a piece on the floor in the middle of the studio.

    A course that is too long is scaled down. The pose and its rhythm stay as they are.
    """
    sigma = COURSE_SECONDS * motion.FPS
    # The course is continued beyond its ends, so that smoothing does not hold it back there.
    width = int(4 * sigma)
    longer = np.pad(
        pose[:, H36M_17.root, :2], ((width, width), (0, 0)), mode="reflect", reflect_type="odd"
    )
    course = gaussian_filter1d(longer, sigma, axis=0)[width:-width]
    centre = (course.min(axis=0) + course.max(axis=0)) / 2
    reach = np.linalg.norm(course - centre, axis=1).max()
    scale = min(1.0, STUDIO_RADIUS / reach) if reach > 0 else 1.0
    placed = pose.copy()
    placed[..., :2] += ((scale - 1) * (course - centre) - centre)[:, None]
    placed[..., 2] += ANKLE_HEIGHT - np.percentile(pose[:, ANKLES, 2].min(axis=1), 2)
    return placed
