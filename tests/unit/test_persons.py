"""Records of persons -> crops.

From the photograph itself, of one draw, a pure function of (seed, pass, example).
"""

import cv2
import numpy as np
import picture_sets
import pytest

from data_prep import convert
from kdpose_jax.codecs import crops
from kdpose_jax.contracts import Source
from kdpose_jax.data import persons, schema
from kdpose_jax.errors import UserError

VIEWS = {"image": 32, "teacher_image": 128}
TRAINING = {
    "scale_factor": 0.35,
    "rotation_factor": 45.0,
    "flip": True,
    "half_body_probability": 0.5,
}
WIDTH, HEIGHT = 400, 300


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    picture_sets.write_coco(folder, WIDTH, HEIGHT)
    convert.prepare(
        "coco",
        str(folder / "png"),
        source=str(folder),
        encoding="png",
        detections="detections.json",
        workers=1,
    )
    return folder


@pytest.fixture(scope="module")
def train(folder):
    """All training photographs: the first one is a validation photograph."""
    return persons.read(folder / "png", "val", "train")


def photographs(folder, data, split) -> list[np.ndarray]:
    """The whole photographs, RGB, of every person."""
    return [
        cv2.cvtColor(cv2.imread(str(folder / split / name)), cv2.COLOR_BGR2RGB)
        for name in data.file
    ]


