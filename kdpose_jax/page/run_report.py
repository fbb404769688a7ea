"""Writes the page of a run: how networks were trained, and where each does best and worst."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kdpose_jax.contracts import Column, EvaluationProtocol
from kdpose_jax.files import write_atomically
from kdpose_jax.folders import WorkFolder
from kdpose_jax.page import charts, document, extremes
from kdpose_jax.report import results, run_page

_TERM = "weighted_"


def write(
    folder: WorkFolder,
    networks: Mapping[str, Mapping[str, Any]],
    origin: Mapping[str, Any],
    protocol: EvaluationProtocol,
    metadata: Mapping[str, Any],
    examples: Mapping[str, Mapping[str, Any]],
) -> None:
    """Writes one HTML file, which needs neither a network connection nor WebGL.

    Args:
      folder: the folder for the results.
      networks: name -> `title`, and the record from `evaluation.evaluate_network`.
      origin: the fingerprint.
      protocol: the evaluation's protocol.
      metadata: the data set's metadata.
      examples: name of a network -> its best and worst examples, as `extremes.pack` made them.

    Raises:
      UserError: the file cannot be written.
    """
    metrics = {
        record["title"]: results.read_metrics(folder.run(name).metrics)
        for name, record in networks.items()
        if folder.run(name).metrics.exists()
    }
    titled = {networks[name]["title"]: packed for name, packed in examples.items()}
    shown, clips = best_and_worst(titled, bool(metadata["generated"]))
    title = f"Results on {run_page.name_of(metadata)}"
    facts = run_page.caption(networks, origin, metadata, protocol)
    fingerprint = json.dumps(results.plain(origin), indent=1)
    sections = [
        f"<h1>{document.text(title)}</h1>",
        f'<p class="facts">{document.text(facts)}</p>',
        results_table(networks, protocol.columns),
        training(metrics, protocol.columns),
        parts(networks, titled, protocol.breakdown_title, protocol.columns[0].form),
        shown,
        f"<details>\n<summary>Fingerprint</summary>\n<pre>{document.text(fingerprint)}</pre>\n"
        "</details>",
    ]
    body = "\n".join(section for section in sections if section)
    styles = ("player.css", "run_report.css")
    write_atomically(folder.page, document.page(title, body, {"clips": clips}, styles))


def results_table(networks: Mapping[str, Mapping[str, Any]], columns: Sequence[Column]) -> str:
    """Writes the scores as a table of HTML."""
    head = "".join(f'<th scope="col">{document.text(column.header)}</th>' for column in columns)
    lines = []
    for record in networks.values():
        values = (record["table"][column.key] for column in columns)
        cells = (
            "–" if value is None or math.isnan(value) else document.text(column.form(value))
            for value, column in zip(values, columns, strict=True)
        )
        row = "".join(f"<td>{cell}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{document.text(record["title"])}</th>{row}</tr>')
    return (
        f'<div class="wide"><table>\n<thead><tr><th scope="col">network</th>{head}</tr></thead>\n'
        f"<tbody>\n" + "\n".join(lines) + "\n</tbody>\n</table></div>"
    )


def training(metrics: Mapping[str, Sequence[Mapping[str, Any]]], columns: Sequence[Column]) -> str:
    """Draws losses and scores over the steps, and the terms of each network's loss."""
    headers = {column.key: column.header for column in columns}
    drawn = [charts.curves("training loss", _over_steps(metrics, "loss"))]
    scores = dict.fromkeys(
        key for records in metrics.values() for record in records for key in record
    )
    for key in scores:
        split, _, name = key.partition("_")
        if split in results.CHOSEN_ON:
            header = headers[name] if name in headers else _words(name)
            title = f"{results.CHOSEN_ON[split]} {header}"
            drawn.append(charts.curves(title, _over_steps(metrics, key)))
    for name, records in metrics.items():
        keys = dict.fromkeys(key for record in records for key in record)
        terms = [key for key in keys if key.startswith(_TERM)]
        if terms:
            shown = ["task", *terms] if "task" in keys else terms
            series = {_words(key.removeprefix(_TERM)): _series(records, key) for key in shown}
            drawn.append(charts.curves(f"{name}: weighted terms of the loss", series))
    drawn.append(charts.curves("learning rate", _over_steps(metrics, "learning_rate")))
    figures = "\n".join(figure for figure in drawn if figure)
    return f'<h2>Training</h2>\n<div class="charts">\n{figures}\n</div>' if figures else ""


def _over_steps(
    metrics: Mapping[str, Sequence[Mapping[str, Any]]], key: str
) -> dict[str, list[tuple[float, float]]]:
    series = {name: _series(records, key) for name, records in metrics.items()}
    return {name: points for name, points in series.items() if points}


def _series(records: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    """Returns (step, value) of a metric. A value that JSON lacks is NaN, which breaks a line."""
    known = (record for record in records if key in record)
    return [
        (float(record["step"]), float("nan") if record[key] is None else float(record[key]))
        for record in known
    ]


def _words(key: str) -> str:
    return key.replace("_", " ")


def parts(
    networks: Mapping[str, Mapping[str, Any]],
    examples: Mapping[str, Mapping[str, Any]],
    breakdown_title: str,
    form: Callable[[Any], str],
) -> str:
    """Draws the parts of the score, which `form` writes, and the error of each joint."""
    breakdown = {record["title"]: record["breakdown"] for record in networks.values()}
    by_joint = {
        name: {_words(joint): error for joint, error in packed["by_joint"].items()}
        for name, packed in examples.items()
    }
    tables = [charts.bars(breakdown_title, breakdown, form)]
    if by_joint:
        unit = next(iter(examples.values()))["unit"]
        tables.append(charts.bars(f"Error in {unit} by joint", by_joint, "{:.1f}".format))
    drawn = "\n".join(table for table in tables if table)
    return f'<h2>Part by part</h2>\n<div class="parts">\n{drawn}\n</div>' if drawn else ""


def best_and_worst(
    examples: Mapping[str, Mapping[str, Any]], generated: bool
) -> tuple[str, list[dict[str, Any]]]:
    """Shows every network's examples: clips in one player, or pictures.

    The last network is the one that the run is about. It comes first, and its list is open.

    Args:
      examples: title of a network -> its best and worst examples.
      generated: whether the data are generated, so that their pictures are nobody's photographs.

    Returns:
      The section of HTML, and the clips in the order of its buttons.
    """
    groups: list[str] = []
    clips: list[dict[str, Any]] = []
    for name, packed in reversed(list(examples.items())):
        if not packed["worst"]:
            continue
        found = extremes.clips_in(packed)
        shown = extremes.buttons(packed, len(clips)) if found else extremes.pictures(packed)
        opened = "" if groups else " open"
        groups.append(
            f"<details{opened}>\n<summary>{document.text(name)}</summary>\n{shown}\n</details>"
        )
        clips += found
    if not groups:
        return "", []
    player = document.source("player.html") if clips else extremes.LEGEND
    if not clips and not generated:
        player = f"{extremes.LICENCE}\n{player}"
    lists = "\n".join(groups)
    return f"<h2>Best and worst on the test split</h2>\n{player}\n{lists}", clips
