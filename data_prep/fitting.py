"""Does the 2D of a view belong to its 3D? Every take and every camera is asked, in units of the person's size in that view.

What is certainly wrong for most views of a subject ends the conversion. Everything else is one list for the notes. Human3.6M's own 3D is
shifted in some takes of S9, which everybody uses as they are: a shift alone is never refused.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import COCO_17, H36M_17, MPII_16

# Detectors are wrong by 0.02 to 0.05 of a person's size. What lies further away does not fit.
LIMIT = 0.08
# Another explanation must halve the distance, and lower it by this share of the person's size.
BETTER, MARGIN = 0.5, 0.005
SAMPLE = 60  # frames of a take on which other explanations are tried
LONGEST_LAG = 50  # frames
CERTAIN = 0.5  # of a subject's views, or of the joints of a camera: beyond it the conversion ends
WORTH_A_NOTE = 0.01  # of the joints of a camera
LISTED = 10  # takes; the rest is counted
FARTHEST = 1e6  # what is said of distances that are not a number
MARKS = (0.0, -1.0)  # what detectors write for x and y of a joint that they did not find
LIMBS = tuple(
    H36M_17.joints.index(f"{side}_{part}") for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist") for side in ("left", "right")
)
# Where the limbs (left before right: hips, knees, ankles, shoulders, elbows, wrists) stand in other orders of joints.
ORDERS = {
    "Human3.6M's order with left and right exchanged": tuple(H36M_17.flip_permutation[joint] for joint in LIMBS),
    "COCO's order": tuple(COCO_17.joints.index(H36M_17.joints[joint]) for joint in LIMBS),
    "MPII's order": tuple(MPII_16.joints.index(H36M_17.joints[joint]) for joint in LIMBS),
    "the order of MPI-INF-3DHP and of OpenPose's COCO-18": (11, 8, 12, 9, 13, 10, 5, 2, 6, 3, 7, 4),
    "the order of OpenPose's BODY_25": (12, 9, 13, 10, 14, 11, 5, 2, 6, 3, 7, 4),
    "the order of CMU Panoptic": (6, 12, 7, 13, 8, 14, 3, 9, 4, 10, 5, 11),
    "LSP's order": (3, 2, 4, 1, 5, 0, 9, 8, 10, 7, 11, 6),
}
REMEDIES = {
    "order": "bring the joints of the 2D into Human3.6M's order",
    "camera": "bring the cameras into the order of the 2D's views",
    "reading": "correct the camera table",
    "scale": "give the 2D in pixels of the pictures that the cameras' widths and heights describe",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """The 2D and the 3D of one camera view of one take.

    Attributes:
      subject, take, camera: what it is called.
      given: `[F, 17, 2]` pixels, or None where the projection itself is the 2D.
      projected: `[F, 17, 2]` pixels; where the camera is not known, x/z and y/z.
      depth: `[F, 17]`, metres in front of the camera.
      clipped: `[F, 17]`, whether the projection stops at the edge of its range.
      others: (kind, what it is) -> `[S, 17, 2]`, other projections of the frames of `sample`; the kinds are those of REMEDIES.
      size: width and height of the picture.
      known_camera: False: focal length and centre are free, and fitted.
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


@dataclasses.dataclass(frozen=True)
class Fit:
    """How well a view fits: `distance` in units of the person's size, `pixels` alike, `kind` and `cause` of a misfit ("" if unknown)."""

    subject: str
    take: str
    camera: int
    distance: float
    pixels: float
    kind: str
    cause: str

    @property
    def odd(self) -> bool:
        return bool(self.kind) or self.distance > LIMIT


def sample(frames: int) -> np.ndarray:
    """The frames of a take on which other explanations are tried."""
    return np.unique(np.linspace(0, frames - 1, min(frames, SAMPLE)).astype(int))


