"""Checks whether each view's 2D belongs to its 3D, in units of the person's size.

A certain fault in most of a subject's views ends the conversion. Everything else becomes one list
in the notes. A shift alone is never refused: Human3.6M's own 3D is shifted in some takes of S9,
which everybody uses as they are.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from data_prep import misfits
from data_prep.misfits import LIMBS, LIMIT, Pair, sample
from kdpose_jax.errors import UserError

CERTAIN = (
    0.5  # share of a subject's views, or of a camera's joints, beyond which the conversion ends
)
WORTH_A_NOTE = 0.01  # share of a camera's joints
LISTED = 10  # takes that are listed; the rest is counted
FARTHEST = 1e6  # stands for distances that are NaN
MARKS = (0.0, -1.0)  # x and y that detectors write for a joint that they did not find
REMEDIES = {
    "order": "bring the joints of the 2D into Human3.6M's order",
    "camera": "bring the cameras into the order of the 2D's views",
    "reading": "correct the camera table",
    "scale": "give the 2D in pixels of the pictures that the cameras' widths and heights describe",
}


@dataclasses.dataclass(frozen=True)
class Fit:
    """Says how well a view fits.

    `distance` is in units of the person's size, and `pixels` in pixels. `kind` and `cause` describe
    a misfit ("" if unknown).
    """

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


class Findings:
    """Collects the views of a data set, and says what is odd about them."""

    def __init__(self, keypoints: str, cameras: str):
        """Takes the names of the 2D file and the camera file, for messages.

        `cameras` is "" if there is no camera file.
        """
        self.keypoints, self.cameras = keypoints, cameras
        self.fits: list[Fit] = []
        self._shares: dict[tuple[str, int], np.ndarray] = {}  # joints, behind, clipped, outside
        # Camera readings under which the joints lie in the picture.
        self._inside: dict[tuple[str, int], str] = {}
        self._marks: dict[str, tuple[int, int]] = {}  # number of marks and of joints in a view

    def add(self, pair: Pair) -> None:
        """Measures a view."""
        shown = pair.projected if pair.given is None else pair.given
        missing = np.zeros(shown.shape[:2], bool) if pair.given is None else marks(pair.given)
        with np.errstate(all="ignore"):
            outside = ~((shown >= 0) & (shown <= pair.size)).all(axis=-1) & ~missing
        counts = np.asarray(
            [outside.size, (pair.depth <= 0).sum(), pair.clipped.sum(), outside.sum()]
        )
        key = (pair.subject, pair.camera)
        self._shares[key] = counts + (self._shares[key] if key in self._shares else 0)
        if missing.any():
            self._marks[f"{pair.subject} {pair.take} camera {pair.camera}"] = (
                int(missing.sum()),
                missing.size,
            )
        with np.errstate(all="ignore"):
            if pair.given is not None and not missing.all():
                self.fits.append(_measure(pair, missing))
            elif counts[[1, 3]].max() > CERTAIN * counts[0] and key not in self._inside:
                self._inside[key] = _reading_inside(pair)

    @property
    def typical(self) -> float:
        """Returns the median distance over all views, in units of a person's size."""
        return float(np.median([fit.distance for fit in self.fits])) if self.fits else 0.0

    def refuse(self) -> None:
        """Raises UserError if the 2D is certainly wrong.

        Either most of a subject's views have the same certain fault, or most joints lie where no
        camera sees them.
        """
        for subject in dict.fromkeys(fit.subject for fit in self.fits):
            own = [fit for fit in self.fits if fit.subject == subject]
            for kind, remedy in REMEDIES.items():
                wrong = [fit for fit in own if fit.kind == kind]
                if len(wrong) > CERTAIN * len(own):
                    named = kind in ("camera", "reading") and self.cameras
                    where = f" in {self.cameras}" if named else ""
                    raise UserError(
                        f"{self.keypoints}: the 2D of {len(wrong)} of the {len(own)} views of "
                        f"subject '{subject}' does not fit their 3D; that of take "
                        f"'{wrong[0].take}', camera {wrong[0].camera} is "
                        f"{_share(wrong[0].distance)} of the person's size from the projection "
                        f"({wrong[0].pixels:.0f} pixels) and fits {wrong[0].cause}: "
                        f"{remedy}{where}."
                    )
        for (subject, camera), (joints, behind, _, outside) in self._shares.items():
            if self.cameras and max(behind, outside) > CERTAIN * joints:
                better = self._inside[subject, camera] if (subject, camera) in self._inside else ""
                raise UserError(
                    f"Subject '{subject}', camera {camera} of {self.cameras}: "
                    f"{behind / joints:.0%} of the joints lie behind the camera and "
                    f"{outside / joints:.0%} outside its picture"
                    + (
                        f"; they lie inside with {better}."
                        if better
                        else ": are R and T world to camera? Then write t for T."
                    )
                )

    def notes(self) -> list[str]:
        """Lists what is odd, the worst first."""
        takes: dict[tuple[str, str, str], list[Fit]] = {}
        for fit in self.fits:
            if fit.odd:
                takes.setdefault((fit.subject, fit.take, fit.kind), []).append(fit)
        worst = sorted(takes.values(), key=lambda fits: -max(fit.distance for fit in fits))
        lines = listed([_sentence(fits) for fits in worst], "takes whose 2D does not fit their 3D")
        shares = []
        for (subject, camera), (joints, behind, clipped, outside) in self._shares.items():
            parts = [f"{behind:,} lie behind the camera"] if behind else []
            parts += (
                [f"{clipped:,} are projected to the edge of what a camera sees (45 degrees)"]
                if clipped
                else []
            )
            parts += (
                [f"{outside:,} lie outside the picture"] if outside > WORTH_A_NOTE * joints else []
            )
            if parts:
                shares.append(f"{subject} camera {camera}: of {joints:,} joints {', '.join(parts)}")
        lines += listed(shares, "cameras with such joints")
        if self._marks:
            places = ", ".join(
                f"{place}: {count:,} of {size:,}"
                for place, (count, size) in list(self._marks.items())[:LISTED]
            )
            rest = (
                f" and {len(self._marks) - LISTED} more views" if len(self._marks) > LISTED else ""
            )
            lines.append(
                f"{sum(count for count, _ in self._marks.values()):,} joints of the 2D have one "
                "and the same value, like (0, 0) or (-1, -1), which marks what a detector did not "
                f"find; they are kept as they are ({places}{rest})"
            )
        return lines


