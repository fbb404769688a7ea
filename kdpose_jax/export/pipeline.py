"""Exports a network: everything that `--mode export` does."""

import contextlib
import dataclasses
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from kdpose_jax import buckets, files
from kdpose_jax.checkpoint import loading
from kdpose_jax.errors import UserError
from kdpose_jax.experiment import data, existing, stored_runs, weights
from kdpose_jax.experiment.run import Run
from kdpose_jax.export import card, checking
from kdpose_jax.export import examples as found_examples
from kdpose_jax.export import sidecar as sidecars
from kdpose_jax.export.examples import Examples
from kdpose_jax.export.formats import table
from kdpose_jax.export.formats.signature import Functions, Runner
from kdpose_jax.export.functions import functions_of, signature_of
from kdpose_jax.predict import artifacts
from kdpose_jax.predict import loading as networks
from kdpose_jax.predict.description import Description
from kdpose_jax.report import results

FOLDER = "export"  # in the network's folder, where --out names no other


def export_and_report(
    config: ConfigDict | None,
    checkpoint: str,
    formats: str,
    out: str,
    records: str,
    show: Callable[[str], None],
) -> list[pathlib.Path]:
    """Does everything that `--mode export` does: writes files and checks each.

    Args:
      config: the experiment's config, which a file of weights needs; None takes the stored one.
      checkpoint: a network of ours (its folder or one of its steps), or a PyTorch file.
      formats: names of formats with commas between them.
      out: the folder to write into; "" takes the folder `export` in the network's.
      records: folder of the records to check on; "" takes the network's own, if they are there.
      show: prints one line.

    Returns:
      The exported files, in the order of `formats`.

    Raises:
      UserError: a package is missing, a file that was written is not the network, or the user made
        any other mistake.
    """
    names = table.names_in(formats)
    for name in names:
        table.require_packages(name, to_write=True)
    if artifacts.is_artifact(checkpoint):
        raise UserError(f"--checkpoint '{checkpoint}' is exported already: name the network's run.")
    checkpoint = loading.explicit(files.absolute_or_empty(checkpoint))
    buckets.check_access(checkpoint, writes=False)
    run, notes = existing.find_run(checkpoint, config)
    for note in notes:
        show(note)
    folder = folder_of(out, checkpoint)
    about, trained, mesh = networks.restore(run, checkpoint)
    if weights.is_weight_file(checkpoint):
        about = dataclasses.replace(about, name=pathlib.Path(checkpoint).stem)
    known = kept_artifacts(folder / f"{about.name}.json", about)
    examples = examples_of(run, about, checkpoint, files.absolute_or_empty(records))
    show(f"checking on {examples.words}" + (f" and {examples.scored}" if examples.protocol else ""))
    compute = networks.computation(trained.method.predict, about, trained, mesh)
    sidecar = sidecars.sidecar_of(run, checkpoint, about, trained, examples)
    sidecar["artifacts"] = known
    reference = compute(examples.compared)
    sidecar["speed"] = speed_of(compute, reference, examples, run, about, checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    functions = functions_of(trained, about)
    for name in names:
        file, entry = write(name, functions, reference, examples, about, folder)
        sidecar["artifacts"][file] = entry
        # After each file, so that a kill leaves none without its description.
        write_descriptions(folder, about, sidecar)
        show(line_of(file, entry, about, sidecar["speed"]))
    for form in ("network", "teacher"):
        if form in sidecar["speed"]:
            show(line_of(f"{form}, JAX", sidecar["speed"][form], about, sidecar["speed"]))
    show(f"written into {folder}, with {about.name}.json and the model card {about.name}.md")
    return [folder / f"{about.name}{table.FORMATS[name].suffix}" for name in names]


def write(
    name: str,
    functions: Functions,
    reference: tuple[Any, ...],
    examples: Examples,
    about: Description,
    folder: pathlib.Path,
) -> tuple[str, dict[str, Any]]:
    """Writes a network in a format, runs the file, and moves it to its place if it is right.

    Args:
      name: the format.
      functions: the network.
      reference: the network's own outputs on `examples.compared`.
      examples: what to check on.
      about: the network's description.
      folder: the folder of exports.

    Returns:
      The file's name, and what was measured.

    Raises:
      UserError: the network cannot be written in this format, or the file is not the network.
    """
    signature = signature_of(about)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as temporary:
        place = pathlib.Path(temporary) / f"{about.name}{table.FORMATS[name].suffix}"
        table.write(name, functions, signature, place, examples.calibrating)
        with told_of(name):
            opened = table.run(name, place, signature)
            measured = checking.measure(opened, reference, examples, about)
        checking.refuse_if_apart(name, measured, about)
        entry = {"format": name, "bytes": checking.size_of(place), **measured}
        move(place, folder / place.name)
    return place.name, entry


@contextlib.contextmanager
def told_of(name: str) -> Iterator[None]:
    """Turns whatever a format's runtime raises into a sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a runtime may raise anything here
        raise UserError(
            f"--format {name}: its runtime cannot run the file that was written "
            f"({' '.join(str(error).split())[:300]}): it was deleted, so use another format."
        ) from error


def folder_of(out: str, checkpoint: str) -> pathlib.Path:
    """Returns the folder to write into.

    Raises:
      UserError: it is not a folder of a disk.
    """
    path = str(files.absolute(out)) if out else str(stored_runs.run_folder(checkpoint) / FOLDER)
    if buckets.is_bucket(path):
        raise UserError(
            f"Exported files are written to a disk, and the folder is '{path}': name another one "
            "with --out DIR."
        )
    folder = pathlib.Path(path)
    if table.format_of(folder) is not None:
        raise UserError(
            f"--out is '{out}', which is a file's name: name a folder, in which files are named "
            "after the network and the format."
        )
    existing_part = next(part for part in (folder, *folder.parents) if part.exists())
    if not existing_part.is_dir():
        raise UserError(f"--out is '{path}', and '{existing_part}' is a file: name a folder.")
    if not os.access(existing_part, os.W_OK):
        raise UserError(
            f"--out is '{path}', and '{existing_part}' cannot be written: name another folder."
        )
    return folder


def kept_artifacts(path: pathlib.Path, about: Description) -> dict[str, Any]:
    """Returns the entries of files of the same network that were exported before.

    Raises:
      UserError: the folder has files of another network of this name.
    """
    if not path.exists():
        return {}
    found, before = artifacts.read_sidecar(path)
    if before.fingerprint != about.fingerprint:
        raise UserError(
            f"'{path.parent}' holds exports of another network of this name (fingerprint "
            f"{before.fingerprint}, and this one is {about.fingerprint}): name another folder with "
            "--out, or delete that one."
        )
    entries = found.get("artifacts")
    kept = entries.items() if isinstance(entries, dict) else ()
    return {
        name: entry
        for name, entry in kept
        if isinstance(entry, dict)
        and table.format_of(pathlib.Path(name)) == entry.get("format")
        and (path.parent / name).exists()
    }


def examples_of(run: Run, about: Description, checkpoint: str, records: str) -> Examples:
    """Finds what the files are checked on: the named records, the network's own, or random input.

    Raises:
      UserError: the named records are not there, or of another kind.
    """
    if records:
        run.config.data.records = records
    place = records or data.kept_records(run.config, epath.Path(stored_runs.run_folder(checkpoint)))
    if not place:
        return found_examples.at_random(about)
    return found_examples.of_records(run, about, place)


def speed_of(
    compute: Runner,
    reference: tuple[Any, ...],
    examples: Examples,
    run: Run,
    about: Description,
    checkpoint: str,
) -> dict[str, Any]:
    """Measures the network itself and, if it is there, its teacher."""
    measured = checking.measure(compute, reference, examples, about)
    origin = results.fingerprint("float32", {})
    conditions = (
        f"Times are medians of calls with one example, on {origin['device_kind']} "
        f"({origin['platform']}) with {origin['host_cores']} core(s); LiteRT uses one. Differences "
        f"are from JAX, on {examples.words}."
    )
    speed: dict[str, Any] = {"network": {key: measured[key] for key in ("score", "milliseconds")}}
    if examples.protocol is not None:
        speed["metric"] = examples.protocol.best_metric
        conditions += f" Scores are of {examples.scored}, without test-time flip."
    speed["words"] = conditions
    teacher = teacher_of(run, checkpoint)
    if teacher:
        speed["teacher"] = measure_teacher(teacher, examples)
    return speed


def teacher_of(run: Run, checkpoint: str) -> str:
    """Returns the checkpoint of a student's teacher, "" if it has none or it is not there."""
    beside = stored_runs.run_folder(checkpoint).parent / "teacher"
    if run.stage != "student" or not run.method.TITLE:
        return ""
    for place in (str(beside), run.config.teacher.checkpoint):
        if place and not weights.is_weight_file(place) and loading.holds_checkpoints(place):
            return place
    return ""


def measure_teacher(checkpoint: str, examples: Examples) -> dict[str, Any]:
    """Times a teacher, and takes its score from the run's results."""
    run, _ = existing.find_run(checkpoint, None)
    about, trained, mesh = networks.restore(run, checkpoint)
    compute = networks.computation(trained.method.predict, about, trained, mesh)
    random = found_examples.at_random(about)
    reported, score = sidecars.results_beside(checkpoint), None
    if reported is not None and examples.whole is not None:
        record = reported["networks"].get(run.name)
        try:
            score = examples.whole.row(record["scores"])[examples.whole.best_metric]
        except (KeyError, TypeError):  # of another version
            score = None
    return {"score": score, "milliseconds": checking.milliseconds(compute, random.compared[:1])}


def move(written: pathlib.Path, place: pathlib.Path) -> None:
    """Moves a file or a folder to its place. What was there is replaced."""
    if place.is_dir():
        shutil.rmtree(place)
    os.replace(written, place)


def write_descriptions(folder: pathlib.Path, about: Description, sidecar: dict[str, Any]) -> None:
    """Writes the .json and the model card."""
    plain = results.plain(sidecar)
    files.write_json(folder / f"{about.name}.json", plain)
    text = card.card_of(about, plain)
    files.write_atomically(folder / f"{about.name}.md", text.encode())


def line_of(title: str, entry: dict[str, Any], about: Description, speed: dict[str, Any]) -> str:
    """Says in a line what was measured."""
    parts = []
    if "bytes" in entry:
        parts += [f"{entry['bytes'] / 1000:,.0f} kB"]
        parts += [f"largest difference {checking.distance(entry['largest_difference'], about)}"]
    if entry["score"] is not None:
        parts.append(f"{speed['metric']} {entry['score']:.2f}")
    parts.append(f"{entry['milliseconds']:.2f} ms")
    return f"{title}: {', '.join(parts)}"
