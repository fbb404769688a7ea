"""Changes JSON documents value by value, where changed bytes would mostly be no JSON."""

import json
import random
from typing import Any

# What programs trip over in the place of a sensible value.
VALUES = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    2**63,
    -(2**63),
    10**30,
    0.5,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "1",
    "x",
    "\x00",
    "\ud800",
    "a\nb",
    "../x",
    [],
    [[]],
    [1],
    ["x"],
    {},
    {"": 1},
    {"id": 1},
)


def mutate_json(content: bytes, generator: random.Random) -> bytes | None:
    """One to three values of a document replaced, removed, doubled or moved; None where that is not
    to be done.

    Args:
      content: the document; lines of their own if it is several.
      generator: decides.
    """
    if generator.random() < 0.2:
        return None
    lines = content.split(b"\n")
    chosen = generator.randrange(len(lines))
    try:
        document = json.loads(lines[chosen])
    except (ValueError, RecursionError):
        return None
    try:
        for _ in range(generator.choice((1, 1, 1, 2, 3))):
            document = change(document, generator)
        lines[chosen] = json.dumps(document).encode()
    except (ValueError, RecursionError):
        return None
    return b"\n".join(lines)


def change(document: Any, generator: random.Random) -> Any:
    """The document with one value changed."""
    places = list(_places(document))
    if not places or generator.random() < 0.05:
        return generator.choice(VALUES)
    holder, key = generator.choice(places)
    other = generator.choice(places)
    match generator.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.insert(key, holder[key])
        case 2 if isinstance(holder, dict):
            holder[generator.choice(("x", "", "id", "a\nb"))] = holder.pop(key)
        case 3:
            holder[key] = json.loads(json.dumps(other[0][other[1]]))
        case _:
            holder[key] = generator.choice(VALUES)
    return document


def _places(value: Any) -> Any:
    """Every (container, key) in a document."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])
