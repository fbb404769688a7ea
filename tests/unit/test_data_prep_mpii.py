"""MPII's files -> records: what is kept, what is refused, and photographs with faults."""

import hashlib
import json

import cv2
import numpy as np
import picture_sets
import pytest
import scipy.io
from picture_sets import edit
from PIL import Image

from data_prep import convert
from kdpose_jax.data import persons, schema
from kdpose_jax.errors import UserError

FEWER = "test: 'annot/valid.json' lists 3 persons, and HRNet's list of this name 2,958"


@pytest.fixture
def folder(tmp_path):
    picture_sets.write_mpii(tmp_path / "raw")
    return tmp_path / "raw"


def prepare(folder, name="records", **settings):
    return convert.prepare(
        "mpii", str(folder.parent / name), source=str(folder), workers=1, **settings
    )


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_records(folder, capsys):
    summary = prepare(folder)
    assert (
        summary.splits == {"train": (3, 3), "val": (1, 1), "test": (3, 3)}
        and summary.unit == "persons"
        and not summary.left_out
    )
    assert "train: 3 persons" in capsys.readouterr().out
    data, entries = (
        persons.read(folder.parent / "records", "test"),
        json.loads((folder / "annot" / "valid.json").read_text()),
    )
    assert (
        data.skeleton.name == "mpii_16"
        and data.file == ("v0.jpg", "v1.jpg", "v2.jpg")
        and data.person_id.tolist() == [0, 1, 2]
    )
    for index, entry in enumerate(entries):
        visible = np.asarray(entry["joints_vis"]) > 0
        np.testing.assert_array_equal(data.visible[index], visible)
        np.testing.assert_allclose(
            data.joints[index], (np.asarray(entry["joints"]) - 1) * visible[:, None], rtol=1e-6
        )
        np.testing.assert_allclose(
            data.center[index],
            [entry["center"][0] - 1, entry["center"][1] + 15 * entry["scale"] - 1],
            rtol=1e-6,
        )
        np.testing.assert_allclose(data.scale[index], entry["scale"] * 1.25, rtol=1e-6)
    np.testing.assert_allclose(data.head_size, 0.6 * 50)  # boxes of 30 by 40
    train = persons.read(folder.parent / "records", "train", "val")
    assert train.head_size.tolist() == [0] * 4
    assert train.file == ("t0.jpg", "t1.jpg", "t3.jpg", "t2.jpg")
    metadata = schema.read_metadata(str(folder.parent / "records"), schema.PERSONS)
    assert (
        sorted(metadata["sources"])
        == ["annot/gt_valid.mat", "annot/train.json", "annot/valid.json"]
        and not metadata["generated"]
    )
    # Published protocols train on the validation photographs too.
    for split in ("train", "val"):
        assert metadata["settings"]["reach"][split] == {
            "scale_factor": 0.25,
            "rotation_factor": 30.0,
            "half_body": False,
        }
    assert (
        metadata["splits"]["train"]["records"] == 3 and "frames" not in metadata["splits"]["train"]
    )


def test_a_changed_photograph_changes_the_checksums_of_the_records(folder):
    """No annotation file tells of it, and a run must not go on with other pictures."""
    prepare(folder)
    picture_sets.save(folder / "images" / "t1.jpg", picture_sets.picture(99, 160, 120))
    prepare(folder, "again")
    first, again = (
        schema.read_metadata(str(folder.parent / name), schema.PERSONS)
        for name in ("records", "again")
    )
    assert (
        first["sources"] == again["sources"] and first["splits"]["test"] == again["splits"]["test"]
    )
    before, after = (metadata["splits"]["train"]["sha256"] for metadata in (first, again))
    changed = [name for name in before if before[name] != after[name]]
    assert changed == ["train.tfrecord-00001-of-00003"]
    assert (
        before[changed[0]]
        == hashlib.sha256((folder.parent / "records" / changed[0]).read_bytes()).hexdigest()
    )


def test_two_workers_write_the_same_bytes_and_a_second_run_nothing(folder, capsys):
    prepare(folder)
    convert.prepare("mpii", str(folder.parent / "two"), source=str(folder), workers=2)
    assert content(folder.parent / "two") == content(folder.parent / "records")
    assert prepare(folder).seconds == 0 and "complete already" in capsys.readouterr().out
    with pytest.raises(UserError, match="already holds a data set made from other input"):
        prepare(folder, scale_factor=0.1)


