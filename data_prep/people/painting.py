"""Paints solids with texture, light and depth into a picture, for generated people.

All of it is our own design.
"""

import dataclasses
import functools
from collections.abc import Callable

import cv2
import numpy as np

# A material maps a place on a solid `[N, 3]` (left, up, forward; metres) to a colour `[N, 3]`, 0 to
# 1.
Material = Callable[[np.ndarray], np.ndarray]
TILE = 256
NEAREST = 0.3  # nothing closer to the camera is painted, metres
UP = np.asarray([0.0, 0.0, 1.0])


@dataclasses.dataclass(frozen=True)
class Viewpoint:
    """Describes a pinhole camera; a pixel's centre has whole coordinates.

    Attributes:
      rotation: `[3, 3]`, rows right, down and forward in the world.
      position: `[3]` metres, world with z up and the floor at 0.
      focal: focal length, pixels.
      center: `[2]` principal point, pixels.
      width: width of the picture, pixels.
      height: height of the picture, pixels.
    """

    rotation: np.ndarray
    position: np.ndarray
    focal: float
    center: np.ndarray
    width: int
    height: int

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Converts world `[..., 3]` to camera `[..., 3]` (right, down, depth)."""
        return (points - self.position) @ self.rotation.T

    def project(self, points: np.ndarray) -> np.ndarray:
        """Converts world `[..., 3]` to pixels `[..., 2]`."""
        seen = self.to_camera(points)
        return seen[..., :2] / seen[..., 2:] * self.focal + self.center


def looking(
    position: np.ndarray,
    target: np.ndarray,
    roll: float,
    focal: float,
    center: np.ndarray,
    size: tuple[int, int],
) -> Viewpoint:
    """Makes a viewpoint at `position` that looks at `target`, rolled by `roll` radians.

    `size` is (width, height).
    """
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, UP)
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    turned = np.cos(roll) * right + np.sin(roll) * down
    return Viewpoint(
        np.stack([turned, np.cross(forward, turned), forward]),
        position,
        focal,
        np.asarray(center),
        *size,
    )


class Canvas:
    """Holds a picture with depth.

    Attributes:
      viewpoint: the camera that sees it.
      colour: `[H, W, 3]` float32, 0 to 1.
      depth: `[H, W]` float32 metres.
      label: `[H, W]` int32, what is seen in a pixel: the `label` from the last call that won.
      covered: owner -> `[H, W]` bool, every pixel that one of the owner's solids covers, seen or
        hidden.
    """

    def __init__(self, viewpoint: Viewpoint, light: np.ndarray, ambient: float):
        """Makes an empty canvas.

        `light` is the unit vector to the light in the world, and `ambient` the share of light from
        everywhere.
        """
        shape = (viewpoint.height, viewpoint.width)
        self.viewpoint, self._light, self._ambient = viewpoint, viewpoint.rotation @ light, ambient
        self.colour = np.zeros((*shape, 3), np.float32)
        self.depth = np.full(shape, np.inf, np.float32)
        self.label = np.zeros(shape, np.int32)
        self.covered: dict[int, np.ndarray] = {}

    def capsule(
        self,
        start: np.ndarray,
        end: np.ndarray,
        radii: np.ndarray,
        axes: np.ndarray,
        material: Material,
        label: int,
        owner: int,
    ) -> None:
        """Paints a rounded, tapered limb.

        Args:
          start: `[3]` world, centre of one end.
          end: `[3]` world, centre of the other end.
          radii: radii of both ends, metres.
          axes: `[2, 3]` unit vectors in the world, left and forward for the material; "up" points
            from start to end.
          material: its colours.
          label: what `Canvas.label` gets where it is seen.
          owner: the key in `Canvas.covered` under which it is kept.
        """
        view, ends = self.viewpoint, self.viewpoint.to_camera(np.stack([start, end]))
        if ends[:, 2].min() < NEAREST:
            return
        points = ends[:, :2] / ends[:, 2:] * view.focal + view.center
        sizes = view.focal * np.asarray(radii) / ends[:, 2]
        window, x, y = self._window(
            (points - sizes[:, None]).min(0), (points + sizes[:, None]).max(0)
        )
        if x.size == 0:
            return
        x, y, axis = x - points[0, 0], y - points[0, 1], points[1] - points[0]
        # In pixels, the limb lies `reach` across the picture and `rise` away from the
        # camera.
        scale, reach = view.focal / ends[:, 2].mean(), max(np.linalg.norm(axis), 1e-3)
        rise = (ends[1, 2] - ends[0, 2]) * scale
        across, beside = (x * axis[0] + y * axis[1]) / reach, (y * axis[0] - x * axis[1]) / reach
        size = sizes[0] + np.clip(across / reach, 0, 1) * (sizes[1] - sizes[0])
        # A ray meets a tilted cylinder away from where it crosses the axis.
        lift = np.sqrt(np.maximum(size * size - beside * beside, 0)) * rise / np.hypot(reach, rise)
        along = np.clip((across - lift) / reach, 0, 1)
        size = sizes[0] + along * (sizes[1] - sizes[0])
        right, down = (x - along * axis[0]) / size, (y - along * axis[1]) / size
        square = right * right + down * down
        toward = np.sqrt(np.maximum(1 - square, 0))
        radius = radii[0] + along * (radii[1] - radii[0])
        depth = ends[0, 2] + along * (ends[1, 2] - ends[0, 2]) - toward * radius
        chosen = self._claim(window, square < 1, depth, owner)
        normal = np.stack([right[chosen], down[chosen], -toward[chosen]], axis=-1)
        around = normal @ (axes @ view.rotation.T).T * radius[chosen][:, None]
        length = along[chosen] * np.linalg.norm(ends[1] - ends[0])
        self._put(
            window,
            chosen,
            depth,
            normal,
            material(np.stack([around[:, 0], length, around[:, 1]], axis=-1)),
            label,
        )

    def ellipsoid(
        self,
        center: np.ndarray,
        axes: np.ndarray,
        sizes: np.ndarray,
        material: Material,
        label: int,
        owner: int,
        keep: Material | None = None,
    ) -> None:
        """Paints an ellipsoid.

        Args:
          center: `[3]` world.
          axes: `[3, 3]` rows left, up and forward in the world.
          sizes: half axes in this order, metres.
          material: its colours.
          label: what `Canvas.label` gets where it is seen.
          owner: the key in `Canvas.covered` under which it is kept.
          keep: place on the unit sphere `[N, 3]` -> bool `[N]`, whether the surface exists there;
            None for all of it.
        """
        view, middle = self.viewpoint, self.viewpoint.to_camera(np.asarray(center))
        largest = max(sizes)
        if middle[2] - largest < NEAREST:
            return
        pixel, reach = (
            middle[:2] / middle[2] * view.focal + view.center,
            view.focal * largest / (middle[2] - largest),
        )
        window, x, y = self._window(pixel - reach, pixel + reach)
        if x.size == 0:
            return
        to_unit = axes @ view.rotation.T / np.asarray(sizes)[:, None]  # camera -> unit sphere
        across, below = np.broadcast_arrays(
            (x - view.center[0]) / view.focal, (y - view.center[1]) / view.focal
        )
        ray = np.stack([across, below, np.ones_like(across)], axis=-1) @ to_unit.T
        origin = -to_unit @ middle
        a, b, c = np.einsum("hwc,hwc->hw", ray, ray), ray @ origin, origin @ origin - 1
        root = b * b - a * c
        # The third component of a ray is 1 in camera space.
        depth = (-b - np.sqrt(np.maximum(root, 0))) / a
        inside, place = root > 0, origin + depth[..., None] * ray
        if keep is not None:
            inside = inside & keep(place)
        chosen = self._claim(window, inside, depth, owner)
        normal = place[chosen] @ to_unit
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        self._put(window, chosen, depth, normal, material(place[chosen] * sizes), label)

    def card(
        self,
        low: np.ndarray,
        high: np.ndarray,
        depth: float,
        material: Material,
        label: int,
        keep: Material | None = None,
    ) -> None:
        """Paints an upright plate that faces the camera.

        Corners are in pixels `[2]`, depth in metres. `keep` takes (x, y) from -1 to 1.
        """
        window, x, y = self._window(np.asarray(low), np.asarray(high))
        if x.size == 0:
            return
        x, y = np.broadcast_arrays(x - (low[0] + high[0]) / 2, (low[1] + high[1]) / 2 - y)
        inside = np.ones(x.shape, np.bool_)
        if keep is not None:
            inside = keep(
                np.stack([2 * x / (high[0] - low[0]), 2 * y / (high[1] - low[1])], axis=-1)
            )
        chosen = inside & (depth < self.depth[window])
        scale = depth / self.viewpoint.focal
        place = np.stack([x[chosen] * scale, y[chosen] * scale, np.zeros(chosen.sum())], axis=-1)
        flat = np.broadcast_to([0.0, 0.0, -1.0], place.shape)
        self._put(window, chosen, np.full(x.shape, depth), flat, material(place), label)

    def rays(self) -> np.ndarray:
        """Computes the direction `[H, W, 3]` of each pixel's ray in the world, with depth 1."""
        view = self.viewpoint
        across = (np.arange(view.width) - view.center[0]) / view.focal
        below = (np.arange(view.height) - view.center[1]) / view.focal
        return (
            across[None, :, None] * view.rotation[0]
            + below[:, None, None] * view.rotation[1]
            + view.rotation[2]
        )

    def _window(
        self, low: np.ndarray, high: np.ndarray
    ) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
        """Returns the part of the picture from pixel `low` to `high`.

        The result has its slices, x `[1, w]` and y `[h, 1]`.
        """
        x0, y0 = np.maximum(np.floor(low), 0).astype(int)
        x1, y1 = (
            int(limit)
            for limit in np.minimum(
                np.ceil(high) + 1, [self.viewpoint.width, self.viewpoint.height]
            )
        )
        x1, y1 = max(x0, x1), max(y0, y1)
        return (
            (slice(y0, y1), slice(x0, x1)),
            np.arange(x0, x1, dtype=float)[None, :],
            np.arange(y0, y1, dtype=float)[:, None],
        )

    def _claim(
        self, window: tuple[slice, slice], inside: np.ndarray, depth: np.ndarray, owner: int
    ) -> np.ndarray:
        """Notes what a solid covers.

        Returns where the solid is in front of all that is painted, bool `[h, w]`.
        """
        if owner not in self.covered:
            self.covered[owner] = np.zeros(self.depth.shape, np.bool_)
        self.covered[owner][window] |= inside
        return inside & (depth < self.depth[window])

    def _put(
        self,
        window: tuple[slice, slice],
        chosen: np.ndarray,
        depth: np.ndarray,
        normal: np.ndarray,
        colour: np.ndarray,
        label: int,
    ) -> None:
        lit = (
            self._ambient
            + (1 - self._ambient) * np.maximum(normal @ self._light, 0)
            + 0.12 * -normal[:, 2]
        )
        self.colour[window][chosen] = colour * lit[:, None]
        self.depth[window][chosen] = depth[chosen]
        self.label[window][chosen] = label


