"""Reads sequence records into memory and cuts windows from the motion."""

import dataclasses

import numpy as np
from etils import epath

from kdpose_jax.codecs import poses
from kdpose_jax.contracts import Batch
from kdpose_jax.data import schema
from kdpose_jax.data.tfrecords import read_records
from kdpose_jax.data.windows import (
    Windows,
    centred_starts,
    evaluation_counts,
    evaluation_starts,
    take_rows,
)
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import SKELETONS, Skeleton

KIND = schema.SEQUENCES


@dataclasses.dataclass(frozen=True)
class Motion:
    """S sequences end to end in flat arrays; one sequence is one camera's view of one take.

    Attributes:
      skeleton: the joints.
      names: "subject/take/camera" of each sequence, S.
      actions: the action of each sequence, over which scores are averaged, S.
      frames: length of each sequence, `[S]`.
      offset: where each sequence begins in the flat arrays, `[S]`.
      keypoints_2d: `[N, J, 2]` float32, screen units.
      pose_3d: `[N, J, 3]` float32, metres, camera coordinates relative to the root, which is zero.
      frame_mask: whether each frame counts in evaluation, `[N]`.
      teacher_pose_3d: what the teachers predict in each frame, as `pose_3d`; None if no teacher was
        asked.
    """

    skeleton: Skeleton
    names: tuple[str, ...]
    actions: tuple[str, ...]
    frames: np.ndarray
    offset: np.ndarray
    keypoints_2d: np.ndarray
    pose_3d: np.ndarray
    frame_mask: np.ndarray
    teacher_pose_3d: np.ndarray | None = None

    def with_flips(self) -> "Motion":
        """Adds a mirrored copy of every sequence; the copies follow all the plain sequences."""
        flip, taught = self.skeleton.flip_permutation, self.teacher_pose_3d
        if taught is not None:
            taught = np.concatenate([taught, poses.flip(taught, flip)])
        return dataclasses.replace(
            self,
            names=self.names + tuple(f"{name} flipped" for name in self.names),
            actions=self.actions * 2,
            frames=np.tile(self.frames, 2),
            offset=np.concatenate([self.offset, self.offset + len(self.frame_mask)]),
            keypoints_2d=np.concatenate([self.keypoints_2d, poses.flip(self.keypoints_2d, flip)]),
            pose_3d=np.concatenate([self.pose_3d, poses.flip(self.pose_3d, flip)]),
            frame_mask=np.tile(self.frame_mask, 2),
            teacher_pose_3d=taught,
        )


def read(records: epath.PathLike, *splits: str) -> Motion:
    """Reads a split of a data set of sequence records into memory, or several as one.

    Args:
      records: folder that `data_prep.convert` wrote.
      *splits: some of `schema.SPLITS`.

    Returns:
      The sequences in the order of the splits, 2D in screen units and 3D relative to the root.

    Raises:
      UserError: there is no such data set or split, its schema has another version, or a shard is
        damaged (the message names the record).
    """
    metadata = schema.read_metadata(records, schema.SEQUENCES)
    schema.require_splits(records, metadata, splits)
    skeleton = SKELETONS[metadata["skeleton"]]
    sequences = []
    for split in splits:
        own = list(read_records(records, split, metadata))
        for number, record in enumerate(own):
            lengths = {len(record[name]) for name in ("frame_mask", "keypoints_2d", "pose_3d")}
            if len(lengths) > 1 or min(record["width"], record["height"]) < 1:
                raise UserError(
                    f"'{records}', split '{split}', record {number}, contradicts itself: convert "
                    "the data set again."
                )
        if not own:
            raise UserError(
                f"Split '{split}' of '{records}' holds no records: convert it again with subjects "
                "in it."
            )
        sequences += own
    frames = np.array([len(record["frame_mask"]) for record in sequences])
    return Motion(
        skeleton=skeleton,
        names=tuple(
            f"{record['subject']}/{record['take']}/{record['camera']}" for record in sequences
        ),
        actions=tuple(record["action"] for record in sequences),
        frames=frames,
        offset=np.concatenate([[0], np.cumsum(frames)[:-1]]),
        keypoints_2d=np.concatenate(
            [poses.normalize_screen(r["keypoints_2d"], r["width"], r["height"]) for r in sequences]
        ),
        pose_3d=np.concatenate(
            [poses.root_relative(r["pose_3d"], skeleton.root) for r in sequences]
        ),
        frame_mask=np.concatenate([record["frame_mask"] for record in sequences]),
    )