def test_a_region_that_is_the_whole_photograph_keeps_its_bytes(folder):
    def nearer(entries):
        for entry in entries:
            entry["scale"] = 2.0

    edit(folder / "annot", "valid.json", nearer)
    prepare(folder)
    data = persons.read(folder.parent / "records", "test")
    for name, image in zip(data.file, data.image, strict=True):
        assert image.tobytes() == (folder / "images" / name).read_bytes()


@pytest.mark.parametrize("encoding, largest, mean", [("png", 0, 0), ("jpeg", 12, 1.5)])
def test_cut_regions_are_encoded_once(folder, encoding, largest, mean):
    """PNG costs nothing, JPEG about a grey level."""
    prepare(folder, encoding=encoding, splits=("test",))
    data = persons.read(folder.parent / "records", "test")
    cut = 0
    for name, image, (x, y, width, height) in zip(data.file, data.image, data.region, strict=True):
        if (width, height) != (160, 120):
            whole = cv2.imread(str(folder / "images" / name)).astype(int)
            stored = cv2.imdecode(image, cv2.IMREAD_COLOR).astype(int)
            difference = np.abs(stored - whole[y : y + height, x : x + width])
            assert difference.max() <= largest and difference.mean() <= mean
            cut += 1
    assert cut >= 2


