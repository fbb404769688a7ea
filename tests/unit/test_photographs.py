"""Photographs: where they end, how they stand, and that their pixels are under the joints."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from data_prep import photographs
from data_prep.photographs import Folder, Photograph
from kdpose_jax.errors import UserError
from kdpose_jax.untrusted import pictures

ORIENTATIONS = range(1, 9)


def pixels(width=64, height=48):
    """Four corners of four colours on grey, `[H, W, 3]`: every turn shows."""
    picture = np.full((height, width, 3), 128, np.uint8)
    for (row, column), colour in zip(
        ((0, 0), (0, 1), (1, 0), (1, 1)),
        ((250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)),
        strict=True,
    ):
        picture[
            row * (height - 16) : row * (height - 16) + 16,
            column * (width - 16) : column * (width - 16) + 16,
        ] = colour
    return picture


def encoded(picture, kind="JPEG", orientation=None, **options):
    buffer, exif = io.BytesIO(), Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
        options["exif"] = exif.tobytes()
    Image.fromarray(picture).save(
        buffer, kind, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}), **options
    )
    return buffer.getvalue()


def look(folder, content, name="a.jpg"):
    (folder / name).write_bytes(content)
    photographs._decode.cache_clear()
    return photographs.look_at(
        [Folder(str(folder), [name], "--test-images")], str(folder / "out"), False
    )[0][name]


def whole(photograph, encoding="jpeg"):
    return photographs.cut(photograph, (0, 0, photograph.width, photograph.height), encoding)


def flat(**options):
    """A JPEG by OpenCV: with marks to restart at, or in several scans."""
    noisy = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    flags = [
        value
        for name, one in options.items()
        for value in (getattr(cv2, f"IMWRITE_JPEG_{name}"), one)
    ]
    return cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 98, *flags])[1].tobytes()


PLAIN = {"baseline": flat(), "progressive": flat(PROGRESSIVE=1), "restarts": flat(RST_INTERVAL=2)}
# Behind the picture: a film with marks in it, a second picture, and bytes that a search from the
# end takes for the picture's own.
BEHIND = {
    "film": b"MotionPhoto_Data" + bytes(range(256)) * 4 + b"\xff\xda" + bytes(900),
    "second picture": flat(),
    "end mark last": b"ftypmp42" + b"\xff\xda" + bytes(500) + b"\xff\xd9",
    "zeros": bytes(64),
}


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("behind", BEHIND)
def test_what_follows_a_photograph_is_neither_damage_nor_data(tmp_path, kind, behind):
    content = PLAIN[kind]
    assert content.endswith(b"\xff\xd9") and pictures.end_of_jpeg(content) == len(content)
    assert whole(look(tmp_path, content + BEHIND[behind])) == content


def test_the_thumbnail_in_a_segment_does_not_end_the_photograph(tmp_path):
    thumbnail = flat()
    content = PLAIN["baseline"]
    inside = (
        content[:2]
        + b"\xff\xe1"
        + struct.pack(">H", len(thumbnail) + 2)
        + thumbnail
        + b"\xff\xff"
        + content[2:]
    )
    assert pictures.end_of_jpeg(inside) == len(inside)
    assert whole(look(tmp_path, inside)) == inside


def test_several_pictures_in_one_file(tmp_path):
    """A phone's MPO: Pillow gives it another name, and it is the JPEG that it begins with."""
    first, second = Image.fromarray(pixels()), Image.fromarray(pixels()[::-1].copy())
    buffer = io.BytesIO()
    first.save(buffer, "MPO", save_all=True, append_images=[second], quality=95)
    content = buffer.getvalue()
    kept = whole(look(tmp_path, content))
    assert content.startswith(kept) and len(kept) < 0.7 * len(content)
    assert (
        np.asarray(Image.open(io.BytesIO(kept)).convert("RGB"))
        == np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    ).all()


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("keep", [0.5, 0.9, -2])
def test_without_an_end_mark_the_decoder_judges(tmp_path, kind, keep):
    content = PLAIN[kind]
    cut = content[: keep if keep < 0 else int(keep * len(content))]
    assert pictures.end_of_jpeg(cut) is None
    with pytest.raises(
        UserError,
        match=r"a.jpg' is damaged \(it is cut off: it has no end mark\): copy or download it again",
    ):
        whole(look(tmp_path, cut))


