"""Figures of a run as PNG files. Drawn without pyplot, so that nothing is shared between two of them."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from kdpose_jax.files import write_atomically

# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES = ("-", "--", "-.", ":")
_DOTS_PER_INCH = 150


class CostPoint(NamedTuple):
    """One network in the score-against-cost figure.

    Attributes:
      name: its legend entry; points of one name (several seeds) look alike.
      cost: the horizontal value, above 0.
      score: the vertical value.
    """

    name: str
    cost: float
    score: float


def training_curves(
    path: epath.PathLike,
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    keys: Sequence[tuple[str, str]],
    *,
    dataset: str,
    generated: bool,
) -> None:
    """Draws metrics against the step, one panel per metric and one line per run.

    Args:
      path: the PNG file.
      runs: name -> records of its metrics.jsonl, each with "step".
      keys: (key in the records, label of its axis with the unit). A run without the key is left out of that panel.
      dataset: named in the title.
      generated: the data set is generated, which the figure then says.

    Raises:
      UserError: the file cannot be written.
    """
    columns = min(3, len(keys))
    lines = math.ceil(len(keys) / columns)
    figure = Figure(figsize=(4.2 * columns + 0.6, 3.1 * lines + 1.1), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, (key, label) in zip(panels, keys, strict=False):
        for index, (name, records) in enumerate(runs.items()):
            known = [
                (record["step"], record[key])
                for record in records
                if key in record and record[key] is not None
            ]
            if known:
                style = {
                    "color": _COLOURS[index % len(_COLOURS)],
                    "linestyle": _LINES[index % len(_LINES)],
                }
                marker = "o" if len(known) == 1 else None  # a line of one point would be invisible
                axes.plot(
                    *zip(*known, strict=True), label=name, linewidth=1.4, marker=marker, **style
                )
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.tick_params(axis="x", labelrotation=30)
        _tidy(axes)
    for axes in panels[len(keys) :]:
        axes.set_visible(False)
    _finish(figure, panels[: len(keys)], path, f"Training on {dataset}", generated)


def score_against_cost(
    path: epath.PathLike,
    points: Sequence[CostPoint],
    *,
    cost_label: str,
    score_label: str,
    dataset: str,
    generated: bool,
) -> None:
    """Draws the score of networks against what they cost, on a logarithmic cost axis: the best stand at the left.

    Args:
      path: the PNG file.
      points: the networks.
      cost_label: label of the cost axis, with the unit.
      score_label: label of the score axis, with the unit.
      dataset: named in the title.
      generated: the data set is generated, which the figure then says.

    Raises:
      UserError: the file cannot be written.
    """
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(point.name for point in points))
    for index, name in enumerate(names):
        own = [point for point in points if point.name == name]
        axes.plot(
            [point.cost for point in own],
            [point.score for point in own],
            linestyle="none",
            marker=_MARKERS[
                (index + index // len(_COLOURS)) % len(_MARKERS)
            ],  # no two of 49 look alike
            markersize=9,
            alpha=0.85,
            color=_COLOURS[index % len(_COLOURS)],
            label=name,
        )
    axes.set_xscale("log")
    lowest, highest = (bound([point.cost for point in points]) for bound in (min, max))
    axes.set_xlim(
        lowest / 2, highest * 2
    )  # keeps a single cost, or two close ones, away from the frame
    decades = math.log10(highest / lowest)
    axes.xaxis.set_major_locator(
        LogLocator(subs=(1, 2, 5) if decades < 2 else (1,))
    )  # or there might be no label at all
    axes.xaxis.set_major_formatter(EngFormatter())  # 100 M, 1 G
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(y=0.15)
    axes.set_xlabel(cost_label)
    axes.set_ylabel(score_label)
    _tidy(axes)
    _finish(figure, [axes], path, f"{score_label} against cost on {dataset}", generated)


def breakdown_bars(
    path: epath.PathLike,
    values: Mapping[str, Mapping[str, float | None]],
    *,
    label: str,
    dataset: str,
    generated: bool,
) -> None:
    """Draws grouped bars: one group per part of the score, one bar per network.

    Args:
      path: the PNG file.
      values: network -> part -> score; None and missing parts leave a gap.
      label: label of the score axis, with the unit.
      dataset: named in the title.
      generated: the data set is generated, which the figure then says.

    Raises:
      UserError: the file cannot be written.
    """
    parts = sorted({part for column in values.values() for part in column})
    figure = Figure(
        figsize=(max(6.4, 1.6 + 0.25 * len(parts) * (len(values) + 1)), 4.6), layout="constrained"
    )
    axes = figure.subplots()
    width = 0.84 / len(values)
    for index, (name, column) in enumerate(values.items()):
        known = [
            (place, column[part])
            for place, part in enumerate(parts)
            if column.get(part) is not None
        ]
        places = [place + (index - (len(values) - 1) / 2) * width for place, _ in known]
        heights = [height for _, height in known]
        axes.bar(places, heights, 0.92 * width, label=name, color=_COLOURS[index % len(_COLOURS)])
    axes.set_xlim(-0.6, len(parts) - 0.4)
    axes.set_xticks(range(len(parts)), parts, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_ylabel(label)
    _tidy(axes)
    axes.grid(False, axis="x")
    _finish(figure, [axes], path, f"{label} on {dataset}", generated)


def _tidy(axes: Axes) -> None:
    axes.grid(True, color="0.88", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _finish(
    figure: Figure, panels: Sequence[Axes], path: epath.PathLike, title: str, generated: bool
) -> None:
    """Adds title, caption and a legend below the panels, where it can cover nothing, and writes the PNG."""
    figure.suptitle(
        title + ("\n(generated data, not a benchmark)" if generated else ""), fontsize=11
    )
    entries = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        inches = 0.7 + 0.095 * max(
            len(label) for label in entries
        )  # of the widest entry, on the safe side
        columns = max(1, min(len(entries), int(figure.get_figwidth() / inches)))
        figure.legend(
            entries.values(),
            entries.keys(),
            loc="outside lower center",
            ncols=columns,
            frameon=False,
        )
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=_DOTS_PER_INCH)
    write_atomically(path, picture.getvalue())
