"""Paints places for generated people: floors, walls, sky, shadows and things.

All of it is our own design.
"""

import cv2
import numpy as np

from data_prep.people import painting
from data_prep.people.bodies import Body
from data_prep.people.painting import Canvas, Material, colour, textured

THING = -1  # label of everything that is not a person


def paint_place(canvas: Canvas, rng: np.random.Generator, focus: Body) -> None:
    """Paints floor and wall, or ground and sky, with things on them."""
    view, rays = canvas.viewpoint, canvas.rays()
    indoors = rng.random() < 0.55
    turn, far = rng.normal(0, 0.35), rng.uniform(2.5, 6) if indoors else rng.uniform(25, 60)
    normal = np.cos(turn) * view.rotation[2] + np.sin(turn) * view.rotation[0]
    normal = normal * [1, 1, 0] / np.linalg.norm(normal[:2])
    floor = -view.position[2] / np.minimum(rays[..., 2], -1e-4)
    wall = (far - view.position @ normal) / np.maximum(rays @ normal, 1e-4)
    grounded = floor < wall
    place = view.position + np.minimum(floor, wall)[..., None] * rays
    sideways = place @ np.asarray([-normal[1], normal[0], 0])
    canvas.depth[:] = np.minimum(floor, wall)
    canvas.label[:] = 0
    for mask, low, upright in ((grounded, True, False), (~grounded, False, True)):
        spread = 1.0 if indoors else (0.6 if low else 12.0)
        kinds = (
            ["plain", "checks", "stripes", "bands", "blotches"]
            if indoors
            else ["plain", "blotches"]
        )
        base = colour(rng, (0, 0.15 if rng.random() < 0.7 else 0.5), (0.3, 0.95)) * [
            1.06,
            1.0,
            0.92,
        ]
        second = base * rng.uniform(0.5, 1.2) * rng.uniform(0.85, 1.15, 3)
        if not indoors:  # grass, earth or stone under a blue or grey sky
            base = np.asarray(
                [[0.3, 0.45, 0.2], [0.5, 0.42, 0.32], [0.55, 0.55, 0.52]][rng.integers(3)]
                if low
                else [0.62, 0.75, 0.95]
            )
            base = base * rng.uniform(0.6, 1.1) * rng.uniform(0.9, 1.1, 3)
            second = (
                base * rng.uniform(0.6, 0.9)
                if low
                else np.asarray([0.9, 0.9, 0.92]) * rng.uniform(0.8, 1.1)
            )
        material = textured(
            rng,
            base,
            second,
            rng.choice(kinds),
            spread * rng.uniform(0.12, 0.9),
            rng.uniform(0.05, 0.3),
        )
        across = place[..., 2] if upright else place @ normal
        spot = np.stack([sideways[mask], across[mask], np.zeros(mask.sum())], axis=-1) / (
            1.0 if low or indoors else 12.0
        )
        painted = material(spot)
        haze = np.exp(-np.minimum(floor, wall)[mask] / (25.0 if low else 400.0))[:, None]
        canvas.colour[mask] = painted * haze + base * (1 - haze)
    canvas.colour *= (1 + rng.uniform(-0.25, 0.25) * np.linspace(-1, 1, view.width))[None, :, None]
    _paint_shadow(canvas, rng, focus)
    _paint_clutter(canvas, rng, min(far, 12.0))


def _paint_shadow(canvas: Canvas, rng: np.random.Generator, focus: Body) -> None:
    """Darkens the floor under the person."""
    view, dark = canvas.viewpoint, np.zeros(canvas.depth.shape, np.float32)
    for name in ("left_ankle", "right_ankle", "pelvis", "left_knee", "right_knee"):
        point = focus.joints[name] * [1, 1, 0]
        depth = view.to_camera(point)[2]
        if depth > painting.NEAREST:
            radius = view.focal / depth * 0.22
            slope = abs(view.rotation[2, 2]) + 0.12
            pixel = np.round(view.project(point)).astype(int).tolist()
            cv2.ellipse(
                dark,
                pixel,
                (int(radius), max(int(radius * slope), 1)),
                0,
                0,
                360,
                0.25 if name == "pelvis" else 0.35,
                -1,
            )
    dark = cv2.GaussianBlur(dark, (0, 0), max(view.width, view.height) / 60)
    canvas.colour *= 1 - (rng.uniform(0.5, 1.2) * dark)[..., None]


def _paint_clutter(canvas: Canvas, rng: np.random.Generator, far: float) -> None:
    """Paints things behind the people.

    They are posters and cupboards (plates), bushes and balls, poles and limb-like bars.
    """
    view = canvas.viewpoint
    size = np.asarray([view.width, view.height])
    for _ in range(rng.integers(2, 9)):
        depth = np.linalg.norm(view.position[:2]) + rng.uniform(0.7, max(far - 0.5, 1.0))
        middle, half = rng.uniform(0, 1, 2) * size, rng.uniform(0.04, 0.2, 2) * size
        material = any_material(rng)
        kind = rng.choice(["plate", "bush", "bar"], p=[0.5, 0.2, 0.3])
        if kind == "bar":
            ends = (
                (np.stack([middle - half, middle + half * rng.choice([-1, 1], 2)]) - view.center)
                / view.focal
                * depth
            )
            ends = (
                view.position + np.concatenate([ends, [[depth], [depth]]], axis=1) @ view.rotation
            )
            canvas.capsule(
                *ends, rng.uniform(0.02, 0.1, 2), view.rotation[[0, 2]], material, THING, THING
            )
        else:
            canvas.card(
                middle - half,
                middle + half,
                depth,
                material,
                THING,
                ragged_outline(rng) if kind == "bush" else None,
            )


def any_material(rng: np.random.Generator) -> Material:
    """Draws a material for some thing."""
    pattern = rng.choice(
        ["plain", "bands", "stripes", "checks", "dots", "blotches"],
        p=[0.35, 0.1, 0.1, 0.1, 0.1, 0.25],
    )
    first, second = colour(rng, (0, 0.9), (0.1, 1)), colour(rng, (0, 0.9), (0.1, 1))
    return textured(rng, first, second, pattern, rng.uniform(0.05, 0.4), rng.uniform(0.05, 0.35))


def ragged_outline(rng: np.random.Generator) -> Material:
    """Draws the outline of a bush, for `Canvas.card`."""
    shift, cells = rng.uniform(0, painting.TILE, 2), rng.uniform(12, 40)

    def keep(place: np.ndarray) -> np.ndarray:
        x, y = place[..., 0], place[..., 1]
        return np.hypot(x, y) < 0.75 + 0.35 * painting.noise(
            x * cells + shift[0], y * cells + shift[1]
        )

    return keep
