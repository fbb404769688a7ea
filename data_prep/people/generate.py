"""Writes generated photographs of people as MPII's or COCO's files, and converts them.

All of it is our own design.
"""

import argparse
import os
from typing import Any

import cv2

from data_prep import coco, flags, mpii, parallel, records
from data_prep.people import layouts, scenes
from kdpose_jax import buckets, files
from kdpose_jax.data import schema
from kdpose_jax.errors import UserError
from kdpose_jax.untrusted.documents import load_json

HELP = "generated photographs of people, needs no files; they stay in OUT.raw"
# The settings' (name, default, help). The defaults are the demo's.
ARGUMENTS = (
    ("train_pictures", 2000, "number of training pictures, each with one person in focus"),
    ("val_pictures", 200, "number of further pictures, on which checkpoints are chosen"),
    ("test_pictures", 300, "number of test pictures"),
    ("picture_size", 320, "longer side of a picture, pixels"),
    ("layout", "mpii", "files to write: mpii or coco"),
    ("seed", 0, "everything random follows from it"),
)
SETTINGS_FILE = "people.json"
# A layout's folders: the first one has the annotations, the others have pictures.
FOLDERS = {
    "mpii": ("annot", "images"),
    "coco": ("annotations", "train2017", layouts.HELD_OUT, "val2017"),
}
# The options that name the validation pictures. The published sets have no such files.
VALIDATION_FILES = {
    "mpii": {"val_annotations": f"annot/{layouts.HELD_OUT}.json", "val_images": "images"},
    "coco": {
        "val_annotations": f"annotations/person_keypoints_{layouts.HELD_OUT}.json",
        "val_images": layouts.HELD_OUT,
    },
}
FIRST_IMAGE = {"train": 1, "test": 500_001, schema.VAL_SPLIT: 1_000_001}
MOST_PICTURES = 500_000  # of a split
PICTURES_PER_CALL = 16


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    flags.add_settings(parser, ARGUMENTS)


def expected_files(settings: dict[str, Any]) -> str:
    """Names the raw files that a conversion with these settings reads."""
    del settings
    return "no files"


def convert(
    out: str,
    train_pictures: int,
    val_pictures: int,
    test_pictures: int,
    picture_size: int,
    layout: str,
    seed: int,
    workers: int,
) -> records.Summary:
    """Paints photographs into `<out>.raw`, and converts them like MPII's or COCO's.

    ARGUMENTS explains the settings. If `out` is in a bucket, the photographs go under `runs` on the
    disk, because they are read in small parts. They are made again if they are missing.

    Returns:
      The summary.

    Raises:
      UserError: see `write_layout`; or `out` cannot be used.
    """
    place = (
        os.path.join("runs", out.removeprefix(buckets.PREFIX)) if buckets.is_bucket(out) else out
    )
    raw = os.path.normpath(place) + ".raw"
    write_layout(
        raw,
        layout=layout,
        train_pictures=train_pictures,
        val_pictures=val_pictures,
        test_pictures=test_pictures,
        picture_size=picture_size,
        seed=seed,
        workers=workers,
    )
    converter, files = (
        (mpii, {"head_boxes": None}) if layout == "mpii" else (coco, {"detections": None})
    )
    return converter.convert(
        source=raw,
        out=out,
        **converter.LAYOUT,
        **VALIDATION_FILES[layout],
        **files,
        splits=schema.SPLITS,
        **converter.REACH._asdict(),
        encoding="jpeg",
        generated=True,
        orientation=None,
        skip_missing=False,
        workers=workers,
    )


def write_layout(
    out: str,
    *,
    layout: str,
    train_pictures: int,
    val_pictures: int,
    test_pictures: int,
    picture_size: int,
    seed: int,
    workers: int,
) -> None:
    """Writes generated photographs and annotations as MPII's or COCO's files.

    It does nothing if they are there already.

    Args:
      out: folder, made if needed.
      layout: "mpii" (annot/train.json, annot/valid.json, annot/gt_valid.mat, images/) or "coco"
        (annotations/, train2017/, val2017/). The validation pictures are listed in a file
        `held_out` of our own (COCO's val2017 and MPII's valid.json are the test pictures).
      train_pictures: number of training pictures.
      val_pictures: number of validation pictures; the others do not depend on it.
      test_pictures: number of test pictures.
      picture_size: longer side, pixels.
      seed: everything random follows from it; the pictures of both layouts are the same.
      workers: number of processes; the bytes do not depend on it.

    Raises:
      UserError: a setting is out of range, or `out` holds something else or cannot be written.
    """
    settings = dict(
        layout=layout,
        train_pictures=train_pictures,
        val_pictures=val_pictures,
        test_pictures=test_pictures,
        picture_size=picture_size,
        seed=seed,
    )
    _check(settings)
    try:
        if _is_finished(out, settings):
            files.tidy(out, below=FOLDERS[layout])
            return
        with files.held(out, print, below=FOLDERS[layout]):
            _write_all(out, settings, workers)
    except OSError as error:
        raise UserError(
            f"'{out}' cannot be written ({error.strerror or error}): make room or give another "
            f"--out."
        ) from error


