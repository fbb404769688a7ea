"""Reads person records into memory and cuts batches of crops from the photographs.

A batch has one or two views of each person, and each is sampled from the photograph itself.
"""

import concurrent.futures
import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import cast

import numpy as np
from etils import epath

from kdpose_jax.codecs import crops
from kdpose_jax.contracts import Batch
from kdpose_jax.data import images, schema
from kdpose_jax.data.tfrecords import read_records
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import SKELETONS, Skeleton
from kdpose_jax.untrusted.pictures import is_decodable

KIND = schema.PERSONS


@dataclasses.dataclass(frozen=True)
class Persons:
    """The N persons of a split. Images stay encoded.

    Pixels are those of the photograph and count from 0 at the centre of the first one.

    Attributes:
      records: the folder of the data set.
      skeleton: the joints.
      reach: the augmentation that the regions were cut for.
      file: names of the photographs, N.
      image: encoded regions, N arrays of bytes.
      image_id: numbers of the photographs, `[N]` int64.
      person_id: numbers of the persons, `[N]` int64.
      region: x, y, width and height of each stored region, `[N, 4]`, pixels.
      photograph: width and height of each photograph, `[N, 2]`, pixels.
      center: centre of each box, `[N, 2]`, pixels.
      scale: size of each box, `[N, 2]`, units of 200 pixels.
      joints: `[N, J, 2]`, pixels, 0 where a joint is not visible.
      visible: whether each joint is visible, `[N, J]`.
      score: score of each box, `[N]`.
      area: area of each segment, `[N]`, square pixels, 0 for none.
      head_size: `[N]`, pixels, 0 for none.
      unseen: number of annotated persons without a record, as their box is outside the photograph.
      unseen_joints: how many of these persons have each joint labelled, `[J]`.
    """

    records: str
    skeleton: Skeleton
    reach: crops.Reach
    file: tuple[str, ...]
    image: tuple[np.ndarray, ...]
    image_id: np.ndarray
    person_id: np.ndarray
    region: np.ndarray
    photograph: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    joints: np.ndarray
    visible: np.ndarray
    score: np.ndarray
    area: np.ndarray
    head_size: np.ndarray
    unseen: int
    unseen_joints: np.ndarray

    def __len__(self) -> int:
        return len(self.file)


