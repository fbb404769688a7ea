"""Writes results.md and the figures of a finished run."""

from collections.abc import Callable, Mapping
from typing import Any

from kdpose_jax.contracts import RATE, Column, EvaluationProtocol
from kdpose_jax.data import schema
from kdpose_jax.files import write_atomically
from kdpose_jax.folders import WorkFolder
from kdpose_jax.report import figures, results, tables


def tell(
    folder: WorkFolder,
    networks: Mapping[str, Mapping[str, Any]],
    origin: Mapping[str, Any],
    protocol: EvaluationProtocol,
    metadata: Mapping[str, Any],
    show: Callable[[str], None],
) -> None:
    """Shows the table, then writes it. Scores are thereby seen even if writing fails.

    Args:
      folder: the folder for the results.
      networks: name -> `title`, and the record from `evaluation.evaluate_network`.
      origin: the fingerprint.
      protocol: the evaluation's protocol.
      metadata: the data set's metadata.
      show: prints the table.

    Raises:
      UserError: the table cannot be written.
    """
    table = comparison_table(networks, protocol)
    show("")
    show(table)
    if metadata["generated"]:
        contents = schema.KINDS[metadata["kind"]].contents
        show(f"Generated {contents}: these numbers say nothing about any real data set.")
    parts = breakdowns(networks)
    means = {
        record["title"]: record["table"][protocol.columns[0].key] for record in networks.values()
    }
    text = f"# Results on {name_of(metadata)}\n\n"
    text += f"{caption(networks, origin, metadata, protocol)} "
    text += f"The rate ({protocol.unit[0]}/s) is measured without flip.\n\n{table}\n"
    text += f"## {protocol.breakdown_title}\n\n"
    text += tables.breakdown_table(
        parts,
        {protocol.columns[0].header: means},
        protocol.columns[0].form,
        protocol.breakdown_title.split()[-1],
    )
    folder.path.mkdir(parents=True, exist_ok=True)
    write_atomically(folder.table, text.encode())


def where(folder: WorkFolder) -> str:
    """Says where the results are."""
    files = (folder.page, folder.results, folder.table)
    names = ", ".join([*(file.name for file in files), f"{folder.figures.name}/"])
    return f"results in {folder.path}: {names}"


def name_of(metadata: Mapping[str, Any]) -> str:
    """Returns the name of a data set in titles."""
    if metadata["generated"]:
        return f"generated {schema.KINDS[metadata['kind']].contents}"
    return metadata["settings"]["name"]


def breakdowns(networks: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, float | None]]:
    """Returns title of a network -> the parts of its score."""
    return {record["title"]: record["breakdown"] for record in networks.values()}


def comparison_table(
    networks: Mapping[str, Mapping[str, Any]], protocol: EvaluationProtocol
) -> str:
    """Makes a table with one line per network: the protocol's columns, then costs per output."""
    unit = protocol.unit[0]
    costs = dict(results.COSTS)
    if all(
        record["cost"]["macs_linear_per_output"] == record["cost"]["macs_total_per_output"]
        for record in networks.values()
    ):
        del costs["macs_total_per_output"]  # no network has attention
    batch = results.largest_call(next(iter(networks.values()))["cost"])
    rows = []
    for record in networks.values():
        cost = {key: record["cost"][key] for key in costs}
        rows.append(
            {
                **record["table"],
                "title": record["title"],
                **cost,
                "rate": record["cost"][f"{RATE}{batch}"],
            }
        )
    columns = [Column("title", "network", str), *protocol.columns]
    columns += [
        Column(key, header.format(unit=unit[:-1]), tables.scaled) for key, header in costs.items()
    ]
    columns.append(Column("rate", f"{unit}/s, batch {batch}", "{:,.0f}".format))
    return tables.markdown_table(rows, columns)


def caption(
    networks: Mapping[str, Mapping[str, Any]],
    origin: Mapping[str, Any],
    metadata: Mapping[str, Any],
    protocol: EvaluationProtocol,
) -> str:
    """Says in plain text where the numbers come from."""
    contents = schema.KINDS[metadata["kind"]].contents
    kind = (
        f"Generated {contents}: these numbers say nothing about any real data set. "
        if metadata["generated"]
        else ""
    )
    each = {record["title"]: record["loaded"] for record in networks.values()}
    if len(set(each.values())) == 1:
        chosen = f"Checkpoint of each network: {next(iter(each.values()))}"
    else:
        chosen = f"Checkpoints: {'; '.join(f'{title}: {which}' for title, which in each.items())}"
    lifts = metadata["kind"] == schema.SEQUENCES.name  # networks for pictures read no 2D joints
    read = f" 2D input: {metadata['keypoints']}." if lifts else ""
    changed = " with uncommitted changes" if origin["uncommitted_changes"] else ""
    return (
        f"{kind}{protocol.conditions}{read} Test split: {protocol.test_set}. {chosen}. Seed "
        f"{origin['seed']}, commit {origin['commit']}{changed}, {origin['device_count']} x "
        f"{origin['device_kind']}, jax {origin['versions']['jax']}."
    )


def draw(
    folder: WorkFolder,
    networks: Mapping[str, Mapping[str, Any]],
    protocol: EvaluationProtocol,
    metadata: Mapping[str, Any],
) -> None:
    """Draws training curves, score against cost, and the parts of the score.

    Arguments are as in `tell`.

    Raises:
      UserError: a picture cannot be written.
    """
    folder.figures.mkdir(parents=True, exist_ok=True)
    about = {"dataset": name_of(metadata), "generated": metadata["generated"]}
    label = protocol.columns[0].header
    runs = {
        record["title"]: results.read_metrics(folder.run(name).metrics)
        for name, record in networks.items()
        if folder.run(name).metrics.exists()
    }
    if runs:
        keys = [("loss", "training loss")]
        for split, words in results.CHOSEN_ON.items():
            key = f"{split}_{protocol.best_metric}"
            if any(key in record for records in runs.values() for record in records):
                keys.append((key, f"{words} {label}"))
        figures.training_curves(folder.figures / "training.png", runs, keys, **about)
    points = [
        figures.CostPoint(
            record["title"],
            record["cost"]["macs_total_per_output"],
            (record["table"][protocol.columns[0].key],),
        )
        for record in networks.values()
    ]
    figures.score_against_cost(
        folder.figures / "score_against_cost.png",
        points,
        cost_label=f"MACs per {protocol.unit[0][:-1]}, attention included",
        score_label=label,
        **about,
    )
    path, label = folder.figures / "breakdown.png", protocol.breakdown_title
    figures.breakdown_bars(path, breakdowns(networks), label=label, **about)
