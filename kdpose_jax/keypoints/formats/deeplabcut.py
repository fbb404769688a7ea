"""DeepLabCut's csv, of one animal or person or of several.

Layout: deeplabcut 3.0.2, create_df_from_prediction. The first rows are scorer, individuals (of
projects with several), bodyparts and coords (x, y, likelihood). Its h5 file needs pandas; the
csv beside it has the same numbers.
"""

import itertools

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints import joint_names
from kdpose_jax.keypoints.formats import naming, tables
from kdpose_jax.keypoints.formats.collecting import ONE, Collector
from kdpose_jax.keypoints.formats.options import Options
from kdpose_jax.keypoints.formats.probing import Probe
from kdpose_jax.keypoints.tracks import Keypoints

NAME = "deeplabcut"
WHAT = "DeepLabCut: csv, of one individual or several"
_SINGLE = "single"  # body parts that belong to no individual
_HEADERS = ("scorer", "individuals", "bodyparts", "coords")


def recognises(probe: Probe) -> bool:
    """Tells whether a path holds DeepLabCut's csv."""
    first = [row[0].lower() for row in probe.rows[:4]]
    return probe.kind == "text" and "bodyparts" in first and "coords" in first


def read(path: str, options: Options) -> Keypoints:
    """Reads a csv file.

    Raises:
      UserError: the header is not DeepLabCut's, or a cell is not a number.
    """
    collector = Collector(path)
    rows = tables.rows_of(path)
    header: dict[str, list[str]] = {}
    for row in itertools.islice(rows, 4):
        kind = row[0].lower()
        if kind in _HEADERS:
            header[kind] = row
        if kind == "coords":
            break
    if not {"bodyparts", "coords"} <= header.keys():
        raise UserError(
            f"{collector.place} lacks the rows 'bodyparts' and 'coords' of DeepLabCut: give the "
            f"csv that analyze_videos(save_as_csv=True) writes."
        )
    persons, names, indices = _columns(header, collector)
    width = max(at for person in persons.values() for one in person for at in one)
    frames: list[int] = []
    labels: list[str] = []
    for line, row in enumerate(rows, len(header) + 1):
        where = f"{collector.place}, line {line}"
        if len(row) <= width:
            raise UserError(f"{where} has {len(row)} cells where {width + 1} must be: repair it.")
        labels.append(row[indices - 1])
        frames.append(len(frames))
        for person, columns in persons.items():
            cells = [row[at] if at >= 0 else "1" for one in columns for at in one]
            values = tables.numbers(cells, where)
            if any(value == value for value in values):  # NaN: the individual is absent
                collector.add(len(frames) - 1, values, (person,) if person else ONE, where)
    collector.renumber(naming.frame_numbers(labels, collector.place, collector.notes))
    named = joint_names.identify(names, collector.place, options.joints, options.names)
    return collector.finish(NAME, options, named=named, length=len(frames))


def _columns(
    header: dict[str, list[str]], collector: Collector
) -> tuple[dict[str, list[tuple[int, int, int]]], list[str], int]:
    """Finds the columns of each person's joints.

    Returns:
      Person -> the columns of x, y and likelihood of each joint, -1 in labelled data, which has no
      likelihood; the joints' names; and how many columns number the frame.
    """
    coords, parts = header["coords"], header["bodyparts"]
    individuals = header.get("individuals", ["individuals"] + [""] * (len(coords) - 1))
    indices = next((at for at, cell in enumerate(coords) if cell.lower() == "x"), 0)
    if not indices or not len(coords) == len(parts) == len(individuals):
        raise UserError(
            f"{collector.place} has rows of different lengths in its header: repair it."
        )
    found: dict[str, dict[str, dict[str, int]]] = {}
    for at in range(indices, len(coords)):
        joints = found.setdefault(individuals[at], {})
        joints.setdefault(parts[at], {})[coords[at].lower()] = at
    if any("z" in one for joints in found.values() for one in joints.values()):
        raise UserError(
            f"{collector.place} has z in its row 'coords', so it holds DeepLabCut's 3D points, "
            f"which are no pixels: give the csv of one camera's video."
        )
    if len(found) > 1 and _SINGLE in found:
        collector.notes.append(
            f"{len(found.pop(_SINGLE))} body parts that belong to no individual were left out."
        )
    names = list(next(iter(found.values())))
    columns: dict[str, list[tuple[int, int, int]]] = {}
    for person, joints in found.items():
        if list(joints) != names or any(not {"x", "y"} <= one.keys() for one in joints.values()):
            raise UserError(
                f"{collector.place} has other body parts for '{person[:60]}' than for "
                f"'{next(iter(found))[:60]}', or one without x and y: give individuals the same."
            )
        columns[person] = [
            (one["x"], one["y"], one.get("likelihood", -1)) for one in joints.values()
        ]
    return columns, names, indices