class Findings:
    """Collects the views of a data set, and says what is odd about them."""

    def __init__(self, keypoints: str, cameras: str):
        """Takes the names of the files with the 2D and the cameras, as messages have them; cameras "": there is no such file."""
        self.keypoints, self.cameras = keypoints, cameras
        self.fits: list[Fit] = []
        self._shares: dict[tuple[str, int], np.ndarray] = {}  # joints, behind, clipped, outside
        self._inside: dict[tuple[str, int], str] = {}  # another reading of the camera, under which the joints are in the picture
        self._marks: dict[str, tuple[int, int]] = {}  # marks and joints of a view

    def add(self, pair: Pair) -> None:
        """Measures a view."""
        shown = pair.projected if pair.given is None else pair.given
        missing = np.zeros(shown.shape[:2], bool) if pair.given is None else marks(pair.given)
        with np.errstate(all="ignore"):
            outside = ~((shown >= 0) & (shown <= pair.size)).all(axis=-1) & ~missing
        counts = np.asarray([outside.size, (pair.depth <= 0).sum(), pair.clipped.sum(), outside.sum()])
        key = (pair.subject, pair.camera)
        self._shares[key] = counts + (self._shares[key] if key in self._shares else 0)
        if missing.any():
            self._marks[f"{pair.subject} {pair.take} camera {pair.camera}"] = (int(missing.sum()), missing.size)
        with np.errstate(all="ignore"):
            if pair.given is not None and not missing.all():
                self.fits.append(_measure(pair, missing))
            elif counts[[1, 3]].max() > CERTAIN * counts[0] and key not in self._inside:
                self._inside[key] = _reading_inside(pair)

    @property
    def typical(self) -> float:
        """The median distance of all views, in units of a person's size."""
        return float(np.median([fit.distance for fit in self.fits])) if self.fits else 0.0

    def refuse(self) -> None:
        """Raises UserError if most views of a subject have one certain fault, or most joints are where no camera sees them."""
        for subject in dict.fromkeys(fit.subject for fit in self.fits):
            own = [fit for fit in self.fits if fit.subject == subject]
            for kind, remedy in REMEDIES.items():
                wrong = [fit for fit in own if fit.kind == kind]
                if len(wrong) > CERTAIN * len(own):
                    raise UserError(
                        f"{self.keypoints}: the 2D of {len(wrong)} of the {len(own)} views of subject '{subject}' does not fit their 3D; "
                        f"that of take '{wrong[0].take}', camera {wrong[0].camera} is {_share(wrong[0].distance)} of the person's size from "
                        f"the projection ({wrong[0].pixels:.0f} pixels) and fits {wrong[0].cause}: {remedy}"
                        f"{f' in {self.cameras}' if kind in ('camera', 'reading') and self.cameras else ''}."
                    )
        for (subject, camera), (joints, behind, _, outside) in self._shares.items():
            if self.cameras and max(behind, outside) > CERTAIN * joints:
                better = self._inside[subject, camera] if (subject, camera) in self._inside else ""
                raise UserError(
                    f"Subject '{subject}', camera {camera} of {self.cameras}: {behind / joints:.0%} of the joints lie behind the camera and "
                    f"{outside / joints:.0%} outside its picture"
                    + (f"; they lie inside with {better}." if better else ": are R and T world to camera? Then write t for T.")
                )

    def notes(self) -> list[str]:
        """One list of what is odd, the worst first."""
        takes: dict[tuple[str, str, str], list[Fit]] = {}
        for fit in self.fits:
            if fit.odd:
                takes.setdefault((fit.subject, fit.take, fit.kind), []).append(fit)
        worst = sorted(takes.values(), key=lambda fits: -max(fit.distance for fit in fits))
        lines = listed([_sentence(fits) for fits in worst], "takes whose 2D does not fit their 3D")
        shares = []
        for (subject, camera), (joints, behind, clipped, outside) in self._shares.items():
            parts = [f"{behind:,} lie behind the camera"] if behind else []
            parts += [f"{clipped:,} are projected to the edge of what a camera sees (45 degrees)"] if clipped else []
            parts += [f"{outside:,} lie outside the picture"] if outside > WORTH_A_NOTE * joints else []
            if parts:
                shares.append(f"{subject} camera {camera}: of {joints:,} joints {', '.join(parts)}")
        lines += listed(shares, "cameras with such joints")
        if self._marks:
            places = ", ".join(f"{place}: {count:,} of {size:,}" for place, (count, size) in list(self._marks.items())[:LISTED])
            rest = f" and {len(self._marks) - LISTED} more views" if len(self._marks) > LISTED else ""
            lines.append(
                f"{sum(count for count, _ in self._marks.values()):,} joints of the 2D have one and the same value, like (0, 0) or "
                f"(-1, -1), which marks what a detector did not find; they are kept as they are ({places}{rest})"
            )
        return lines