def _write_all(out: str, settings: dict[str, Any], workers: int) -> None:
    """Writes what `write_layout` promises.

    It first writes the settings, so that a killed run knows its own folder.
    """
    _write_settings(out, settings, finished=False)
    layout = settings["layout"]
    annotated, *pictures = FOLDERS[layout]
    for folder in FOLDERS[layout]:
        os.makedirs(os.path.join(out, folder), exist_ok=True)
    places = dict(zip(schema.SPLITS, pictures * (len(schema.SPLITS) // len(pictures)), strict=True))
    labels = {
        split: _paint_pictures(os.path.join(out, places[split]), split, settings, workers)
        for split in schema.SPLITS
    }
    if layout == "mpii":
        layouts.write_mpii(os.path.join(out, annotated), labels)
    else:
        layouts.write_coco(os.path.join(out, annotated), labels)
    _write_settings(out, settings, finished=True)


def _write_settings(out: str, settings: dict[str, Any], *, finished: bool) -> None:
    """Writes from which settings the folder is made, and whether it is whole."""
    content = {"settings": settings, "finished": finished}
    files.write_json(os.path.join(out, SETTINGS_FILE), content, indent=None)


def _check(settings: dict[str, Any]) -> None:
    """Raises UserError if a setting is out of range."""
    if settings["layout"] not in ("mpii", "coco"):
        raise UserError(f"--layout {settings['layout']} is unknown: give mpii or coco.")
    for name, low, high in (
        *((f"{split}_pictures", 1, MOST_PICTURES) for split in schema.SPLITS),
        ("picture_size", 64, 2048),
        ("seed", 0, 2**63),
    ):
        if not low <= settings[name] <= high:
            raise UserError(
                f"--{name.replace('_', '-')} {settings[name]} is out of range: give {low} to "
                f"{high}."
            )


def _is_finished(out: str, settings: dict[str, Any]) -> bool:
    """Tells whether `out` holds all of these pictures.

    Raises:
      UserError: it holds anything else.
    """
    if records.is_new(out):
        return False
    path = os.path.join(out, SETTINGS_FILE)
    try:
        found = load_json(path)
        different = [name for name in settings if found["settings"][name] != settings[name]]
        finished = bool(found["finished"])
    except FileNotFoundError as error:
        raise UserError(
            f"'{out}' holds other files, and nothing is written among them: give another --out."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"'{path}' is damaged ({type(error).__name__}: {error}): delete '{out}' or give "
            f"another --out."
        ) from error
    if different:
        raise UserError(
            f"'{out}' holds pictures of other settings (differs in {', '.join(different)}): give "
            f"another --out or delete it."
        )
    return finished


def _paint_pictures(
    folder: str, split: str, settings: dict[str, Any], workers: int
) -> list[layouts.Labels]:
    """Writes all of a split's pictures; returns their labels in order."""
    count = settings[f"{split}_pictures"]
    calls = [
        (folder, split, range(start, min(start + PICTURES_PER_CALL, count)), settings)
        for start in range(0, count, PICTURES_PER_CALL)
    ]
    labels: list[list[layouts.Labels]] = [[] for _ in calls]
    with (
        parallel.pool(min(workers, len(calls))) as run,
        parallel.progress(count, 0, f"{split} pictures", "painted") as advance,
    ):
        for number, some in run(_paint_some, calls):
            labels[number] = some
            advance(len(some))
    return [one for some in labels for one in some]


def _paint_some(
    folder: str, split: str, indices: range, settings: dict[str, Any]
) -> list[layouts.Labels]:
    """Paints and writes some pictures, in a worker."""
    cv2.setNumThreads(1)
    found = []
    for index in indices:
        photograph = scenes.photograph(settings["seed"], split, index, settings["picture_size"])
        image_id = FIRST_IMAGE[split] + index
        _, encoded = cv2.imencode(
            ".jpg", photograph.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90]
        )
        with open(
            os.path.join(folder, layouts.picture_name(settings["layout"], image_id)), "wb"
        ) as file:
            file.write(encoded.tobytes())
        height, width = photograph.label.shape
        found.append(layouts.Labels(image_id, width, height, photograph.people))
    return found
