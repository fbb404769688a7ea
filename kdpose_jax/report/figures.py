"""Draws figures of a run as PNG files, without pyplot and its global state."""

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
      name: its entry in the legend.
      cost: the horizontal value, above 0.
      scores: the vertical values, one per seed: their mean is drawn, with an interval from the
        lowest to the highest.
    """

    name: str
    cost: float
    scores: tuple[float, ...]


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
      keys: (key in the records, label of its axis with the unit). A panel leaves out runs without
        its key.
      dataset: name of the data set, for the title.
      generated: whether the data set is generated; the figure then says so.

    Raises:
      UserError: the file cannot be written.
    """
    columns = min(3, len(keys))
    lines = math.ceil(len(keys) / columns)
    figure = Figure(figsize=(4.2 * columns + 0.6, 3.1 * lines + 1.1), layout="constrained")
    panels = list(figure.subplots(lines, columns, squeeze=False).ravel())
    for axes, (key, label) in zip(panels, keys, strict=False):
        for index, (name, records) in enumerate(runs.items()):
            known = [
                (record["step"], record[key])
                for record in records
                if key in record and record[key] is not None
            ]
            if known:
                steps, values = zip(*known, strict=True)
                axes.plot(
                    steps,
                    values,
                    label=name,
                    linewidth=1.4,
                    marker="o" if len(known) == 1 else None,  # a single point has no line
                    color=_COLOURS[index % len(_COLOURS)],
                    linestyle=_LINES[index % len(_LINES)],
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
    """Draws the score of networks against their cost, on a logarithmic cost axis.

    Args:
      path: the PNG file.
      points: the networks, each with a name of its own.
      cost_label: label of the cost axis, with the unit.
      score_label: label of the score axis, with the unit.
      dataset: name of the data set, for the title.
      generated: whether the data set is generated; the figure then says so.

    Raises:
      UserError: the file cannot be written.
    """
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    for index, point in enumerate(points):
        mean = math.fsum(point.scores) / len(point.scores)
        reach = [[mean - min(point.scores)], [max(point.scores) - mean]]
        axes.errorbar(
            [point.cost],
            [mean],
            yerr=reach if len(point.scores) > 1 else None,
            linestyle="none",
            marker=_MARKERS[(index + index // len(_COLOURS)) % len(_MARKERS)],  # 49 looks
            markersize=7,
            alpha=0.85,
            capsize=4,
            color=_COLOURS[index % len(_COLOURS)],
            label=point.name,
        )
    axes.set_xscale("log")
    lowest = min(point.cost for point in points)
    highest = max(point.cost for point in points)
    axes.set_xlim(lowest / 2, highest * 2)  # keeps a single cost away from the frame
    # Less than two decades might have no label at powers of ten.
    subs = (1, 2, 5) if math.log10(highest / lowest) < 2 else (1,)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
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
      dataset: name of the data set, for the title.
      generated: whether the data set is generated; the figure then says so.

    Raises:
      UserError: the file cannot be written.
    """
    parts = sorted({part for column in values.values() for part in column})
    inches = max(6.4, 1.6 + 0.25 * len(parts) * (len(values) + 1))
    figure = Figure(figsize=(inches, 4.6), layout="constrained")
    axes = figure.subplots()
    width = 0.84 / len(values)
    for index, (name, column) in enumerate(values.items()):
        known = [
            (place, score)
            for place, part in enumerate(parts)
            if (score := column.get(part)) is not None
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
    """Adds the title, and a legend below the panels, where it covers nothing; writes the PNG."""
    caption = "\n(generated data, not a benchmark)" if generated else ""
    figure.suptitle(title + caption, fontsize=11)
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        inches = 0.7 + 0.095 * max(len(label) for label in entries)  # bound on the widest entry
        columns = max(1, min(len(entries), int(figure.get_figwidth() / inches)))
        figure.legend(
            list(entries.values()),
            list(entries),
            loc="outside lower center",
            ncols=columns,
            frameon=False,
        )
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=_DOTS_PER_INCH)
    write_atomically(path, picture.getvalue())
