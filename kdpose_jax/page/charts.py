"""Draws curves and bars as SVG, in the colours of the page's style."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kdpose_jax.page.document import text

WIDTH, HEIGHT = 420, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 8, 24
COLOURS = 7  # player.css has that many
# Above this ratio of the largest to the smallest value, a logarithmic axis shows more.
_WIDE = 30.0
_MOST_POINTS = 400


def curves(title: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Draws one line per series over the steps of training, with a legend.

    Args:
      title: what the values are.
      series: name -> (step, value) in the order of steps. Points that are not finite break the
        line.

    Returns:
      A `figure` of HTML. It is empty if there is no finite value.
    """
    finite = [point for points in series.values() for point in points if _finite(point)]
    if not finite:
        return ""
    values = [y for _, y in finite]
    logarithmic = min(values) > 0 and max(values) / min(values) > _WIDE
    scale = math.log10 if logarithmic else float
    low, high, ticks = _log_ticks(values) if logarithmic else _ticks(values)
    first, last = min(x for x, _ in finite), max(x for x, _ in finite)

    def across(x: float) -> float:
        share = (x - first) / (last - first) if last > first else 0.5
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * share

    def up(y: float) -> float:
        share = (scale(y) - scale(low)) / (scale(high) - scale(low))
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share

    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{up(y):.1f}" y2="{up(y):.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{up(y) + 4:.1f}" text-anchor="end">{y:.4g}</text>'
        for y in ticks
    ]
    for x, anchor in {first: "start", last: "end"}.items():
        place = f'x="{across(x):.1f}" y="{HEIGHT - 6}"'
        parts.append(f'<text {place} text-anchor="{anchor}">step {x:,.0f}</text>')
    for number, points in enumerate(series.values()):
        for run in _runs(_thinned(points)):
            line = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in run)
            kind = f"series-{number % COLOURS}"
            parts.append(
                f'<polyline class="{kind}" points="{line}"/>'
                if len(run) > 1
                else f'<circle class="{kind}" cx="{across(run[0][0]):.1f}" '
                f'cy="{up(run[0][1]):.1f}" r="3"/>'
            )
    legend = "".join(
        f'<li class="series-{number % COLOURS}">{text(name)}</li>'
        for number, name in enumerate(series)
    )
    scaled = " (logarithmic)" if logarithmic else ""
    return (
        f'<figure class="chart">\n<figcaption><span class="name">{text(title)}</span>{scaled}'
        f'</figcaption>\n<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{text(title)}">\n{"".join(parts)}\n</svg>\n'
        f'<ul class="legend">{legend}</ul>\n</figure>'
    )


def bars(
    title: str, columns: Mapping[str, Mapping[str, float | None]], form: Callable[[Any], str]
) -> str:
    """Draws a table with a bar beside each number, the rows with the largest ones first.

    Args:
      title: what the values are; its last word says what a row is.
      columns: name of a network -> row -> value. None and a missing row leave a gap. The first
        network decides the order of the rows.
      form: turns a value into text.

    Returns:
      A `table` of HTML. It is empty if there is no value.
    """
    known = {
        name: {row: v for row, v in column.items() if v is not None and math.isfinite(v)}
        for name, column in columns.items()
    }
    values = [value for column in known.values() for value in column.values()]
    if not values:
        return ""
    most = max(*values, 1e-12)
    first = next(iter(known.values()))
    rows = list(dict.fromkeys(row for column in columns.values() for row in column))
    rows.sort(key=lambda row: -first[row] if row in first else math.inf)
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in columns)
    lines = []
    for row in rows:
        cells = "".join(
            _bar(column[row] / most, number, form(column[row])) if row in column else "<td>–</td>"
            for number, column in enumerate(known.values())
        )
        lines.append(f'<tr><th scope="row">{text(row)}</th>{cells}</tr>')
    what = text(title.split()[-1])
    return (
        f'<table class="bars">\n<caption>{text(title)}</caption>\n'
        f'<thead><tr><th scope="col">{what}</th>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(lines)
        + "\n</tbody>\n</table>"
    )


def _bar(share: float, number: int, written: str) -> str:
    return (
        f'<td>{text(written)} <svg aria-hidden="true"><rect class="series-{number % COLOURS}" '
        f'width="{100 * max(0.0, share):.1f}%" height="100%"/></svg></td>'
    )


def _finite(point: tuple[float, float]) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1])


def _ticks(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Finds round ends of an axis and up to six round values between them."""
    low, high = min(values), max(values)
    if 0 < low < 0.6 * high:
        low = 0.0
    reach = max(high - low, abs(high) * 1e-3, 1e-12)
    power = 10 ** math.floor(math.log10(reach / 5))
    step = next(factor * power for factor in (1, 2, 5, 10) if reach / (factor * power) <= 5)
    first, last = math.floor(low / step), math.ceil((low + reach) / step)
    ticks = [count * step for count in range(first, last + 1)]
    return ticks[0], ticks[-1], ticks


def _log_ticks(values: Sequence[float]) -> tuple[float, float, list[float]]:
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    every = max(1, math.ceil((last - first) / 6))
    ticks = [10.0**power for power in range(first, last + 1, every)]
    return 10.0**first, 10.0**last, ticks


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keeps at most about `_MOST_POINTS`, the last among them: more are not seen in a chart."""
    every = max(1, math.ceil(len(points) / _MOST_POINTS))
    return [*points[:-1:every], *points[-1:]]


def _runs(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Splits a line where a point is not finite."""
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if _finite(point):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]
