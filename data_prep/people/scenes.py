"""Generates one photograph of people, things and a place, with exact joints.

All of it is our own design.
"""

import dataclasses
import zlib

import numpy as np

from data_prep.people import bodies, painting, places
from data_prep.people.bodies import Body
from data_prep.people.painting import Canvas, Viewpoint

# At least this share of the person in focus is seen, or nothing is put in front.
LEAST_SEEN = 0.55
# Distance from the joints to the edge of the body, metres.
MARGIN = 0.13


@dataclasses.dataclass(frozen=True)
class Person:
    """Holds the labels of one person in a photograph, in pixels.

    A pixel's centre has whole coordinates, which begin at 0.

    Attributes:
      joints: name -> `[2]`.
      inside: names of the joints within the picture.
      seen: names of the joints that nothing hides.
      box: `[4]` x0 y0 x1 y1, the person's part within the picture, hidden or not.
      seen_box: `[4]`, the part that is seen.
      seen_area: number of pixels that are seen.
      head_box: `[4]`, the painted head, head top and upper neck, hidden or not.
    """

    joints: dict[str, np.ndarray]
    inside: frozenset[str]
    seen: frozenset[str]
    box: np.ndarray
    seen_box: np.ndarray
    seen_area: int
    head_box: np.ndarray


@dataclasses.dataclass(frozen=True)
class Photograph:
    """Holds a picture and its labels.

    Attributes:
      image: `[H, W, 3]` uint8, red green blue.
      label: `[H, W]` int32, what is seen in each pixel; `bodies.seen_part` takes it apart, a
        person's owner is the index in `people`.
      people: the persons' labels; the first person is in focus.
    """

    image: np.ndarray
    label: np.ndarray
    people: list[Person]


