"""Declares studies: networks trained with several seeds and compared in one table.

A file of configs/studies/ declares a `Study`. `kdpose_jax/study/runner.py` trains its runs and
writes the page of its `Comparison`.
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from kdpose_jax.contracts import RATE, Column
from kdpose_jax.errors import UserError
from kdpose_jax.report import figures, results, tables
from kdpose_jax.study import intervals


@dataclasses.dataclass(frozen=True)
class Of:
    """A path inside another run of the study, with the study's first seed.

    It lets runs share a teacher that is trained once, or records that are made once.

    Attributes:
      run: names the other run.
      path: the path relative to that run's work directory.
    """

    run: str
    path: str


@dataclasses.dataclass(frozen=True)
class Run:
    """One command of the launcher, given once per seed.

    Attributes:
      name: names the run's folder.
      config: value of --config, relative to the repository.
      fields: config field -> value, for --config.FIELD=VALUE. An `Of` that refers to the run itself
        is left out, because this run makes it. A tuple may hold several of other runs.
    """

    name: str
    config: str
    fields: Mapping[str, str | int | float | bool | tuple | Of] = dataclasses.field(
        default_factory=dict
    )


def others_in(value: Any) -> tuple[Of, ...]:
    """Lists the paths of other runs in the value of a field."""
    values = value if isinstance(value, tuple) else (value,)
    return tuple(one for one in values if isinstance(one, Of))


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
      title: names the row in table and picture.
      run: names the run that has the network.
      network: names the network in that run: teacher, baseline or student.
      seeds: how many of the run's seeds to show; 0 for all. A teacher takes 1, because
        all seeds share it.
      against: title of the row that it is compared with; empty for the study's reference.
    """

    title: str
    run: str
    network: str = "student"
    seeds: int = 0
    against: str = ""


@dataclasses.dataclass(frozen=True)
class Published:
    """Figures of others, in a block below the table and not ranked with it.

    Attributes:
      protocol: names the data, the 2D input and the metric of the figures.
      columns: headers; the last one is the source.
      rows: the figures as printed in the source.
    """

    protocol: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Study:
    """The runs of a study, and how they are shown.

    Attributes:
      name: names the study's folder under runs/studies.
      title: the heading of the table.
      runs: the runs in the order in which they start.
      rows: the rows of the table.
      columns: (key in a network's `table` of results.json, header, format such as "{:.1f}"). The
        first column is drawn.
      unit: a network's output, as in MACs/frame.
      reference: title of the row that others are compared with, seed by seed.
      published: figures of others.
      note: text that a reader of the table must know.
      seeds: the seeds of each run.
      best_is_lowest: whether a lower value of the first column is better.
      fixed: fields that the command line may not set, because the runs would not be comparable.
    """

    name: str
    title: str
    runs: tuple[Run, ...]
    rows: tuple[Row, ...]
    columns: tuple[tuple[str, str, str], ...]
    unit: str
    reference: str
    published: tuple[Published, ...] = ()
    note: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)
    fixed: tuple[str, ...] = ()
    best_is_lowest: bool = True

    def seeds_of(self, run: str) -> tuple[int, ...]:
        """Returns the seeds that a run needs: those of its rows, and the first for other runs."""
        shown = [row.seeds or len(self.seeds) for row in self.rows if row.run == run]
        return self.seeds[: max(shown, default=1)]

    def check(self) -> None:
        """Refuses a study that cannot be run.

        Raises:
          UserError: names of runs, rows or references do not fit each other.
        """
        names = [run.name for run in self.runs]
        titles = [row.title for row in self.rows]
        mentioned = [(f"the row '{row.title}'", row.run) for row in self.rows]
        mentioned += [
            (f"the run '{run.name}'", of.run)
            for run in self.runs
            for value in run.fields.values()
            for of in others_in(value)
        ]
        for where, name in mentioned:
            if name not in names:
                raise UserError(
                    f"In study '{self.name}' {where} names the run '{name}', which is none: use "
                    f"one of {', '.join(names)}."
                )
        lists: dict[str, Sequence[str | int]] = {"run": names, "row": titles, "seed": self.seeds}
        for what, listed in lists.items():
            twice = sorted({str(one) for one in listed if listed.count(one) > 1})
            if twice or not listed:
                raise UserError(
                    f"Study '{self.name}' has "
                    f"{f'the {what} {twice[0]} twice' if twice else f'no {what}'}: change that."
                )
        for reference in (self.reference, *(row.against for row in self.rows if row.against)):
            if reference not in titles:
                raise UserError(
                    f"Study '{self.name}' is compared with '{reference}', which is not a row: use "
                    f"one of {', '.join(titles)}."
                )


