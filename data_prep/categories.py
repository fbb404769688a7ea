"""Reads the table `categories` in a COCO file.

It says which category is the person, and the order of a person's joints.
"""

import collections
import re
from typing import Any, NamedTuple

from data_prep import json_values
from kdpose_jax.errors import UserError
from kdpose_jax.skeletons import COCO_17

PERSON = 1  # COCO's own
NAME = "person"
_ABSENT = -1


class Category(NamedTuple):
    """Describes the category of persons.

    Attributes:
      person: its id in the file.
      places: index of each COCO joint among the file's joints; -1 if the file lacks it.
      count: number of a person's joints in the file.
      notes: say what was assumed or left out.
    """

    person: int
    places: tuple[int, ...]
    count: int
    notes: list[str]

    @property
    def is_coco(self) -> bool:
        """Tells whether id and joints are COCO's own."""
        return (self.person, self.places, self.count) == (
            PERSON,
            tuple(range(COCO_17.num_joints)),
            COCO_17.num_joints,
        )

    def arrange(self, keypoints: list[Any]) -> list[Any]:
        """Brings a person's (x, y, label) from the file's order into COCO's.

        Joints that the file lacks are (0, 0, 0).
        """
        triples = [
            keypoints[3 * place : 3 * place + 3] if place != _ABSENT else [0, 0, 0]
            for place in self.places
        ]
        return [value for triple in triples for value in triple]


def read(content: Any, path: str) -> Category:
    """Reads the table from an annotation file.

    Args:
      content: the file's content, a dictionary.
      path: names the file in messages.

    Returns:
      The category; COCO's own if the file has no table.

    Raises:
      UserError: no category or several are called person, or joints cannot be told by their names.
    """
    table = content["categories"] if "categories" in content else None
    if not isinstance(table, list) or not all(isinstance(entry, dict) for entry in table or ()):
        if table is not None:
            raise UserError(
                f"'{path}': categories is {str(table)[:60]!r} where a list of categories must be: "
                f"repair it."
            )
        table = []
    named = [entry for entry in table if "name" in entry and isinstance(entry["name"], str)]
    if not named:
        assumed = (
            f"no names of categories: persons are taken to be category {PERSON} with joints in "
            "COCO's order"
        )
        return Category(PERSON, tuple(range(COCO_17.num_joints)), COCO_17.num_joints, [assumed])
    persons = [entry for entry in named if normalised(entry["name"]) == NAME]
    if len(persons) != 1:
        listed = ", ".join(
            f"{entry['id'] if 'id' in entry else 'no id'} {entry['name']!r}" for entry in named[:20]
        )
        found = "no category" if not persons else f"{len(persons)} categories"
        raise UserError(
            f"'{path}' has {found} called 'person' among its categories ({listed}): call the one "
            f"that holds the persons so."
        )
    person = json_values.whole_number(
        persons[0]["id"] if "id" in persons[0] else None, f"'{path}', id of the category 'person'"
    )
    names = persons[0]["keypoints"] if "keypoints" in persons[0] else None
    if names is None or names == []:
        assumed = "no names of keypoints: joints are taken to be in COCO's order"
        return Category(person, tuple(range(COCO_17.num_joints)), COCO_17.num_joints, [assumed])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(
            f"'{path}': keypoints of the category 'person' is {str(names)[:60]!r} where a list of "
            f"names must be: repair it."
        )
    places, notes = _places(names, path)
    return Category(person, places, len(names), notes)


def normalised(name: str) -> str:
    """Normalises a name: no case, and nothing between words."""
    return re.sub(r"[\s._-]+", "", name).casefold()


def _places(names: list[str], path: str) -> tuple[tuple[int, ...], list[str]]:
    """Returns the index of each COCO joint among the names, and notes."""
    wanted = {normalised(joint): joint for joint in COCO_17.joints}
    found = [normalised(name) for name in names]
    counts = collections.Counter(found)
    doubled = [joint for key, joint in wanted.items() if counts[key] > 1]
    if doubled:
        raise UserError(
            f"'{path}' names keypoints twice ({', '.join(doubled)}): name each joint of the "
            f"category 'person' once."
        )
    unknown = [name for name, key in zip(names, found, strict=True) if key not in wanted]
    missing = [joint for key, joint in wanted.items() if key not in counts]
    if unknown and missing:
        # Nothing tells whether one name is a synonym for the other.
        raise UserError(
            f"'{path}' names keypoints that COCO does not have ({_some(unknown)}) and lacks some "
            f"that it has ({_some(missing)}): give COCO's names to those that are the same joints, "
            "and take the others out of names and keypoints."
        )
    if len(missing) == COCO_17.num_joints:
        raise UserError(
            f"'{path}' names none of COCO's keypoints: name the joints of the category 'person'."
        )
    notes = []
    if unknown:
        notes.append(
            f"{len(unknown)} joints that COCO does not have are left out ({_some(unknown)})"
        )
    if missing:
        notes.append(
            f"{len(missing)} of COCO's joints are not in the file and not labelled in the records "
            f"({_some(missing)})"
        )
    place_of = {key: place for place, key in enumerate(found)}
    places = tuple(place_of[key] if key in place_of else _ABSENT for key in wanted)
    if not notes and places != tuple(range(COCO_17.num_joints)):
        notes.append("joints were brought into COCO's order by their names")
    return places, notes


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 20:,} more" if len(names) > 20 else ""
    return ", ".join(repr(name)[1:-1] for name in names[:20]) + more