@pytest.mark.parametrize(
    "mode, note",
    [
        ("L", "1 greyscale photographs"),
        ("CMYK", "1 CMYK photographs"),
        ("RGBA", "1 Pillow mode RGBA"),
    ],
)
def test_other_colours_become_rgb_and_are_counted(folder, mode, note):
    path = folder / "images" / "v1.jpg"
    picture = Image.open(path).convert(mode)
    picture.save(path, format="PNG" if mode == "RGBA" else "JPEG", quality=95)
    summary = prepare(folder, encoding="png", splits=("test",))
    assert summary.notes[0] == FEWER and len(summary.notes) == 2
    assert summary.notes[1].startswith(f"test: {note}") and "converted to RGB" in summary.notes[1]
    data = persons.read(folder.parent / "records", "test")
    x, y, width, height = data.region[1]
    stored = cv2.cvtColor(cv2.imdecode(data.image[1], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    expected = np.asarray(picture.convert("RGB"))[y : y + height, x : x + width]
    assert stored.shape == (height, width, 3) and np.abs(stored.astype(int) - expected).mean() < 6


def test_missing_photographs_are_counted_before_anything_is_written(folder):
    for name in ("t1.jpg", "t3.jpg"):
        (folder / "images" / name).unlink()
    with pytest.raises(
        UserError,
        match=r"2 of 4 photographs are missing in '.*images' \(t1.jpg, t3.jpg\): put them there",
    ) as caught:
        prepare(folder)
    listed = folder.parent / "missing_photographs.txt"
    assert not (folder.parent / "records").exists() and f"'{listed}' lists them all" in str(
        caught.value
    )
    assert listed.read_text() == "".join(
        f"{folder / 'images' / name}\n" for name in ("t1.jpg", "t3.jpg")
    )


def test_missing_photographs_of_both_splits_are_listed_at_once(folder):
    for entry in range(12):
        edit(
            folder / "annot",
            "train.json",
            lambda entries, number=entry: entries.append(
                {**entries[0], "image": f"far{number}.jpg"}
            ),
        )
    (folder / "images" / "v1.jpg").unlink()
    with pytest.raises(
        UserError,
        match=r"12 of 16 .*far9.jpg and 2 more\) and 1 of 3 .*\(v1.jpg\): .* --train-images and "
        r"--test-images",
    ):
        prepare(folder)
    assert len((folder.parent / "missing_photographs.txt").read_text().splitlines()) == 13


def test_photographs_that_are_none(folder):
    (folder / "images" / "v2.jpg").write_text("no picture")
    with pytest.raises(
        UserError, match=r"1 of 3 photographs in .* cannot be read \(v2.jpg; UnidentifiedImageError"
    ):
        prepare(folder)
    assert not (folder.parent / "records").exists()


@pytest.mark.parametrize("keep", [0.5, 0.97])
def test_a_photograph_that_is_cut_off(folder, keep):
    path = folder / "images" / "v2.jpg"
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(
        UserError,
        match=r"Photograph '.*v2.jpg' is damaged \(it is cut off: it has "
        r"no end mark\): copy",
    ):
        prepare(folder)


def test_no_folder_and_names_that_lead_out_of_it(folder):
    with pytest.raises(
        UserError, match=r"photographs'.* is not a folder: put it there or give --train-images"
    ):
        prepare(folder, train_images="photographs")
    edit(
        folder / "annot", "train.json", lambda entries: entries[0].update(image="../../secret.jpg")
    )
    with pytest.raises(UserError, match=r"'../../secret.jpg' lies outside"):
        prepare(folder)


@pytest.mark.parametrize("change, sentence", [
    (lambda entry: entry.pop("joints"), r"valid.json', entry 1 has no joints: give annotations "
                                        r"with joints, which test.json lacks"),
    (lambda entry: entry.update(center=[1]), r"entry 1, center is '\[1\]' where \[2\] numbers "
                                             r"must be"),
    (lambda entry: entry.update(scale="big"), r"entry 1, scale is 'big' where one number must be"),
    (lambda entry: entry.update(joints=[[0, 0]] * 17), r"entry 1, joints is .* where \[16, 2\] "
                                                       r"numbers must be"),
    (lambda entry: entry.update(joints=[[0, float("nan")]] * 16), r"entry 1, joints is .* where "
                                                                  r"\[16, 2\] numbers"),
    (lambda entry: entry.update(image=3), r"entry 1, image is 3 where a file name must be"),
])  # fmt: skip
def test_annotations_with_faults(folder, change, sentence):
    edit(folder / "annot", "valid.json", lambda entries: change(entries[1]))
    with pytest.raises(UserError, match=sentence):
        prepare(folder)


def test_files_of_another_kind(folder):
    for text, sentence in (
        ("{", "cannot be read as JSON"),
        ("{}", "is not a list of persons"),
        ("[]", "is not a list of persons"),
    ):
        (folder / "annot" / "valid.json").write_text(text)
        with pytest.raises(UserError, match=sentence):
            prepare(folder)
    (folder / "annot" / "valid.json").unlink()
    with pytest.raises(
        UserError,
        match="valid.json' does not exist: put it there, give --test-annotations, or leave its "
        "split out",
    ):
        prepare(folder)
    assert list(prepare(folder, splits=("train",)).splits) == ["train"]


def test_boxes_of_zero_area_are_left_out_and_counted(folder):
    edit(folder / "annot", "valid.json", lambda entries: entries[1].update(scale=0.0))
    summary = prepare(folder)
    assert summary.splits["test"] == (2, 2) and summary.left_out == ["test: 1 boxes of zero area"]
    data = persons.read(folder.parent / "records", "test")
    assert data.person_id.tolist() == [0, 2]
    # The last joint of v1 is not labelled.
    assert data.unseen == 1 and data.unseen_joints.tolist() == [1] * 15 + [0]


def test_persons_outside_their_photograph_are_left_out_and_counted(folder):
    edit(folder / "annot", "train.json", lambda entries: entries[0].update(center=[900.0, 900.0]))
    summary = prepare(folder)
    assert summary.splits["train"] == (2, 2) and summary.left_out == [
        "train: 1 persons whose box lies outside the photograph"
    ]
    data, test = (persons.read(folder.parent / "records", split) for split in ("train", "test"))
    assert (data.unseen, data.unseen_joints.tolist(), test.unseen) == (1, [1] * 16, 0)
    both = persons.read(folder.parent / "records", "train", "val")
    assert (both.unseen, both.unseen_joints.tolist()) == (1, [1] * 16)


def test_joints_outside_the_photograph_are_kept(folder):
    edit(
        folder / "annot",
        "train.json",
        lambda entries: entries[0]["joints"].__setitem__(4, [-30.0, 500.0]),
    )
    summary = prepare(folder)
    assert "train: 1 labelled joints lie outside their photograph and are kept" in summary.notes
    data = persons.read(folder.parent / "records", "train")
    assert data.joints[0, 4].tolist() == [-31, 499] and data.visible[0, 4]


def test_photographs_in_two_splits_are_told(folder):
    summary = prepare(folder)
    assert not any("so that scores" in note for note in summary.notes)
    edit(folder / "annot", "train.json", lambda entries: entries[0].update(image="v1.jpg"))
    said = [note for note in prepare(folder, "other").notes if "so that scores" in note]
    assert len(said) == 1 and said[0].startswith("1 photographs are in 'train' and in 'test'")


def test_without_head_boxes(folder):
    (folder / "annot" / "gt_valid.mat").unlink()
    summary = prepare(folder)
    assert [note for note in summary.notes if "HRNet's list" not in note] == [
        "test: no head boxes, so that PCKh cannot be computed"
    ]
    assert persons.read(folder.parent / "records", "test").head_size.tolist() == [0] * 3
    with pytest.raises(
        UserError, match="gt_valid.mat' does not exist: put it there, or give --head-boxes none"
    ):
        prepare(folder, "other", head_boxes="annot/gt_valid.mat")


def test_head_boxes_of_other_persons(folder):
    entries = json.loads((folder / "annot" / "valid.json").read_text())
    path = folder / "annot" / "gt_valid.mat"
    for wrong, sentence in (
        (
            picture_sets.head_boxes(entries[:2]),
            "gt_valid.mat' has 2 samples and 'annot/valid.json' has 3 persons: give "
            "--test-annotations",
        ),
        (
            picture_sets.head_boxes(entries[::-1]),
            "gt_valid.mat' does not match 'annot/valid.json': 32 of 48 joints differ, the first in",
        ),
        (
            {"jnt_missing": np.zeros((16, 3))},
            "gt_valid.mat' lacks dataset_joints.*, or --head-boxes none",
        ),
    ):
        scipy.io.savemat(path, wrong)
        with pytest.raises(UserError, match=sentence):
            prepare(folder)


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"scale_factor": 1.0}, "--scale-factor 1.0 must be"),
        ({"rotation_factor": 200.0}, "--rotation-factor 200.0"),
        ({"encoding": "webp"}, "--encoding 'webp' must be jpeg or png"),
        ({"splits": ("valid",)}, "--splits 'valid' must be some of train, val, test"),
        ({"splits": ()}, "--splits ''"),
    ],
)
def test_options_out_of_range(folder, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        prepare(folder, **settings)


def test_expected_files():
    assert convert.needs_source("mpii") and not convert.needs_source("synthetic")
    said = convert.expected_files("mpii", {"splits": ("test",), "test_images": "pictures"})
    assert (
        said
        == "annot/valid.json with the photographs in pictures/, and annot/gt_valid.mat for PCKh, "
        "in HRNet's layout of MPII"
    )
    assert "data_2d_<name>_cpn.npz" in convert.expected_files("human36m", {"keypoints": "cpn"})
    assert (
        "annotations/person_keypoints_train2017.json with the photographs in train2017/"
        in convert.expected_files("coco", {})
    )
    with pytest.raises(UserError, match="There is no converter 'imagenet': use human36m"):
        convert.needs_source("imagenet")


def tag(folder, name, orientation) -> None:
    """Stores the photograph as a camera does that was held so: Pillow turns it back for viewers."""
    path = folder / "images" / name
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}
    with Image.open(path) as picture:
        stored, exif = picture.transpose(turns[orientation]), Image.Exif()
    exif[0x0112] = orientation
    stored.save(path, exif=exif, quality=95)


