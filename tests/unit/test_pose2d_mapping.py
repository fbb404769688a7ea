"""From a photograph through the reader's crops and back.

What a network finds on a crop lands where it is on the photograph.
"""

import dataclasses

import cv2
import numpy as np
import pytest
from people import people

from kdpose_jax.data import persons as person_records
from kdpose_jax.evaluate import crop_predictions
from kdpose_jax.skeletons import COCO_17

WIDTH, HEIGHT = 256, 200


@pytest.fixture(scope="module")
def persons():
    """Persons on a photograph whose red is the column and whose green is the row of every pixel,
    cut out to odd regions.
    """
    generator = np.random.default_rng(0)
    count = 12
    center = generator.uniform((110, 85), (145, 115), (count, 2)).astype(np.float32)
    scale = np.repeat(generator.uniform(0.4, 0.75, (count, 1)), 2, axis=1).astype(np.float32)
    photograph = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    photograph[..., 0], photograph[..., 1] = np.arange(WIDTH), np.arange(HEIGHT)[:, None]
    low = np.floor(center - 100 * scale).astype(np.int32) - generator.integers(
        1, 8, (count, 2), dtype=np.int32
    )
    high = np.ceil(center + 100 * scale).astype(np.int32) + 3
    joints = generator.uniform(20, 180, (count, 17, 2))
    found = people(
        COCO_17,
        joints,
        generator.random((count, 17)) < 0.8,
        center=center,
        scale=scale,
        region=np.concatenate([low, high - low], axis=1),
        photograph=np.tile(np.array([WIDTH, HEIGHT], np.int32), (count, 1)),
    )
    regions = (photograph[y : y + h, x : x + w, ::-1] for x, y, w, h in found.region.tolist())
    return dataclasses.replace(
        found, image=tuple(cv2.imencode(".png", region)[1].ravel() for region in regions)
    )


@pytest.mark.parametrize("side", [32, 64, 256])
def test_labels_come_back(persons, side):
    """The reader's labels, taken for predictions, are the annotated joints to a hundredth of a
    pixel.
    """
    source = person_records.open_evaluation(persons, views={"image": side})
    chosen = np.array([7, 0, 3])
    batch = source.gather(chosen)
    prediction = {"joints": batch["joints"], "scores": np.ones(batch["joints"].shape[:2])}
    back = crop_predictions.photograph_joints(prediction, persons, chosen, side)
    visible = persons.visible[chosen]
    assert visible.sum() > 20
    np.testing.assert_allclose(back[visible], persons.joints[chosen][visible], atol=0.01)


@pytest.mark.parametrize("side", [32, 64, 256])
def test_pixels_come_back(persons, side):
    """The colour of a crop's pixel says where on the photograph it was sampled, rounded to whole
    pixels.
    """
    source = person_records.open_evaluation(persons, views={"image": side})
    everybody = np.arange(len(source))
    pictures = source.gather(everybody)["image"]  # [N, S, S, 3]
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1)[
        :: side // 32, :: side // 32
    ].reshape(-1, 2)
    differences = []
    for start in range(0, len(grid), 17):
        pixels = np.resize(grid[start : start + 17], (17, 2))
        prediction = {
            "joints": np.tile(pixels.astype(np.float64), (len(source), 1, 1)),
            "scores": np.ones((len(source), 17)),
        }
        found = crop_predictions.photograph_joints(prediction, persons, everybody, side)
        seen = pictures[:, pixels[:, 1], pixels[:, 0], :2].astype(np.float64)
        differences.append(found - seen)
    differences = np.concatenate(differences, axis=1)  # [N, P, 2]
    assert np.abs(differences).max() <= 0.5 + 1e-3
    assert np.abs(differences.mean((0, 1))).max() < 0.01
