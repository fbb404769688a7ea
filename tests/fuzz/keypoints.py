"""Keypoints of detectors: archives and tables. Those in JSON are in `documents`."""

import contextlib
import functools
import io
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.fuzz.archives import PICKLE_WORDS
from tests.fuzz.reader import Reader, on_file

SIZE = (64, 48)
NUMPY = ("detectron2", "videopose3d", "plain")
TABLES = ("deeplabcut", "mediapipe", "plain", "ultralytics")


def scene(joints: int) -> np.ndarray:
    """Returns x, y and score of joints inside the picture, `[joints, 3]`."""
    values = np.full((joints, 3), 0.5)
    values[:, 0], values[:, 1] = 2 + np.arange(joints) % 9 * 4, 3 + np.arange(joints) % 5 * 4
    return values


def read_all(path: str, formats: Sequence[str]) -> None:
    """Reads a file by some formats and by its content, and uses what was read."""
    from kdpose_jax.errors import UserError
    from kdpose_jax.keypoints import gaps, layouts
    from kdpose_jax.keypoints.formats import recognise
    from kdpose_jax.keypoints.formats.options import Options
    from kdpose_jax.skeletons import H36M_17

    for name in formats:
        with contextlib.suppress(UserError):
            use(recognise.FORMATS[name].read(path, Options(size=SIZE)))
    keypoints = recognise.read_keypoints(path, size=SIZE)
    use(keypoints)
    with contextlib.suppress(UserError):  # for want of joints
        gaps.fill(layouts.convert(keypoints, H36M_17.joints), 25.0)


def use(keypoints: Any) -> None:
    """Checks what every reader promises."""
    assert keypoints.tracks and keypoints.length > 0
    names = [track.name for track in keypoints.tracks]
    assert len(set(names)) == len(names)
    for track in keypoints.tracks:
        shape = (len(track.frames), len(keypoints.joints))
        assert track.points.shape == (*shape, 2) and track.scores.shape == shape
        assert track.frames[0] >= 0 and track.frames[-1] < keypoints.length
        assert (np.diff(track.frames) > 0).all()
        found = np.isfinite(track.points).all(axis=-1)
        assert ((track.scores > 0) == found).all() and np.isfinite(track.scores).all()
        assert (np.isnan(track.points).all(axis=-1) == ~found).all()


def keypoints_npz(folder: pathlib.Path) -> Reader:
    """Raw detections, VideoPose3D's own videos, and plain arrays."""
    values = scene(17).astype(np.float32)
    frames = np.empty((2, 2), object)
    for frame in range(2):
        frames[frame, 0] = []
        frames[frame, 1] = values[None, :, [0, 1, 2, 2]].swapaxes(1, 2) if frame else []
    metadata = {"layout_name": "coco", "video_metadata": {"a": {"w": 64, "h": 48}}}
    seeds = []
    for arrays in (
        {"boxes": frames, "keypoints": frames, "metadata": {"w": 64, "h": 48}},
        {"positions_2d": {"a": {"custom": [values[None, :, :2]]}}, "metadata": metadata},
        {"keypoints_2d": scene(25)[None], "fps": 25.0, "size": np.asarray(SIZE)},
    ):
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        seeds.append(content.getvalue())
    content = io.BytesIO()
    np.save(content, scene(25)[None])
    return Reader(
        on_file(folder / "a.npz", functools.partial(read_all, formats=NUMPY)),
        [*seeds, content.getvalue()],
        (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", *PICKLE_WORDS),
    )


def keypoints_text(folder: pathlib.Path) -> Reader:
    """Tables of DeepLabCut, MediaPipe and of one's own, and Ultralytics' texts."""
    names = ["nose", "left_eye", "right_eye", "lshoulder", "RShoulder", "l_hip", "hip_r"]
    cells = [f"{value:g}" for value in scene(7).reshape(-1)]
    columns = [f"{name}_{kind}" for name in names for kind in ("x", "y", "likelihood")]
    single = [
        "scorer," + ",".join(["DLC"] * 21),
        "bodyparts," + ",".join(name for name in names for _ in "xyz"),
        "coords," + ",".join(["x", "y", "likelihood"] * 7),
        *(f"{frame}," + ",".join(cells) for frame in range(2)),
    ]
    several = [single[0], "individuals," + ",".join(["a"] * 21), *single[1:]]
    own = ["frame,person," + ",".join(columns), *(f"{n},{n}," + ",".join(cells) for n in (0, 1))]
    long = ["frame;joint;x;y", *(f"0;{name};{at};{at + 2}" for at, name in enumerate(names))]
    shares = (scene(17) / (*SIZE, 1)).reshape(-1)
    line = " ".join(f"{value:g}" for value in [0, 0.5, 0.5, 0.2, 0.2, *shares, 0.875, 3])
    numbered = [",".join(f"{kind}{n}" for n in range(33) for kind in "xyzv")]
    numbered += [",".join(["0.25,0.5,0,0.9"] * 33)]
    texts = [single, several, own, long, [line, line], numbered]
    return Reader(
        on_file(folder / "a.csv", functools.partial(read_all, formats=TABLES)),
        ["\n".join(text).encode() for text in texts],
        (b"scorer", b"individuals", b"bodyparts", b"coords", b"frame", b"person", b"landmark"),
    )
