"""What a finished run leaves: results.json, results.md and figures."""

from collections.abc import Callable, Mapping
from typing import Any

from etils import epath

from kdpose_jax.experiment import settings
from kdpose_jax.report import figures, results, tables

RATE = "frames_per_second_batch"  # the keys of `evaluate.cost.Cost.as_dict`


def write(
    directory: epath.Path,
    networks: Mapping[str, Mapping[str, Any]],
    origin: Mapping[str, Any],
    protocol: Any,
    metadata: Mapping[str, Any],
    show: Callable[[str], None],
) -> None:
    """Writes the table, the figures and, last, `results.json`, whose presence says that the run is done.

    Args:
      directory: the work directory.
      networks: name -> `title`, `checkpoint`, `scores`, `cost`.
      origin: the fingerprint.
      protocol: of the evaluation.
      metadata: of the data set.
      show: prints the table.
    """
    (directory / "figures").mkdir(parents=True, exist_ok=True)
    dataset = "generated motion" if metadata["generated"] else metadata["settings"]["name"]
    table = comparison_table(networks, protocol)
    per_action = {record["title"]: protocol.per_action(record["scores"]) for record in networks.values()}
    averages = {record["title"]: protocol.row(record["scores"])[protocol.best_metric] for record in networks.values()}
    text = f"# Results on {dataset}\n\n{caption(origin, metadata, protocol)}\n\n{table}\n"
    text += f"## {protocol.columns[0][1]} by action\n\n"
    text += tables.per_action_table(per_action, {"mean over actions": averages}, protocol.columns[0][2])
    draw(directory, networks, per_action, protocol, dataset, metadata["generated"])
    settings.write_text(directory / "results.md", text)
    results.write_results(directory / "results.json", networks, origin)
    show("")
    show(table)
    show(f"results in {directory}: results.json, results.md, figures/")
    if metadata["generated"]:
        show("The motion is generated: these numbers say nothing about any real data set.")


def comparison_table(networks: Mapping[str, Mapping[str, Any]], protocol: Any) -> str:
    """One line per network: the protocol's columns, then the cost per output unit."""
    unit = protocol.unit[0]
    first = next(iter(networks.values()))
    batch = max(int(key.removeprefix(RATE)) for key in first["cost"] if key.startswith(RATE))
    rows = []
    for record in networks.values():
        cost = record["cost"]
        rows.append({
            **protocol.row(record["scores"]),
            "title": record["title"],
            "parameters": cost["parameters"],
            "macs": cost["macs_linear_per_frame"],
            "macs_total": cost["macs_total_per_frame"],
            "rate": cost[f"{RATE}{batch}"],
        })
    columns = [
        ("title", "network", str),
        *protocol.columns,
        ("parameters", "parameters", tables.scaled),
        ("macs", f"MACs/{unit[:-1]}, linear", tables.scaled),
        ("macs_total", "with attention", tables.scaled),
        ("rate", f"{unit}/s, batch {batch}", "{:,.0f}".format),
    ]
    return tables.markdown_table(rows, columns)


def caption(origin: Mapping[str, Any], metadata: Mapping[str, Any], protocol: Any) -> str:
    """Where the numbers come from, as a sentence."""
    test = metadata["splits"][origin["config"]["data"]["test_split"]]
    kind = "Generated motion: these numbers say nothing about any real data set. " if metadata["generated"] else ""
    changed = " with uncommitted changes" if origin["uncommitted_changes"] else ""
    return (
        f"{kind}2D input: {metadata['keypoints']}. Test split: {test['records']:,} sequences, {test['frames']:,} frames. "
        f"{protocol.conditions} The checkpoint of each network is its best on the test split, as in the literature. {protocol.unit[0]}/s "
        f"without flip. Seed {origin['seed']}, commit {origin['commit']}{changed}, "
        f"{origin['device_count']} x {origin['device_kind']}, jax {origin['versions']['jax']}."
    )


def draw(
    directory: epath.Path,
    networks: Mapping[str, Mapping[str, Any]],
    per_action: Mapping[str, Mapping[str, float | None]],
    protocol: Any,
    dataset: str,
    generated: bool,
) -> None:
    """Training curves, error against cost, error by action."""
    about = {"dataset": dataset, "generated": generated}
    label = protocol.columns[0][1]
    runs = {
        record["title"]: results.read_metrics(directory / name / "metrics.jsonl")
        for name, record in networks.items()
        if (directory / name / "metrics.jsonl").exists()
    }
    if runs:
        keys = [("loss", "training loss"), (f"test_{protocol.best_metric}", f"test {label}")]
        figures.training_curves(directory / "figures" / "training.png", runs, keys, **about)
    points = [
        figures.CostPoint(
            record["title"], record["cost"]["macs_total_per_frame"], protocol.row(record["scores"])[protocol.best_metric]
        )
        for record in networks.values()
    ]
    figures.error_against_cost(
        directory / "figures" / "error_against_cost.png",
        points,
        cost_label=f"MACs per {protocol.unit[0][:-1]}, attention included",
        error_label=label,
        **about,
    )
    figures.per_action_bars(directory / "figures" / "per_action.png", per_action, error_label=label, **about)