def test_a_png_ends_at_its_end_chunk(tmp_path):
    picture = pixels()
    found = look(tmp_path, encoded(picture, "PNG") + b"\xff\xd9behind" * 99, "a.png")
    stored = cv2.imdecode(np.frombuffer(whole(found, "png"), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert (stored == picture).all() and len(whole(found, "png")) < 2000


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_turned_pixels_are_those_of_a_viewer(tmp_path, kind, orientation):
    content = encoded(pixels(), kind, orientation)
    found = look(tmp_path, content, f"a.{kind.lower()}")
    assert (found.orientation, found.is_turned, found.width, found.height) == (
        orientation,
        False,
        64,
        48,
    )
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    turned = found.turned()
    assert (
        (turned.width, turned.height) == shown.size
        and turned.stored_size == (64, 48)
        and turned.turned() == turned
    )
    kept = whole(turned, "png")
    stored = Image.open(io.BytesIO(kept))
    assert stored.getexif().get(0x0112) in (None, 1)  # no reader turns it once more
    assert np.abs(np.asarray(stored.convert("RGB")).astype(int) - np.asarray(shown)).max() <= (
        3 if kind == "JPEG" else 0
    )


def test_a_png_tells_its_orientation_behind_its_pixels(tmp_path):
    content, exif = encoded(pixels(), "PNG"), Image.Exif()
    exif[0x0112] = 6
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = b"eXIf" + body
    moved = (
        content[:-12]
        + struct.pack(">I", len(body))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + content[-12:]
    )
    assert look(tmp_path, moved, "a.png").orientation == 6


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(tmp_path, value):
    assert look(tmp_path, encoded(pixels(), orientation=value)).orientation == 1


def test_damaged_exif_is_none(tmp_path):
    content = encoded(pixels(), orientation=6)
    place = content.index(b"Exif\0\0")
    assert look(tmp_path, content[: place + 6] + b"??" + content[place + 8 :]).orientation == 1


def some(**sizes):
    """Photographs of orientation 6 or 3, by name, as stored."""
    return {
        name: Photograph(name, name, width, height, "JPEG", "RGB", tag)
        for name, (width, height, tag) in sizes.items()
    }


UPRIGHT = {"a": (240, 300), "b": (200, 200), "c": (90, 120)}


def fits(photograph):
    return (photograph.width, photograph.height) == UPRIGHT[photograph.name]


def turned(orientation, **sizes):
    used, notes = photographs.oriented(some(**sizes), fits, orientation)
    return "".join(name for name, one in used.items() if one.is_turned), notes


def test_annotations_tell_which_photographs_are_turned():
    # a fits only turned; b is square and c upside down, so that they fit either way and go with a.
    assert turned(None, a=(300, 240, 6), b=(200, 200, 8), c=(90, 120, 3)) == (
        "abc",
        ["3 photographs were turned by their EXIF orientation: 1 because only so their annotations "
        "fit, 2 like them, as their own "
         "annotations fit either way"],
    )  # fmt: skip
    assert turned("ignore", a=(300, 240, 6), b=(200, 200, 8), c=(90, 120, 1))[0] == "a"
    assert turned(None, b=(200, 200, 8), c=(90, 120, 3)) == (
        "",
        ["2 photographs have an EXIF orientation, which is ignored as HRNet does; if they were "
        "annotated as viewers show them, give "
         "--orientation exif"],
    )  # fmt: skip
    assert turned("exif", b=(200, 200, 8), c=(90, 120, 3))[0] == "bc"
    # One that fits only as stored says that the set is not annotated as viewers show it.
    assert (
        turned(None, a=(240, 300, 6), b=(200, 200, 8))[0] == ""
        and turned("exif", a=(240, 300, 6), b=(200, 200, 8))[0] == "b"
    )
    assert turned(None, a=(240, 300, 1), b=(200, 200, 1)) == ("", [])
