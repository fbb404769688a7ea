"""Finds joints in a user's pictures, whole or by boxes: `--mode predict --pictures`."""

import dataclasses
import glob
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from kdpose_jax import files
from kdpose_jax.data import images
from kdpose_jax.errors import UserError
from kdpose_jax.predict import early, loading
from kdpose_jax.predict.boxes import PERSON, read_boxes, require_pixels
from kdpose_jax.predict.loading import Network
from kdpose_jax.predict.pictures import Found, PictureNetwork
from kdpose_jax.predict.request import Request
from kdpose_jax.train.preemption import Stop
from kdpose_jax.untrusted import bounds, pictures

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp")
_FORMATS = ("JPEG", "PNG", "BMP", "MPO")
RESULTS = "keypoints.json"  # the file in the folder that --out names


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture of the user's.

    Attributes:
      path: the file.
      image_id: its number in the file of boxes, or else its place among the pictures from 1.
      boxes: boxes of persons, `[N, 4]`, pixels: left, top, width, height; None takes it whole.
    """

    path: str
    image_id: int
    boxes: np.ndarray | None


def find_joints(
    request: Request,
    config: ConfigDict | None,
    show: Callable[[str], None],
    stop: Stop,
) -> None:
    """Finds joints in all pictures, and writes them as COCO's results.

    Args:
      request: what the user asks for.
      config: the experiment of a PyTorch file.
      show: prints one line.
      stop: whether the program was told to stop.

    Raises:
      UserError: there are no pictures, the boxes cannot be read, or the network is a lifter.
    """
    if request.formats not in ((), ("json",)):
        raise UserError(
            f"--to is '{','.join(request.formats)}', and joints in pictures are written as COCO's "
            "results: leave --to out."
        )
    out = files.absolute(request.out or "joints")
    out = out if out.suffix == ".json" else out / RESULTS
    early.require_place(out.parent)
    listed = list_pictures(request.given, request.boxes)
    turned = _look_at(listed, request.boxes)
    network, _ = loading.load_by_flags(request.checkpoint, config)
    if not isinstance(network, PictureNetwork):
        raise UserError(
            f"'{request.checkpoint}' is a lifter, which reads keypoints: give the checkpoint of a "
            "network for pictures, or keypoints with --keypoints."
        )
    results: list[dict[str, Any]] = []
    unread: list[str] = []
    for number, picture in enumerate(listed, 1):
        stop.obey()
        pixels = read_picture(picture.path)
        if pixels is None:
            unread.append(picture.path)
            continue
        results += _results(picture, network, pixels, request.lifting.flip)
        if number % 100 == 0:
            show(f"{number:,} of {len(listed):,} pictures")
    if not results:
        raise UserError(
            f"None of {len(listed):,} pictures can be decoded, such as '{listed[0].path}': give "
            "JPEG, PNG or BMP files."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(out, results)
    beside = out.parent / f"{out.stem}.about.json"
    notes = [*network.notes, *_about_turned(turned, len(listed), request.boxes)]
    files.write_json(beside, _about(network, request, listed, unread, notes))
    for note in notes:
        show(f"note: {note}")
    if unread:
        show(
            f"note: {len(unread):,} of {len(listed):,} pictures cannot be decoded and were left "
            f"out, such as '{unread[0]}'"
        )
    show(f"{len(results):,} person(s) in {len(listed) - len(unread):,} pictures: {out}, {beside}")


def _look_at(listed: list[Picture], boxes: str) -> int:
    """Reads the pictures' headers; returns how many have an EXIF orientation that turns them.

    Raises:
      UserError: the boxes are not in pixels of these pictures.
    """
    turned, cut, sizes = 0, [], []
    for picture in listed:
        try:
            header = pictures.header_of(picture.path, _FORMATS)
        except Exception:  # a picture that cannot be read is told when its turn comes
            continue
        turned += header.orientation != 1
        if picture.boxes is not None:
            cut.append(picture.boxes)
            sizes.append((header.width, header.height))
    if cut:
        require_pixels(cut, sizes, boxes)
    return turned


def _about_turned(turned: int, pictures_given: int, boxes: str) -> list[str]:
    """Says that pictures were read as they are stored, if viewers turn some of them."""
    if not turned:
        return []
    where = "and so were their boxes" if boxes else "so that persons in them may not stand upright"
    return [
        f"{turned:,} of {pictures_given:,} pictures have an EXIF orientation, by which viewers "
        f"turn them: they were read as they are stored, {where} (turn the files, and leave the "
        "orientation out, for joints in the pixels that a viewer shows)"
    ]


def _results(
    picture: Picture, network: PictureNetwork, pixels: np.ndarray, flip: bool
) -> Iterator[dict[str, Any]]:
    """Yields an entry of COCO's results for each person in a picture."""
    if picture.boxes is None:
        joints, scores = network(pixels, flip=flip)
        found = Found(joints[None], scores[None])
    else:
        found = network(pixels, boxes=picture.boxes, flip=flip)
    for joints, scores in zip(found.joints, found.scores, strict=True):
        triples = np.concatenate([joints, scores[:, None]], axis=1)
        yield {
            "image_id": picture.image_id,
            "category_id": PERSON,
            "keypoints": [round(float(value), 4) for value in triples.reshape(-1)],
            "score": round(float(scores.mean()), 6),
        }


