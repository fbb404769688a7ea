"""COCO's annotation convention against HRNet's coco.py (`db_*` of `coco_oks_ap*`)."""

import json

import numpy as np
import pytest
from golden import golden_files

from data_prep import coco, coco_annotations
from kdpose_jax.skeletons import COCO_17


@pytest.mark.parametrize("path", golden_files("coco_oks_ap*"))
def test_persons(path, monkeypatch, tmp_path):
    with np.load(path) as golden:
        data = {
            key.removeprefix("input/"): golden[key]
            for key in golden.files
            if key.startswith("input/")
        }
        expected = {
            name: golden[f"output/db_{name}"]
            for name in ("center", "scale", "joints", "joints_vis")
        }
        width, height = json.loads(str(golden["config"][0]))["config"]["image_size"]
    monkeypatch.setattr(coco, "ASPECT", width / height)
    sizes = zip(data["image_id"].tolist(), data["image_size"].tolist(), strict=True)
    images = {
        number: {"file_name": f"{number}.jpg", "width": size[0], "height": size[1]}
        for number, size in sizes
    }
    entries = [
        {
            "id": int(data["gt_id"][i]),
            "image_id": int(data["gt_image_id"][i]),
            "iscrowd": int(data["gt_iscrowd"][i]),
            "area": float(data["gt_area"][i]),
            "bbox": data["gt_bbox"][i].tolist(),
            "keypoints": data["gt_keypoints"][i].ravel().tolist(),
        }
        for i in range(len(data["gt_id"]))
    ]
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.joints)}
    content = {
        "images": [{"id": number} | image for number, image in images.items()],
        "annotations": [{"category_id": 1} | entry for entry in entries],
        "categories": [category],
    }
    path = tmp_path / "file.json"
    path.write_text(json.dumps(content))
    annotated = coco_annotations.read_annotations(str(path), "--source", generated=False)
    persons = coco.read_persons(annotated, "test", [], [])
    assert len(persons) == len(expected["center"])
    visible = expected["joints_vis"][..., 0] > 0
    ours = {
        name: np.stack([getattr(person, name) for person in persons])
        for name in ("center", "scale", "joints", "visible")
    }
    np.testing.assert_allclose(ours["center"], expected["center"], rtol=1e-6)
    np.testing.assert_allclose(ours["scale"], expected["scale"], rtol=1e-6)
    np.testing.assert_array_equal(ours["visible"], visible)
    np.testing.assert_allclose(
        ours["joints"], expected["joints"][..., :2] * visible[..., None], rtol=1e-6
    )