def test_an_orientation_is_ignored_as_in_hrnet_and_counted(folder):
    tag(folder, "v0.jpg", 3)
    summary = prepare(folder, splits=("test",), encoding="png")
    data = persons.read(folder.parent / "records", "test")
    assert data.photograph[0].tolist() == [160, 120]
    assert summary.notes[1:] == [
        "test: 1 photographs have an EXIF orientation, which is ignored as HRNet does; if they "
        "were annotated as viewers show them, give --orientation exif"
    ]
    turned = convert.prepare(
        "mpii",
        str(folder.parent / "turned"),
        source=str(folder),
        workers=1,
        splits=("test",),
        encoding="png",
        orientation="exif",
    )
    assert turned.notes[1:] == [
        "test: 1 photographs were turned by their EXIF orientation: 1 as --orientation exif says"
    ]
    first, second = data.image[0], persons.read(folder.parent / "turned", "test").image[0]
    assert (
        first.tobytes() != second.tobytes()
        and data.image[1].tobytes()
        == persons.read(folder.parent / "turned", "test").image[1].tobytes()
    )
    with pytest.raises(UserError, match="--orientation 'up' must be exif or ignore"):
        prepare(folder, "other", orientation="up")


def test_joints_that_fit_only_the_turned_photograph_turn_it(folder):
    """MPII's layout has no size; a joint far to the right does not lie on the photograph as it is
    stored."""
    tag(folder, "v0.jpg", 6)
    edit(
        folder / "annot",
        "valid.json",
        lambda entries: entries[0]["joints"].__setitem__(0, [150.0, 40.0]),
    )
    summary = prepare(folder, splits=("test",), head_boxes="none")
    turned = "were turned by their EXIF orientation: 1 because only so their annotations fit"
    assert f"test: 1 photographs {turned}" in summary.notes
    assert persons.read(folder.parent / "records", "test").photograph[0].tolist() == [160, 120]
    assert not any("outside their photograph" in note for note in summary.notes)


