"""Pictures of users, looked at before OpenCV decodes them: it takes the memory that a header, or a chunk of a PNG, claims."""

import io
from typing import Any

from PIL import Image

from kdpose_jax.untrusted import bounds

_PNG = b"\x89PNG\r\n\x1a\n"


def header_of(file: Any, formats: tuple[str, ...]) -> tuple[int, int, str, str]:
    """What the header of a picture says.

    Args:
      file: path or open file.
      formats: that it may have, in Pillow's words.

    Returns:
      Width and height, pixels; format; colour mode.

    Raises:
      ValueError: more pixels than `bounds.PIXELS`.
      Exception: of any kind at damaged files.
    """
    with Image.open(file, formats=formats) as image:
        if image.width * image.height > bounds.PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels, and at most {bounds.PIXELS:,} are decoded")
        return image.width, image.height, image.format, image.mode


def is_decodable(encoded: Any, size: tuple[int, int]) -> bool:
    """Whether a JPEG, PNG or BMP file in memory is of this width and height, and no part of it claims more bytes than there are.

    Args:
      encoded: bytes, or a flat array of them.
      size: expected width and height, pixels.
    """
    content = memoryview(encoded)
    if len(content) > bounds.PICTURE_BYTES:
        return False
    try:
        if header_of(io.BytesIO(content), ("JPEG", "PNG", "BMP"))[:2] != size:
            return False
    except Exception:  # whatever a parser may raise at bytes of any kind
        return False
    return bytes(content[:8]) != _PNG or _chunks_fit(content)


def _chunks_fit(content: memoryview) -> bool:
    """Whether the chunks of a PNG file end within it, and none makes it an animation, whose frames have sizes of their own."""
    position = len(_PNG)
    while position + 12 <= len(content):  # length, name, bytes, checksum
        name = bytes(content[position + 4 : position + 8])
        if name in (b"acTL", b"fcTL", b"fdAT"):
            return False
        position += 12 + int.from_bytes(content[position : position + 4], "big")
        if name == b"IEND":
            return position <= len(content)
    return False