@dataclasses.dataclass(frozen=True)
class Entry:
    """The results of one row.

    Attributes:
      title: the row's title.
      against: title of the row that it is compared with; its own for the study's reference.
      scores: column -> seed -> value. A seed that is not done yet is missing.
      examples: seed -> what the first column is made of, an `ExampleScores` as in results.json. A
        figure that is not a mean over examples has none.
      cost: cost of the first seed, as in results.json; empty if no seed is done.
      training: what each seed's training cost, as `training_cost` says it; a network that was given
        has none.
      wanted: number of seeds that the row will have.
    """

    title: str
    against: str
    scores: Mapping[str, Mapping[int, float]]
    examples: Mapping[int, Mapping[str, Any]]
    cost: Mapping[str, Any]
    training: tuple[Mapping[str, Any], ...]
    wanted: int

    @property
    def done(self) -> int:
        """Counts the seeds that are done."""
        return max(len(values) for values in self.scores.values())


class Comparison:
    """The results of those runs of a study that are done.

    Args:
      study: the study, which has passed `Study.check`.
      documents: (run, seed) -> the document from `results.read_results`.
    """

    def __init__(self, study: Study, documents: Mapping[tuple[str, int], Mapping[str, Any]]):
        self.study, self.documents = study, documents
        self.entries = tuple(self._entry(row) for row in study.rows)
        # Title -> the 95 % interval of the mean of `differences`; None if it has none.
        self.intervals = {entry.title: self._interval(entry) for entry in self.entries}

    def _entry(self, row: Row) -> Entry:
        seeds = self.study.seeds[: row.seeds or len(self.study.seeds)]
        networks = {
            seed: self.documents[row.run, seed]["networks"]
            for seed in seeds
            if (row.run, seed) in self.documents
        }
        for found in networks.values():
            if row.network not in found:
                lacking = (
                    f"the row '{row.title}' shows '{row.network}' of the run '{row.run}', which "
                    f"has {', '.join(found)}"
                )
                raise UserError(f"In study '{self.study.name}' {lacking}: use one of these.")
        records = {seed: found[row.network] for seed, found in networks.items()}
        for seed, record in records.items():
            if not all(isinstance(record.get(part), dict) for part in ("table", "cost")):
                raise UserError(
                    f"In study '{self.study.name}' the results.json of {row.run}, seed {seed}, "
                    f"lacks the table or the cost of '{row.network}': delete that file and give "
                    "the same command again."
                )
        known = {name for record in records.values() for name in record["table"]}
        for key, _, _ in self.study.columns:
            if records and key not in known:
                scored = f"{row.run} is scored by {', '.join(sorted(known))}"
                raise UserError(
                    f"Study '{self.study.name}' shows '{key}', and {scored}: use one of these."
                )
        scores = {
            key: {
                seed: record["table"][key]
                for seed, record in records.items()
                if record["table"][key] is not None
            }
            for key, _, _ in self.study.columns
        }
        cost = next(iter(records.values()))["cost"] if records else {}
        training = tuple(
            record["training"] for record in records.values() if record.get("training")
        )
        examples = {
            seed: record["examples"] for seed, record in records.items() if record.get("examples")
        }
        return Entry(
            title=row.title,
            against=row.against or self.study.reference,
            scores=scores,
            examples=examples,
            cost=cost,
            training=training,
            wanted=len(seeds),
        )

    def reference_of(self, entry: Entry) -> Entry | None:
        """Returns the row that an entry is compared with; the study's reference has none."""
        if entry.title == entry.against:
            return None
        return next(other for other in self.entries if other.title == entry.against)

    def differences(self, entry: Entry) -> list[float]:
        """Computes entry minus its reference in the first column, for every seed that both have."""
        key, reference = self.study.columns[0][0], self.reference_of(entry)
        if reference is None:
            return []
        own, others = entry.scores[key], reference.scores[key]
        return [own[seed] - others[seed] for seed in own if seed in others]

    def _interval(self, entry: Entry) -> tuple[float, float] | None:
        reference = self.reference_of(entry)
        if reference is None:
            return None
        return intervals.of_difference(
            [
                (own, reference.examples[seed])
                for seed, own in entry.examples.items()
                if seed in reference.examples
            ]
        )

    def frontier(self) -> list[Entry]:
        """Lists the networks to ship, cheapest first: none that costs as little is better.

        Rows count whose seeds are all done, by their multiply-adds and the mean of the first
        column.
        """
        done = [entry for entry in self.entries if entry.cost and entry.done == entry.wanted]
        best: list[Entry] = []
        for entry in sorted(done, key=lambda entry: (_macs(entry), self._badness(entry))):
            if not best or self._badness(entry) < self._badness(best[-1]):
                best.append(entry)
        return best

    def _badness(self, entry: Entry) -> float:
        mean = statistics.fmean(entry.scores[self.study.columns[0][0]].values())
        return mean if self.study.best_is_lowest else -mean

    def markdown(self) -> str:
        """Writes the page: the table, its origin, what to ship, and the published block."""
        study, first = self.study, self.study.columns[0]
        signed, rows = first[2].replace(":", ":+"), []
        for entry in self.entries:
            row: dict[str, Any] = {"title": entry.title, "seeds": str(entry.done)}
            row |= {
                key: with_spread(list(entry.scores[key].values()), form)
                for key, _, form in study.columns
            }
            row["against"] = with_spread(self.differences(entry), signed)
            row["interval"] = between(self.intervals[entry.title], signed)
            row |= {key: entry.cost[key] if entry.cost else None for key in results.COSTS}
            row["rate"] = fastest(entry.cost) if entry.cost else None
            row |= trained(entry.training)
            rows.append(row)
        columns = [Column("title", "network", str), Column("seeds", "seeds", str)]
        columns += [Column(key, header, str) for key, header, _ in study.columns]
        columns.append(Column("against", "against the reference", str))
        columns.append(Column("interval", "95 %", str))
        columns += [
            Column(key, header.format(unit=study.unit), tables.scaled)
            for key, header in results.COSTS.items()
        ]
        columns.append(Column("rate", f"{study.unit}s/s (in a call)", str))
        columns.append(Column("seen", f"{study.unit}s seen", str))
        columns.append(Column("core_hours", "core-hours", str))
        text = f"# {study.title}\n\n{tables.markdown_table(rows, columns)}\n"
        text += f"{study.note}\n\n" if study.note else ""
        text += f"Mean ± standard deviation over seeds. {self.compared()} {self.origin()}\n"
        missing = [
            f"{entry.title} ({entry.done} of {entry.wanted})"
            for entry in self.entries
            if entry.done < entry.wanted
        ]
        if missing:
            text += f"\n**Not finished**: {', '.join(missing)}.\n"
        text += self.recommendation()
        if study.published:
            text += "\n## Published figures\n\n"
            text += "Of other sizes and training, and of other data unless named so: "
            text += "none of them can be ranked with the table above.\n"
        for block in study.published:
            lines = [dict(zip(block.columns, row, strict=True)) for row in block.rows]
            text += f"\n{block.protocol}:\n\n" + tables.markdown_table(
                lines, [Column(header, header, str) for header in block.columns]
            )
        return text

    def compared(self) -> str:
        """Says what is compared with what, and what the intervals are of."""
        text = (
            f"Against the reference: {self.study.columns[0][1]}, minus that of "
            f"{self.study.reference}, seed by seed."
        )
        own = [row for row in self.study.rows if row.against]
        if own:
            pairs = "; ".join(f"{row.title}: {row.against}" for row in own)
            text += f" Rows with a reference of their own: {pairs}."
        if any(self.intervals.values()):
            text += (
                " 95 %: bootstrap of this difference over test examples and seeds "
                f"({intervals.DRAWS:,} draws). Where it does not hold zero, the difference is more "
                "than chance."
            )
        return text

    def recommendation(self) -> str:
        """Writes which network to ship at which cost, once a row is done."""
        first, best = self.study.columns[0], self.frontier()
        if not best:
            return ""
        lines = [
            {
                "cost": tables.scaled(_macs(entry)),
                "title": entry.title,
                "score": with_spread(list(entry.scores[first[0]].values()), first[2]),
            }
            for entry in best
        ]
        columns = [
            Column("cost", f"MACs/{self.study.unit} that can be spent", "from {}".format),
            Column("title", "network to ship", str),
            Column("score", first[1], str),
        ]
        return (
            "\n## Which network to ship\n\nNo other row that is done costs as little and is "
            f"better. Attention is counted.\n\n{tables.markdown_table(lines, columns)}"
        )

    def origin(self) -> str:
        """Describes data, code and device in sentences, and lists what differs between runs."""
        prints = [document["fingerprint"] for document in self.documents.values()]
        if not prints:
            return "Nothing is done yet."
        commits = {
            f"{one['commit']}{' with uncommitted changes' if one['uncommitted_changes'] else ''}"
            for one in prints
        }
        devices = {
            f"{one['device_count']} x {one['device_kind']} and {one['host_cores']} core(s) a run"
            for one in prints
        }
        loaded = {
            record["loaded"]
            for document in self.documents.values()
            for record in document["networks"].values()
        }
        said = [*sorted({one["conditions"] for one in prints}), f"Data: {self.dataset()}."]
        said.append(f"Checkpoint of each network: {listed(loaded)}.")
        if self.generated():
            said.append("These numbers say nothing about any real data set.")
        said.append(
            f"Seeds {', '.join(map(str, self.study.seeds))}; commit {listed(commits)}; "
            f"{listed(devices)}, "
        )
        return " ".join(said) + f"jax {listed({one['versions']['jax'] for one in prints})}."

    def dataset(self) -> str:
        """Names the data that the runs were trained and tested on."""
        data = [document["fingerprint"]["data"] for document in self.documents.values()]
        return listed(
            {"generated data" if one["generated"] else one["settings"]["name"] for one in data}
        )

    def generated(self) -> bool:
        """Returns whether any of the data were generated."""
        return any(
            document["fingerprint"]["data"]["generated"] for document in self.documents.values()
        )

    def as_dict(self) -> dict[str, Any]:
        """Collects every seed's figures and the published ones, for study.json."""
        entries = [
            {
                "title": entry.title,
                "scores": {
                    key: {str(seed): value for seed, value in values.items()}
                    for key, values in entry.scores.items()
                },
                "mean": {
                    key: statistics.fmean(values.values()) if values else None
                    for key, values in entry.scores.items()
                },
                "standard_deviation": {
                    key: spread(list(values.values())) for key, values in entry.scores.items()
                },
                "against": entry.against,
                "against_reference": self.differences(entry),
                "interval": self.intervals[entry.title],
                "cost": dict(entry.cost),
                "training": [dict(one) for one in entry.training],
            }
            for entry in self.entries
        ]
        published = [dataclasses.asdict(block) for block in self.study.published]
        about = {
            "study": self.study.name,
            "reference": self.study.reference,
            "origin": self.origin(),
        }
        best = [entry.title for entry in self.frontier()]
        return {**about, "rows": entries, "frontier": best, "published_elsewhere": published}

    def draw(self, path: epath.PathLike) -> None:
        """Draws the first column against multiply-adds, with an interval over the seeds."""
        key, header, _ = self.study.columns[0]
        points = [
            figures.CostPoint(entry.title, entry.cost["macs_total_per_output"], tuple(scores))
            for entry in self.entries
            if (scores := entry.scores[key].values())
        ]
        if not points:
            return
        figures.score_against_cost(
            path,
            points,
            cost_label=f"MACs per {self.study.unit}, attention included",
            score_label=header,
            dataset=self.dataset(),
            generated=self.generated(),
        )


