"""COCO's files -> records: what is kept, what is refused, and what COCOeval gets."""

import hashlib
import json

import numpy as np
import picture_sets
import pytest
from picture_sets import COCO_TEST, COCO_TRAIN, edit, prepare_coco

from data_prep import coco
from kdpose_jax.data import persons, schema
from kdpose_jax.errors import UserError


@pytest.fixture
def folder(tmp_path):
    picture_sets.write_coco(tmp_path / "raw")
    return tmp_path / "raw"


def test_records_and_what_is_left_out(folder):
    summary = prepare_coco(folder, detections="detections.json")
    assert summary.splits == {
        "train": (2, 2),
        "val": (2, 2),
        "test": (4, 4),
        "test_detections": (3, 3),
    }
    assert summary.left_out == [
        "train: 2 crowds",
        "train: 2 persons without a labelled joint",
        "test: 2 crowds",
        "test: 2 persons without a labelled joint",
    ]
    data = persons.read(folder.parent / "records", "test")
    entry = json.loads((folder / COCO_TEST).read_text())["annotations"][0]
    keypoints = np.asarray(entry["keypoints"]).reshape(17, 3)
    np.testing.assert_allclose(data.joints[0], keypoints[:, :2], rtol=1e-6)
    # Hidden joints are labelled.
    assert (data.visible[0] == (keypoints[:, 2] > 0)).all() and data.visible[0, 3]


def test_detections(folder):
    prepare_coco(folder, detections="detections.json")
    data = persons.read(folder.parent / "records", schema.DETECTIONS_SPLIT)
    # Photograph by photograph; person_id says where each stood in the file.
    assert data.person_id.tolist() == [1, 0, 2] and data.image_id.tolist() == [501, 502, 502]
    np.testing.assert_allclose(data.score, [0.8, 0.9, 0.1])
    np.testing.assert_allclose(data.center[0], [20 + 30, 10 + 45])  # detections are not clipped
    np.testing.assert_allclose(data.scale[0], 90 / 200 * 1.25)
    assert not data.visible.any() and not data.joints.any()
    metadata = schema.read_metadata(str(folder.parent / "records"), schema.PERSONS)
    assert (
        metadata["settings"]["reach"][schema.DETECTIONS_SPLIT]["scale_factor"] == 0
        and "detections.json" in metadata["sources"]
    )


def test_cocoeval_reads_the_annotations_that_lie_beside(folder):
    from pycocotools.coco import COCO

    prepare_coco(folder)
    path = folder.parent / "records" / coco.annotations_file("test")
    metadata = schema.read_metadata(str(folder.parent / "records"), schema.PERSONS)
    for split in ("val", "test"):
        kept = (folder.parent / "records" / coco.annotations_file(split)).read_bytes()
        name = coco.annotations_file(split)
        assert metadata["files"].pop(name) == hashlib.sha256(kept).hexdigest()
    assert not metadata["files"]
    kept, given = COCO(str(path)), json.loads((folder / COCO_TEST).read_text())
    assert sorted(kept.getImgIds()) == [501, 502] and len(kept.getAnnIds()) == len(
        given["annotations"]
    )
    # Crowds and persons without joints too, which COCOeval ignores in its own way.
    for entry in given["annotations"]:
        (found,) = kept.loadAnns([entry["id"]])
        assert all(
            found[key] == entry[key] for key in ("keypoints", "area", "iscrowd", "bbox", "image_id")
        )
        assert (
            found["num_keypoints"] == sum(label > 0 for label in entry["keypoints"][2::3])
            and "segmentation" not in found
        )
    path.unlink()
    with pytest.raises(UserError, match="lacks 'test_annotations.json'"):
        schema.read_metadata(str(folder.parent / "records"), schema.PERSONS)


def test_simcc_has_a_further_folder(folder):
    (folder / "images").mkdir()
    for name in ("train2017", "val2017"):
        (folder / name).rename(folder / "images" / name)
    splits = prepare_coco(folder).splits
    assert splits["train"] == splits["val"] == (2, 2)


@pytest.mark.parametrize(
    "box, cleaned",
    [
        ([10, 20, 30, 40], (10, 20, 29, 39)),
        ([-5, -5, 30, 40], (0, 0, 29, 39)),
        ([150, 100, 30, 40], (150, 100, 9, 19)),
        ([159, 119, 30, 40], None),
        ([200, 10, 30, 40], None),
        ([10, 10, 1, 1], None),
        ([10, 10, 1, 9], (10, 10, 0, 8)),
    ],
)
def test_boxes_are_clipped_as_in_hrnet(box, cleaned):
    assert coco.clean_box(box, 160, 120) == cleaned