def listed(lines: list[str], what: str) -> list[str]:
    """The first lines, and a count of the rest."""
    return lines if len(lines) <= LISTED else [*lines[:LISTED], f"and {len(lines) - LISTED} more {what}"]


def marks(given: np.ndarray) -> np.ndarray:
    """Which joints `[F, 17]` of a view are a mark of a missing joint: 0, -1, or one value that several joints of several frames share."""
    x, y = given[..., 0], given[..., 1]
    found = np.zeros(x.shape, bool)
    for mark in MARKS:
        found |= (x == mark) & (y == mark)
    frames = sample(len(given))
    pairs = np.ascontiguousarray(given[frames], np.float32).reshape(-1, 2).view(np.complex64)[:, 0]  # sorted as single values
    values, where, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    most = counts.argmax()
    joints = np.flatnonzero(where == most) % x.shape[1]
    if counts[most] > max(3, 0.02 * pairs.size) and len(np.unique(joints)) >= 3:
        found |= (x == values[most].real) & (y == values[most].imag)
    return found


def _measure(pair: Pair, missing: np.ndarray) -> Fit:
    """How far the 2D is from its projection over all frames, and what else it fits."""
    given = np.where(missing[..., None], np.nan, pair.given.astype(np.float64))
    expected = pair.projected
    if not pair.known_camera:
        scale, shift = _line(given, expected)
        expected = scale * expected + shift
    distance, pixels = _median(_apart(given, expected)), _median(np.hypot(*np.moveaxis(given - expected, -1, 0)))
    frames = sample(len(given))
    limbs = list(LIMBS)
    here = _distance(given[frames][:, limbs], pair.projected[frames][:, limbs], not pair.known_camera)
    kind, cause = _cause(pair, given, frames, here) if here > MARGIN or not pair.known_camera else ("", "")
    return Fit(pair.subject, pair.take, pair.camera, min(distance, FARTHEST), min(pixels, FARTHEST), kind, cause)


def _cause(pair: Pair, given: np.ndarray, frames: np.ndarray, here: float) -> tuple[str, str]:
    """The kind and the words of what the 2D fits better than its own projection, or two empty texts."""
    limbs, own, free = list(LIMBS), pair.projected[frames], not pair.known_camera

    def far(joints: np.ndarray, expected: np.ndarray) -> float:
        return _distance(joints, expected[:, limbs], free)

    tried = {key: far(given[frames][:, limbs], other) for key, other in pair.others.items()}
    tried |= {("order", name): far(given[frames][:, list(order)], own) for name, order in ORDERS.items()}
    if pair.known_camera:
        nearest = _nearest_joints(given[frames], own[:, limbs])
        if nearest is not None:
            tried.setdefault(("order", f"the order in which the limbs are its joints {nearest}"), far(given[frames][:, nearest], own))
    best = min(tried, key=tried.get)
    kind, cause, scaled = _scaled(pair, given[frames], own, here)
    if tried[best] < min(BETTER * here, LIMIT) and here - tried[best] > MARGIN and not scaled < BETTER * tried[best]:
        return best
    if kind:
        return kind, cause
    lag, value = _lag(pair, given, here)
    if value < min(0.6 * here, LIMIT) and here - value > MARGIN:
        return "lag", f"the 3D of {abs(lag)} frames {'earlier' if lag > 0 else 'later'}"
    return "", ""


def _nearest_joints(given: np.ndarray, limbs: np.ndarray) -> list[int] | None:
    """For every limb the joint of the 2D that is nearest to it, if they are twelve different ones."""
    apart = np.hypot(*np.moveaxis(given[:, None] - limbs[:, :, None], -1, 0))
    cost = np.median(np.where(np.isfinite(apart), apart, np.inf), axis=0)  # [12, 17]
    if not np.isfinite(cost).all():
        return None
    nearest = cost.argmin(axis=1).tolist()
    return nearest if len(set(nearest)) == len(nearest) else None


