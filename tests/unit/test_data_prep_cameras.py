"""Camera geometry in closed form, and tables that are wrong."""

import json

import numpy as np
import pytest

from data_prep import cameras
from kdpose_jax.errors import UserError

QUARTER = np.sqrt(0.5)
CAMERA = {
    "res_w": 1000,
    "res_h": 800,
    "focal_length": [1100, 1200],
    "center": [510, 390],
    "radial_distortion": [0.1, 0.2, 0.3],
    "tangential_distortion": [0.01, 0.02],
    "orientation": [QUARTER, 0, 0, QUARTER],
    "translation": [1, 2, 3],
}


def write(tmp_path, table) -> str:
    path = tmp_path / "cameras.json"
    path.write_text(table if isinstance(table, str) else json.dumps(table))
    return str(path)


def test_a_quarter_turn_about_z():
    turn = np.asarray([QUARTER, 0, 0, QUARTER])
    np.testing.assert_allclose(
        cameras.rotate(np.asarray([[1.0, 0, 0], [0, 1, 5]]), turn),
        [[0, 1, 0], [-1, 0, 5]],
        atol=1e-15,
    )
    # One metre along y from the camera at (1, 2, 3), whose x axis is the world's y.
    point = np.asarray([1.0, 3.0, 3.0])
    np.testing.assert_allclose(
        cameras.world_to_camera(point, turn, np.asarray([1.0, 2, 3])), [1, 0, 0], atol=1e-15
    )
    np.testing.assert_allclose(
        cameras.camera_to_world(np.asarray([1.0, 0, 0]), turn, np.asarray([1.0, 2, 3])),
        point,
        atol=1e-15,
    )


def test_projection_by_hand(tmp_path):
    (camera,) = cameras.read_cameras(write(tmp_path, {"S1": [CAMERA]}))["S1"]
    x, y = 0.2, -0.1
    square = x * x + y * y
    factor = 1 + 0.1 * square + 0.2 * square**2 + 0.3 * square**3 + 0.01 * x + 0.02 * y
    expected = [
        1100 * (x * factor + 0.01 * square) + 510,
        1200 * (y * factor + 0.02 * square) + 390,
    ]
    point = np.asarray([[0.8, -0.4, 4.0]])
    np.testing.assert_allclose(
        cameras.project_to_2d(point, camera.intrinsic), [expected], rtol=1e-12
    )
    np.testing.assert_allclose(
        cameras.project_to_2d_linear(point, camera.intrinsic),
        [[1100 * x + 510, 1200 * y + 390]],
        rtol=1e-12,
    )
    screen = cameras.project_to_2d(point, cameras.screen_intrinsic(camera))
    np.testing.assert_allclose(screen, np.asarray([expected]) / 500 - [1, 0.8], rtol=1e-12)


