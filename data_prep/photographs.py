"""Photographs of a data set: looked at before anything is written, then cut to the region that a person's crops can reach."""

import concurrent.futures
import dataclasses
import functools
import os

import cv2
import numpy as np
from PIL import Image

from kdpose_jax.errors import UserError

Region = tuple[int, int, int, int]
# A cut region is encoded once more. Quality 95 without colour subsampling is off by 1.7 grey levels in the mean on COCO's photographs
# (1.0 in crops of 64 and 256 pixels), and takes a third of the bytes of PNG and of the whole files, and 0.4 of their time to decode
# (benchmarks/region_encoding.py).
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
ENCODINGS = ("jpeg", "png")
NAMED = 10  # of many files with the same fault so many are named
THREADS = 16  # which wait for the disk


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A file, its name in the annotations, width and height in pixels, format ("JPEG") and colour mode ("RGB") in Pillow's words."""

    path: str
    name: str
    width: int
    height: int
    format: str
    mode: str

    @property
    def is_ordinary(self) -> bool:
        """A JPEG in three colours, whose bytes can be kept as they are."""
        return self.format == "JPEG" and self.mode == "RGB"


def look_at(folder: str, names: list[str], option: str) -> dict[str, Photograph]:
    """Reads the header of every photograph, so that a fault in one is known before hours are spent on the others.

    Args:
      folder: of the photographs.
      names: their files in it.
      option: the option that names the folder, for messages.

    Returns:
      name -> photograph.

    Raises:
      UserError: no such folder; a name that leads out of it; photographs that are missing, or that are none (with their count).
    """
    if not os.path.isdir(folder):
        raise UserError(f"'{folder}', which should hold {len(names):,} photographs, is not a folder: put it there or give {option}.")
    for name in names:
        if os.path.isabs(name) or ".." in name.replace("\\", "/").split("/"):
            raise UserError(f"The photograph '{name}' lies outside '{folder}' by its name: repair the annotations.")
    paths = [os.path.join(folder, name) for name in names]
    with concurrent.futures.ThreadPoolExecutor(THREADS) as executor:
        missing = [name for name, there in zip(names, executor.map(os.path.isfile, paths), strict=True) if not there]
        if missing:
            raise UserError(
                f"{len(missing):,} of {len(names):,} photographs are missing in '{folder}' ({_some(missing)}): put them there, or give "
                f"{option} or annotations of those that are there."
            )
        found = list(executor.map(_read_header, paths, names))
    unreadable = [(name, one) for name, one in zip(names, found, strict=True) if isinstance(one, str)]
    if unreadable:
        raise UserError(
            f"{len(unreadable):,} of {len(names):,} photographs in '{folder}' cannot be read ({_some([name for name, _ in unreadable])}; "
            f"{unreadable[0][1]}): copy or download them again."
        )
    return dict(zip(names, found, strict=True))


def conversions(photographs: list[Photograph]) -> list[str]:
    """What of the photographs is not in ordinary colours, counted: they become RGB as OpenCV, and so HRNet's loader, makes them."""
    modes = [photograph.mode for photograph in photographs if photograph.mode != "RGB"]
    titles = {"L": "greyscale", "CMYK": "CMYK"}
    return [
        f"{modes.count(mode):,} {titles[mode] if mode in titles else f'Pillow mode {mode}'} photographs were converted to RGB"
        for mode in sorted(set(modes))
    ]


def cut(photograph: Photograph, region: Region, encoding: str) -> bytes:
    """The region of a photograph as an encoded file: cut, never scaled, and encoded at most once more.

    Args:
      photograph: looked at before.
      region: x, y, width, height, pixels.
      encoding: "jpeg" (quality 95, 4:4:4) or "png" (lossless).

    Returns:
      The file's own bytes where the region is the whole of an ordinary JPEG, otherwise a new encoding.

    Raises:
      UserError: the file is damaged.
    """
    x, y, width, height = region
    encoded, picture = _decode(photograph)
    if photograph.is_ordinary and (width, height) == (photograph.width, photograph.height):
        return encoded
    suffix, options = (".jpg", JPEG) if encoding == "jpeg" else (".png", [])
    return cv2.imencode(suffix, picture[y : y + height, x : x + width], options)[1].tobytes()


@functools.lru_cache(maxsize=1)  # the persons of a photograph follow each other
def _decode(photograph: Photograph) -> tuple[bytes, np.ndarray]:
    """The bytes of a file and its pixels in OpenCV's order, `[H, W, 3]`."""
    fault = None
    try:
        with open(photograph.path, "rb") as file:
            encoded = file.read()
        picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if picture is None or picture.shape[:2] != (photograph.height, photograph.width):
            fault = "it cannot be decoded"
        elif photograph.format == "JPEG" and encoded.rfind(b"\xff\xd9") < encoded.rfind(b"\xff\xda"):
            fault = "it is cut off"  # the mark of the end does not follow that of the last scan; OpenCV fills up with grey
    except (OSError, cv2.error) as error:
        fault = str(error).strip()
    if fault is not None:
        raise UserError(f"Photograph '{photograph.path}' is damaged ({fault}): copy or download it again.")
    return encoded, picture


def _read_header(path: str, name: str) -> Photograph | str:
    """The photograph, or what is wrong with it."""
    try:
        with Image.open(path, formats=("JPEG", "PNG", "BMP")) as image:
            return Photograph(path, name, image.width, image.height, image.format, image.mode)
    except Exception as error:  # whatever a parser may raise at bytes of any kind
        return f"{type(error).__name__}: {error}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
