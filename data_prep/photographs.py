"""Checks a data set's photographs, and cuts the regions that persons' crops can reach.

All photographs are checked before anything is written. No checksum of a photograph is kept: records
hold the bytes that were cut from it, and the metadata hold the records' checksums.
"""

import concurrent.futures
import dataclasses
import functools
import os
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.untrusted import bounds, pictures

Region = tuple[int, int, int, int]
# A cut region is encoded once more. Quality 95 without colour subsampling has a mean error of 1.7
# grey levels on COCO's photographs (1.0 in crops with 64 and 256 pixels). It takes a third of the
# bytes of PNG and of the whole files, and 0.4 of their time to decode
# (benchmarks/region_encoding.py).
JPEG = [
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]
ENCODINGS = ("jpeg", "png")
NAMED = 10  # files that are named if many have the same fault
MISSING_FILE = "missing_photographs.txt"  # lists all of them, beside the records' folder
THREADS = 16  # they wait for the disk


class Folder(NamedTuple):
    """Names a folder, the files wanted from it, and the folder's option for messages.

    A file may be named twice.
    """

    path: str
    names: list[str]
    option: str


@dataclasses.dataclass(frozen=True)
class Photograph:
    """Describes a file by its header.

    Attributes:
      path: the file.
      name: the file's name in the annotations.
      width: width of the pixels as they are used, turned or not.
      height: height of the pixels as they are used.
      format: "JPEG", "PNG" or "BMP".
      mode: Pillow's name for the colours, such as "RGB".
      orientation: EXIF's orientation, 1 to 8.
      is_turned: whether the pixels are turned by the orientation, as viewers show them.
    """

    path: str
    name: str
    width: int
    height: int
    format: str
    mode: str
    orientation: int
    is_turned: bool = False

    @property
    def is_ordinary(self) -> bool:
        """Tells whether this is a JPEG in three colours, whose bytes can be kept."""
        return self.format == "JPEG" and self.mode == "RGB" and not self.is_turned

    @property
    def stored_size(self) -> tuple[int, int]:
        """Returns width and height of the pixels in the file."""
        is_swapped = self.is_turned and self.orientation in _ON_THE_SIDE
        return (self.height, self.width) if is_swapped else (self.width, self.height)

    def turned(self) -> "Photograph":
        """Returns the same file with its pixels turned, as viewers show them."""
        width, height = self.stored_size
        if self.orientation in _ON_THE_SIDE:
            width, height = height, width
        return dataclasses.replace(self, width=width, height=height, is_turned=True)


# EXIF's orientation -> a function that turns stored pixels `[H, W, 3]` as viewers do.
_TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}
_ON_THE_SIDE = (5, 6, 7, 8)  # orientations that exchange width and height
# Whether to turn photographs by their EXIF orientation. None turns them if the annotations show
# that they are for turned ones.
ORIENTATIONS = ("exif", "ignore")


