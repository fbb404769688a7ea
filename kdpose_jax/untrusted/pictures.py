"""Checks users' pictures before OpenCV decodes them.

OpenCV allocates what a header or a chunk of a PNG claims.
"""

import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from PIL import Image

from kdpose_jax.untrusted import bounds

_PNG = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112  # EXIF's tag
_PNG_EXIF = 2**16  # bytes read from an EXIF chunk, as many as a JPEG's segment holds
# libjpeg finds the next segment like this: it skips what lies before a marker, further FF too.
_MARKER = re.compile(rb"\xff([^\x00\xff])")
# Coded pixels end at any marker that is not a restart marker.
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_LONE_MARKERS = (0x01, *range(0xD0, 0xD9))  # no length follows these markers
_END, _SCAN = 0xD9, 0xDA


class Header(NamedTuple):
    """Holds what a picture's header says.

    Attributes:
      width: width of the stored pixels.
      height: height of the stored pixels.
      format: "JPEG", "PNG" or "BMP".
      mode: Pillow's name for the colours, such as "RGB".
      orientation: EXIF's orientation, 1 to 8, by which viewers turn the stored pixels; 1 if they
        stay as they are or there is no tag.
    """

    width: int
    height: int
    format: str
    mode: str
    orientation: int


def header_of(path: str, formats: tuple[str, ...]) -> Header:
    """Reads a picture's header.

    Args:
      path: the file.
      formats: Pillow's names for the formats that are allowed.

    Returns:
      The header.

    Raises:
      ValueError: the picture has more pixels than `bounds.PIXELS`.
      Exception: any kind, if the file is damaged.
    """
    with _opened(path, formats) as image:
        # An MPO file has further pictures behind a JPEG (a phone's depth or gain map). It
        # counts as the JPEG that it begins with.
        kind = "JPEG" if image.format == "MPO" else image.format
        assert kind is not None  # Pillow has found which of `formats` it is
        return Header(image.width, image.height, kind, image.mode, _orientation(image, path))


@contextlib.contextmanager
def _opened(file: Any, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """Opens a picture, and checks that its header claims at most `bounds.PIXELS`."""
    with Image.open(file, formats=formats) as image:
        if image.width * image.height > bounds.PIXELS:
            raise ValueError(
                f"{image.width} x {image.height} pixels, and at most {bounds.PIXELS:,} are decoded"
            )
        yield image


def _orientation(image: Image.Image, path: str) -> int:
    """Returns EXIF's orientation; 1 if it is absent or unknown, as viewers assume."""
    try:
        if (
            image.format == "PNG"
        ):  # Pillow would decode the pixels, because the chunk may lie behind them
            exif = Image.Exif()
            exif.load(_png_exif(path))
        else:
            exif = image.getexif()
        value = exif.get(_ORIENTATION)
    except Exception:  # a parser may raise anything here; the pixels do not depend on it
        return 1
    return value if type(value) is int and 1 <= value <= 8 else 1


def _png_exif(path: str) -> bytes:
    """Returns the content of a PNG's EXIF chunk, b"" if there is none."""
    with open(path, "rb") as file:
        file.seek(len(_PNG))
        while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
            length = int.from_bytes(head[:4], "big")
            if head[4:] == b"eXIf":
                return file.read(min(length, _PNG_EXIF))
            file.seek(length + 4, io.SEEK_CUR)
    return b""


def is_decodable(encoded: Any, size: tuple[int, int]) -> bool:
    """Tells whether a JPEG, PNG or BMP file in memory is safe to decode.

    It must have this width and height, and no part of it may claim more bytes than there are.

    Args:
      encoded: the file's bytes, or a flat array of bytes.
      size: expected width and height, pixels.
    """
    content = memoryview(encoded)
    if len(content) > bounds.PICTURE_BYTES:
        return False
    try:
        with _opened(io.BytesIO(content), ("JPEG", "PNG", "BMP")) as image:
            if image.size != size:
                return False
    except Exception:  # a parser may raise anything here
        return False
    return bytes(content[:8]) != _PNG or _chunks_fit(content)


def end_of_jpeg(content: bytes) -> int | None:
    """Returns where a JPEG ends, by its own end mark; None if it has no end mark.

    Phones put a film or further pictures behind a photograph, and these hold end marks too. Only a
    walk from the start finds the photograph's own mark. It follows the lengths of the segments, and
    skips the coded pixels after each scan.
    """
    position = 2  # behind the mark of the start
    while found := _MARKER.search(content, position):
        marker, position = found[1][0], found.end()
        if marker == _END:
            return position
        if marker in _LONE_MARKERS:
            continue
        position += max(int.from_bytes(content[position : position + 2], "big"), 2)
        if marker == _SCAN:
            scan = _SCAN_END.search(content, position)
            if scan is None:
                return None
            position = scan.start()
    return None


def _chunks_fit(content: memoryview) -> bool:
    """Tells whether a PNG's chunks end within the file, and none makes it an animation.

    An animation's frames have sizes of their own.
    """
    position = len(_PNG)
    while position + 12 <= len(content):  # length, name, bytes, checksum
        name = bytes(content[position + 4 : position + 8])
        if name in (b"acTL", b"fcTL", b"fdAT"):
            return False
        position += 12 + int.from_bytes(content[position : position + 4], "big")
        if name == b"IEND":
            return position <= len(content)
    return False