def listed(lines: list[str], what: str) -> list[str]:
    """Returns the first lines, and a count of the rest."""
    return (
        lines
        if len(lines) <= LISTED
        else [*lines[:LISTED], f"and {len(lines) - LISTED} more {what}"]
    )


def marks(given: np.ndarray) -> np.ndarray:
    """Tells which joints `[F, 17]` in a view are marks for a missing joint.

    A mark is 0, -1, or one value that several joints in several frames share.
    """
    x, y = given[..., 0], given[..., 1]
    found = np.zeros(x.shape, bool)
    for mark in MARKS:
        found |= (x == mark) & (y == mark)
    frames = sample(len(given))
    pairs = (
        np.ascontiguousarray(given[frames], np.float32).reshape(-1, 2).view(np.complex64)[:, 0]
    )  # sorts x and y as one value
    values, where, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    most = counts.argmax()
    joints = np.flatnonzero(where == most) % x.shape[1]
    if counts[most] > max(3, 0.02 * pairs.size) and len(np.unique(joints)) >= 3:
        found |= (x == values[most].real) & (y == values[most].imag)
    return found


def _measure(pair: Pair, missing: np.ndarray) -> Fit:
    """Measures how far the 2D is from its projection, and what else it fits."""
    given = np.where(missing[..., None], np.nan, pair.given.astype(np.float64))
    expected = pair.projected
    if not pair.known_camera:
        scale, shift = misfits.line_of(given, expected)
        expected = scale * expected + shift
    distance, pixels = (
        misfits.median(misfits.apart_of(given, expected)),
        misfits.median(np.hypot(*np.moveaxis(given - expected, -1, 0))),
    )
    frames = sample(len(given))
    limbs = list(LIMBS)
    here = misfits.distance(
        given[frames][:, limbs], pair.projected[frames][:, limbs], not pair.known_camera
    )
    kind, cause = (
        misfits.cause_of(pair, given, frames, here)
        if here > misfits.MARGIN or not pair.known_camera
        else ("", "")
    )
    return Fit(
        pair.subject,
        pair.take,
        pair.camera,
        min(distance, FARTHEST),
        min(pixels, FARTHEST),
        kind,
        cause,
    )


