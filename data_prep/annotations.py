"""Has the shared parts of the converters for annotated photographs.

They read JSON, check the options, and turn persons into records.
"""

import argparse
import dataclasses
import os
import re
from typing import Any

import numpy as np

from data_prep import photographs, records
from data_prep.photographs import Photograph, Region
from kdpose_jax.codecs import crops
from kdpose_jax.codecs.crops import Reach
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import Skeleton
from kdpose_jax.untrusted.documents import load_json


@dataclasses.dataclass(frozen=True, eq=False)
class Person:
    """Describes an annotated or detected person.

    Pixels count from 0. The fields are those of `schema.person_features`.
    """

    file: str
    image_id: int
    person_id: int
    center: np.ndarray
    scale: np.ndarray
    joints: np.ndarray
    visible: np.ndarray
    score: float
    area: float
    head_size: float


@dataclasses.dataclass(frozen=True, eq=False)
class Item:
    """Holds a person, and where its pixels are."""

    person: Person
    photograph: Photograph
    region: Region
    encoding: str


@dataclasses.dataclass(frozen=True)
class Options:
    """Holds the options of a conversion.

    They say how persons are cut out of training photographs, which photographs are used and how,
    and the splits.
    """

    reach: Reach
    encoding: str
    splits: tuple[str, ...]
    generated: bool
    orientation: str | None
    skip_missing: bool

    def reach_of(self, split: str) -> Reach:
        """Returns a split's reach; only training moves the boxes."""
        return self.reach if split == "train" else crops.NO_REACH

    def settings(self, splits: list[str]) -> dict[str, Any]:
        """Returns the options for the metadata, where the reader looks up the reach."""
        reach = {split: self.reach_of(split)._asdict() for split in splits}
        # These are named only if they are requested, so the settings of older records stay
        # the same.
        asked = {"orientation": self.orientation} if self.orientation else {}
        asked |= {"skip_missing": True} if self.skip_missing else {}
        return {"encoding": self.encoding, "generated": self.generated, "reach": reach} | asked


def check_options(
    source: str,
    scale_factor: float,
    rotation_factor: float,
    half_body: bool,
    encoding: str,
    splits: tuple[str, ...],
    generated: bool,
    orientation: str | None,
    skip_missing: bool,
) -> Options:
    """Checks the options.

    Args:
      source: folder with the raw files.
      scale_factor: the most that training enlarges or shrinks a box.
      rotation_factor: degrees; training turns by up to twice as much.
      half_body: whether training may cut out half bodies.
      encoding: encoding of the regions that are cut, "jpeg" or "png".
      splits: "train", "test" or both.
      generated: whether the photographs are generated pictures.
      orientation: see `photographs.oriented`.
      skip_missing: whether to leave out persons whose photograph is missing.

    Returns:
      The options.

    Raises:
      UserError: an option is out of range.
    """
    if not os.path.isdir(source):
        raise UserError(
            f"--source '{source}' is not a folder: give the folder that holds annotations and "
            f"photographs."
        )
    if not 0 <= scale_factor < 1 or not 0 <= rotation_factor <= 180:
        raise UserError(
            f"--scale-factor {scale_factor} must be from 0 to below 1, and --rotation-factor "
            f"{rotation_factor} from 0 to 180 degrees."
        )
    if encoding not in photographs.ENCODINGS:
        raise UserError(f"--encoding '{encoding}' must be {' or '.join(photographs.ENCODINGS)}.")
    if not splits or set(splits) - set(schema.SPLITS):
        raise UserError(
            f"--splits {','.join(splits)!r} must be {' or '.join(schema.SPLITS)}, or both: "
            f"{','.join(schema.SPLITS)}."
        )
    if orientation is not None and orientation not in photographs.ORIENTATIONS:
        raise UserError(
            f"--orientation '{orientation}' must be {' or '.join(photographs.ORIENTATIONS)}."
        )
    chosen = tuple(split for split in schema.SPLITS if split in splits)
    return Options(
        Reach(scale_factor, rotation_factor, half_body),
        encoding,
        chosen,
        generated,
        orientation,
        skip_missing,
    )