def test_points_far_outside_the_picture_are_clamped():
    plain = np.asarray([2.0, 2, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(cameras.project_to_2d(np.asarray([9.0, -9, 1]), plain), [2, -2])


@pytest.mark.parametrize("seed", range(4))
def test_matrix_to_quaternion_and_back(seed):
    # A half turn (w = 0) is the hard case.
    quaternion = np.random.default_rng(seed).normal(size=4) * [seed > 1, 1, 1, 1]
    quaternion *= np.sign(quaternion[0] or 1) / np.linalg.norm(quaternion)
    matrix = cameras.rotate(np.eye(3), quaternion).T
    found = cameras.quaternion_from_matrix(matrix)
    np.testing.assert_allclose(abs(found @ quaternion), 1, atol=1e-12)


def test_all_layouts_are_the_same_camera(tmp_path):
    (camera,) = cameras.read_cameras(write(tmp_path, {"S1": [CAMERA], "note": "text"}))["S1"]
    common = {
        "w": 1000,
        "h": 800,
        "f": [[1100], [1200]],
        "c": [[510], [390]],
        "k": [[0.1], [0.2], [0.3]],
        "p": [[0.01], [0.02]],
    }
    axes = cameras.rotate(np.eye(3), camera.orientation).T  # columns: camera axes in the world
    others = {
        "S1/a": common | {"R": axes.tolist(), "T": [[1], [2], [3]]},
        "S1/b": common | {"R": axes.T.tolist(), "t": (-axes.T @ [1, 2, 3]).tolist()},
        "S1/c": common
        | {"orientation": camera.orientation.tolist(), "translation_mm": [1000, 2000, 3000]},
    }
    read = cameras.read_cameras(write(tmp_path, others))["S1"]
    assert len(read) == 3
    for other in read:
        assert (other.width, other.height) == (1000, 800)
        np.testing.assert_allclose(other.intrinsic, camera.intrinsic, rtol=1e-12)
        np.testing.assert_allclose(other.orientation, camera.orientation, atol=1e-12)
        np.testing.assert_allclose(other.translation, camera.translation, atol=1e-12)


def test_the_table_of_human36m():
    table = cameras.read_cameras(cameras.H36M_TABLE)
    assert list(table) == ["S1", "S5", "S6", "S7", "S8", "S9", "S11"]
    for placed in table.values():
        assert [(camera.width, camera.height) for camera in placed] == [
            (1000, 1002),
            (1000, 1000),
            (1000, 1000),
            (1000, 1002),
        ]
        for camera in placed:
            np.testing.assert_allclose(np.linalg.norm(camera.orientation), 1, atol=1e-6)
            middle = cameras.world_to_camera(
                np.asarray([0.0, 0, 1]), camera.orientation, camera.translation
            )
            # It looks at the middle of the studio.
            assert 3.5 < middle[2] < 6.5 and abs(middle[:2]).max() < 1
    np.testing.assert_array_equal(
        table["S11"][3].translation, [-1.59073804, -3.85416895, 1.57801758]
    )


def without(key):
    return {"S1": [{name: value for name, value in CAMERA.items() if name != key}]}


@pytest.mark.parametrize(
    "table, sentence",
    [
        ("{not json", "cannot be read as JSON"),
        ("[1, 2]", "is a list"),
        ({"note": "text"}, "holds no camera"),
        ({"S1": [7]}, "'S1', camera 0 is a int"),
        (without("center"), "'S1', camera 0 lacks center or c"),
        (without("res_w"), "lacks res_w or w"),
        (without("orientation"), "lacks orientation or R"),
        (without("translation"), "lacks translation"),
        ({"S1": [CAMERA | {"center": [1, 2, 3]}]}, "center must be 2 finite numbers"),
        ({"S1": [CAMERA | {"center": ["a", "b"]}]}, "center must be 2 finite numbers"),
        (
            {"S1": [CAMERA | {"translation": [1, float("nan"), 2]}]},
            "translation must be 3 finite numbers",
        ),
        (
            {"S1": [CAMERA, CAMERA | {"orientation": [1, 1, 0, 0]}]},
            "'S1', camera 1: orientation .* not a unit quaternion",
        ),
        ({"S1": [CAMERA | {"translation": [1841.1, 4955.3, 1563.4]}]}, "millimetres"),
        ({"S1": [CAMERA | {"focal_length": [0, 1]}]}, "positive"),
        (
            {
                "S1/a": {
                    **{k: v for k, v in CAMERA.items() if k != "orientation"},
                    "R": [[1, 0, 0]] * 3,
                    "T": [0, 0, 0],
                }
            },
            "not a rotation",
        ),
    ],
)
def test_wrong_tables_get_a_sentence(tmp_path, table, sentence):
    with pytest.raises(UserError, match=sentence):
        cameras.read_cameras(write(tmp_path, table))


def test_a_missing_table_gets_a_sentence(tmp_path):
    with pytest.raises(UserError, match="nowhere.json' does not exist"):
        cameras.read_cameras(str(tmp_path / "nowhere.json"))