def look_at(folders: list[Folder], out: str, skip_missing: bool) -> list[dict[str, Photograph]]:
    """Reads the header of every photograph.

    A fault in one is then known before hours are spent on the others.

    Args:
      folders: folders with the photographs.
      out: folder for the records; missing photographs are listed beside it.
      skip_missing: whether to go on without missing photographs, if others exist.

    Returns:
      Name -> photograph, folder by folder.

    Raises:
      UserError: a folder is absent, a name leads out of it, or files are missing or are not
        photographs (with their count).
    """
    folders = [folder._replace(names=list(dict.fromkeys(folder.names))) for folder in folders]
    for folder, names, option in folders:
        if not os.path.isdir(folder):
            raise UserError(
                f"'{folder}', which should hold {len(names):,} photographs, is not a folder: put "
                f"it there or give {option}."
            )
        for name in names:
            if os.path.isabs(name) or ".." in name.replace("\\", "/").split("/"):
                raise UserError(
                    f"The photograph '{name}' lies outside '{folder}' by its name: repair the "
                    f"annotations."
                )
    with concurrent.futures.ThreadPoolExecutor(THREADS) as executor:
        there = [list(executor.map(os.path.isfile, _paths(folder))) for folder in folders]
        if not (skip_missing and all(any(found) for found in there)):
            _refuse_missing(folders, there, out)
        folders = [
            folder._replace(
                names=[name for name, is_there in zip(folder.names, found, strict=True) if is_there]
            )
            for folder, found in zip(folders, there, strict=True)
        ]
        found = [
            list(executor.map(_read_header, _paths(folder), folder.names)) for folder in folders
        ]
    for folder, headers in zip(folders, found, strict=True):
        unreadable = [
            (name, one)
            for name, one in zip(folder.names, headers, strict=True)
            if isinstance(one, str)
        ]
        if unreadable:
            raise UserError(
                f"{len(unreadable):,} of {len(folder.names):,} photographs in '{folder.path}' "
                f"cannot be read ({_some([name for name, _ in unreadable])}; {unreadable[0][1]}): "
                "copy or download them again."
            )
    return [
        dict(zip(folder.names, headers, strict=True))
        for folder, headers in zip(folders, found, strict=True)
    ]


def _paths(folder: Folder) -> list[str]:
    return [os.path.join(folder.path, name) for name in folder.names]


def _refuse_missing(folders: list[Folder], there: list[list[bool]], out: str) -> None:
    """Raises UserError with the first missing photographs, and lists all beside `out`."""
    lacking, options, everything = [], [], []
    for folder, found in zip(folders, there, strict=True):
        missing = [name for name, one in zip(folder.names, found, strict=True) if not one]
        if missing:
            lacking.append(
                f"{len(missing):,} of {len(folder.names):,} photographs are missing in "
                f"'{folder.path}' ({_some(missing)})"
            )
            options.append(folder.option)
            everything += [os.path.join(folder.path, name) for name in missing]
    if not everything:
        return
    path = os.path.join(os.path.dirname(os.path.abspath(out)), MISSING_FILE)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(f"{name}\n" for name in everything)
        listed = f"'{path}' lists them all"
    except OSError as error:
        listed = f"their list could not be written to '{path}' ({error.strerror or error})"
    raise UserError(
        f"{' and '.join(lacking)}: put them there, or give {' and '.join(options)}, annotations of "
        f"those that are there, or --skip-missing; {listed}."
    )


def conversions(photographs: list[Photograph]) -> list[str]:
    """Counts photographs that are not in ordinary colours.

    They become RGB as OpenCV, and so HRNet's loader, converts them.
    """
    modes = [photograph.mode for photograph in photographs if photograph.mode != "RGB"]
    titles = {"L": "greyscale", "CMYK": "CMYK"}
    return [
        f"{modes.count(mode):,} {titles[mode] if mode in titles else f'Pillow mode {mode}'} "
        f"photographs were converted to RGB"
        for mode in sorted(set(modes))
    ]


