"""Makes clothes, skin and hair for generated people. All of it is our own design."""

import dataclasses
import functools

import numpy as np

from data_prep.people.painting import Material, colour, textured


@dataclasses.dataclass(frozen=True)
class Outfit:
    """Describes how a person looks.

    Attributes:
      skin, hair, shirt, chest, belly, trousers, shoes, face: materials; chest and belly are the
        shirt's.
      baggage: material of a load on the back, or None.
      build: factor for the body's width.
      sleeves: share of the upper arm that sleeves cover; above 1 the whole arm.
      legs: share of the thigh that the trousers cover; above 1 the whole leg.
      hair_style: "short", "long", "cap" or "bald".
    """

    skin: Material
    hair: Material
    shirt: Material
    chest: Material
    belly: Material
    trousers: Material
    shoes: Material
    baggage: Material | None
    face: Material
    build: float
    sleeves: float
    legs: float
    hair_style: str


def make_outfit(rng: np.random.Generator, head: np.ndarray) -> Outfit:
    """Draws random clothes, skin and hair; `head` has the head's half axes, `[3]` metres."""
    # Skin goes from fair to dark.
    skin = np.asarray([0.92, 0.75, 0.66]) * np.asarray([0.36, 0.28, 0.24]) ** rng.uniform(0, 1)
    hair = rng.choice(
        [
            [0.08, 0.06, 0.05],
            [0.25, 0.15, 0.08],
            [0.45, 0.3, 0.15],
            [0.8, 0.65, 0.4],
            [0.6, 0.6, 0.6],
            [0.5, 0.2, 0.1],
        ]
    )
    cloth = functools.partial(_cloth, rng)
    shirt = cloth()
    trim, style = (
        colour(rng, (0, 0.9), (0.05, 1)),
        rng.choice(["plain", "placket", "print"], p=[0.3, 0.35, 0.35]),
    )

    def chest(place: np.ndarray) -> np.ndarray:
        left, up, forward = place.T
        marked = (up > 0.13) & (np.abs(left) < 0.05)  # a collar shows where the front is
        marked |= (style == "print") & (np.abs(left) < 0.075) & (np.abs(up - 0.05) < 0.045)
        marked |= (style == "placket") & (np.abs(left) < 0.016)
        return np.where((marked & (forward > 0))[:, None], trim, shirt(place))

    def belly(place: np.ndarray) -> np.ndarray:
        marked = (style == "placket") & (np.abs(place[:, 0]) < 0.016) & (place[:, 2] > 0)
        return np.where(marked[:, None], trim, shirt(place))

    fair = textured(rng, skin, skin, "plain", 1.0, 0.04)
    return Outfit(
        skin=fair,
        hair=textured(rng, hair, hair * 1.5, "stripes", 0.012, 0.3),
        shirt=shirt,
        chest=chest,
        belly=belly,
        trousers=cloth(value=(0.08, 0.75)),
        shoes=cloth(),
        baggage=cloth() if rng.random() < 0.15 else None,
        face=_face(fair, head, skin, hair, beard=rng.random() < 0.2),
        build=rng.uniform(0.88, 1.3),
        sleeves=rng.choice([0.2, 0.55, 2.0], p=[0.15, 0.45, 0.4]),
        legs=rng.choice([0.7, 2.0], p=[0.35, 0.65]),
        hair_style=rng.choice(["short", "long", "cap", "bald"], p=[0.5, 0.3, 0.12, 0.08]),
    )


def _cloth(rng: np.random.Generator, value: tuple[float, float] = (0.1, 1.0)) -> Material:
    """Draws a random cloth."""
    base, second = colour(rng, (0.0, 0.9), value), colour(rng, (0.0, 0.9), (0.1, 1.0))
    pattern = rng.choice(
        ["plain", "bands", "stripes", "checks", "dots", "blotches"],
        p=[0.5, 0.13, 0.1, 0.12, 0.07, 0.08],
    )
    return textured(rng, base, second, pattern, rng.uniform(0.05, 0.14), rng.uniform(0.06, 0.2))


def _face(
    fair: Material, head: np.ndarray, skin: np.ndarray, hair: np.ndarray, beard: bool
) -> Material:
    """Makes skin with eyes, brows and a mouth in front."""

    def material(place: np.ndarray) -> np.ndarray:
        left, up, forward = (place / head).T
        painted = fair(place)
        front, side = forward > 0.2, np.abs(np.abs(left) - 0.4)
        if beard:
            painted[front & (up < -0.42)] = hair
        painted[front & (np.hypot(side / 0.2, (up - 0.12) / 0.09) < 1)] = (0.95, 0.95, 0.93)
        painted[front & (np.hypot(side / 0.09, (up - 0.12) / 0.09) < 1)] = (0.1, 0.07, 0.05)
        painted[front & (side < 0.22) & (np.abs(up - 0.3) < 0.05)] = hair * 0.8
        painted[front & (np.hypot(left / 0.33, (up + 0.5) / 0.07) < 1)] = skin * (0.75, 0.4, 0.4)
        return painted

    return material
