"""The converters on real photographs and annotations (`images2d` of KDPOSE_SHARED_DATA, default ../shared/data)."""

import zipfile

import numpy as np
import picture_sets
import pytest

from data_prep import annotations, convert, mpii
from kdpose_jax.data import persons
from kdpose_jax.errors import UserError

IMAGES = picture_sets.SHARED / "images2d"
pytestmark = pytest.mark.skipif(not IMAGES.is_dir(), reason=f"no photographs in {IMAGES} (set KDPOSE_SHARED_DATA)")


def unzip(name, tmp_path_factory):
    folder = tmp_path_factory.mktemp(name)
    zipfile.ZipFile(IMAGES / f"{name}.zip").extractall(folder)
    return folder


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    folder = unzip("coco_mini", tmp_path_factory)
    (detections,) = (folder / "person_detection_results").iterdir()
    settings = {"detections": str(detections.relative_to(folder)), "workers": 1}
    return convert.prepare("coco", str(folder / "records"), source=str(folder), **settings), folder


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    return unzip("mpii_annot", tmp_path_factory)


def test_coco_persons(mini):
    summary, _ = mini
    assert summary.splits == {"train": (86, 86), "test": (80, 80), "test_detections": (118, 118)}
    assert summary.left_out == [
        "train: 5 crowds", "train: 56 persons without a labelled joint", "test: 1 crowds", "test: 26 persons without a labelled joint",
    ]  # fmt: skip


def test_coco_crops_show_their_persons(mini):
    summary, _ = mini
    data = persons.read(summary.out, "train")
    assert len(set(data.file)) <= 28
    training = {"scale_factor": 0.35, "rotation_factor": 45.0, "flip": True, "half_body_probability": 0.3}
    source = persons.open_training(data, views={"image": 64, "teacher_image": 256}, seed=0, **training)
    batch = source.gather(np.arange(86), np.zeros(86, int))
    assert batch["teacher_image"].shape == (86, 256, 256, 3) and (batch["image"].std((1, 2, 3)) > 5).all()
    plain = persons.open_evaluation(data, views={"image": 64}).gather(np.arange(86))
    inside = ((plain["joints"] > 0) & (plain["joints"] < 64)).all(-1)[data.visible]
    assert inside.mean() > 0.98  # a box with its padding holds the person


def test_mpii_samples(annotated):
    path = annotated / "annot" / "valid.json"
    people = mpii.read_persons(annotations.read_json(str(path), "--test-annotations"), str(path))
    with_heads, notes = mpii.with_head_boxes(people, str(annotated / "annot" / "gt_valid.mat"), "valid.json")
    assert len(people) == len(with_heads) == 2958 and not notes
    sizes = np.asarray([person.head_size for person in with_heads])
    assert (sizes > 0).all() and 20 < np.median(sizes) < 120
    distance = np.stack([one.joints - other.joints for one, other in zip(people, with_heads, strict=True)])
    assert np.abs(distance).max() < 1e-3


def test_mpii_photographs(annotated, tmp_path):
    settings = {"source": str(annotated), "splits": ("test",), "workers": 1}
    with pytest.raises(UserError, match=r"2,724 of 2,729 photographs are missing"):
        convert.prepare("mpii", str(tmp_path / "all"), **settings)
    with pytest.raises(UserError, match="gt_valid.mat' has 2,958 samples and 'annot/valid_5images.json' has 5 persons"):
        convert.prepare("mpii", str(tmp_path / "five"), **settings, test_annotations="annot/valid_5images.json")
    five = {"test_annotations": "annot/valid_5images.json", "head_boxes": "none"}
    assert convert.prepare("mpii", str(tmp_path / "five"), **settings, **five).splits == {"test": (5, 5)}
    data = persons.read(tmp_path / "five", "test")
    batch = persons.open_evaluation(data, views={"image": 64}).gather(np.arange(5))
    inside = ((batch["joints"] > 0) & (batch["joints"] < 64)).all(-1)[data.visible]
    assert inside.mean() > 0.95 and batch["image"].std() > 20