def _macs(entry: Entry) -> float:
    return entry.cost["macs_total_per_output"]


def trained(training: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Writes the mean number of outputs seen in training, and the mean of the core-hours."""
    if not training:
        return {"seen": "-", "core_hours": "-"}
    hours = [one["core_hours"] for one in training if one["core_hours"] is not None]
    return {
        "seen": tables.scaled(statistics.fmean(one["seen"] for one in training)),
        "core_hours": f"{statistics.fmean(hours):.2f}" if hours else "-",
    }


def fastest(cost: Mapping[str, Any]) -> str:
    """Writes outputs per second in the largest timed call, and that call's number of outputs."""
    examples = results.largest_call(cost)
    return f"{cost[f'{RATE}{examples}']:,.0f} ({examples * cost['outputs_per_example']:,})"


def between(interval: tuple[float, float] | None, form: str) -> str:
    """Writes an interval as "-1.2 to +0.3"."""
    return "-" if interval is None else " to ".join(form.format(end) for end in interval)


def spread(values: Sequence[float]) -> float | None:
    """Returns the sample's standard deviation, None for fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None


def with_spread(values: Sequence[float], form: str) -> str:
    """Writes mean and spread as `82.49 ± 0.70`, one value alone, and no value as "-".

    Args:
      values: one per seed.
      form: format of the mean, such as "{:.2f}". The spread has as many decimals.
    """
    if not values:
        return "-"
    mean = form.format(math.fsum(values) / len(values))
    deviation = spread(values)
    return mean if deviation is None else f"{mean} ± {form.replace('+', '').format(deviation)}"


def listed(names: set[str]) -> str:
    """Joins sorted names with `and`."""
    return " and ".join(sorted(names))
