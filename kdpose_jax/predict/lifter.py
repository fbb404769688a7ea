"""A network that lifts 2D keypoints of any length to 3D poses: numpy in, numpy out."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from kdpose_jax.codecs import poses
from kdpose_jax.data.windows import Windows, evaluation_starts
from kdpose_jax.errors import UserError
from kdpose_jax.predict import batching, blending, keypoints_input
from kdpose_jax.predict.blending import Blend
from kdpose_jax.predict.description import Description
from kdpose_jax.predict.network import DescribedNetwork

FRAMES_AT_ONCE = 4096  # in one call of the network, which bounds its memory
ENDLESS = 2**62  # the length of a video whose end has not been seen


class Lifter(DescribedNetwork):
    """Lifts 2D keypoints to 3D poses.

    Videos are cut as in evaluation. Windows lie end to end, the last one ends with the video, and a
    frame that two windows have is taken from the first. A shorter video repeats its last frame.
    """

    units = "metres"

    def __init__(
        self,
        description: Description,
        compute: Callable[[np.ndarray], np.ndarray],
        notes: tuple[str, ...] = (),
    ):
        """Makes a lifter.

        Args:
          description: what the network reads and returns.
          compute: windows `[W, N, J, 2]` in screen units -> poses `[W, F, J, 3]`.
          notes: sentences for `notes`.
        """
        super().__init__(description, notes)
        self._compute = compute
        # Networks that predict a few frames of a window soon leave most of it behind.
        frames = max(description.predicted, description.window // 4)
        self._largest = max(1, FRAMES_AT_ONCE // frames)

    def __call__(
        self, keypoints_2d: Any, *, size: tuple[int, int] | None = None, flip: bool = False
    ) -> np.ndarray:
        """Lifts all frames of one video, or of several videos of one length.

        Args:
          keypoints_2d: `[T, J, 2]` or `[B, T, J, 2]` of any length T, with the joints in the order
            of `joints`; or a mapping of each joint's name to `[T, 2]` or `[B, T, 2]`. Pixels if
            `size` is given, else screen units (x from -1 to 1, y on the same scale).
          size: width and height of the video, pixels.
          flip: whether to average with the prediction for the mirrored person, which takes twice
            the time. Scores in the literature are made so.

        Returns:
          `[T, J, 3]` or `[B, T, J, 3]` float32, metres, relative to the root joint, in the camera's
          axes: x right, y down, z away from the camera.

        Raises:
          UserError: the keypoints are of another shape or unit, or are not finite.
        """
        points = keypoints_input.prepare(keypoints_2d, size, self.skeleton, self.description.name)
        videos = points if points.ndim == 4 else points[None]
        count, frames = videos.shape[:2]
        starts = evaluation_starts(frames, self.description.predicted)
        windows = Windows(
            offset=np.repeat(np.arange(count) * frames, len(starts)),
            frames=np.full(count * len(starts), frames),
            start=np.tile(starts, count),
            length=self.description.predicted,
        )
        lifted = np.empty((count, frames, *points.shape[-2:-1], 3), np.float32)
        flat = videos.reshape(-1, *videos.shape[2:])
        for first, predicted in self._predictions(flat, windows, flip):
            for number, pose in enumerate(predicted, first):
                video, window = divmod(number, len(starts))
                own, end = self._own_frames(window, frames)
                start = starts[window]
                lifted[video, own:end] = pose[own - start : end - start]
        return lifted if points.ndim == 4 else lifted[0]

    def blocks(
        self,
        pieces: Iterable[Any],
        *,
        size: tuple[int, int] | None = None,
        flip: bool = False,
        overlap: bool = False,
    ) -> Iterator[np.ndarray]:
        """Lifts a long video piece by piece, in bounded memory.

        Args:
          pieces: the video's keypoints in order, cut anywhere: arrays `[t, J, 2]` or mappings, as
            in a call.
          size: as in a call.
          flip: as in a call.
          overlap: whether windows overlap by half and are averaged, which takes twice the time.
            Otherwise they lie end to end, and poses jump where windows meet.

        Yields:
          Poses `[t, J, 3]` as soon as they are known. Together they are the poses of the whole
          video. Without overlap they are those that a call returns. They come later than their
          keypoints by one window.

        Raises:
          UserError: as in a call; or there is no frame.
        """
        about = self.description
        length, hop = about.predicted, about.predicted
        blend = None
        if overlap and length > 1:
            hop = blending.hop(length, about.keyframe_stride)
            blend = Blend(length, self.skeleton.num_joints)
        kept = np.empty((0, self.skeleton.num_joints, 2), np.float32)
        first = total = window = 0  # number of the first kept frame, of all frames, of windows done
        for piece in pieces:
            points = keypoints_input.prepare(piece, size, self.skeleton, about.name)
            if points.ndim != 3:
                raise UserError(
                    f"A piece of keypoints has shape {points.shape}: give pieces of one video, "
                    f"[frames, {self.skeleton.num_joints}, 2]."
                )
            kept, total = np.concatenate([kept, points]), total + len(points)
            ready = max(window, (total - about.after - length) // hop + 1)
            starts = np.arange(window, ready) * hop
            yield from self._stretch(kept, first, starts, ENDLESS, flip, blend)
            window = ready
            # The last window, which ends with the video, begins behind the one before.
            needed = max(first, (window - 1) * hop - about.before)
            kept, first = kept[needed - first :], needed
        if total == 0:
            raise UserError("There are no keypoints: give at least one frame.")
        if blend is not None:
            starts = blending.overlapping_starts(total, length, about.keyframe_stride)
            yield from self._stretch(kept, first, starts[window:], total, flip, blend)
            yield blend.take(total)
            return
        starts = evaluation_starts(total, length)
        for predicted in self._stretch(kept, first, starts[window:], total, flip, None):
            rest = []
            for pose in predicted.reshape(-1, length, *predicted.shape[1:]):
                own, end = self._own_frames(window, total)
                rest.append(pose[own - starts[window] : end - starts[window]])
                window += 1
            yield np.concatenate(rest)

    def _stretch(
        self,
        kept: np.ndarray,
        first: int,
        starts: np.ndarray,
        frames: int,
        flip: bool,
        blend: Blend | None,
    ) -> Iterator[np.ndarray]:
        """Yields whole windows that begin at `starts`, end to end, or what of `blend` is final."""
        windows = Windows(
            offset=np.full(len(starts), -first),
            frames=np.full(len(starts), frames),
            start=starts,
            length=self.description.predicted,
        )
        for number, predicted in self._predictions(kept, windows, flip):
            if blend is None:
                yield predicted.reshape(-1, *predicted.shape[2:])
                continue
            begins = starts[number : number + len(predicted)].tolist()
            for start, pose in zip(begins, predicted, strict=True):
                blend.add(start, pose)
            if len(final := blend.take(begins[-1])):
                yield final

    def _own_frames(self, window: int, frames: int) -> tuple[int, int]:
        """Says which frames of a video are taken from a window: (first, end)."""
        length = self.description.predicted
        return window * length, min((window + 1) * length, frames)

    def _predictions(
        self, points: np.ndarray, windows: Windows, flip: bool
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yields the predictions of some windows at a time, with the first one's number."""
        about = self.description
        for first, count, size in batching.groups(len(windows), self._largest):
            rows = windows.rows(np.arange(first, first + count), about.before, about.after)
            yield first, self._predict(batching.padded(points[rows], size), flip)[:count]

    def _predict(self, windows: np.ndarray, flip: bool) -> np.ndarray:
        """Lifts a batch of windows, `[W, N, J, 2]` -> `[W, F, J, 3]`."""
        plain = self._compute(windows)
        if not flip:
            return plain
        order = self.skeleton.flip_permutation
        mirrored = self._compute(np.asarray(poses.flip(windows, order)))
        return (plain + np.asarray(poses.flip(mirrored, order))) / 2
