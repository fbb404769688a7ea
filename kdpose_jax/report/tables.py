"""Renders Markdown tables whose columns also line up in a terminal."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kdpose_jax.contracts import Column

_MISSING = "-"


def markdown_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> str:
    """Renders rows.

    Args:
      rows: key -> value; None and NaN print as "-".
      columns: from left to right. The first column is flush left, the others are flush right.

    Returns:
      The table, whose lines end in newlines.

    Raises:
      KeyError: a row lacks a column's key.
    """
    cells = [[column.header for column in columns]]
    cells += [[_cell(row[column.key], column.form) for column in columns] for row in rows]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in cells]
    widths = [max(3, *(len(line[index]) for line in cells)) for index in range(len(columns))]
    rule = [":" + "-" * (widths[0] - 1)] + ["-" * (width - 1) + ":" for width in widths[1:]]
    return "".join(_line(line, widths) for line in [cells[0], rule, *cells[1:]])


def _cell(value: Any, to_text: Callable[[Any], str]) -> str:
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return _MISSING if missing else to_text(value)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    others = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return "| " + " | ".join([first, *others]) + " |\n"


def breakdown_table(
    values: Mapping[str, Mapping[str, float | None]],
    averages: Mapping[str, Mapping[str, float | None]],
    to_text: Callable[[Any], str],
    heading: str,
) -> str:
    """Renders one line per part of a score (an action, a joint), and one column per network.

    Lines of averages follow.

    Args:
      values: network -> part -> value. A part that a network lacks prints as "-".
      averages: title of an average -> network -> value.
      to_text: turns a value into text.
      heading: heading of the first column, which says what a part is.

    Returns:
      The table, whose lines end in newlines.
    """
    parts = sorted({part for column in values.values() for part in column})
    rows = [
        {"": part} | {name: column.get(part) for name, column in values.items()} for part in parts
    ]
    rows += [{"": title} | dict(row) for title, row in averages.items()]
    return markdown_table(
        rows, [Column("", heading, str)] + [Column(name, name, to_text) for name in values]
    )


def scaled(value: float) -> str:
    """Writes four significant digits with a power of a thousand: 33783811 -> "33.78 M"."""
    for factor, suffix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        # 0.99995: a value that would round to 1000 of the smaller unit is 1 of this one.
        if abs(value) >= 0.99995 * factor:
            return _four_digits(value / factor) + suffix
    return _four_digits(value)


def _four_digits(value: float) -> str:
    exponent = int(f"{value:.3e}".partition("e")[2])  # after rounding: 9.9996 is 1.000e+01
    return f"{value:.{max(0, 3 - max(0, exponent))}f}"