def oriented(
    found: dict[str, Photograph], fits: Callable[[Photograph], bool], orientation: str | None
) -> tuple[dict[str, Photograph], list[str]]:
    """Turns photographs by EXIF's orientation if their annotations are for turned ones.

    Training code for MPII and COCO ignores the tag (HRNet), while viewers and annotation tools obey
    it. If turning exchanges width and height, a photograph's annotations may show which they are
    for, and this decides. If they do not show it, `orientation` decides. Without `orientation` the
    other photographs decide: all are turned if some are annotated as turned and none as stored.

    Args:
      found: name -> photograph as stored.
      fits: tells whether a photograph's annotations fit it as it is used.
      orientation: one of `ORIENTATIONS`, or None.

    Returns:
      Name -> photograph as it is used, and notes.
    """
    tagged = {name: one for name, one in found.items() if one.orientation != 1}
    verdicts = {name: (fits(one), fits(one.turned())) for name, one in tagged.items()}
    shown = [name for name, verdict in verdicts.items() if verdict == (False, True)]
    stored = [name for name, verdict in verdicts.items() if verdict == (True, False)]
    turns_others = orientation == "exif" or (orientation is None and bool(shown) and not stored)
    others = [name for name in tagged if name not in {*shown, *stored}] if turns_others else []
    turned = {name: found[name].turned() for name in (*shown, *others)}
    notes, ignored = [], len(tagged) - len(turned)
    if turned:
        reasons = [f"{len(shown):,} because only so their annotations fit"] if shown else []
        if others:
            also = "like them, as their own annotations fit either way"
            also = "as --orientation exif says" if orientation == "exif" else also
            reasons.append(f"{len(others):,} {also}")
        why = ", ".join(reasons)
        notes.append(f"{len(turned):,} photographs were turned by their EXIF orientation: {why}")
    if ignored:
        decided = f"; the annotations of {len(stored):,} fit them only so" if stored else ""
        remedy = "; if they were annotated as viewers show them, give --orientation exif"
        notes.append(
            f"{ignored:,} photographs have an EXIF orientation, which is ignored as HRNet does"
            f"{decided}{'' if len(stored) == ignored else remedy}"
        )
    return {name: turned[name] if name in turned else one for name, one in found.items()}, notes


def cut(photograph: Photograph, region: Region, encoding: str) -> bytes:
    """Cuts a region from a photograph and encodes it, without scaling.

    It is encoded at most once more.

    Args:
      photograph: a photograph that has been checked.
      region: x, y, width, height, pixels.
      encoding: "jpeg" (quality 95, 4:4:4) or "png" (lossless).

    Returns:
      The file's own bytes if the region is a whole ordinary JPEG, otherwise a new encoding.

    Raises:
      UserError: the file is damaged.
    """
    x, y, width, height = region
    encoded, picture = _decode(photograph)
    if photograph.is_ordinary and (width, height) == (photograph.width, photograph.height):
        return encoded
    suffix, options = (".jpg", JPEG) if encoding == "jpeg" else (".png", [])
    return cv2.imencode(suffix, picture[y : y + height, x : x + width], options)[1].tobytes()


@functools.lru_cache(maxsize=1)  # the persons on a photograph follow each other
def _decode(photograph: Photograph) -> tuple[bytes, np.ndarray]:
    """Returns a file's bytes and its pixels as they are used, `[H, W, 3]`.

    The bytes end with the picture. The colours are in OpenCV's order.
    """
    fault = None
    try:
        if os.path.getsize(photograph.path) > bounds.PICTURE_BYTES:
            raise OSError(f"more than {bounds.PICTURE_BYTES:,} bytes")
        with open(photograph.path, "rb") as file:
            encoded = file.read()
        end = pictures.end_of_jpeg(encoded) if photograph.format == "JPEG" else len(encoded)
        encoded = encoded[:end]
        size = photograph.stored_size
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        fits = pictures.is_decodable(encoded, size)
        picture = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags) if fits else None
        if picture is None or picture.shape[:2] != size[::-1]:
            fault = "it is cut off: it has no end mark" if end is None else "it cannot be decoded"
    except (OSError, cv2.error) as error:
        fault = str(error).strip()
    if fault is not None:
        raise UserError(
            f"Photograph '{photograph.path}' is damaged ({fault}): copy or download it again."
        )
    return encoded, np.ascontiguousarray(
        _TURNS[photograph.orientation](picture)
    ) if photograph.is_turned else picture


def _read_header(path: str, name: str) -> Photograph | str:
    """Returns the photograph, or a text that says what is wrong with it."""
    try:
        return Photograph(path, name, *pictures.header_of(path, ("JPEG", "PNG", "BMP")))
    except Exception as error:  # a parser may raise anything here
        return f"{type(error).__name__}: {error}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
