"""Turns annotated or detected persons and their photographs into records."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from data_prep import held_out, photographs, records
from data_prep.photographs import Photograph, Region
from data_prep.picture_options import Options
from kdpose_jax.codecs import crops
from kdpose_jax.codecs.crops import Reach
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import Skeleton


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


class Loaded(NamedTuple):
    """Holds what a converter has read.

    Attributes:
      persons: split -> persons with their photographs, in the records' order.
      left_out: sentences about what is left out.
      notes: sentences about what was assumed or converted.
      files: name -> content, for files beside the shards.
    """

    persons: dict[str, list[tuple[Person, Photograph]]]
    left_out: list[str]
    notes: list[str]
    files: dict[str, bytes]


def look_at(
    options: Options, folders: dict[str, str], persons: dict[str, list[Person]], out: str
) -> dict[str, dict[str, Photograph]]:
    """Reads the headers of some persons' photographs.

    Args:
      options: the checked options.
      folders: split -> folder with its photographs.
      persons: split -> the persons.
      out: folder for the records, beside which missing photographs are listed.

    Returns:
      Split -> name -> photograph as stored.

    Raises:
      UserError: see `photographs.look_at`.
    """
    wanted = [
        photographs.Folder(
            folders[split], [person.file for person in persons[split]], f"--{split}-images"
        )
        for split in folders
    ]
    found = photographs.look_at(wanted, out, options.skip_missing)
    return dict(zip(folders, found, strict=True))


def with_photographs(
    persons: list[Person], pictures: dict[str, Photograph], split: str, left_out: list[str]
) -> list[tuple[Person, Photograph]]:
    """Pairs persons with their photographs.

    `left_out` gets the number of persons whose photograph is missing.
    """
    missing = sum(person.file not in pictures for person in persons)
    left_out += [f"{split}: {missing:,} persons whose photograph is missing"] if missing else []
    return [(person, pictures[person.file]) for person in persons if person.file in pictures]


def with_validation(
    pairs: dict[str, list[tuple[Person, Photograph]]], options: Options, notes: list[str]
) -> dict[str, list[tuple[Person, Photograph]]]:
    """Turns lists of persons into the splits that are written.

    All persons of a photograph are in one split.

    Args:
      pairs: list of persons (`Options.lists`), or a detector's split -> persons with their
        photographs.
      options: the checked options.
      notes: gets a sentence if there is no validation split, though it was to be written.

    Returns:
      Split -> persons with their photographs, in the lists' order.

    Raises:
      UserError: nothing is left to write.
    """
    splits = dict(pairs)
    if schema.VAL_SPLIT not in options.lists and "train" in pairs:
        every = pairs["train"]
        drawn = held_out.draw_photographs(person.file for person, _ in every)
        splits["train"] = [pair for pair in every if pair[0].file not in drawn]
        if drawn:
            splits[schema.VAL_SPLIT] = [pair for pair in every if pair[0].file in drawn]
        elif schema.VAL_SPLIT in options.splits:
            notes.append(held_out.no_split("there is only one training photograph"))
    written = (*options.splits, schema.DETECTIONS_SPLIT)
    splits = {split: splits[split] for split in written if split in splits}
    if not splits:
        raise UserError(
            "--splits names val alone, and there is only one training photograph: give more "
            "photographs, or --val-annotations."
        )
    return splits


def recordset(
    out: str,
    sources: dict[str, str],
    options: Options,
    settings: dict[str, Any],
    skeleton: Skeleton,
    load: Callable[[], Loaded],
    workers: int,
) -> records.Summary:
    """Writes persons as records.

    Args:
      out: folder for the records.
      sources: annotation file -> sha256.
      options: the checked options.
      settings: everything that the records depend on, besides the sources.
      skeleton: the joints' skeleton.
      load: reads the input; called only if there is something to write.
      workers: number of processes.

    Returns:
      The summary.
    """
    return records.write_recordset(
        out,
        schema.PERSONS,
        sources,
        settings,
        lambda: _describe(load(), options, skeleton),
        workers,
    )


def _describe(loaded: Loaded, options: Options, skeleton: Skeleton) -> records.Recordset:
    """Finds the region of each person, and describes the data set.

    Raises:
      UserError: a split has no person to show.
    """
    items, unseen = {}, {}
    left_out, notes = list(loaded.left_out), list(loaded.notes)
    for split, persons in loaded.persons.items():
        items[split], without, outside = _items(
            persons, skeleton, options.reach_of(split), options.encoding
        )
        if without:
            left_out.append(f"{split}: {len(without):,} boxes of zero area")
        if outside:
            left_out.append(
                f"{split}: {len(outside):,} persons whose box lies outside the photograph"
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
        pictures = list({item.photograph for item in items[split]})
        notes += [f"{split}: {note}" for note in photographs.conversions(pictures)]
    notes += _shared(items)
    return records.Recordset(
        schema.PERSONS,
        skeleton.name,
        "annotations",
        options.generated,
        items,
        make_record,
        {schema.VAL_SPLIT: options.val_rule},
        left_out,
        {"notes": notes, "unseen": unseen},
        loaded.files,
    )


def _shared(items: dict[str, list[Item]]) -> list[str]:
    """Returns notes about photographs that are in two splits, so that scores say too much."""
    paths = {
        split: {item.photograph.path for item in own}
        for split, own in items.items()
        if split != schema.DETECTIONS_SPLIT  # the test photographs by definition
    }
    return [
        f"{count:,} photographs are in '{one}' and in '{other}', so that scores on one of them "
        "are of what was trained on"
        for one, other in itertools.combinations(paths, 2)
        if (count := len(paths[one] & paths[other]))
    ]


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
