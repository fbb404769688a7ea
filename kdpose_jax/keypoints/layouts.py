"""Knows the layouts in which detectors write joints, and makes one layout's joints of another's.

`layouts.json` holds the data. A joint of two layouts has one name if it is at the same place:
Halpe's "Neck" lies between the shoulders and is `neck_base`, while `neck` of Human3.6M lies at the
chin.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kdpose_jax.errors import UserError, require
from kdpose_jax.keypoints.tracks import Keypoints, Track
from kdpose_jax.untrusted.documents import load_json

SHIPPED = os.path.join(os.path.dirname(__file__), "layouts.json")
OWN = "own"  # the layout of files whose joints belong to no known layout
_LISTED = 12  # names in one sentence


class Layout(NamedTuple):
    """A joint layout.

    Attributes:
      name: its name, such as `coco_17`.
      joints: names of the joints that are read, in the order of the arrays.
      total: how many joints a file has for a person. Those behind `joints` are left out.
    """

    name: str
    joints: tuple[str, ...]
    total: int


class Recipe(NamedTuple):
    """A way to make a joint.

    Attributes:
      name: what the joint is made of, in words.
      weights: joint -> its share in the sum.
    """

    name: str
    weights: Mapping[str, float]


@functools.cache
def _tables() -> Any:
    return load_json(SHIPPED)


@functools.cache
def layouts() -> Mapping[str, Layout]:
    """Returns the known layouts by name."""
    return {
        name: Layout(name, tuple(entry["joints"]), entry["count"])
        for name, entry in _tables()["layouts"].items()
    }


@functools.cache
def recipes() -> Mapping[str, tuple[Recipe, ...]]:
    """Returns the ways to make a joint, the best one first, by the joint's name."""
    return {
        joint: tuple(Recipe(way["name"], way["weights"]) for way in entry["ways"])
        for joint, entry in _tables()["recipes"].items()
    }


@functools.cache
def spellings() -> Mapping[str, str]:
    """Returns the joint for every spelling that tools use, without case, blanks, `-` and `_`."""
    tables = _tables()
    found = {
        plain(spelling): joint
        for joint, known in tables["single"].items()
        for spelling in (joint, *known)
    }
    for side, letters in tables["sides"].items():
        for part, known in tables["parts"].items():
            for spelling in known:
                for letter in letters:
                    found[letter + spelling] = found[spelling + letter] = f"{side}_{part}"
    return found


@functools.cache
def vocabulary() -> frozenset[str]:
    """Returns the name of every joint in any layout."""
    return frozenset(joint for layout in layouts().values() for joint in layout.joints)


def find_layout(name: str) -> Layout:
    """Returns the layout that `--joints` names.

    Raises:
      UserError: there is none of this name.
    """
    require("--joints", name, layouts())
    return layouts()[name]


def layout_of(count: int, chosen: str | None, place: str, usual: Sequence[str]) -> Layout:
    """Finds the layout of a file that gives numbers alone.

    Args:
      count: how many joints the file has for a person.
      chosen: the layout that `--joints` names; None to find it by the count.
      place: names the file in an error.
      usual: names of the layouts that files of this format have.

    Raises:
      UserError: no layout, or more than one, has this number of joints, or the chosen one has not.
    """
    if chosen is not None:
        layout = find_layout(chosen)
        if layout.total != count:
            same = [one.name for one in layouts().values() if one.total == count]
            raise UserError(
                f"{place} has {count} joints for a person and --joints {chosen} has "
                f"{layout.total}: "
                + (f"use --joints {' or '.join(same)}." if same else _UNKNOWN_COUNT)
            )
        return layout
    same = [name for name in usual if layouts()[name].total == count]
    if len(same) == 1:
        return layouts()[same[0]]
    others = same or [one.name for one in layouts().values() if one.total == count]
    remedy = f"give --joints {' or '.join(others)}." if others else _UNKNOWN_COUNT
    raise UserError(f"{place} has {count} joints for a person and does not name them: {remedy}")


_UNKNOWN_COUNT = (
    "no layout has that many; write the file as csv with the joints' names in its header, or let "
    "the detector write one of coco_17, body_25 and halpe_26."
)


