"""Finds what 2D fits instead of its projection: a camera, joint order, scale or moment."""

import dataclasses

import numpy as np

from kdpose_jax.skeletons import COCO_17, H36M_17, MPII_16

# Detectors are wrong by 0.02 to 0.05 of a person's size. A larger distance does not fit.
LIMIT = 0.08
# Another explanation must halve the distance, and lower it by this part of the person's size.
BETTER, MARGIN = 0.5, 0.005
SAMPLE = 60  # frames per take on which other explanations are tried
LONGEST_LAG = 50  # frames
LIMBS = tuple(
    H36M_17.joints.index(f"{side}_{part}")
    for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
    for side in ("left", "right")
)
# Indices of the limbs in other joint orders: hips, knees, ankles, shoulders, elbows, wrists, left
# before right.
ORDERS = {
    "Human3.6M's order with left and right exchanged": tuple(
        H36M_17.flip_permutation[joint] for joint in LIMBS
    ),
    "COCO's order": tuple(COCO_17.joints.index(H36M_17.joints[joint]) for joint in LIMBS),
    "MPII's order": tuple(MPII_16.joints.index(H36M_17.joints[joint]) for joint in LIMBS),
    "the order of MPI-INF-3DHP and of OpenPose's COCO-18": (11, 8, 12, 9, 13, 10, 5, 2, 6, 3, 7, 4),
    "the order of OpenPose's BODY_25": (12, 9, 13, 10, 14, 11, 5, 2, 6, 3, 7, 4),
    "the order of CMU Panoptic": (6, 12, 7, 13, 8, 14, 3, 9, 4, 10, 5, 11),
    "LSP's order": (3, 2, 4, 1, 5, 0, 9, 8, 10, 7, 11, 6),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """Holds the 2D and the 3D for one camera's view of one take.

    Attributes:
      subject, take, camera: name the view.
      given: `[F, 17, 2]` pixels, or None if the projection is the 2D.
      projected: `[F, 17, 2]` pixels; x/z and y/z if the camera is not known.
      depth: `[F, 17]`, metres in front of the camera.
      clipped: `[F, 17]`, whether the projection stops at the edge of its range.
      others: (kind in REMEDIES, words) -> `[S, 17, 2]`, other projections at the frames from
        `sample`.
      size: width and height of the picture.
      known_camera: whether the camera is known; if not, focal length and centre are fitted.
    """

    subject: str
    take: str
    camera: int
    given: np.ndarray | None
    projected: np.ndarray
    depth: np.ndarray
    clipped: np.ndarray
    others: dict[tuple[str, str], np.ndarray]
    size: tuple[int, int]
    known_camera: bool


def sample(frames: int) -> np.ndarray:
    """Returns a take's frames on which other explanations are tried."""
    return np.unique(np.linspace(0, frames - 1, min(frames, SAMPLE)).astype(int))


def cause_of(pair: Pair, given: np.ndarray, frames: np.ndarray, here: float) -> tuple[str, str]:
    """Returns kind and words of what the 2D fits better, or two empty texts."""
    limbs, own, free = list(LIMBS), pair.projected[frames], not pair.known_camera

    def far(joints: np.ndarray, expected: np.ndarray) -> float:
        return distance(joints, expected[:, limbs], free)

    tried = {key: far(given[frames][:, limbs], other) for key, other in pair.others.items()}
    tried |= {
        ("order", name): far(given[frames][:, list(order)], own) for name, order in ORDERS.items()
    }
    if pair.known_camera:
        nearest = _nearest_joints(given[frames], own[:, limbs])
        if nearest is not None:
            tried.setdefault(
                ("order", f"the order in which the limbs are its joints {nearest}"),
                far(given[frames][:, nearest], own),
            )
    best = min(tried, key=tried.get)
    kind, cause, scaled = _scaled(pair, given[frames], own, here)
    if (
        tried[best] < min(BETTER * here, LIMIT)
        and here - tried[best] > MARGIN
        and not scaled < BETTER * tried[best]
    ):
        return best
    if kind:
        return kind, cause
    lag, value = _lag(pair, given, here)
    if value < min(0.6 * here, LIMIT) and here - value > MARGIN:
        return "lag", f"the 3D of {abs(lag)} frames {'earlier' if lag > 0 else 'later'}"
    return "", ""


def _nearest_joints(given: np.ndarray, limbs: np.ndarray) -> list[int] | None:
    """Returns the 2D joint nearest to each limb, if these are twelve different joints."""
    apart = np.hypot(*np.moveaxis(given[:, None] - limbs[:, :, None], -1, 0))
    cost = np.median(np.where(np.isfinite(apart), apart, np.inf), axis=0)  # [12, 17]
    if not np.isfinite(cost).all():
        return None
    nearest = cost.argmin(axis=1).tolist()
    return nearest if len(set(nearest)) == len(nearest) else None


def _lag(pair: Pair, given: np.ndarray, here: float) -> tuple[int, float]:
    """Returns the lag at which 2D fits 3D best, in frames, and the distance there."""
    reach = min(LONGEST_LAG, len(given) // 4)
    if reach == 0:
        return 0, np.inf
    limbs = list(LIMBS)
    middle = reach + sample(len(given) - 2 * reach)
    projected = expected = pair.projected[middle][:, limbs]
    lags, best, value = np.arange(-reach, reach + 1), 0, np.inf
    for _ in range(1 if pair.known_camera else 3):  # the fitted camera depends on the lag
        if not pair.known_camera:
            scale, shift = line_of(given[middle + best][:, limbs], projected)
            expected = scale * projected + shift
        apart = apart_of(given[:, limbs][middle + lags[:, None]], expected)  # [L, S, 12]
        values = np.median(
            np.where(np.isfinite(apart), apart, np.inf).reshape(len(lags), -1), axis=1
        )
        best, value = int(lags[values.argmin()]), float(values.min())
    return best, value if best else np.inf


def _scaled(pair: Pair, given: np.ndarray, own: np.ndarray, here: float) -> tuple[str, str, float]:
    """Returns kind, words and distance for 2D in another scale; kind and words may be "".

    It may also be mirrored, upside down, shifted, or have x and y exchanged.
    """
    limbs = list(LIMBS)
    if not pair.known_camera:
        scale, shift = line_of(given[:, limbs], own[:, limbs])
        if here > LIMIT or (scale > 0.2 * pair.size[0]).all():
            return "", "", np.inf
        if (scale < 0).any() or (scale < 4).all():
            return *_scale_words(scale, shift - scale / 2, np.ones(2)), here
        return (
            "scale",
            f"a camera with a focal length of {scale[0]:.0f} and {scale[1]:.0f} pixels, which "
            "its picture does not have",
            here,
        )
    if here <= LIMIT:
        return "", "", np.inf
    tried = {}
    for name, order in {"": LIMBS, **ORDERS}.items():
        for exchanged in (False, True):
            joints = given[:, list(order)]
            joints = joints[..., ::-1] if exchanged else joints
            tried[name, exchanged] = distance(joints, own[:, limbs], True)
    name, exchanged = min(tried, key=tried.get)
    value = tried[name, exchanged]
    if value > min(BETTER * here, LIMIT / 2):
        return "", "", np.inf
    joints = given[:, list(ORDERS[name] if name else LIMBS)]
    kind, words = _scale_words(
        *line_of(joints[..., ::-1] if exchanged else joints, own[:, limbs]), np.asarray(pair.size)
    )
    if name or exchanged:
        kind, words = (
            "scale",
            ", ".join([name] * bool(name) + ["with x and y exchanged"] * exchanged + [words]),
        )
    return kind, words, value


def _scale_words(scale: np.ndarray, shift: np.ndarray, size: np.ndarray) -> tuple[str, str]:
    """Returns kind and words for 2D = scale * pixels + shift."""
    turned = " and ".join(
        word for word, factor in zip(("mirrored", "upside down"), scale, strict=True) if factor < 0
    )
    if (np.abs(scale) * size < 4).all():
        low, high = np.round(shift, 2) + 0.0, np.round(scale * size + shift, 2) + 0.0
        ends = f"x from {low[0]:.2f} to {high[0]:.2f} and y from {low[1]:.2f} to {high[1]:.2f}"
        return "scale", f"as coordinates with {ends} over the picture" + (
            f" ({turned})" if turned else ""
        )
    if turned:
        return "scale", f"when it is {turned}"
    if (np.abs(scale - 1) < 0.03).all():
        return "shift", f"after a shift by ({-shift[0]:.0f}, {-shift[1]:.0f}) pixels"
    return (
        "scale",
        f"a picture of {scale[0]:.2f} times the width and {scale[1]:.2f} times the height",
    )


def distance(given: np.ndarray, expected: np.ndarray, fitted: bool) -> float:
    """Computes the median distance of `[F, J, 2]` from the expected joints.

    The unit is the person's size. It is infinite if there is no distance.
    """
    if fitted:
        scale, shift = line_of(given, expected)
        expected = scale * expected + shift
    return median(apart_of(given, expected))


def apart_of(given: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Computes distances `[..., F, J]` in units of the person's size in each frame.

    The size is the longer side of the expected joints.
    """
    size = (expected.max(axis=-2) - expected.min(axis=-2)).max(axis=-1)  # [F]
    return np.hypot(*np.moveaxis(given - expected, -1, 0)) / np.maximum(size, 1e-9)[:, None]


def median(values: np.ndarray) -> float:
    """Returns the median of finite values; infinite if there is none."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else np.inf


def line_of(given: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fits given = scale * expected + shift for each axis, without outliers.

    Returns scale `[2]` and shift `[2]`.
    """
    scales, shifts = np.ones(2), np.zeros(2)
    for axis in range(2):
        y, x = given[..., axis].ravel(), expected[..., axis].ravel()
        kept = np.isfinite(y) & np.isfinite(x)
        for _ in range(3):
            if kept.sum() < 3:
                break
            low, high = x[kept].mean(), y[kept].mean()
            variance = np.mean((x[kept] - low) ** 2)
            scales[axis] = (
                np.mean((x[kept] - low) * (y[kept] - high)) / variance if variance > 0 else 1.0
            )
            shifts[axis] = high - scales[axis] * low
            left = np.abs(y - scales[axis] * x - shifts[axis])
            kept = left <= 3 * median(left) + 1e-9
    return scales, shifts
