"""COCO files that describe themselves: categories, ids, missing fields, detections; converted and
read back."""

import hashlib
import json

import cv2
import numpy as np
import picture_sets
import pytest
from picture_sets import COCO_TEST, COCO_TRAIN, edit, prepare_coco
from PIL import Image

from data_prep import categories, coco
from kdpose_jax.data import persons, schema
from kdpose_jax.errors import UserError
from kdpose_jax.evaluate.metrics import coco_ap
from kdpose_jax.skeletons import COCO_17

NAMES = list(COCO_17.joints)


@pytest.fixture
def folder(tmp_path):
    picture_sets.write_coco(tmp_path / "raw")
    return tmp_path / "raw"


def both(folder, change):
    for name in (COCO_TRAIN, COCO_TEST):
        edit(folder, name, change)


def notes_of(summary, start="test: "):
    return [
        note.removeprefix(start)
        for note in summary.notes
        if note.startswith(start) and "COCO's file of this name" not in note
    ]


def ap_of_truth(folder):
    """What COCO's evaluation gives the stored annotations themselves."""
    truth = coco_ap.read_annotations(str(folder.parent / "records" / coco.annotations_file("test")))
    found = [
        {
            "image_id": one["image_id"],
            "category_id": 1,
            "keypoints": [float(value) for value in one["keypoints"]],
            "score": 1.0,
        }
        for one in truth["annotations"]
        if not one["iscrowd"] and one["num_keypoints"]
    ]
    evaluation = coco_ap.evaluate(truth, found, np.array(COCO_17.oks_sigmas))
    return coco_ap.ten_numbers(evaluation)["ap"], truth


def reorder(names, person=1, spell=str, further=()):
    """A change that writes the joints in the order of `names` (those not COCO's far away), under a
    category of that name."""

    def change(content):
        content["categories"] = [
            *further,
            {"id": person, "name": "Person", "keypoints": [spell(name) for name in names]},
        ]
        for one in content["annotations"]:
            triples = dict(zip(NAMES, np.reshape(one["keypoints"], (17, 3)).tolist(), strict=True))
            one["category_id"], one["keypoints"] = (
                person,
                [v for name in names for v in triples.get(name, [1.0, 1.0, 2])],
            )

    return change


@pytest.mark.parametrize(
    "names, person, spell",
    [
        (sorted(NAMES), 1, str),
        (NAMES[::-1], 7, str.upper),
        ([*NAMES[5:], "neck", *NAMES[:5], "head.top"], 0, lambda name: name.replace("_", " - ")),
        (
            [*NAMES, *(f"face-{number}" for number in range(116))],
            1,
            lambda name: name.replace("_", "."),
        ),
    ],
)
def test_joints_go_by_their_names(folder, names, person, spell):
    prepare_coco(folder)
    expected = {
        split: persons.read(folder.parent / "records", split) for split in ("train", "test")
    }
    stored = json.loads((folder.parent / "records" / coco.annotations_file("test")).read_text())
    both(folder, reorder(names, person, spell, [{"id": 99, "name": "dog", "keypoints": NAMES}]))
    edit(
        folder,
        "detections.json",
        lambda entries: [entry.update(category_id=person) for entry in entries],
    )
    (folder.parent / "records").rename(folder.parent / "before")
    summary = prepare_coco(folder, detections="detections.json")
    for split, before in expected.items():
        data = persons.read(folder.parent / "records", split)
        assert (
            (data.joints == before.joints).all()
            and (data.visible == before.visible).all()
            and data.file == before.file
        )
    assert summary.splits[schema.DETECTIONS_SPLIT] == (3, 3)
    ap, truth = ap_of_truth(folder)
    assert (
        ap == 1
        and truth["annotations"] == stored["annotations"]
        and truth["categories"][0]["keypoints"] == NAMES
    )
    said = " ".join(notes_of(summary))
    assert ("joints that COCO does not have are left out" in said) == (len(names) > 17)
    settings = schema.read_metadata(str(folder.parent / "records"), schema.PERSONS)["settings"]
    assert ("categories" in settings) == (names[:17] != NAMES or person != 1 or len(names) > 17)


