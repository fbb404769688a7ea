"""Models pinhole cameras with distortion, and reads tables of cameras in JSON.

Equations: VideoPose3D, camera.py and quaternion.py.
"""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from kdpose_jax.errors import UserError
from kdpose_jax.untrusted.documents import load_json

H36M_TABLE = os.path.join(os.path.dirname(__file__), "h36m_cameras.json")


@dataclasses.dataclass(frozen=True, eq=False)
class Camera:
    """Describes one camera in one subject's takes.

    Attributes:
      width: width of the picture, pixels.
      height: height of the picture, pixels.
      intrinsic: `[9]` float64, fx fy cx cy (pixels) k1 k2 k3 p1 p2.
      orientation: `[4]` float64, unit quaternion w x y z that turns camera axes into world axes.
      translation: `[3]` float64, the camera's place in the world, metres.
    """

    width: int
    height: int
    intrinsic: np.ndarray
    orientation: np.ndarray
    translation: np.ndarray


def rotate(vectors: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    """Turns vectors by a unit quaternion: v + 2 (w (q x v) + q x (q x v)).

    Args:
      vectors: `[..., 3]`.
      quaternion: `[4]`, w x y z.

    Returns:
      `[..., 3]`.
    """
    axis = quaternion[1:]
    once = np.cross(axis, vectors)
    return vectors + 2 * (quaternion[0] * once + np.cross(axis, once))


def inverse(quaternion: np.ndarray) -> np.ndarray:
    """Returns the opposite turn to a unit quaternion, `[..., 4]` in and out."""
    return quaternion * np.asarray([1, -1, -1, -1], quaternion.dtype)


def world_to_camera(
    points: np.ndarray, orientation: np.ndarray, translation: np.ndarray
) -> np.ndarray:
    """Computes R(q)^-1 (X - t), from world to camera axes (x right, y down, z forward).

    Points are `[..., 3]` metres, in and out.
    """
    return rotate(points - translation, inverse(orientation))


def camera_to_world(
    points: np.ndarray, orientation: np.ndarray, translation: np.ndarray
) -> np.ndarray:
    """Computes R(q) X + t, from camera to world axes, `[..., 3]` metres in and out."""
    return rotate(points, orientation) + translation


def project_to_2d(points: np.ndarray, intrinsic: np.ndarray) -> np.ndarray:
    """Projects with radial and tangential distortion (VideoPose3D's `project_to_2d`).

    Equations: docs/methods/lifting.md#cameras.

    Args:
      points: `[..., 3]`, metres in camera coordinates.
      intrinsic: `[9]`, fx fy cx cy k1 k2 k3 p1 p2; the unit of the first four is that of the
        result.

    Returns:
      `[..., 2]`, pixels or screen units.
    """
    focal, center, radial, tangential = np.split(intrinsic, [2, 4, 7])
    ideal = np.clip(points[..., :2] / points[..., 2:], -1, 1)
    square = np.sum(ideal**2, axis=-1, keepdims=True)
    radial_factor = 1 + square * (radial[0] + square * (radial[1] + square * radial[2]))
    tangential_factor = np.sum(tangential * ideal, axis=-1, keepdims=True)
    return focal * (ideal * (radial_factor + tangential_factor) + tangential * square) + center


def clips(points: np.ndarray) -> np.ndarray:
    """Tells whether `project_to_2d` moves points `[..., 3]` to the edge of its range.

    It does if x or y exceed z. The result is `[...]`.
    """
    return (np.abs(points[..., :2]) > points[..., 2:]).any(axis=-1)


def project_to_2d_linear(points: np.ndarray, intrinsic: np.ndarray) -> np.ndarray:
    """Projects without distortion (VideoPose3D's `project_to_2d_linear`)."""
    return intrinsic[:2] * np.clip(points[..., :2] / points[..., 2:], -1, 1) + intrinsic[2:4]


def screen_intrinsic(camera: Camera) -> np.ndarray:
    """Converts a camera's intrinsics `[9]` to screen units.

    Both axes are divided by the width, and x is in [-1, 1] (VideoPose3D, h36m_dataset.py).
    """
    scaled = camera.intrinsic.copy()
    scaled[:4] *= 2 / camera.width
    scaled[2:4] -= np.asarray([1, camera.height / camera.width])
    return scaled


def other_readings(camera: Camera) -> dict[str, Camera]:
    """Returns the cameras that other conventions would read: words -> camera.

    A convention is a way to write the camera's place.
    """
    turned, moved = (
        inverse(camera.orientation),
        -rotate(camera.translation, inverse(camera.orientation)),
    )
    return {
        "R and T as world to camera (then write t for T)": dataclasses.replace(
            camera, orientation=turned, translation=moved
        ),
        "R as world to camera beside the camera's place (then transpose R)": dataclasses.replace(
            camera, orientation=turned
        ),
        "t as the camera's place (then write T for t and transpose R)": dataclasses.replace(
            camera, translation=moved
        ),
    }


def quaternion_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """Converts a rotation matrix `[3, 3]` to a unit quaternion `[4]` w x y z, w >= 0.

    It is an eigenvector of Bar-Itzhack's symmetric matrix.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = matrix
    symmetric = np.asarray(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, yy - xx - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, zz - xx - yy],
        ]
    )
    quaternion = np.linalg.eigh(symmetric)[1][:, -1]
    return -quaternion if quaternion[0] < 0 else quaternion


def read_cameras(path: str) -> dict[str, list[Camera]]:
    """Reads a camera table.

    Two layouts, told apart by the keys at the top:
      `{"S1": [camera, ...], ...}`: per subject, in the order of the 2D file's views;
      `{"S1/54138969": camera, ...}`: per view, the order in the file being that of the views.
    Top entries whose value is a string are notes. A camera has
      `res_w`, `res_h` or `w`, `h`: pixels;
      `focal_length` or `f`, `center` or `c`: two numbers each, pixels;
      optional `radial_distortion` or `k` (k1 k2 k3), `tangential_distortion` or `p` (p1 p2 as
        `project_to_2d` takes them, p1 being the factor of x: VideoPose3D's order; OpenCV has them
        the other way round), zero if absent; and its place, as one of `orientation` (quaternion w x
        y z, camera to world) with `translation` (camera position, metres) or `translation_mm`; `R`
        (camera to world) with `T` (camera position, metres); `R` (world to camera) with `t`
        (metres): x_camera = R x_world + t.
    Of several the first in this list counts.

    Args:
      path: JSON file.

    Returns:
      Subject -> cameras.

    Raises:
      UserError: no such file, no JSON, or a camera that cannot be understood.
    """
    try:
        table = load_json(path)
    except FileNotFoundError as error:
        raise UserError(
            f"Camera table '{path}' does not exist: give a JSON file with --cameras (layout: "
            f"data_prep/cameras.py)."
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"Camera table '{path}' cannot be read as JSON ({error}): see data_prep/cameras.py "
            f"for the layout."
        ) from error
    if not isinstance(table, dict):
        raise UserError(
            f"Camera table '{path}' is a {type(table).__name__}, not an object of subjects: see "
            f"data_prep/cameras.py for it."
        )
    cameras: dict[str, list[Camera]] = {}
    for key, value in table.items():
        if isinstance(value, str):
            continue
        for index, entry in enumerate(value if isinstance(value, list) else [value]):
            cameras.setdefault(key.split("/")[0], []).append(
                _parse_camera(entry, f"Camera table '{path}', '{key}', camera {index}")
            )
    if not cameras:
        raise UserError(
            f"Camera table '{path}' holds no camera: see data_prep/cameras.py for the layout."
        )
    return cameras


def _parse_camera(entry: Any, place: str) -> Camera:
    """Reads one entry in a table."""
    if not isinstance(entry, dict):
        raise UserError(
            f"{place} is a {type(entry).__name__} and not an object with focal_length, center "
            f"...: see data_prep/cameras.py."
        )

    def numbers(
        names: tuple[str, ...], shape: tuple[int, ...], optional: bool = False
    ) -> np.ndarray:
        """Reads the entry under the first of `names` that exists, as float64 in this shape."""
        present = [name for name in names if name in entry]
        if not present:
            if optional:
                return np.zeros(shape)
            raise UserError(
                f"{place} lacks {' or '.join(names)}: see data_prep/cameras.py for the layout."
            )
        try:
            value = np.asarray(entry[present[0]], np.float64).reshape(shape)
        except (TypeError, ValueError):
            value = None
        if value is None or not np.isfinite(value).all():
            size = " x ".join(map(str, shape)) or "one"
            raise UserError(
                f"{place}: {present[0]} must be {size} finite numbers, not "
                f"{str(entry[present[0]])[:60]}: correct the file."
            )
        return value

    width, height = int(numbers(("res_w", "w"), ())), int(numbers(("res_h", "h"), ()))
    focal = numbers(("focal_length", "f"), (2,))
    if width <= 0 or height <= 0 or (focal <= 0).any():
        raise UserError(
            f"{place}: width {width}, height {height}, focal length {focal} must be positive "
            f"pixels: correct the file."
        )
    intrinsic = np.concatenate(
        [
            focal,
            numbers(("center", "c"), (2,)),
            numbers(("radial_distortion", "k"), (3,), optional=True),
            numbers(("tangential_distortion", "p"), (2,), optional=True),
        ]
    )
    orientation, translation = _parse_place(entry, numbers, place)
    if np.abs(translation).max() > 100:
        raise UserError(
            f"{place} stands {np.abs(translation).max():.0f} m from the origin, so these seem to "
            f"be millimetres: write metres."
        )
    return Camera(width, height, intrinsic, orientation, translation)


def _parse_place(
    entry: dict[str, Any],
    numbers: Callable[[tuple[str, ...], tuple[int, ...]], np.ndarray],
    place: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Reads orientation (camera to world) and position (metres) from a table's entry.

    `numbers` is the function in `_parse_camera`.
    """
    if "orientation" in entry:
        orientation = numbers(("orientation",), (4,))
        if abs(np.linalg.norm(orientation) - 1) > 1e-3:
            raise UserError(
                f"{place}: orientation {orientation} is not a unit quaternion w x y z: correct "
                f"the file."
            )
        if "translation_mm" in entry:
            return orientation, numbers(("translation_mm",), (3,)) / 1000
        return orientation, numbers(("translation",), (3,))
    matrix = numbers(("orientation", "R"), (3, 3))
    if np.abs(matrix @ matrix.T - np.eye(3)).max() > 1e-3 or np.linalg.det(matrix) < 0:
        raise UserError(f"{place}: R is not a rotation matrix: correct the file.")
    if "T" in entry:
        return quaternion_from_matrix(matrix), numbers(("T",), (3,))
    orientation = quaternion_from_matrix(matrix.T)
    return orientation, -rotate(numbers(("t",), (3,)), orientation)