def _about(
    network: Network,
    request: Request,
    listed: list[Picture],
    unread: list[str],
    notes: list[str],
) -> dict[str, Any]:
    """Says what the results are of; COCO's format has no place for it."""
    return {
        "network": network.description.name,
        "fingerprint": network.fingerprint,
        "joints": network.joints,
        "units": "pixels of the picture as it is stored; scores from 0 to 1",
        "persons": "by boxes" if request.boxes else "one in each picture, which was taken whole",
        "images": [{"id": one.image_id, "file_name": os.path.basename(one.path)} for one in listed],
        "left_out": unread,
        "notes": notes,
    }


def read_picture(path: str) -> np.ndarray | None:
    """Decodes a picture to `[H, W, 3]` uint8 RGB as it is stored; None if it cannot be decoded."""
    try:
        header = pictures.header_of(path, _FORMATS)
        encoded = np.fromfile(path, np.uint8, count=bounds.PICTURE_BYTES + 1)
        if not pictures.is_decodable(encoded, (header.width, header.height)):
            return None
    except Exception:  # Pillow raises anything where a file is damaged
        return None
    return images.decode(encoded)


def list_pictures(given: str, boxes: str) -> list[Picture]:
    """Lists the pictures of a file, folder or pattern, with their boxes.

    Args:
      given: the value of `--pictures`.
      boxes: the value of `--boxes`; "" if there is none.

    Raises:
      UserError: there is no picture, or the boxes cannot be read or name none of the pictures.
    """
    if "://" in given:
        raise UserError(f"--pictures '{given}' is not on a disk: copy the pictures to one first.")
    if os.path.isdir(given):
        found = [
            os.path.join(given, name)
            for name in sorted(os.listdir(given))
            if name.lower().endswith(_ENDINGS) and not name.startswith(".")
        ]
    else:
        found = [given] if os.path.isfile(given) else sorted(glob.glob(given))
    if not found:
        raise UserError(
            f"--pictures '{given}' holds no picture ({', '.join(_ENDINGS)}): give a picture, a "
            "folder or a pattern."
        )
    if not boxes:
        return [Picture(path, number, None) for number, path in enumerate(found, 1)]
    persons = read_boxes(boxes)
    listed = []
    for number, path in enumerate(found, 1):
        name = os.path.basename(path)
        stem = os.path.splitext(name)[0]
        keys = [name, stem, *([int(stem)] if stem.isdecimal() else [])]
        key = next((one for one in keys if one in persons), None)
        if key is not None:
            image_id, rows = persons[key]
            listed.append(Picture(path, number if image_id is None else image_id, np.stack(rows)))
    if not listed:
        raise UserError(
            f"--boxes '{boxes}' names none of the {len(found):,} pictures, such as "
            f"'{os.path.basename(found[0])}': give the boxes of these pictures."
        )
    return listed