def test_older_records_in_another_order_are_not_taken_for_these(folder):
    """The file's order stands in the settings, so that records of a version that did not read it
    are not called complete."""
    prepare_coco(folder)
    metadata = folder.parent / "records" / "metadata.json"
    content = json.loads(metadata.read_text())
    both(folder, reorder(sorted(NAMES)))
    for name in content["sources"]:
        content["sources"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    metadata.write_text(json.dumps(content))
    with pytest.raises(
        UserError, match=r"already holds a data set made from other input \(differs in settings\)"
    ):
        prepare_coco(folder)


def test_a_part_of_the_joints(folder):
    kept = [name for name in NAMES if "ear" not in name and "eye" not in name]
    both(folder, reorder(kept))
    summary = prepare_coco(folder)
    data = persons.read(folder.parent / "records", "test")
    assert (
        not data.visible[:, 1:5].any() and data.visible[:, 5:].all() and ap_of_truth(folder)[0] == 1
    )
    assert (
        "4 of COCO's joints are not in the file and not labelled in the records (left_eye, "
        "right_eye, left_ear, right_ear)" in notes_of(summary)
    )


@pytest.mark.parametrize("table, sentence", [
    ([{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}], r"no category called 'person' among its "
    r"categories \(1 'dog', 2 'cat'\)"),
    ([{"id": 1, "name": "person"}, {"id": 2, "name": "PERSON"}], "has 2 categories called "
    "'person'"),
    ([{"id": 1, "name": "person", "keypoints": [*NAMES[:16], "r_ankle"]}], r"does not have "
    r"\(r_ankle\) and lacks some .*\(right_ankle\)"),
    ([{"id": 1, "name": "person", "keypoints": [*NAMES[:16], "Nose"]}], r"names keypoints twice "
    r"\(nose\)"),
    ([{"id": 1, "name": "person", "keypoints": "nose"}], "keypoints of the category 'person' is "
    "'nose' where a list of names must be"),
    ([{"name": "person"}], "id of the category 'person' is 'None' where a whole number must be"),
    ([{"id": True, "name": "person"}], "id of the category 'person' is 'True'"),
    ([{"id": 3, "name": "person"}], r"has no annotation of category 3, which is its person \(there "
    r"are: 1\)"),
    ("person", "categories is 'person' where a list of categories must be"),
    ([{"id": 1, "name": "person", "keypoints": [*NAMES, "neck"]}], r"keypoints is .* where \[54\] "
    r"numbers must be"),
])  # fmt: skip
def test_tables_with_faults(folder, table, sentence):
    edit(folder, COCO_TRAIN, lambda content: content.update(categories=table))
    with pytest.raises(UserError, match=sentence):
        prepare_coco(folder)


def test_no_names_are_assumed_to_be_cocos(folder):
    edit(folder, COCO_TRAIN, lambda content: content.pop("categories"))
    summary = prepare_coco(folder)
    assert (
        notes_of(summary, "train: ")[0]
        == "no names of categories: persons are taken to be category 1 with joints in COCO's order"
    )
    assert notes_of(summary)[0] == "no names of keypoints: joints are taken to be in COCO's order"
    assert categories.normalised(" Left-Eye.") == "lefteye"


def test_image_ids_stand_once(folder):
    edit(
        folder,
        COCO_TEST,
        lambda content: content["images"].append(
            content["images"][0] | {"id": "501", "file_name": "x.jpg"}
        ),
    )
    with pytest.raises(
        UserError,
        match=r"image id 501 stands twice \(000000000501.jpg, x.jpg\): give every image an id of "
        r"its own",
    ):
        prepare_coco(folder)


@pytest.mark.parametrize(
    "ids, fault",
    [
        (range(0, 8), "the lowest is 0"),
        ([5] * 8, "1 stand more than once, id 5 for one"),
        (range(-9, -1), "the lowest is -9"),
        ([None] + [1] * 7, "1 are missing or not whole numbers"),
        (["a", True, *range(6)], "2 are missing"),
    ],
)
def test_ids_of_annotations_are_numbered_anew(folder, ids, fault):
    edit(
        folder,
        COCO_TEST,
        lambda content: [
            one.update(id=number) for one, number in zip(content["annotations"], ids, strict=True)
        ],
    )
    summary = prepare_coco(folder)
    assert any(
        note.startswith(f"the ids of annotations cannot be keys ({fault}")
        for note in notes_of(summary)
    )
    ap, truth = ap_of_truth(folder)
    assert ap == 1 and [one["id"] for one in truth["annotations"]] == list(range(1, 9))
    assert [one["source_id"] for one in truth["annotations"]] == list(ids)
    assert set(persons.read(folder.parent / "records", "test").person_id.tolist()) == {
        1,
        2,
        5,
        6,
    }  # as in the stored annotations


def test_ids_as_texts_and_with_points(folder):
    prepare_coco(folder)
    plain = json.loads((folder.parent / "records" / coco.annotations_file("test")).read_text())
    (folder.parent / "records").rename(folder.parent / "before")

    def spell(content):
        for image in content["images"]:
            image.update(id=f"000{image['id']}", width=float(image["width"]))
        for one in content["annotations"]:
            one.update(
                id=str(one["id"]),
                image_id=float(one["image_id"]),
                category_id="1",
                iscrowd=bool(one["iscrowd"]),
            )

    edit(folder, COCO_TEST, spell)
    assert "2 ids of images are texts of digits, read as numbers" in notes_of(prepare_coco(folder))
    assert (
        json.loads((folder.parent / "records" / coco.annotations_file("test")).read_text()) == plain
    )


@pytest.mark.parametrize("value", [True, 3.5, 1e300, "", "7 ", "x", None, 2**64])
def test_what_is_not_an_id(folder, value):
    edit(folder, COCO_TEST, lambda content: content["images"][0].update(id=value))
    with pytest.raises(UserError, match="image id is .* where a whole number must be"):
        prepare_coco(folder)


@pytest.mark.parametrize("value", [..., [], None])
def test_persons_without_keypoints_are_left_out_and_counted(folder, value):
    def change(content):
        for one in content["annotations"][1::4]:  # every second person that was labelled
            one.pop("keypoints") if value is ... else one.update(keypoints=value)

    both(folder, change)
    summary = prepare_coco(folder)
    assert (
        summary.splits == {"train": (1, 1), "val": (1, 1), "test": (2, 2)}
        and "test: 4 persons without a labelled joint" in summary.left_out
    )
    ap, truth = ap_of_truth(folder)
    assert ap == 1 and [one["num_keypoints"] for one in truth["annotations"]] == [16, 0, 0, 0] * 2
    # The two crowds of this made file say 16 as well.
    assert (
        "4 persons have another number of labelled joints than their num_keypoints says: counted "
        "anew" in notes_of(summary)
    )


def test_missing_fields_are_assumed_and_said(folder):
    def change(content):
        for one in content["annotations"]:
            one.pop("num_keypoints", None)
        for one in content["annotations"][:2]:
            one.pop("area")
            one.pop("iscrowd")

    edit(folder, COCO_TEST, change)
    said = notes_of(prepare_coco(folder))
    assert "2 persons have no iscrowd: taken for single persons" in said
    assert (
        "2 persons have no area: taken to be 0.53 of their box, on which COCO's scores depend"
        in said
    )
    np.testing.assert_allclose(
        persons.read(folder.parent / "records", "test").area[0], 0.53 * 60 * 90
    )
    assert ap_of_truth(folder)[0] == 1


def test_a_crowd_is_one_whatever_its_type(folder):
    edit(folder, COCO_TEST, lambda content: content["annotations"][0].update(iscrowd="0"))
    assert prepare_coco(folder).splits["test"] == (4, 4)
    edit(folder, COCO_TEST, lambda content: content["annotations"][0].update(iscrowd="2"))
    with pytest.raises(UserError, match="annotation 50100, iscrowd is 2 where 0 or 1 must be"):
        prepare_coco(folder)


def test_merged_files_are_told(folder):
    def change(content):
        content["images"].append(content["images"][0] | {"id": 9})
        content["annotations"].append(content["annotations"][0] | {"id": 77, "image_id": 9})
        content["annotations"][1]["keypoints"][:3] = [0, 0, 2]

    edit(folder, COCO_TEST, change)
    said = notes_of(prepare_coco(folder))
    assert "1 photographs are listed under more than one image id" in said
    assert "1 persons stand there once more with the same box and joints, and are kept" in said
    assert (
        "1 persons have labelled joints at exactly (0, 0), where tools put missing ones: kept"
        in said
    )


def test_a_published_name_is_held_to_what_was_published(folder):
    held = "holds 2 images and 8 persons, 4 of them with keypoints; COCO's file of this name holds"
    wanted = f"train: 'person_keypoints_train2017.json' {held}"
    assert any(note.startswith(wanted) for note in prepare_coco(folder).notes)
    (folder / COCO_TEST).rename(folder / "mine.json")
    (folder.parent / "records").rename(folder.parent / "before")
    assert not any(
        "test: 'mine" in note for note in prepare_coco(folder, test_annotations="mine.json").notes
    )


@pytest.mark.parametrize(
    "way, spell",
    [
        ("file names", lambda name: name),
        ("file names without folders", lambda name: f"val2017/{name}"),
        ("file names without folders and endings", lambda name: f"x-{name[:-4]}"),
        ("digits of ids", lambda name: name[-7:-4]),
    ],
)
def test_detections_that_name_their_photographs(folder, way, spell):
    if spell("x.jpg").startswith("x-"):

        def rename(content):
            for image in content["images"]:
                (folder / "val2017" / image["file_name"]).rename(
                    folder / "val2017" / f"x-{image['file_name']}"
                )
                image["file_name"] = f"x-{image['file_name']}"

        edit(folder, COCO_TEST, rename)
    edit(
        folder,
        "detections.json",
        lambda entries: [
            entry.update(image_id=spell(f"{entry['image_id']:012d}.jpg")) for entry in entries
        ],
    )
    summary = prepare_coco(folder, detections="detections.json")
    assert (
        notes_of(summary, "test_detections: ")[0] == f"image_id of 3 detections was found by {way}"
    )
    data = persons.read(folder.parent / "records", schema.DETECTIONS_SPLIT)
    assert data.image_id.tolist() == [501, 502, 502] and data.person_id.tolist() == [1, 0, 2]


def test_names_of_two_photographs_choose_none(folder):
    edit(
        folder,
        COCO_TEST,
        lambda content: content["images"].append(content["images"][0] | {"id": 9}),
    )
    edit(
        folder,
        "detections.json",
        lambda entries: [
            entry.update(image_id=f"{entry['image_id']:012d}.jpg") for entry in entries
        ],
    )
    with pytest.raises(
        UserError,
        match="image_id '000000000501.jpg' is the name of images 9 and 501: give ids in its place",
    ):
        prepare_coco(folder, detections="detections.json")


def test_detections_of_more_photographs_and_scores(folder):
    """The official file with a part of the annotations; scores that are none, and percents."""

    def change(entries):
        entries += [entries[0] | {"image_id": number} for number in (7, 8)]
        entries += [
            entries[0] | {"score": score} for score in (float("nan"), float("inf"), None, 87.5)
        ]

    edit(folder, "detections.json", change)
    summary = prepare_coco(folder, detections="detections.json")
    assert summary.splits[schema.DETECTIONS_SPLIT] == (4, 4)
    assert (
        "test_detections: 2 detections of photographs that the test annotations do not list"
        in summary.left_out
    )
    assert "test_detections: 3 detections without a score" in summary.left_out
    assert "1 of 4 scores are above 1; they are kept, as only their order counts" in notes_of(
        summary, "test_detections: "
    )


def test_detections_of_no_person(folder):
    edit(
        folder,
        "detections.json",
        lambda entries: [entry.update(category_id=18) for entry in entries],
    )
    with pytest.raises(
        UserError,
        match=r"none of 3 detections is of category 1, which is the person in '.*' \(they are of "
        r"18\)",
    ):
        prepare_coco(folder, detections="detections.json")


@pytest.mark.parametrize("corners", [COCO_TRAIN, "detections.json"])
def test_corners_for_sizes_are_refused(folder, corners):
    def change(content):
        for one in content if isinstance(content, list) else content["annotations"]:
            x, y, width, height = one["bbox"]
            one["bbox"] = [x, y, x + width, y + height]

    edit(
        folder,
        "detections.json",
        lambda entries: [entry.update(bbox=[90.0, 40.0, 50.0, 31.0]) for entry in entries],
    )
    edit(folder, corners, change)
    with pytest.raises(UserError, match="x1, y1, x2, y2"):
        prepare_coco(folder, detections="detections.json")


def test_missing_photographs_may_be_left_out(folder):
    (folder / "val2017" / "000000000501.jpg").unlink()
    with pytest.raises(UserError, match="1 of 2 photographs are missing .* or --skip-missing"):
        prepare_coco(folder, detections="detections.json")
    summary = prepare_coco(folder, detections="detections.json", skip_missing=True)
    assert summary.splits == {
        "train": (2, 2),
        "val": (2, 2),
        "test": (2, 2),
        "test_detections": (2, 2),
    }
    assert {
        "test: 2 persons whose photograph is missing",
        "test_detections: 1 persons whose photograph is missing",
    } <= set(summary.left_out)
    ap, truth = ap_of_truth(folder)
    assert ap == 1 and [image["id"] for image in truth["images"]] == [502]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_photographs_stand_under_their_joints(folder, orientation):
    """Annotated as viewers show them; the colour at every joint is found in the records."""
    content = json.loads((folder / COCO_TEST).read_text())
    for image in content["images"]:
        shown = np.full((120, 160, 3), 100, np.uint8)
        for one in content["annotations"]:
            if one["image_id"] == image["id"]:
                for x, y, label in np.reshape(one["keypoints"], (17, 3)):
                    if label:
                        cv2.circle(shown, (round(x), round(y)), 2, (255, 0, 0), -1)
        inverse = {6: 8, 8: 6}.get(orientation, orientation)
        methods = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # Pillow's words for the eight
        stored = Image.fromarray(shown)
        if orientation > 1:
            stored = stored.transpose(Image.Transpose(methods[inverse]))
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored.save(folder / "val2017" / image["file_name"], exif=exif, quality=100, subsampling=0)
    settings = {} if orientation > 4 else {"orientation": "exif"}
    summary = prepare_coco(folder, encoding="png", splits=("test",), **settings)
    assert any(
        "2 photographs were turned by their EXIF orientation" in note for note in summary.notes
    ) == (orientation > 1)
    data = persons.read(folder.parent / "records", "test")
    for index, stored in enumerate(data.image):
        picture = cv2.imdecode(stored, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        places = (
            (data.joints[index] - data.region[index, :2]).round().astype(int)[data.visible[index]]
        )
        inside = [(x, y) for x, y in places if x < picture.shape[1] and y < picture.shape[0]]
        assert len(inside) >= 14 and all(
            picture[y, x, 0] > 180 and picture[y, x, 1] < 80 for x, y in inside
        )