def test_a_film_behind_a_photograph_stays_out_of_the_records(folder):
    edit(
        folder / "annot",
        "valid.json",
        lambda entries: [entry.update(scale=2.0) for entry in entries],
    )
    plain = {path.name: path.read_bytes() for path in (folder / "images").glob("v*.jpg")}
    for number, (name, content) in enumerate(plain.items()):
        film = np.random.default_rng(number).integers(0, 256, 20000, np.uint8).tobytes()
        (folder / "images" / name).write_bytes(
            content + b"MotionPhoto_Data" + film + (b"\xff\xda" if number else b"\xff\xd9")
        )
    prepare(folder, splits=("test",))
    data = persons.read(folder.parent / "records", "test")
    assert [image.tobytes() for image in data.image] == [plain[name] for name in data.file]


@pytest.mark.parametrize(
    "change, words",
    [
        (
            lambda entry: entry.update(scale=200 * entry["scale"]),
            "boxes fit the labelled joints as a centre and a scale in pixels and not as",
        ),
        (
            lambda entry: entry.update(center=[entry["center"][0] / 160, entry["center"][1] / 120]),
            "lie in the first 2 pixels, as fractions",
        ),
        (
            lambda entry: entry.update(joints=(np.asarray(entry["joints"]) * 4).tolist()),
            "of the labelled joints lie outside their photographs",
        ),
    ],
)
def test_scales_centres_and_joints_of_another_kind(folder, change, words):
    edit(folder / "annot", "train.json", lambda entries: [change(entry) for entry in entries])
    with pytest.raises(UserError, match=f"train.json': .*{words}"):
        prepare(folder)


def test_a_part_of_the_photographs(folder):
    """Head boxes are those of the whole list, of which a part has photographs."""
    (folder / "images" / "v1.jpg").unlink()
    boxes = picture_sets.head_boxes(json.loads((folder / "annot" / "valid.json").read_text()))
    boxes["headboxes_src"][1, :, 2] += [30, 40]
    scipy.io.savemat(folder / "annot" / "gt_valid.mat", boxes)
    summary = prepare(folder, skip_missing=True)
    assert (
        summary.splits["test"] == (2, 2)
        and "test: 1 persons whose photograph is missing" in summary.left_out
    )
    data = persons.read(folder.parent / "records", "test")
    assert data.file == ("v0.jpg", "v2.jpg") and data.unseen == 0
    np.testing.assert_allclose(data.head_size, [0.6 * 50, 0.6 * 100])
    for path in (folder / "images").glob("v*.jpg"):
        path.unlink()
    with pytest.raises(UserError, match="3 of 3 photographs are missing"):
        prepare(folder, "none", skip_missing=True)


def test_a_part_of_the_list_finds_its_head_boxes_by_joints(folder):
    entries = json.loads((folder / "annot" / "valid.json").read_text())
    boxes = picture_sets.head_boxes(entries)
    boxes["headboxes_src"][1, :, 2] += [30, 40]
    scipy.io.savemat(folder / "annot" / "gt_valid.mat", boxes)
    edit(
        folder / "annot",
        "valid.json",
        lambda entries: entries.__setitem__(slice(None), [entries[2], entries[0]]),
    )
    summary = prepare(folder, splits=("test",))
    np.testing.assert_allclose(
        persons.read(folder.parent / "records", "test").head_size, [0.6 * 100, 0.6 * 50]
    )
    found = "2 persons, found by their joints among the 3 samples of the head box file"
    assert f"test: 'annot/valid.json' has {found}" in summary.notes
    edit(
        folder / "annot", "valid.json", lambda entries: entries[0]["joints"][3].__setitem__(0, 1.0)
    )
    with pytest.raises(
        UserError, match="gt_valid.mat' has 3 samples and 'annot/valid.json' has 2 persons"
    ):
        prepare(folder, "other", splits=("test",))