@dataclasses.dataclass(frozen=True)
class WindowSource:
    """Windows over motion as a source of examples.

    A batch has `keypoints_2d` `[B, before + F + after, J, 2]` and `pose_3d` `[B, F, J, 3]`, and
    `teacher_pose_3d` `[B, F, J, 3]` if the motion has it.

    Attributes:
      motion: the sequences.
      windows: the frames that are predicted.
      context: (before, after), the number of frames before and after a window that are also read;
        the first and last frame of a sequence are repeated where it has no more.
    """

    motion: Motion
    windows: Windows
    context: tuple[int, int]

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def unit(self) -> tuple[str, int]:
        """An example is a window of F frames to predict."""
        return "frames", self.windows.length

    def gather(self, examples: np.ndarray, passes: np.ndarray | None = None) -> Batch:
        """Cuts the windows with these numbers, `[B]`; nothing about them is random."""
        before, after = self.context
        rows = self.windows.rows(examples, before, after)
        predicted = rows[:, before : before + self.windows.length]
        batch: Batch = {
            "keypoints_2d": take_rows(self.motion.keypoints_2d, rows),
            "pose_3d": take_rows(self.motion.pose_3d, predicted),
        }
        if self.motion.teacher_pose_3d is not None:
            batch["teacher_pose_3d"] = take_rows(self.motion.teacher_pose_3d, predicted)
        return batch


def windows_of(motion: Motion, starts: list[np.ndarray], length: int) -> Windows:
    """Makes windows from their starts in each sequence s, `starts[s]` `[W_s]`."""
    counts = [len(start) for start in starts]
    return Windows(
        offset=np.repeat(motion.offset, counts),
        frames=np.repeat(motion.frames, counts),
        start=np.concatenate(starts),
        length=length,
    )


def open_training(
    motion: Motion, *, frames: int, context: tuple[int, int], seed: int, stride: int, flip: bool
) -> WindowSource:
    """Opens the training windows of a data set; nothing about them is random.

    Args:
      motion: the training split.
      frames: number F of frames that a window predicts.
      context: number of frames that are read before and after a window.
      seed: not used; every reader gets the run's seed.
      stride: frames between the starts of two windows; 0 stands for `frames`, MixSTE's windows end
        to end.
      flip: whether a mirrored copy of every window is a further example.

    Returns:
      The source.

    Raises:
      UserError: `frames` or `stride` is out of range.
    """
    if frames < 1 or stride < 0:
        raise UserError(
            f"data.frames is {frames} and data.training.stride {stride}: use at least 1 and 0."
        )
    motion = motion.with_flips() if flip else motion
    starts = [centred_starts(int(count), frames, stride or frames) for count in motion.frames]
    return WindowSource(motion, windows_of(motion, starts, frames), context)


def open_whole(motion: Motion, *, frames: int, context: tuple[int, int]) -> WindowSource:
    """Opens windows that cover every frame of every sequence, end to end.

    Arguments are as in `open_training`.
    """
    starts = [evaluation_starts(int(count), frames) for count in motion.frames]
    return WindowSource(motion, windows_of(motion, starts, frames), context)


def each_frame_once(source: WindowSource, predicted: np.ndarray) -> np.ndarray:
    """Puts predictions on windows into the order of the motion's frames.

    Args:
      source: the windows of `open_whole`.
      predicted: `[W, F, ...]`, what a network predicts in each window.

    Returns:
      `[N, ...]`. Of the frames that two windows have, the first window's prediction is taken.
    """
    length = source.windows.length
    once = [evaluation_counts(int(count), length, "exact") for count in source.motion.frames]
    return predicted[np.concatenate(once)]