def add_options(parser: argparse.ArgumentParser, layout: dict[str, str], reach: Reach) -> None:
    """Adds the options that both converters have.

    Args:
      parser: the subcommand's parser.
      layout: defaults for train_annotations, test_annotations, train_images and test_images,
        relative to --source.
      reach: defaults for the augmentation.
    """
    parser.add_argument(
        "--source",
        required=True,
        metavar="DIR",
        help="folder with the raw files; paths below are relative to it",
    )
    for name, default in layout.items():
        what = "folder of photographs" if name.endswith("images") else "annotations"
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            default=default,
            metavar="PATH",
            help=f"{what} (default {default})",
        )
    scale, rotation, half = reach
    add = parser.add_argument
    add(
        "--splits",
        type=lambda text: tuple(text.split(",")),
        default=schema.SPLITS,
        help="train,test (the default) or one of them",
    )
    add(
        "--scale-factor",
        type=float,
        default=scale,
        help=f"of training: regions are cut to hold every such crop (default {scale:g})",
    )
    add(
        "--rotation-factor",
        type=float,
        default=rotation,
        help=f"likewise, degrees (default {rotation:g})",
    )
    add(
        "--half-body",
        action=argparse.BooleanOptionalAction,
        default=half,
        help="likewise, for crops of half a body",
    )
    add(
        "--encoding",
        choices=photographs.ENCODINGS,
        default="jpeg",
        help="of regions: jpeg (quality 95, the default), or png (lossless)",
    )
    add("--generated", action="store_true", help="the pictures are generated; reports then say so")
    turn = "turn photographs by their EXIF orientation, or do not"
    shown = "where the annotations show that they are for turned ones"
    add(
        "--orientation", choices=photographs.ORIENTATIONS, metavar="exif|ignore",
        help=f"{turn}; default: {shown}",
    )  # fmt: skip
    add(
        "--skip-missing",
        action="store_true",
        help="leave out persons whose photograph is missing, and count them",
    )


def read_json(path: str, option: str) -> Any:
    """Reads a JSON file; raises UserError if it is absent or malformed.

    Args:
      path: the file.
      option: the option that names another file, for messages.
    """
    if not os.path.isfile(path):
        raise UserError(
            f"'{path}' does not exist: put it there, give {option}, or leave its split out with "
            f"--splits."
        )
    try:
        return load_json(path)
    except (ValueError, OSError) as error:
        raise UserError(
            f"'{path}' cannot be read as JSON ({type(error).__name__}: {error}): copy or download "
            f"it again."
        ) from error


def as_whole(value: Any) -> int | None:
    """Reads `value` as an integer of 64 bits; None if it is not one.

    Annotation tools write ids as texts of digits, and 18 as 18.0. Up to 2^53 these are exact. True
    is not a number.
    """
    if isinstance(value, str) and re.fullmatch("-?[0-9]{1,40}", value):
        value = int(value)
    elif isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        value = int(value)
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def whole_number(value: Any, place: str) -> int:
    """Reads an integer by `as_whole`; raises UserError that begins with `place`."""
    number = as_whole(value)
    if number is None:
        raise UserError(
            f"{place} is {str(value)[:60]!r} where a whole number must be: repair the file or "
            f"download it again."
        )
    return number


def numbers(value: Any, shape: tuple[int, ...], place: str) -> np.ndarray:
    """Reads float64 numbers below ten million; raises UserError that begins with `place`.

    `shape` is the shape that `value` must have.
    """
    try:
        array = np.asarray(value)
        # A text of digits is not a number.
        array = array.astype(np.float64) if array.dtype.kind in "iuf" else np.zeros(0)
    except (TypeError, ValueError):
        array = np.zeros(0)
    # The comparison is also false for NaN.
    if array.shape != shape or not (np.abs(array) < 1e7).all():
        shown = "one number" if shape == () else f"{list(shape)} numbers"
        raise UserError(
            f"{place} is {str(value)[:60]!r} where {shown} must be: repair the file or download "
            f"it again."
        )
    return array


def with_photographs(
    persons: list[Person], pictures: dict[str, Photograph], split: str, left_out: list[str]
) -> list[tuple[Person, Photograph]]:
    """Pairs persons with their photographs.

    `left_out` gets the number of persons whose photograph is missing.
    """
    missing = sum(person.file not in pictures for person in persons)
    left_out += [f"{split}: {missing:,} persons whose photograph is missing"] if missing else []
    return [(person, pictures[person.file]) for person in persons if person.file in pictures]