def read(records: epath.PathLike, *splits: str) -> Persons:
    """Reads a split of a data set of person records into memory, or several as one.

    Args:
      records: folder that `data_prep.convert` wrote.
      *splits: some of `schema.SPLITS`, or `schema.DETECTIONS_SPLIT`.

    Returns:
      The persons in the order of the splits. Their reach is what all of these were cut for.

    Raises:
      UserError: there is no such data set or split, its schema has another version, or a shard or
        an image is damaged (the message names the record).
    """
    metadata = schema.read_metadata(str(records), schema.PERSONS)
    schema.require_splits(records, metadata, splits)
    persons = []
    for split in splits:
        own = list(read_records(records, split, metadata))
        for number, record in enumerate(own):
            if not is_decodable(record["image"], tuple(record["region"][2:])):
                raise UserError(_damaged_image(records, number, record["file"]))
        if not own:
            raise UserError(
                f"Split '{split}' of '{records}' holds no records: convert it again with persons "
                "in it."
            )
        persons += own
    reaches = [metadata["settings"]["reach"][split] for split in splits]
    unseen = [metadata["unseen"][split] for split in splits]
    not_stacked = ("records", "skeleton", "reach", "file", "image", "unseen", "unseen_joints")
    stacked = {
        field.name: np.stack([np.asarray(record[field.name]) for record in persons])
        for field in dataclasses.fields(Persons)
        if field.name not in not_stacked
    }
    for name in ("score", "area", "head_size"):
        stacked[name] = stacked[name].astype(np.float32)
    return Persons(
        records=str(records),
        skeleton=SKELETONS[metadata["skeleton"]],
        reach=crops.Reach(*(min(reach[name] for reach in reaches) for name in crops.Reach._fields)),
        file=tuple(record["file"] for record in persons),
        image=tuple(record["image"] for record in persons),
        unseen=sum(one["persons"] for one in unseen),
        unseen_joints=np.sum([one["joints"] for one in unseen], axis=0),
        **stacked,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class PersonSource:
    """Crops of persons as a source of examples.

    Attributes:
      persons: the persons.
      views: name of a batch entry -> side of its crops, pixels; joints are in pixels of "image".
      augmentation: how crops are moved at random; None for crops as annotated.
    """

    persons: Persons
    views: Mapping[str, int]
    augmentation: images.Augmentation | None

    def __len__(self) -> int:
        return len(self.persons)

    @property
    def unit(self) -> tuple[str, int]:
        """An example is one person."""
        return "persons", 1

    @functools.cached_property
    def _threads(self) -> concurrent.futures.ThreadPoolExecutor:
        return concurrent.futures.ThreadPoolExecutor(
            os.cpu_count() or 1, thread_name_prefix="crops"
        )

    def gather(self, examples: np.ndarray, passes: np.ndarray | None = None) -> Batch:
        """Cuts the crops of some persons; all views of a person share one draw of the augmentation.

        Args:
          examples: numbers of the persons, `[B]`.
          passes: number of the pass over the data that each example is read in, `[B]`, which seeds
            its augmentation; None for no augmentation.

        Returns:
          Each view, `[B, S, S, 3]` uint8 RGB. "joints", `[B, J, 2]` float32, pixels of "image",
          (0, 0) where not visible. "joint_weight", `[B, J]` float32, 1 where visible, even outside
          the crop.

        Raises:
          UserError: an image is damaged (the message names the record).
        """
        examples = np.asarray(examples)
        views, persons = self._draw(examples, passes), self.persons
        width = persons.photograph[examples, 0]
        sampled = {
            name: images.sampling_affines(views, width, persons.region[examples, :2], size)
            for name, size in self.views.items()
        }
        pictures = {
            name: np.empty((len(examples), size, size, 3), np.uint8)
            for name, size in self.views.items()
        }

        def fill(row: int) -> None:
            picture = self._decode(int(examples[row]))
            for name, size in self.views.items():
                pictures[name][row] = images.warp(picture, sampled[name][row], size)

        for _ in self._threads.map(fill, range(len(examples))):  # raises a thread's exception
            pass
        joints, weight = images.joints_in_crops(
            views,
            persons.joints[examples],
            persons.visible[examples],
            persons.skeleton.flip_permutation,
            width,
            self.views["image"],
        )
        return cast(Batch, {**pictures, "joints": joints, "joint_weight": weight})

    def _draw(self, examples: np.ndarray, passes: np.ndarray | None) -> images.Views:
        persons = self.persons
        center, scale = persons.center[examples], persons.scale[examples]
        if self.augmentation is None or passes is None:
            none = np.zeros(len(examples))
            return images.Views(center.astype(np.float64), scale.astype(np.float64), none, none > 0)
        joints, visible = persons.joints[examples], persons.visible[examples]
        return images.draw(
            self.augmentation,
            passes,
            examples,
            center,
            scale,
            joints,
            visible,
            persons.skeleton.upper_body,
        )

    def _decode(self, example: int) -> np.ndarray:
        persons = self.persons
        picture = images.decode(persons.image[example])
        width, height = persons.region[example, 2:]
        if picture is None or picture.shape != (height, width, 3):
            raise UserError(_damaged_image(persons.records, example, persons.file[example]))
        return picture


def _damaged_image(records: epath.PathLike, number: int, file: str) -> str:
    return (
        f"'{records}', person {number} ('{file}'): its image is damaged; convert the data set "
        "again into a new folder."
    )


def open_training(
    persons: Persons,
    *,
    views: Mapping[str, int],
    seed: int,
    scale_factor: float,
    rotation_factor: float,
    flip: bool,
    half_body_probability: float,
) -> PersonSource:
    """Opens the training crops of a split.

    `images.Augmentation` explains the last four arguments.

    Args:
      persons: the split.
      views: name -> side of the crops, pixels.
      seed: the run's seed.
      scale_factor: from 0 (off) to below 1.
      rotation_factor: degrees, from 0 (off) to 180.
      flip: whether half of the crops are mirrored.
      half_body_probability: from 0 (off) to 1.

    Returns:
      The source.

    Raises:
      UserError: a setting is out of range, or a crop could leave the regions in the records.
    """
    if not 0 <= scale_factor < 1:
        raise UserError(f"data.training.scale_factor is {scale_factor}: use 0 (off) to below 1.")
    if not 0 <= rotation_factor <= 180:
        raise UserError(
            f"data.training.rotation_factor is {rotation_factor}: use 0 (off) to 180 degrees."
        )
    if not 0 <= half_body_probability <= 1:
        raise UserError(
            f"data.training.half_body_probability is {half_body_probability}: use 0 (off) to 1."
        )
    if half_body_probability and not persons.skeleton.upper_body:
        raise UserError(
            f"data.training.half_body_probability is {half_body_probability} and skeleton "
            f"{persons.skeleton.name} has no upper body: use 0."
        )
    augmentation = images.Augmentation(
        seed, scale_factor, rotation_factor, flip, half_body_probability
    )
    if not persons.reach.covers(augmentation.reach):
        raise UserError(
            f"data.training ({_describe(augmentation.reach)}) reaches beyond what "
            f"'{persons.records}' was cut for ({_describe(persons.reach)}): lower it, or convert "
            "the data set again with --scale-factor, --rotation-factor and --half-body."
        )
    return _open(persons, views, augmentation)


def open_evaluation(persons: Persons, *, views: Mapping[str, int]) -> PersonSource:
    """Opens the crops of a split, cut along its boxes without augmentation."""
    return _open(persons, views, None)


def _open(
    persons: Persons, views: Mapping[str, int], augmentation: images.Augmentation | None
) -> PersonSource:
    if "image" not in views:
        raise ValueError(f"views {sorted(views)} lack 'image', in whose pixels joints are given")
    for name, size in views.items():
        if size < 1:
            raise UserError(f"The side of '{name}' is {size} pixels: use a positive number.")
    return PersonSource(persons, dict(views), augmentation)


def _describe(reach: crops.Reach) -> str:
    half = "with" if reach.half_body else "without"
    factors = f"scale_factor {reach.scale_factor:g}, rotation_factor {reach.rotation_factor:g}"
    return f"{factors}, {half} half bodies"