def _reading_inside(pair: Pair) -> str:
    """Names the camera reading under which most joints lie in the picture; "" for none."""
    for (kind, words), other in pair.others.items():
        inside = ((other >= 0) & (other <= pair.size)).all(axis=-1)
        if kind == "reading" and inside.mean() > 0.9:
            return words
    return ""


def _share(distance: float) -> str:
    """Writes a distance in units of the person's size.

    That size is zero if all joints are projected to one edge.
    """
    return f"{distance:.0%}" if distance < 10 else "more than 1000%"


def _sentence(fits: list[Fit]) -> str:
    """Writes a sentence about one take's views with one kind of misfit."""
    cameras = f"camera{'s' if len(fits) > 1 else ''} {', '.join(str(fit.camera) for fit in fits)}"
    ends = sorted(fit.pixels for fit in fits)
    pixels = (
        f"{ends[0]:.0f}"
        if f"{ends[0]:.0f}" == f"{ends[-1]:.0f}"
        else f"{ends[0]:.0f} to {ends[-1]:.0f}"
    )
    causes = list(dict.fromkeys(fit.cause for fit in fits if fit.cause))
    fitting = (
        f"; it fits {', '.join(causes[:4] if fits[0].kind == 'camera' else causes[:1])}"
        if causes
        else ""
    )
    return (
        f"{fits[0].subject} {fits[0].take}, {cameras}: the 2D is {pixels} pixels (median, "
        f"{_share(max(fit.distance for fit in fits))} of the person's size) from the projected "
        f"3D{fitting}"
    )


def check_bodies(poses: Iterable[tuple[str, np.ndarray]], place: str) -> None:
    """Checks that thighs, shanks and arms have human lengths, left like right.

    Args:
      poses: (subject, `[F, 17, 3]` metres) for every take.
      place: names the file in messages.

    Raises:
      UserError: most of a subject's frames have no such body, which another order of joints or
        another unit would explain.
    """
    bones = [
        (1, 2),
        (2, 3),
        (4, 5),
        (5, 6),
        (14, 15),
        (15, 16),
        (11, 12),
        (12, 13),
    ]  # right before left
    lengths: dict[str, list[np.ndarray]] = {}
    for subject, pose in poses:
        frames = pose[sample(len(pose))].astype(np.float64)
        lengths.setdefault(subject, []).append(
            np.stack(
                [
                    np.linalg.norm(frames[:, parent] - frames[:, child], axis=-1)
                    for parent, child in bones
                ],
                axis=-1,
            )
        )
    for subject, parts in lengths.items():
        middle = np.median(np.concatenate(parts), axis=0)
        right, left = middle[[0, 1, 4, 5]], middle[[2, 3, 6, 7]]
        if (
            (middle < 0.08).any()
            or (middle > 1.0).any()
            or (np.maximum(right, left) > 1.6 * np.minimum(right, left)).any()
        ):
            words = ", ".join(
                f"{name} {one:.2f} and {other:.2f}"
                for name, one, other in zip(
                    ("thighs", "shanks", "upper arms", "forearms"), right, left, strict=True
                )
            )
            raise UserError(
                f"{place}, subject '{subject}': its limbs have lengths (right and left) that "
                f"nobody has in metres: {words}; give metres, and the joints in Human3.6M's order."
            )