def test_boxes_of_zero_area_are_left_out_and_counted(folder):
    def flatten(content):
        content["annotations"][0]["bbox"] = [30, 30, 0, 0]
        content["annotations"][1]["area"] = 0

    edit(folder, COCO_TRAIN, flatten)
    whole = {"image_id": 501, "category_id": 1, "bbox": [1, 2, 9, 9], "score": 0.5}
    entries = [
        whole,
        whole | {"bbox": [1, 2, 0, 9]},
        whole | {"category_id": 2},
        whole | {"score": -1},
    ]
    (folder / "flat.json").write_text(json.dumps(entries))
    summary = prepare_coco(folder, detections="flat.json")
    assert summary.splits["train"] == (2, 2) and summary.splits["test_detections"] == (1, 1)
    assert (
        "train: 2 boxes of zero area" in summary.left_out
        and "test_detections: 1 boxes of zero area" in summary.left_out
    )
    assert (
        "test_detections: 2 detections of other categories or below a score of 0"
        in summary.left_out
    )


def test_detections_of_another_data_set(folder):
    edit(
        folder,
        "detections.json",
        lambda entries: [entry.update(image_id=entry["image_id"] + 2) for entry in entries],
    )
    with pytest.raises(
        UserError,
        match="3 of 3 detections are of photographs that the test "
        "annotations do not list .the first: image 504",
    ):
        prepare_coco(folder, detections="detections.json")
    with pytest.raises(
        UserError, match="nothing.json' does not exist: put it there, give --detections"
    ):
        prepare_coco(folder, detections="nothing.json")
    with pytest.raises(UserError, match="are of the test photographs, which --splits leaves out"):
        prepare_coco(folder, detections="detections.json", splits=("train",))
    (folder / "detections.json").write_text('{"annotations": []}')
    with pytest.raises(UserError, match="is not a list of detections"):
        prepare_coco(folder, detections="detections.json")


@pytest.mark.parametrize("change, sentence", [
    (lambda content: [one.pop("keypoints") for one in content["annotations"]], "8 persons and "
    "keypoints of none .*: give the person_keypoints"),
    (lambda content: content["annotations"][0].update(keypoints=[1, 2]), r"annotation 100, "
                                                                         r"keypoints is .* where "
                                                                         r"\[51\] numbers must be"),
    (lambda content: content["annotations"][0].update(bbox=None), r"annotation 100, bbox is"),
    (lambda content: content["annotations"][0].update(image_id=77), "annotation 100 is of image "
                                                                    "77, which the file does not "
                                                                    "list"),
    (lambda content: content["annotations"][0].update(image_id=[1]), r"annotation 100, image_id "
                                                                     r"is '\[1\]' where a whole "
                                                                     r"number must be"),
    (lambda content: content.pop("images"), "is not in COCO's layout .KeyError"),
    (lambda content: content["images"][0].pop("width"), "is not in COCO's layout .KeyError"),
    (lambda content: content["annotations"].clear(), "has no annotation of category 1, which is "
    "its person"),
])  # fmt: skip
def test_annotations_with_faults(folder, change, sentence):
    edit(folder, COCO_TRAIN, change)
    with pytest.raises(UserError, match=sentence):
        prepare_coco(folder)


def test_photographs_of_another_size(folder):
    picture_sets.save(folder / "val2017" / "000000000502.jpg", picture_sets.picture(0, 80, 60))
    with pytest.raises(
        UserError,
        match="000000000502.jpg' is 80 x 60 and its annotations are for "
        "160 x 120: put the photographs there that were annotated.$",
    ):
        prepare_coco(folder)


def test_missing_photographs(folder):
    (folder / "train2017" / "000000000001.jpg").unlink()
    with pytest.raises(
        UserError, match=r"1 of 2 photographs are missing in '.*train2017' \(000000000001.jpg\)"
    ):
        prepare_coco(folder)
    # A photograph without persons need not be there.
    edit(
        folder,
        COCO_TRAIN,
        lambda content: content.update(
            annotations=[a for a in content["annotations"] if a["image_id"] != 1]
        ),
    )
    assert prepare_coco(folder).splits["train"] == (2, 2)


def test_generated_pictures_are_said_to_be(folder):
    prepare_coco(folder, generated=True)
    assert schema.read_metadata(str(folder.parent / "records"), schema.PERSONS)["generated"] is True
