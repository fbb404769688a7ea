"""Pictures of users, looked at before OpenCV decodes them.

It takes the memory that a header, or a chunk of a PNG, claims.
"""

import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from PIL import Image

from kdpose_jax.untrusted import bounds

_PNG = b"\x89PNG\r\n\x1a\n"
_ORIENTATION = 0x0112  # the tag of EXIF
_PNG_EXIF = 2**16  # bytes of a chunk of EXIF that are read: a JPEG's segment holds no more
# As libjpeg finds the next segment: whatever lies before a marker is skipped, further FF included.
_MARKER = re.compile(rb"\xff([^\x00\xff])")
# What ends the coded pixels: a marker, but none to restart at.
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_LONE_MARKERS = (0x01, *range(0xD0, 0xD9))  # they have no length behind them
_END, _SCAN = 0xD9, 0xDA


class Header(NamedTuple):
    """What a picture says of itself before its pixels.

    Attributes:
      width: of the stored pixels.
      height: of the stored pixels.
      format: "JPEG", "PNG" or "BMP".
      mode: colours in Pillow's words, such as "RGB".
      orientation: EXIF's, 1 to 8, by which viewers turn the stored pixels; 1: as they are, or no
        tag.
    """

    width: int
    height: int
    format: str
    mode: str
    orientation: int


def header_of(path: str, formats: tuple[str, ...]) -> Header:
    """Reads the header of a picture.

    Args:
      path: of the file.
      formats: that it may have, in Pillow's words.

    Returns:
      The header.

    Raises:
      ValueError: more pixels than `bounds.PIXELS`.
      Exception: of any kind at damaged files.
    """
    with _opened(path, formats) as image:
        # A JPEG with further pictures behind it (MPO, a phone's depth or gain map) is the JPEG that
        # it begins with.
        kind = "JPEG" if image.format == "MPO" else image.format
        assert kind is not None  # Pillow has found which of `formats` it is
        return Header(image.width, image.height, kind, image.mode, _orientation(image, path))


@contextlib.contextmanager
def _opened(file: Any, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """A picture whose header is read and claims no more than `bounds.PIXELS`."""
    with Image.open(file, formats=formats) as image:
        if image.width * image.height > bounds.PIXELS:
            raise ValueError(
                f"{image.width} x {image.height} pixels, and at most {bounds.PIXELS:,} are decoded"
            )
        yield image


def _orientation(image: Image.Image, path: str) -> int:
    """EXIF's orientation; 1 where there is none or none of the eight, as viewers do."""
    try:
        if (
            image.format == "PNG"
        ):  # asking Pillow would decode the pixels, as the chunk may stand behind them
            exif = Image.Exif()
            exif.load(_png_exif(path))
        else:
            exif = image.getexif()
        value = exif.get(_ORIENTATION)
    except (
        Exception
    ):  # whatever a parser may raise at bytes of any kind; the pixels do not depend on it
        return 1
    return value if type(value) is int and 1 <= value <= 8 else 1


def _png_exif(path: str) -> bytes:
    """The content of a PNG's chunk of EXIF, b"" if there is none."""
    with open(path, "rb") as file:
        file.seek(len(_PNG))
        while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
            length = int.from_bytes(head[:4], "big")
            if head[4:] == b"eXIf":
                return file.read(min(length, _PNG_EXIF))
            file.seek(length + 4, io.SEEK_CUR)
    return b""


def is_decodable(encoded: Any, size: tuple[int, int]) -> bool:
    """Whether a JPEG, PNG or BMP file in memory is of this width and height, and no part of it
    claims more bytes than there are.

    Args:
      encoded: bytes, or a flat array of them.
      size: expected width and height, pixels.
    """
    content = memoryview(encoded)
    if len(content) > bounds.PICTURE_BYTES:
        return False
    try:
        with _opened(io.BytesIO(content), ("JPEG", "PNG", "BMP")) as image:
            if image.size != size:
                return False
    except Exception:  # whatever a parser may raise at bytes of any kind
        return False
    return bytes(content[:8]) != _PNG or _chunks_fit(content)


def end_of_jpeg(content: bytes) -> int | None:
    """Where a JPEG ends by its own segments: behind its end mark, whatever follows; None if it has
    no end mark.

    Phones put a film or further pictures behind a photograph. Their bytes hold marks too, so that
    only a walk from the start
    finds the photograph's own: over the segments by their lengths, and over each scan's coded
    pixels.
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
    """Whether the chunks of a PNG file end within it, and none makes it an animation, whose frames
    have sizes of their own.
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