def convert(keypoints: Keypoints, wanted_joints: Sequence[str]) -> Keypoints:
    """Makes the joints that a network reads of those that a file has.

    Joints of the same name are taken. Others are made by the first recipe whose joints the file has
    or can be made. A joint that was made is missing where one of its joints is. Its score is the
    lowest of theirs.

    Args:
      keypoints: the keypoints of a file.
      wanted_joints: names of the joints, as in `skeletons` or of any layout.

    Returns:
      The keypoints of the wanted joints, in their order. `notes` says what was made, and of what.

    Raises:
      UserError: a joint can neither be found nor be made.
    """
    wanted = tuple(wanted_joints)
    if wanted == keypoints.joints:
        return keypoints
    ways = ways_to_make(wanted, keypoints.joints)
    absent = [joint for joint, way in ways.items() if way is None]
    if absent:
        raise UserError(
            f"The network reads {listed(absent)}, which the keypoints ({keypoints.format}, "
            f"{keypoints.layout}: {listed(keypoints.joints)}) neither have nor can make: choose a "
            f"network of other joints, name own joints with --map FILE.json, or let the detector "
            f"write more joints."
        )
    weights = np.zeros((len(wanted), len(keypoints.joints)))
    made = []
    for row, (joint, way) in enumerate(ways.items()):
        assert way is not None  # checked above
        for one, share in way.weights.items():
            weights[row, keypoints.joints.index(one)] = share
        if way.name:
            made.append(f"{joint} from {way.name} ({', '.join(way.weights)})")
    name = next((one.name for one in layouts().values() if one.joints == wanted), OWN)
    note = f"Joints of {keypoints.layout} were converted to {name} by name"
    note += f"; {len(made)} were made: {'; '.join(made)}." if made else "."
    return dataclasses.replace(
        keypoints,
        tracks=tuple(_mixed(track, weights) for track in keypoints.tracks),
        joints=wanted,
        layout=name,
        notes=(*keypoints.notes, note),
    )


def ways_to_make(wanted: Sequence[str], known: Sequence[str]) -> dict[str, Recipe | None]:
    """Finds for each wanted joint the known joints that make it; None if there is no way.

    A joint of the same name is a recipe without a name.
    """
    return {joint: _way(joint, known, ()) for joint in wanted}


def _way(joint: str, known: Sequence[str], asked: tuple[str, ...]) -> Recipe | None:
    """Returns the known joints that make a joint; None if there is no way.

    `asked` has the joints that are being made, which a recipe may not come back to.
    """
    if joint in known:
        return Recipe("", {joint: 1.0})
    for recipe in recipes().get(joint, ()):
        # Another name for the joint says something only if the file has it.
        if len(recipe.weights) == 1 and not set(recipe.weights) <= set(known):
            continue
        if set(recipe.weights) & {*asked, joint}:
            continue
        parts = {part: _way(part, known, (*asked, joint)) for part in recipe.weights}
        total: dict[str, float] = {}
        for part, way in parts.items():
            if way is None:
                break
            for one, share in way.weights.items():
                total[one] = total.get(one, 0.0) + share * recipe.weights[part]
        else:
            return Recipe(recipe.name, total)
    return None


def _mixed(track: Track, weights: np.ndarray) -> Track:
    """Returns a track whose joints are weighted sums, `weights` being `[wanted, K]`."""
    points = np.zeros((len(track.frames), len(weights), 2), np.float32)
    scores = np.full(points.shape[:2], np.inf, np.float32)
    for row, shares in enumerate(weights):
        for column in np.flatnonzero(shares):
            points[:, row] += shares[column] * track.points[:, column]
            scores[:, row] = np.minimum(scores[:, row], track.scores[:, column])
    return dataclasses.replace(track, points=points, scores=scores)


def plain(name: str) -> str:
    """Returns a name in small letters, without what is not a letter or a digit."""
    return re.sub(r"[\W_]", "", name.lower())


def listed(names: Iterable[str], count: int = _LISTED) -> str:
    """Lists names for a sentence, at most `count` of them."""
    several = sorted(names) if isinstance(names, frozenset) else list(names)
    more = f" and {len(several) - count} more" if len(several) > count else ""
    return ", ".join(str(name)[:60] for name in several[:count]) + more
