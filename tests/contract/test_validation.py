"""Every converter takes validation examples out of training, and nothing else changes.

A new converter needs its line in `SOURCES`.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import motion_files
import picture_sets
import pytest
import three_dhp
from videopose3d import write_videopose3d_files

from data_prep import convert
from kdpose_jax.data import schema, tfrecords
from kdpose_jax.errors import UserError

every_converter = pytest.mark.parametrize("name", convert.CONVERTERS)
# How all converters word that there is no split `val`.
REMEDY = "needs --config.data.selection=published"


def human36m(folder: pathlib.Path) -> dict[str, Any]:
    """Four training subjects and one test subject, E."""
    write_videopose3d_files(
        str(folder), "studio", ("A", "B", "C", "D", "E"), ("E",), 17, None, takes=1, frames=4,
        noise=0.0, seed=0,
    )  # fmt: skip
    return {"keypoints": "gt"}


def mpi_inf_3dhp(folder: pathlib.Path) -> dict[str, Any]:
    three_dhp.write_official(folder)
    return {}


def mocap(folder: pathlib.Path) -> dict[str, Any]:
    for subject in ("A", "B", "C", "D"):
        text, _ = motion_files.bvh(ord(subject), 120, 60.0, motion_files.CMU_UNIT)
        (folder / subject).mkdir(parents=True)
        (folder / subject / "clip.bvh").write_text(text)
    return {"test_subjects": ("D",), "noise": 0.0}


def mpii(folder: pathlib.Path) -> dict[str, Any]:
    picture_sets.write_mpii(folder)
    return {}


def coco(folder: pathlib.Path) -> dict[str, Any]:
    picture_sets.write_coco(folder)
    return {"detections": "detections.json"}


def synthetic(folder: pathlib.Path) -> dict[str, Any]:
    return {"train_subjects": 2, "test_subjects": 1, "frames": 4}


def people(folder: pathlib.Path) -> dict[str, Any]:
    return {"train_pictures": 3, "test_pictures": 2, "picture_size": 64}


# Converter -> function that writes raw files into a folder, if it reads any, and returns settings.
SOURCES: dict[str, Callable[[pathlib.Path], dict[str, Any]]] = {
    "human36m": human36m,
    "mpi_inf_3dhp": mpi_inf_3dhp,
    "mocap": mocap,
    "mpii": mpii,
    "coco": coco,
    "synthetic": synthetic,
    "people": people,
}
# What another choice of validation examples is asked for with.
OTHERS: dict[str, dict[str, Any]] = {
    "human36m": {"val_subjects": ("B", "C")},
    "mpi_inf_3dhp": {"val_subjects": ("S1",)},
    "mocap": {"val_subjects": ("B",)},
    "synthetic": {"val_subjects": 2},
    "people": {"val_pictures": 2},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A function: name of a converter -> (its folder of raw files, its settings)."""
    made: dict[str, tuple[pathlib.Path, dict[str, Any]]] = {}

    def source_of(name: str) -> tuple[pathlib.Path, dict[str, Any]]:
        if name not in made:
            folder = tmp_path_factory.mktemp(name) / "raw"
            settings = SOURCES[name](folder)
            if convert.needs_source(name):
                settings["source"] = str(folder)
            made[name] = folder, settings
        return made[name]

    return source_of


def prepare(place, name: str, out: str, **further: Any) -> pathlib.Path:
    """Converts, and returns the folder of records."""
    folder, settings = place(name)
    records = folder.parent / out
    convert.prepare(name, str(records), lambda _: None, workers=1, **{**settings, **further})
    return records


def kind_of(records: pathlib.Path) -> schema.Kind:
    return schema.KINDS[json.loads((records / schema.METADATA_FILE).read_text())["kind"]]


def records_in(records: pathlib.Path, split: str) -> list[dict[str, Any]]:
    metadata = schema.read_metadata(str(records), kind_of(records))
    return list(tfrecords.read_records(records, split, metadata))


def owner(record: dict[str, Any]) -> str:
    """Whose record it is: of a subject, or of a photograph."""
    return record["subject"] if "subject" in record else record["file"]


def content(records: list[dict[str, Any]]) -> list[str]:
    """The records, comparable and in an order of their own."""
    return sorted(
        repr({key: getattr(value, "tolist", lambda value=value: value)()
              for key, value in record.items() if key != "person_id"})
        for record in records
    )  # fmt: skip


@every_converter
def test_nobody_is_in_two_splits_and_the_metadata_say_who_is_where(name, place):
    records = prepare(place, name, "records")
    metadata = schema.read_metadata(str(records), kind_of(records))
    assert set(schema.SPLITS) <= set(metadata["splits"])
    owners = {split: {owner(one) for one in records_in(records, split)} for split in schema.SPLITS}
    assert all(owners.values())
    assert not owners["train"] & owners["val"]
    assert not (owners["train"] | owners["val"]) & owners["test"]
    for split, who in owners.items():
        entry = metadata["splits"][split]
        if "subjects" in entry:
            assert sorted(entry["subjects"]) == sorted(who)
    assert ("subjects" in metadata["splits"]["val"]) != ("rule" in metadata["splits"]["val"])
    assert schema.contents_of(metadata["splits"]["val"])


