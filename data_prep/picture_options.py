"""Has the options that the converters of annotated photographs share."""

import argparse
import dataclasses
import os
from typing import Any, NamedTuple

from data_prep import flags, held_out, json_values, photographs
from kdpose_jax.codecs import crops
from kdpose_jax.codecs.crops import Reach
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.files import sha256


class Listed(NamedTuple):
    """Names a split's files, relative to the folder of raw files."""

    annotations: str
    photographs: str


@dataclasses.dataclass(frozen=True)
class Options:
    """Holds the options that both converters have.

    They say where the files are, how persons are cut out of training photographs, and which
    photographs are used and how.

    Attributes:
      source: folder with the raw files.
      lists: list of persons -> its files. There are lists of train and of test, and one of val if
        the user gave it.
      splits: the splits that are written, besides a detector's.
      reach: how far training moves a box.
      encoding: encoding of the regions, one of `photographs.ENCODINGS`.
      generated: whether the photographs are generated pictures.
      orientation: see `photographs.oriented`.
      skip_missing: whether to leave out persons whose photograph is missing.
    """

    source: str
    lists: dict[str, Listed]
    splits: tuple[str, ...]
    reach: Reach
    encoding: str
    generated: bool
    orientation: str | None
    skip_missing: bool

    def path(self, name: str) -> str:
        """Returns the path of a raw file."""
        return os.path.join(self.source, name)

    def read_lists(self) -> dict[str, Any]:
        """Reads each list of persons, a JSON file."""
        return {
            split: json_values.read_json(self.path(listed.annotations), f"--{split}-annotations")
            for split, listed in self.lists.items()
        }

    def sources(self, further: str | None) -> dict[str, str]:
        """Returns the sha256 of the annotation files, and of one more file if there is one."""
        names = [listed.annotations for listed in self.lists.values()]
        names += [further] if further is not None else []
        return {name: sha256(self.path(name)) for name in names}

    def reach_of(self, split: str) -> Reach:
        """Returns a split's reach; only training moves the boxes.

        A published protocol also trains on the validation photographs.
        """
        return self.reach if split in ("train", schema.VAL_SPLIT) else crops.NO_REACH

    @property
    def val_rule(self) -> str:
        """Says in words which photographs the validation split has."""
        if schema.VAL_SPLIT in self.lists:
            return f"the photographs of {self.lists[schema.VAL_SPLIT].annotations}"
        return held_out.PHOTOGRAPHS_RULE

    def settings(self, converter: str, splits: list[str]) -> dict[str, Any]:
        """Returns the options for the metadata, where the reader looks up the reach."""
        # These are named only if they are requested, so the settings of older records stay
        # the same.
        asked = {"orientation": self.orientation} if self.orientation else {}
        asked |= {"skip_missing": True} if self.skip_missing else {}
        return {
            "name": converter,
            "images": {split: listed.photographs for split, listed in self.lists.items()},
            "encoding": self.encoding,
            "generated": self.generated,
            "reach": {split: self.reach_of(split)._asdict() for split in splits},
        } | asked


def check(
    source: str,
    *,
    train_annotations: str,
    val_annotations: str | None,
    test_annotations: str,
    train_images: str,
    val_images: str | None,
    test_images: str,
    splits: tuple[str, ...],
    scale_factor: float,
    rotation_factor: float,
    half_body: bool,
    encoding: str,
    generated: bool,
    orientation: str | None,
    skip_missing: bool,
) -> Options:
    """Checks the options.

    Args:
      source: folder with the raw files, to which the next six paths are relative.
      train_annotations: file with the training persons.
      val_annotations: file with the validation persons; None draws validation photographs out of
        the training photographs (`held_out.draw_photographs`).
      test_annotations: file with the test persons.
      train_images: folder with the training photographs.
      val_images: folder with the photographs of `val_annotations`; None for `train_images`.
      test_images: folder with the test photographs.
      splits: the splits to write, of `schema.SPLITS`. Which photographs a split has does not depend
        on it.
      scale_factor: the most that training enlarges or shrinks a box.
      rotation_factor: degrees; training turns by up to twice as much.
      half_body: whether training may cut out half bodies.
      encoding: encoding of the regions that are cut, "jpeg" or "png".
      generated: whether the photographs are generated pictures.
      orientation: "exif" or "ignore"; None lets the annotations decide.
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
            f"--splits {','.join(splits)!r} must be some of {', '.join(schema.SPLITS)}, with "
            "commas between them."
        )
    if orientation is not None and orientation not in photographs.ORIENTATIONS:
        raise UserError(
            f"--orientation '{orientation}' must be {' or '.join(photographs.ORIENTATIONS)}."
        )
    if val_images is not None and val_annotations is None:
        raise UserError(
            f"--val-images '{val_images}' belong to --val-annotations, which is not given: give "
            "both, or neither."
        )
    needed = set(splits)
    lists = {
        "train": Listed(train_annotations, train_images),
        "test": Listed(test_annotations, test_images),
    }
    if val_annotations is not None:
        lists[schema.VAL_SPLIT] = Listed(val_annotations, val_images or train_images)
    elif schema.VAL_SPLIT in splits:
        needed.add("train")
    return Options(
        source,
        {split: lists[split] for split in schema.SPLITS if split in lists and split in needed},
        tuple(split for split in schema.SPLITS if split in splits),
        Reach(scale_factor, rotation_factor, half_body),
        encoding,
        generated,
        orientation,
        skip_missing,
    )


def add(parser: argparse.ArgumentParser, layout: dict[str, str], reach: Reach) -> None:
    """Adds the options that both converters have.

    Args:
      parser: the subcommand's parser.
      layout: defaults for train_annotations, test_annotations, train_images and test_images,
        relative to --source.
      reach: defaults for the augmentation.
    """
    flags.add_source(parser, "folder with the raw files; paths below are relative to it")
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
        "--val-annotations", metavar="PATH",
        help=f"annotations of validation photographs; default: {held_out.PHOTOGRAPHS_RULE}",
    )  # fmt: skip
    add(
        "--val-images", metavar="PATH",
        help="folder of their photographs (default: that of the training photographs)",
    )  # fmt: skip
    add(
        "--splits",
        type=lambda text: tuple(text.split(",")),
        default=schema.SPLITS,
        help="splits to write: train,val,test (the default) or some of them",
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


def expected_files(settings: dict[str, Any]) -> str:
    """Names the annotations and photographs that a conversion with these settings reads."""
    splits = list(settings["splits"])
    if schema.VAL_SPLIT in splits and settings["val_annotations"] is None:  # drawn out of training
        splits.remove(schema.VAL_SPLIT)
        splits = splits if "train" in splits else ["train", *splits]
    folders = dict(settings)
    if folders["val_images"] is None:
        folders["val_images"] = folders["train_images"]
    return ", ".join(
        f"{settings[f'{split}_annotations']} with the photographs in {folders[f'{split}_images']}/"
        for split in splits
    )