@functools.lru_cache(maxsize=1)
def noise_tile() -> np.ndarray:
    """Makes fractal noise with zero mean, `[TILE, TILE]` float32, mostly within -1 to 1.

    It repeats after TILE.
    """
    rng, total = np.random.default_rng(0), np.zeros((TILE, TILE), np.float32)
    for cells in (4, 8, 16, 32, 64, 128):
        coarse = np.pad(rng.standard_normal((cells, cells)).astype(np.float32), 2, mode="wrap")
        step = TILE // cells
        fine = cv2.resize(coarse, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        total += fine[2 * step : -2 * step, 2 * step : -2 * step] / cells**0.7
    return (total - total.mean()) / (2 * total.std())


def noise(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Reads the tile at coordinates (cells) of any size."""
    return noise_tile()[np.floor(v).astype(np.int64) % TILE, np.floor(u).astype(np.int64) % TILE]


def colour(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> np.ndarray:
    """Draws a random colour `[3]` of any hue, red green blue, 0 to 1."""
    hue, full, bright = rng.uniform(0, 6), rng.uniform(*saturation), rng.uniform(*value)
    wheel = np.clip(np.abs((hue + np.asarray([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    return bright * (1 - full * (1 - wheel))


def textured(
    rng: np.random.Generator,
    base: np.ndarray,
    second: np.ndarray,
    pattern: str,
    period: float,
    rough: float,
) -> Material:
    """Makes a material with two colours.

    Args:
      rng: shifts the pattern.
      base: main colour, `[3]`.
      second: colour of the pattern, `[3]`.
      pattern: "plain", "bands", "stripes", "checks", "dots" or "blotches".
      period: period of the pattern, metres.
      rough: strength of the unevenness (folds, dirt).
    """
    shift, step = rng.uniform(0, TILE, 4), 40 / max(period, 0.02)

    def material(place: np.ndarray) -> np.ndarray:
        u, v = place[:, 0] + 0.35 * place[:, 2], place[:, 1]
        wave_u, wave_v = (
            np.sin(2 * np.pi * u / period + shift[0]),
            np.sin(2 * np.pi * v / period + shift[1]),
        )
        share = {
            "plain": lambda: np.zeros_like(u),
            "bands": lambda: wave_v > 0,
            "stripes": lambda: wave_u > 0.2,
            "checks": lambda: 0.5 * (wave_u > 0) + 0.5 * (wave_v > 0),
            "dots": lambda: wave_u * wave_v > 0.45,
            "blotches": lambda: noise(u * step + shift[2], v * step + shift[3]) > 0.15,
        }[pattern]()[:, None]
        folds = 1 + rough * noise(u * 260 + shift[3], v * 170 + shift[2])
        return (base + share * (second - base)) * folds[:, None]

    return material


def finish(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Makes the photograph `[H, W, 3]` uint8, red green blue.

    It adds white balance, exposure, blur and sensor noise.
    """
    picture = np.clip(
        canvas.colour * (rng.uniform(0.85, 1.15) * rng.uniform(0.92, 1.08, 3)), 0, 1
    ) ** rng.uniform(0.65, 1.1)
    picture = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), rng.uniform(0.55, 0.9))
    picture = picture + rng.uniform(0.004, 0.025) * rng.standard_normal(picture.shape, np.float32)
    return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)