def photograph(seed: int, split: str, index: int, size: int) -> Photograph:
    """Generates photograph `index` in a split, whose longer side has `size` pixels.

    It depends only on the arguments.
    """
    rng = np.random.default_rng([seed, zlib.crc32(split.encode()), index])
    ratio = rng.choice([1.0, 0.8, 0.67])
    sides = (size, round(size * ratio))
    focus = bodies.make_body(rng, np.zeros(2))
    view = _camera(rng, focus, sides if rng.random() < 0.4 else sides[::-1])
    behind, front = _others(rng, view)
    light = rng.normal(0, 0.6, 3) + [0, 0, 1.0]
    canvas = Canvas(view, light / np.linalg.norm(light), rng.uniform(0.4, 0.65))
    places.paint_place(canvas, rng, focus)
    _paint_seat(canvas, rng, focus)
    people = [focus, *behind]
    for owner, body in enumerate(people):
        bodies.paint_body(canvas, body, owner)
    plain = canvas.colour.copy(), canvas.depth.copy(), canvas.label.copy(), dict(canvas.covered)
    for owner, body in enumerate(front, len(people)):
        bodies.paint_body(canvas, body, owner)
    _paint_obstacles(canvas, rng, focus)
    if (canvas.label[canvas.covered[0]] // 32 == 0).mean() < LEAST_SEEN:
        canvas.colour, canvas.depth, canvas.label, canvas.covered = plain
    else:
        people += front
    labels = [_person(canvas, body, owner) for owner, body in enumerate(people)]
    return Photograph(painting.finish(canvas, rng), canvas.label, labels)


def _camera(rng: np.random.Generator, focus: Body, size: tuple[int, int]) -> Viewpoint:
    """Draws a camera that sees the person in focus, partly cut off in some pictures."""
    points = np.stack(list(focus.joints.values()))
    target = (points.min(0) + points.max(0)) / 2
    azimuth, height = (
        rng.uniform(0, 2 * np.pi),
        rng.uniform(0.5, 2.2) if rng.random() < 0.85 else rng.uniform(2.2, 4),
    )
    focal, distance = max(size) * rng.uniform(1.0, 1.8), 5.0
    roll, fill, cut = rng.normal(0, 0.06), rng.uniform(0.58, 0.95), rng.random() < 0.16
    for _ in range(3):  # finds the distance at which the body fills that share of the picture
        position = np.asarray([distance * np.cos(azimuth), distance * np.sin(azimuth), height])
        view = painting.looking(position, target, roll, focal, np.zeros(2), size)
        pixels = view.project(points)
        margin = focal * MARGIN / distance
        low, high = pixels.min(0) - margin, pixels.max(0) + margin
        distance = max(distance * ((high - low) / size).max() / (fill * (1.5 if cut else 1.0)), 1.6)
    position = np.asarray([distance * np.cos(azimuth), distance * np.sin(azimuth), height])
    view = painting.looking(position, target, roll, focal, np.zeros(2), size)
    pixels = view.project(points)
    low, high = pixels.min(0) - focal * MARGIN / distance, pixels.max(0) + focal * MARGIN / distance
    room = size - high
    # All places between the borders are equally likely. If the body is larger than the picture,
    # the range turns round.
    center = rng.uniform(np.minimum(-low, room), np.maximum(-low, room))
    return dataclasses.replace(view, center=center)


def _others(rng: np.random.Generator, view: Viewpoint) -> tuple[list[Body], list[Body]]:
    """Draws people behind the person in focus and in front; the camera's x points right."""
    right, away = view.rotation[0, :2], view.rotation[2, :2]
    right, away = right / np.linalg.norm(right), away / np.linalg.norm(away)
    behind = [
        bodies.make_body(rng, away * rng.uniform(0.9, 4.5) + right * rng.uniform(-1.8, 1.8))
        for _ in range(rng.choice(3, p=[0.5, 0.3, 0.2]))
    ]
    front = []
    if rng.random() < 0.12:
        front = [
            bodies.make_body(
                rng,
                -away * rng.uniform(0.5, 0.9)
                + right * rng.choice([-1, 1]) * rng.uniform(0.45, 0.9),
            )
        ]
    return behind, front


def _paint_seat(canvas: Canvas, rng: np.random.Generator, focus: Body) -> None:
    """Paints something under a person whose pelvis is low."""
    pelvis = focus.joints["pelvis"]
    if pelvis[2] < 0.72:
        height = max((pelvis[2] - 0.12) / 2, 0.05)
        center = pelvis * [1, 1, 0] + [0, 0, height] - 0.04 * focus.frames["pelvis"][2]
        sizes = np.asarray([0.26, height, 0.26])
        canvas.ellipsoid(
            center,
            np.eye(3)[[1, 2, 0]],
            sizes,
            places.any_material(rng),
            places.THING,
            places.THING,
        )


def _paint_obstacles(canvas: Canvas, rng: np.random.Generator, focus: Body) -> None:
    """Paints things in front of the person in focus, in some pictures."""
    if rng.random() > 0.32:
        return
    view = canvas.viewpoint
    points = view.project(np.stack(list(focus.joints.values())))
    low, high = points.min(0), points.max(0)
    for _ in range(rng.integers(1, 3)):
        depth = max(view.to_camera(focus.joints["pelvis"])[2] - rng.uniform(0.7, 1.1), 0.5)
        kind, material = rng.choice(["table", "pole", "bush", "box"]), places.any_material(rng)
        middle, extent = rng.uniform(low, high), high - low
        half = {
            "table": extent * [rng.uniform(0.5, 1.2), rng.uniform(0.06, 0.2)],
            "pole": np.asarray([extent.max() * rng.uniform(0.02, 0.05), view.height]),
            "bush": extent.max() * rng.uniform(0.08, 0.2, 2),
            "box": extent.max() * rng.uniform(0.06, 0.16, 2),
        }[kind]
        if kind == "table":
            middle[1] = high[1]
        canvas.card(
            middle - half,
            middle + half,
            depth,
            material,
            places.THING,
            places.ragged_outline(rng) if kind == "bush" else None,
        )


def _person(canvas: Canvas, body: Body, owner: int) -> Person:
    """Reads the labels of a person off the painted canvas."""
    view = canvas.viewpoint
    joints = {
        name: view.project(point)
        for name, point in body.joints.items()
        if view.to_camera(point)[2] > painting.NEAREST
    }
    limit = np.asarray([view.width - 1, view.height - 1])
    inside = frozenset(
        name for name, pixel in joints.items() if (pixel >= 0).all() and (pixel <= limit).all()
    )
    owners, parts = bodies.seen_part(canvas.label)
    mine, seen = owners == owner, set()
    for name in inside:
        column, row = np.round(joints[name]).astype(int)
        if (
            mine[row, column]
            and bodies.PARTS[parts[row, column]] in bodies.JOINT_PARTS[name]
            and not _turned_away(view, body, name)
        ):
            seen.add(name)
    # The head's outline is computed as if nothing hid it.
    depth = view.to_camera(body.joints["upper_neck"])[2]
    head_box = np.zeros(4)
    if depth > painting.NEAREST:
        head, middle = body.frames["head"], (body.joints["left_ear"] + body.joints["right_ear"]) / 2
        toward = head * bodies.HEAD[:, None] * 1.06
        shape = (
            np.linalg.norm((view.rotation[:2] @ toward.T), axis=1)
            * view.focal
            / view.to_camera(middle)[2]
        )
        pixel = view.project(middle + 0.05 * bodies.HEAD[1] * head[1])
        corners = np.stack([pixel - shape, pixel + shape, joints["upper_neck"], joints["head_top"]])
        head_box = np.concatenate([corners.min(0), corners.max(0)])
    whole = canvas.covered[owner] if owner in canvas.covered else np.zeros_like(mine)
    return Person(
        joints, inside, frozenset(seen), _bounds(whole), _bounds(mine), int(mine.sum()), head_box
    )


def _turned_away(view: Viewpoint, body: Body, name: str) -> bool:
    """Tells whether a point on the head's surface is on the far side of the head."""
    if name not in bodies.FACE or name == "head_top":
        return False
    middle = (body.joints["left_ear"] + body.joints["right_ear"]) / 2
    return bool((body.joints[name] - middle) @ (view.position - middle) < 0)


def _bounds(mask: np.ndarray) -> np.ndarray:
    """Returns the bounds `[4]` x0 y0 x1 y1 of the pixels that are True.

    They go through the outermost pixels' centres, and are zeros if there is none.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (
        np.asarray([columns[0], rows[0], columns[-1], rows[-1]], float)
        if len(rows)
        else np.zeros(4)
    )