@every_converter
def test_train_and_val_are_what_train_was_before_and_test_stays(name, place):
    """Another choice moves records between the two splits. Generated data only get further ones."""
    first = prepare(place, name, "records")
    if name in OTHERS:
        second = prepare(place, name, "others", **OTHERS[name])
        assert content(records_in(first, "test")) == content(records_in(second, "test"))
        if name in ("synthetic", "people"):
            assert content(records_in(first, "train")) == content(records_in(second, "train"))
            return
        unions = [
            content(records_in(folder, "train") + records_in(folder, "val"))
            for folder in (first, second)
        ]
        assert unions[0] == unions[1]
        assert content(records_in(first, "val")) != content(records_in(second, "val"))
        return
    raw, _ = place(name)
    listed = {
        "mpii": lambda: [
            one["image"] for one in json.loads((raw / "annot/train.json").read_text())
        ],
        "coco": lambda: [
            f"{one['image_id']:012d}.jpg"
            for one in json.loads((raw / picture_sets.COCO_TRAIN).read_text())["annotations"]
            if one["num_keypoints"] and not one["iscrowd"]
        ],
    }[name]()
    found = [owner(one) for split in ("train", "val") for one in records_in(first, split)]
    assert sorted(found) == sorted(listed)


@pytest.mark.parametrize("name", ["mpii", "coco"])
def test_a_list_of_its_own_replaces_the_rule(name, place):
    raw, _ = place(name)
    lists = {"mpii": ("annot/valid.json", "images"), "coco": (picture_sets.COCO_TEST, "val2017")}
    annotations, images = lists[name]
    records = prepare(place, name, "listed", val_annotations=annotations, val_images=images)
    val, test = ({owner(one) for one in records_in(records, split)} for split in ("val", "test"))
    assert val == test
    entry = schema.read_metadata(str(records), schema.PERSONS)["splits"]["val"]
    assert annotations in entry["rule"]
    with pytest.raises(UserError, match="--val-images 'images' belong to --val-annotations"):
        prepare(place, name, "half", val_images="images")


@pytest.mark.parametrize("name", ["mpii", "coco"])
def test_splits_that_are_not_written_keep_their_photographs(name, place):
    whole, alone = prepare(place, name, "records"), {}
    settings = {"coco": {"detections": None}, "mpii": {}}[name]
    for split in ("train", "val"):
        records = prepare(place, name, split, splits=(split,), **settings)
        alone[split] = content(records_in(records, split))
        assert set(schema.read_metadata(str(records), schema.PERSONS)["splits"]) == {split}
        assert alone[split] == content(records_in(whole, split))


@pytest.mark.parametrize(
    ("name", "named", "sentence"),
    [
        ("human36m", ("E",), "names 'E', which is a test subject: name training subjects"),
        ("human36m", ("X",), r"names 'X', which is not there: .* \(A, B, C, D\)"),
        ("human36m", ("A", "B", "C", "D"), "the training subjects are A, B, C, D: name some"),
        ("human36m", (), "--val-subjects names nobody"),
        ("mpi_inf_3dhp", ("S2",), "names 'S2', which is not there"),
        ("mpi_inf_3dhp", ("TS1",), "names 'TS1', which is a test subject"),
        ("mocap", ("D",), "names 'D', which is a test subject"),
        ("mocap", ("A", "B", "C"), "name some of them and leave some"),
    ],
)
def test_validation_subjects_that_cannot_be(name, named, sentence, place):
    with pytest.raises(UserError, match=sentence):
        prepare(place, name, "refused", val_subjects=named)
    assert not (place(name)[0].parent / "refused").exists()


def test_one_training_subject_or_photograph_leaves_no_validation_split(place, tmp_path):
    """The conversion says so, and what this means."""
    folder, _ = place("mocap")
    said: list[str] = []
    convert.prepare(
        "mocap", str(tmp_path / "motion"), said.append, source=str(folder), workers=1,
        test_subjects=("A", "B", "C"), noise=0.0,
    )  # fmt: skip
    assert any("'val', as D is the only training subject" in line for line in said), said
    assert any(REMEDY in line for line in said)
    picture_sets.write_mpii(tmp_path / "raw")
    picture_sets.edit(
        tmp_path / "raw" / "annot",
        "train.json",
        lambda entries: entries.__delitem__(slice(1, None)),
    )
    settings = {"source": str(tmp_path / "raw"), "workers": 1}
    said.clear()
    convert.prepare("mpii", str(tmp_path / "pictures"), said.append, **settings)
    assert any("'val', as there is only one training photograph" in line for line in said), said
    for kind, name in ((schema.SEQUENCES, "motion"), (schema.PERSONS, "pictures")):
        splits = schema.read_metadata(str(tmp_path / name), kind)["splits"]
        assert set(splits) == {"train", "test"}
    with pytest.raises(UserError, match="--splits names val alone"):
        convert.prepare("mpii", str(tmp_path / "val"), said.append, splits=("val",), **settings)