def _lag(pair: Pair, given: np.ndarray, here: float) -> tuple[int, float]:
    """By how many frames the 2D is late against the 3D where it fits best, and its distance there."""
    reach = min(LONGEST_LAG, len(given) // 4)
    if reach == 0:
        return 0, np.inf
    limbs = list(LIMBS)
    middle = reach + sample(len(given) - 2 * reach)
    projected = expected = pair.projected[middle][:, limbs]
    lags, best, value = np.arange(-reach, reach + 1), 0, np.inf
    for _ in range(1 if pair.known_camera else 3):  # the camera that is fitted depends on the lag
        if not pair.known_camera:
            scale, shift = _line(given[middle + best][:, limbs], projected)
            expected = scale * projected + shift
        apart = _apart(given[:, limbs][middle + lags[:, None]], expected)  # [L, S, 12]
        values = np.median(np.where(np.isfinite(apart), apart, np.inf).reshape(len(lags), -1), axis=1)
        best, value = int(lags[values.argmin()]), float(values.min())
    return best, value if best else np.inf


def _scaled(pair: Pair, given: np.ndarray, own: np.ndarray, here: float) -> tuple[str, str, float]:
    """Kind, words and distance for 2D in another scale, mirrored, upside down, with x and y exchanged, or shifted; two empty texts."""
    limbs = list(LIMBS)
    if not pair.known_camera:
        scale, shift = _line(given[:, limbs], own[:, limbs])
        if here > LIMIT or (scale > 0.2 * pair.size[0]).all():
            return "", "", np.inf
        if (scale < 0).any() or (scale < 4).all():
            return *_scale_words(scale, shift - scale / 2, np.ones(2)), here
        return "scale", f"a camera with a focal length of {scale[0]:.0f} and {scale[1]:.0f} pixels, which its picture does not have", here
    if here <= LIMIT:
        return "", "", np.inf
    tried = {}
    for name, order in {"": LIMBS, **ORDERS}.items():
        for exchanged in (False, True):
            joints = given[:, list(order)]
            joints = joints[..., ::-1] if exchanged else joints
            tried[name, exchanged] = _distance(joints, own[:, limbs], True)
    name, exchanged = min(tried, key=tried.get)
    value = tried[name, exchanged]
    if value > min(BETTER * here, LIMIT / 2):
        return "", "", np.inf
    joints = given[:, list(ORDERS[name] if name else LIMBS)]
    kind, words = _scale_words(*_line(joints[..., ::-1] if exchanged else joints, own[:, limbs]), np.asarray(pair.size))
    if name or exchanged:
        kind, words = "scale", ", ".join([name] * bool(name) + ["with x and y exchanged"] * exchanged + [words])
    return kind, words, value


def _scale_words(scale: np.ndarray, shift: np.ndarray, size: np.ndarray) -> tuple[str, str]:
    """Kind and words of 2D = scale * pixels + shift."""
    turned = " and ".join(word for word, factor in zip(("mirrored", "upside down"), scale, strict=True) if factor < 0)
    if (np.abs(scale) * size < 4).all():
        low, high = np.round(shift, 2) + 0.0, np.round(scale * size + shift, 2) + 0.0
        ends = f"x from {low[0]:.2f} to {high[0]:.2f} and y from {low[1]:.2f} to {high[1]:.2f}"
        return "scale", f"as coordinates with {ends} over the picture" + (f" ({turned})" if turned else "")
    if turned:
        return "scale", f"when it is {turned}"
    if (np.abs(scale - 1) < 0.03).all():
        return "shift", f"after a shift by ({-shift[0]:.0f}, {-shift[1]:.0f}) pixels"
    return "scale", f"a picture of {scale[0]:.2f} times the width and {scale[1]:.2f} times the height"


def _distance(given: np.ndarray, expected: np.ndarray, fitted: bool) -> float:
    """Median distance of `[F, J, 2]` from what is expected, in units of the person's size; infinite if there is none."""
    if fitted:
        scale, shift = _line(given, expected)
        expected = scale * expected + shift
    return _median(_apart(given, expected))


def _apart(given: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Distances `[..., F, J]` in units of the person's size in each frame, which is the longer side of what is expected."""
    size = (expected.max(axis=-2) - expected.min(axis=-2)).max(axis=-1)  # [F]
    return np.hypot(*np.moveaxis(given - expected, -1, 0)) / np.maximum(size, 1e-9)[:, None]


def _median(values: np.ndarray) -> float:
    """The median of what is finite; infinite if nothing is."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else np.inf


def _line(given: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale `[2]` and shift `[2]` of each axis with given = scale * expected + shift, outliers left aside."""
    scales, shifts = np.ones(2), np.zeros(2)
    for axis in range(2):
        y, x = given[..., axis].ravel(), expected[..., axis].ravel()
        kept = np.isfinite(y) & np.isfinite(x)
        for _ in range(3):
            if kept.sum() < 3:
                break
            low, high = x[kept].mean(), y[kept].mean()
            variance = np.mean((x[kept] - low) ** 2)
            scales[axis] = np.mean((x[kept] - low) * (y[kept] - high)) / variance if variance > 0 else 1.0
            shifts[axis] = high - scales[axis] * low
            left = np.abs(y - scales[axis] * x - shifts[axis])
            kept = left <= 3 * _median(left) + 1e-9
    return scales, shifts


def _reading_inside(pair: Pair) -> str:
    """Words for another reading of the camera under which most joints lie in the picture, "" if none does."""
    for (kind, words), other in pair.others.items():
        inside = ((other >= 0) & (other <= pair.size)).all(axis=-1)
        if kind == "reading" and inside.mean() > 0.9:
            return words
    return ""


def _share(distance: float) -> str:
    """A distance in units of the person's size, which is nothing where all joints are projected to one edge."""
    return f"{distance:.0%}" if distance < 10 else "more than 1000%"


def _sentence(fits: list[Fit]) -> str:
    """One take's views with one kind of misfit."""
    cameras = f"camera{'s' if len(fits) > 1 else ''} {', '.join(str(fit.camera) for fit in fits)}"
    ends = sorted(fit.pixels for fit in fits)
    pixels = f"{ends[0]:.0f}" if f"{ends[0]:.0f}" == f"{ends[-1]:.0f}" else f"{ends[0]:.0f} to {ends[-1]:.0f}"
    causes = list(dict.fromkeys(fit.cause for fit in fits if fit.cause))
    fitting = f"; it fits {', '.join(causes[:4] if fits[0].kind == 'camera' else causes[:1])}" if causes else ""
    return (
        f"{fits[0].subject} {fits[0].take}, {cameras}: the 2D is {pixels} pixels (median, "
        f"{_share(max(fit.distance for fit in fits))} of the person's size) from the projected 3D{fitting}"
    )


def check_bodies(poses: Iterable[tuple[str, np.ndarray]], place: str) -> None:
    """Checks that thighs, shanks and arms have lengths that people have, left like right.

    Args:
      poses: (subject, `[F, 17, 3]` metres) of every take.
      place: what to call the file.

    Raises:
      UserError: most frames of a subject have no such body, as in another order of joints or another unit.
    """
    bones = [(1, 2), (2, 3), (4, 5), (5, 6), (14, 15), (15, 16), (11, 12), (12, 13)]  # right before left
    lengths: dict[str, list[np.ndarray]] = {}
    for subject, pose in poses:
        frames = pose[sample(len(pose))].astype(np.float64)
        lengths.setdefault(subject, []).append(
            np.stack([np.linalg.norm(frames[:, parent] - frames[:, child], axis=-1) for parent, child in bones], axis=-1)
        )
    for subject, parts in lengths.items():
        middle = np.median(np.concatenate(parts), axis=0)
        right, left = middle[[0, 1, 4, 5]], middle[[2, 3, 6, 7]]
        if (middle < 0.08).any() or (middle > 1.0).any() or (np.maximum(right, left) > 1.6 * np.minimum(right, left)).any():
            words = ", ".join(
                f"{name} {one:.2f} and {other:.2f}"
                for name, one, other in zip(("thighs", "shanks", "upper arms", "forearms"), right, left, strict=True)
            )
            raise UserError(
                f"{place}, subject '{subject}': its limbs have lengths (right and left) that nobody has in metres: {words}; give metres, "
                "and the joints in Human3.6M's order."
            )
