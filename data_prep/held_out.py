"""Takes the validation examples out of the training examples.

The rules depend on names and numbers of frames alone, so that every conversion repeats them. They
are our own design.
"""

import collections
import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from kdpose_jax.data import schema
from kdpose_jax.errors import UserError

# At most this share of the training frames is held out, unless every subject has more.
SHARE_OF_FRAMES = 0.1
SHARE_OF_PHOTOGRAPHS = 0.05
PHOTOGRAPHS_RULE = (
    f"one in {1 / SHARE_OF_PHOTOGRAPHS:.0f} training photographs, by a hash of their names"
)


def place_of(name: str) -> float:
    """Returns the fixed place of a name, from 0 to below 1, which SHA-256 spreads evenly."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48


def draw_subjects(frames: Mapping[str, int]) -> tuple[str, ...]:
    """Draws the validation subjects out of the training subjects.

    The subjects come in the order of `place_of`. Each is taken with which the validation frames
    stay within `SHARE_OF_FRAMES`. If every subject has more, the smallest is taken.

    Args:
      frames: training subject -> number of frames in all views.

    Returns:
      The names. There is none if there is only one training subject.
    """
    if len(frames) < 2:
        return ()
    left = SHARE_OF_FRAMES * sum(frames.values())
    drawn = []
    for name in sorted(frames, key=place_of):
        if frames[name] <= left:
            drawn.append(name)
            left -= frames[name]
    return tuple(drawn) or (min(frames, key=lambda name: (frames[name], place_of(name))),)


def check_subjects(
    named: tuple[str, ...] | None, train: Collection[str], test: Collection[str]
) -> None:
    """Checks the names of `--val-subjects`.

    Args:
      named: the names; None if the user gave none.
      train: names of the subjects that are not test subjects.
      test: names of the test subjects.

    Raises:
      UserError: a name is not a training subject's, there is none, or nobody is left to train on.
    """
    if named is None:
        return
    found = ", ".join(sorted(train))
    for name in named:
        if name in test:
            raise UserError(
                f"--val-subjects names '{name}', which is a test subject: name training subjects "
                f"({found})."
            )
        if name not in train:
            raise UserError(
                f"--val-subjects names '{name}', which is not there: name training subjects "
                f"({found})."
            )
    if not named or set(named) == set(train):
        raise UserError(
            f"--val-subjects names {', '.join(named) or 'nobody'}, and the training subjects are "
            f"{found}: name some of them and leave some."
        )


def split_views(
    train: list[Any], test: list[Any], named: tuple[str, ...] | None
) -> tuple[dict[str, list[Any]], list[str]]:
    """Splits training views by subject.

    Args:
      train: the views of all subjects but the test subjects. A view has `subject` and `frames`.
      test: the test subjects' views.
      named: the validation subjects; None draws them (`draw_subjects`).

    Returns:
      Split -> its views, in their order. Without validation subjects there is no split `val`.
      Second, notes.

    Raises:
      UserError: as in `check_subjects`.
    """
    frames: collections.Counter[str] = collections.Counter()
    for view in train:
        frames[view.subject] += view.frames
    check_subjects(named, frames, {view.subject for view in test})
    chosen = draw_subjects(frames) if named is None else named
    items = {
        "train": [view for view in train if view.subject not in chosen],
        schema.VAL_SPLIT: [view for view in train if view.subject in chosen],
        "test": test,
    }
    if chosen:
        return items, []
    del items[schema.VAL_SPLIT]
    return items, [no_split(f"{next(iter(frames), 'nobody')} is the only training subject")]


def draw_photographs(names: Iterable[str]) -> set[str]:
    """Draws the validation photographs out of the training photographs.

    A photograph is drawn if its place is below `SHARE_OF_PHOTOGRAPHS`. If there is none, the one
    with the first place is drawn.

    Args:
      names: names of the training photographs.

    Returns:
      The names that are drawn. There is none if there is only one photograph.
    """
    every = set(names)
    drawn = {name for name in every if place_of(name) < SHARE_OF_PHOTOGRAPHS}
    if not drawn and len(every) > 1:
        drawn = {min(every, key=place_of)}
    return drawn if len(drawn) < len(every) else set()


def no_split(reason: str) -> str:
    """Notes that there is no split `val`, and what this means for training."""
    return (
        f"no split '{schema.VAL_SPLIT}', as {reason}: training on these records needs "
        "--config.data.selection=published, which chooses checkpoints on the test split"
    )