def recordset(
    out: str,
    sources: dict[str, str],
    options: Options,
    settings: dict[str, Any],
    skeleton: Skeleton,
    load: Any,
    workers: int,
) -> records.Summary:
    """Writes persons as records.

    Args:
      out: folder for the records.
      sources: annotation file -> sha256.
      options: the checked options.
      settings: what the records depend on, besides the options.
      skeleton: the joints' skeleton.
      load: () -> (split -> list of (person, photograph), left out, notes, files); called only if
        there is something to write.
      workers: number of processes.

    Returns:
      The summary.
    """

    def make() -> records.Recordset:
        found, left_out, notes, files = load()
        items, unseen = {}, {}
        for split, persons in found.items():
            items[split], without, outside = _items(
                persons, skeleton, options.reach_of(split), options.encoding
            )
            left_out += [f"{split}: {len(without):,} boxes of zero area"] if without else []
            left_out += (
                [f"{split}: {len(outside):,} persons whose box lies outside the photograph"]
                if outside
                else []
            )
            labelled = sum(
                (person.visible.astype(int) for person in [*without, *outside]),
                start=np.zeros(skeleton.num_joints, int),
            )
            unseen[split] = {"persons": len(without) + len(outside), "joints": labelled.tolist()}
            if not items[split]:
                raise UserError(
                    f"Split '{split}' has no person to show: give other annotations, or leave it "
                    f"out with --splits."
                )
            beyond = sum(_joints_outside(item) for item in items[split])
            if beyond:
                notes.append(
                    f"{split}: {beyond:,} labelled joints lie outside their photograph and are kept"
                )
            notes += [
                f"{split}: {note}"
                for note in photographs.conversions(
                    list({item.photograph for item in items[split]})
                )
            ]
        described = {"notes": notes, "unseen": unseen}
        return records.Recordset(
            schema.PERSONS,
            skeleton.name,
            "annotations",
            options.generated,
            items,
            make_record,
            left_out,
            described,
            files,
        )

    return records.write_recordset(out, schema.PERSONS, sources, settings, make, workers)


def _items(
    persons: list[tuple[Person, Photograph]], skeleton: Skeleton, reach: Reach, encoding: str
) -> tuple[list[Item], list[Person], list[Person]]:
    """Finds the region of each person.

    Returns:
      The persons with their regions, the persons whose box has no area, and the persons whose box
      lies outside the photograph.
    """
    items, without, outside = [], [], []
    for person, photograph in persons:
        if person.scale[0] <= 0:
            without.append(person)
            continue
        size = (photograph.width, photograph.height)
        region = crops.reachable_region(
            person.center,
            person.scale,
            person.joints,
            person.visible,
            skeleton.upper_body,
            size,
            reach,
        )
        if region is None:
            outside.append(person)
        else:
            items.append(Item(person, photograph, region, encoding))
    return items, without, outside


def _joints_outside(item: Item) -> int:
    """Counts a person's labelled joints that no pixel shows."""
    last = np.asarray([item.photograph.width - 1, item.photograph.height - 1])
    # A pixel reaches half a pixel around its centre.
    inside = ((item.person.joints >= -0.5) & (item.person.joints <= last + 0.5)).all(-1)
    return int((item.person.visible & ~inside).sum())


def make_record(item: Item) -> dict[str, Any]:
    """Makes a record of `schema.person_features` from an item."""
    image = photographs.cut(item.photograph, item.region, item.encoding)
    return {
        field.name: getattr(item.person, field.name) for field in dataclasses.fields(Person)
    } | {
        "image": np.frombuffer(image, np.uint8),
        "region": np.asarray(item.region, np.int32),
        "photograph": np.asarray([item.photograph.width, item.photograph.height], np.int32),
    }


def make_person(**fields: Any) -> Person:
    """Makes a person with arrays of the records' types; unlabelled joints are zero."""
    visible = np.asarray(fields["visible"], np.bool_)
    joints = np.where(visible[:, None], fields["joints"], 0).astype(np.float32)
    center, scale = (np.asarray(fields[name], np.float32) for name in ("center", "scale"))
    return Person(
        **fields | {"visible": visible, "joints": joints, "center": center, "scale": scale}
    )