def bilinear(picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Exact bilinear values of `[H, W, 3]` at positions, black outside."""
    padded = np.zeros((picture.shape[0] + 2, picture.shape[1] + 2, 3))
    padded[1:-1, 1:-1] = picture
    x, y = (
        np.clip(x + 1, 0, padded.shape[1] - 1.000001),
        np.clip(y + 1, 0, padded.shape[0] - 1.000001),
    )
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - left)[..., None], (y - top)[..., None]
    upper = padded[top, left] * (1 - fx) + padded[top, left + 1] * fx
    return (
        upper * (1 - fy) + (padded[top + 1, left] * (1 - fx) + padded[top + 1, left + 1] * fx) * fy
    )


def test_a_record_holds_what_was_annotated(folder, train):
    assert (
        len(train) == 4
        and train.skeleton.name == "coco_17"
        and train.file[:2] == ("000000000001.jpg",) * 2
    )
    assert train.person_id.tolist() == [100, 101, 200, 201] and train.image_id.tolist() == [
        1,
        1,
        2,
        2,
    ]
    # The box [20, 10, 60, 90], clipped as HRNet does: 59 by 89 pixels.
    np.testing.assert_allclose(train.center[0], [20 + 59 / 2, 10 + 89 / 2])
    np.testing.assert_allclose(train.scale[0], 89 / 200 * 1.25, rtol=1e-6)
    assert (
        not train.visible[0, 2] and train.visible[0].sum() == 16 and (train.joints[0, 2] == 0).all()
    )
    assert (
        train.score.tolist() == [1] * 4
        and train.area[0] == np.float32(60 * 90 * 0.6)
        and train.head_size.tolist() == [0] * 4
    )


def test_regions_are_the_photographs_pixels(folder, train):
    for example, photograph in enumerate(photographs(folder, train, "train2017")):
        x, y, width, height = train.region[example]
        stored = cv2.cvtColor(
            cv2.imdecode(train.image[example], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
        )
        np.testing.assert_array_equal(stored, photograph[y : y + height, x : x + width])
        assert (
            train.photograph[example] == [WIDTH, HEIGHT]
        ).all() and width * height < WIDTH * HEIGHT


def test_test_regions_reach_no_farther_than_the_box(folder):
    data = persons.read(folder / "png", "test")
    assert data.reach == crops.NO_REACH
    side = 200 * data.scale[:, 0]
    assert (data.region[:, 2] <= side + 5).all() and (data.region[:, 3] <= side + 5).all()


@pytest.mark.parametrize("example", range(4))
def test_every_crop_is_that_of_the_whole_mirrored_and_turned_photograph(folder, train, example):
    """HRNet's way, step by step.

    Mirror the photograph, then warp it; with exact values from the whole photograph.
    """
    source = persons.open_training(train, views=VIEWS, seed=5, **TRAINING)
    photograph = photographs(folder, train, "train2017")[example]
    seen = set()
    for number in range(12):
        batch = source.gather(np.array([example]), np.array([number]))
        views = source._draw(np.array([example]), np.array([number]))
        flipped = bool(views.flipped[0])
        seen.add(flipped)
        whole = photograph[:, ::-1] if flipped else photograph
        center = views.center[0].copy()
        joints, visible = train.joints[example].astype(float), train.visible[example]
        if flipped:
            center[0] = WIDTH - 1 - center[0]
            joints, visible = (
                joints[list(train.skeleton.flip_permutation)],
                visible[list(train.skeleton.flip_permutation)],
            )
            joints[:, 0] = WIDTH - 1 - joints[:, 0]
        angle, side = np.radians(views.rotation[0]), 200 * views.scale[0, 0]
        for name, size in VIEWS.items():
            u, v = np.meshgrid(np.arange(size) - size / 2, np.arange(size) - size / 2)
            x = side / size * (np.cos(angle) * u - np.sin(angle) * v) + center[0]
            y = side / size * (np.sin(angle) * u + np.cos(angle) * v) + center[1]
            error = batch[name][0] - bilinear(whole, x, y)
            assert np.abs(error).max() < 0.51
        # x' = (S/a) R^T (x - c) + S/2
        moved = (joints - center) @ np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        ) * 32 / side + 16
        np.testing.assert_allclose(batch["joints"][0][visible], moved[visible], atol=1e-4)
        assert (batch["joints"][0][~visible] == 0).all()
        np.testing.assert_array_equal(batch["joint_weight"][0], visible)
    assert seen == {False, True}


def test_the_views_show_the_same_points(train):
    """Every fourth pixel of the large view is a pixel of the small one, since x at 128 is 4 x at
    32.
    """
    batch = persons.open_training(train, views=VIEWS, seed=5, **TRAINING).gather(
        np.arange(4), np.arange(4)
    )
    difference = batch["teacher_image"][:, ::4, ::4].astype(int) - batch["image"]
    assert (
        np.abs(difference).max() <= 1 and (difference != 0).mean() < 1e-3
    )  # but for values half-way between two grey levels
    assert batch["image"].std() > 10


def test_randomness_follows_from_seed_pass_and_example_alone(train):
    source = persons.open_training(train, views={"image": 32}, seed=5, **TRAINING)
    together = source.gather(np.array([3, 1, 0, 2]), np.array([7, 7, 8, 7]))
    alone = persons.open_training(train, views={"image": 32}, seed=5, **TRAINING).gather(
        np.array([1]), np.array([7])
    )
    for name, array in alone.items():
        np.testing.assert_array_equal(array[0], together[name][1])
    others = [
        source.gather(np.array([1]), np.array([8])),
        persons.open_training(train, views={"image": 32}, seed=6, **TRAINING).gather(
            np.array([1]), np.array([7])
        ),
    ]
    assert all(
        (other["joints"] != alone["joints"]).any() and (other["image"] != alone["image"]).any()
        for other in others
    )
    # One setting does not change what the others draw.
    unflipped = persons.open_training(
        train, views={"image": 32}, seed=5, **TRAINING | {"flip": False}
    )
    views = [one._draw(np.arange(4), np.full(4, 7)) for one in (source, unflipped)]
    np.testing.assert_array_equal(views[0].rotation, views[1].rotation)
    np.testing.assert_array_equal(views[0].scale, views[1].scale)


def test_without_passes_a_training_source_gives_the_plain_crops(train):
    training = persons.open_training(train, views=VIEWS, seed=5, **TRAINING).gather(np.arange(4))
    plain = persons.open_evaluation(train, views=VIEWS).gather(np.arange(4), np.arange(4))
    for name, array in plain.items():
        np.testing.assert_array_equal(training[name], array)


@pytest.mark.parametrize("size", [32, 64, 256])
def test_joints_come_back_within_a_hundredth_of_a_pixel(train, size):
    batch = persons.open_evaluation(train, views={"image": size}).gather(np.arange(4))
    inverse = crops.invert_affine(crops.crop_affine(train.center, train.scale, 0.0, size))
    back = crops.transform_points(batch["joints"], inverse)
    assert np.abs(back - train.joints)[train.visible].max() < 0.01


def test_a_joint_outside_the_crop_keeps_its_weight(train):
    import dataclasses

    joints = train.joints.copy()
    joints[0, 0] = [399.0, 299.0]
    batch = persons.open_evaluation(
        dataclasses.replace(train, joints=joints), views={"image": 32}
    ).gather(np.array([0]))
    assert batch["joint_weight"][0, 0] == 1 and (batch["joints"][0, 0] > 32).all()


def test_source(train):
    source = persons.open_evaluation(train, views={"image": 32})
    assert isinstance(source, Source) and len(source) == 4 and source.unit == ("persons", 1)
    batch = source.gather(np.array([2, 2]))
    assert {name: (array.shape, array.dtype) for name, array in batch.items()} == {
        "image": ((2, 32, 32, 3), np.uint8),
        "joints": ((2, 17, 2), np.float32),
        "joint_weight": ((2, 17), np.float32),
    }


@pytest.mark.parametrize(
    "change, sentence",
    [
        (
            {"scale_factor": 0.5},
            r"data.training \(scale_factor 0.5.*reaches beyond what .* was cut for .*convert the "
            r"data set again",
        ),
        ({"scale_factor": 1.0}, "data.training.scale_factor is 1.0: use 0"),
        ({"rotation_factor": -1.0}, "data.training.rotation_factor is -1.0"),
        ({"half_body_probability": 2.0}, "data.training.half_body_probability is 2.0"),
    ],
)
def test_settings_that_the_records_cannot_serve(train, change, sentence):
    with pytest.raises(UserError, match=sentence):
        persons.open_training(train, views=VIEWS, seed=0, **TRAINING | change)


def test_test_records_are_not_cut_for_training(folder):
    with pytest.raises(UserError, match="reaches beyond"):
        persons.open_training(persons.read(folder / "png", "test"), views=VIEWS, seed=0, **TRAINING)


def test_several_splits_are_read_as_one(folder):
    """They reach as far as the one that was cut closest."""
    both = persons.read(folder / "png", "train", "test")
    parts = [persons.read(folder / "png", split) for split in ("train", "test")]
    assert both.file == parts[0].file + parts[1].file and both.reach == crops.NO_REACH
    np.testing.assert_array_equal(both.joints, np.concatenate([part.joints for part in parts]))


def test_another_split_or_kind(folder, tmp_path):
    with pytest.raises(
        UserError, match=r"has no split 'valid' but \['test', 'test_detections', 'train', 'val'\]"
    ):
        persons.read(folder / "png", "valid")
    convert.prepare(
        "synthetic",
        str(tmp_path / "motion"),
        train_subjects=1,
        test_subjects=1,
        frames=2,
        workers=1,
    )
    with pytest.raises(
        UserError, match="is of kind 'pose_sequences' where 'person_images' is needed.*convert mpii"
    ):
        persons.read(tmp_path / "motion", "train")
    with pytest.raises(
        UserError,
        match="is of kind 'person_images' where 'pose_sequences' is needed.*convert human36m",
    ):
        schema.read_metadata(str(folder / "png"), schema.SEQUENCES)
    assert schema.read_metadata(str(tmp_path / "motion"), schema.SEQUENCES)["fps"] == 50.0


def test_a_damaged_image_is_named(train):
    import dataclasses

    image = list(train.image)
    image[1] = image[1][:40]
    source = persons.open_evaluation(
        dataclasses.replace(train, image=tuple(image)), views={"image": 32}
    )
    with pytest.raises(UserError, match=r"person 1 \('000000000001.jpg'\): its image is damaged"):
        source.gather(np.arange(4))
