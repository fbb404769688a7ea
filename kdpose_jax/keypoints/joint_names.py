"""Finds the joints that the names in a file mean, by their spelling or by a user's table."""

import difflib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints import layouts
from kdpose_jax.untrusted.documents import load_json


def read_map(path: str) -> dict[str, str]:
    """Reads the file of `--map`: {"the file's name of a joint": "our name"}.

    Raises:
      UserError: the file is not such a table, or a name is not known here.
    """
    try:
        table = load_json(path)
    except (ValueError, OSError) as error:
        raise UserError(
            f"--map '{path}' cannot be read as JSON ({type(error).__name__}: {error}): give a file "
            f'such as {{"LeftAnkle": "left_ankle"}}.'
        ) from error
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise UserError(
            f"--map '{path}' is not a table of names: give a file such as "
            f'{{"LeftAnkle": "left_ankle"}}.'
        )
    names = {}
    for theirs, ours in table.items():
        joint = (
            ours if ours in layouts.vocabulary() else layouts.spellings().get(layouts.plain(ours))
        )
        if joint is None:
            close = difflib.get_close_matches(ours, sorted(layouts.vocabulary()), n=1)
            hint = (
                f"did you mean '{close[0]}'"
                if close
                else f"use one of {layouts.listed(layouts.vocabulary())}"
            )
            raise UserError(f"--map '{path}' names the joint '{ours[:60]}': {hint}.")
        names[theirs] = joint
    return names


class Named(NamedTuple):
    """What the names in a file mean.

    Attributes:
      layout: the name of the layout, or `layouts.OWN`.
      joints: the joints.
      columns: the index of each joint's name in the file.
      notes: sentences on what was taken for what, and on what was left out.
    """

    layout: str
    joints: tuple[str, ...]
    columns: tuple[int, ...]
    notes: tuple[str, ...]


def identify(
    names: Sequence[str], place: str, chosen: str | None, table: Mapping[str, str] | None
) -> Named:
    """Finds the joints that the names in a file mean.

    Args:
      names: the names in the file.
      place: names the file in an error.
      chosen: the layout that `--joints` names; None to find it by the names.
      table: the content of `--map`; None without it.

    Raises:
      UserError: a name stands twice, two names mean one joint, no name means a joint, or
        the file lacks a joint of the chosen layout or a name of the table.
    """
    shorts = [layouts.plain(name) for name in names]
    if len(set(shorts)) < len(shorts):
        twice = next(name for name in names if shorts.count(layouts.plain(name)) > 1)
        raise UserError(f"{place} names the joint '{twice[:60]}' twice: rename one of them.")
    if table is None:
        for layout in [layouts.find_layout(chosen)] if chosen else layouts.layouts().values():
            wanted = [layouts.plain(joint) for joint in layout.joints]
            if set(wanted) == set(shorts) or (chosen and set(wanted) <= set(shorts)):
                columns = tuple(shorts.index(short) for short in wanted)
                return Named(layout.name, layout.joints, columns, _left_out(names, columns))
    meant = _meant(names, shorts, place, table)
    if not meant:
        raise UserError(
            f"{place} names no joint that is known ({layouts.listed(names)}): give "
            f'--map FILE.json with {{"the file\'s name": "our name"}} (ours: '
            f"{layouts.listed(layouts.vocabulary())})."
        )
    if chosen:
        layout = layouts.find_layout(chosen)
        missing = [joint for joint in layout.joints if joint not in meant]
        if missing:
            raise UserError(
                f"{place} lacks {layouts.listed(missing)} of --joints {chosen} (it names "
                f"{layouts.listed(names)}): leave --joints out, or name the joints with "
                f"--map FILE.json."
            )
        return _named(layout.name, {joint: meant[joint] for joint in layout.joints}, names)
    for layout in layouts.layouts().values():
        if set(layout.joints) == set(meant):
            return _named(layout.name, {joint: meant[joint] for joint in layout.joints}, names)
    return _named(layouts.OWN, meant, names)


def _meant(
    names: Sequence[str], shorts: Sequence[str], place: str, table: Mapping[str, str] | None
) -> dict[str, int]:
    """Returns the index of the name for each joint that is named."""
    absent = [name for name in table or () if name not in names]
    if absent:
        raise UserError(
            f"--map names '{absent[0][:60]}', and {place} has no joint of this name (it has "
            f"{layouts.listed(names)}): write the names as the file does."
        )
    meant: dict[str, int] = {}
    for index, (name, short) in enumerate(zip(names, shorts, strict=True)):
        if table and name in table:
            joint = table[name]
        elif short in layouts.spellings():
            joint = layouts.spellings()[short]
            if table and joint in table.values():
                continue
        else:
            continue
        if joint in meant:
            other = meant[joint]
            if table is None and shorts[other] == layouts.plain(joint):
                continue
            if not (table is None and short == layouts.plain(joint)):
                raise UserError(
                    f"'{names[other][:60]}' and '{name[:60]}' of {place} both mean {joint}: say "
                    f"with --map FILE.json which of them is meant."
                )
        meant[joint] = index
    return meant


def _named(layout: str, meant: Mapping[str, int], names: Sequence[str]) -> Named:
    columns = tuple(meant.values())
    taken = [
        f"'{names[column]}' for {joint}"
        for joint, column in meant.items()
        if layouts.plain(names[column]) != layouts.plain(joint)
    ]
    notes = (
        (f"Names of {len(taken)} joints were taken as {layouts.listed(taken, 40)}.",)
        if taken
        else ()
    )
    return Named(layout, tuple(meant), columns, notes + _left_out(names, columns))


def _left_out(names: Sequence[str], columns: Sequence[int]) -> tuple[str, ...]:
    others = [name for index, name in enumerate(names) if index not in columns]
    if not others:
        return ()
    return (f"{len(others)} joints of the file were left out: {layouts.listed(others)}.",)
