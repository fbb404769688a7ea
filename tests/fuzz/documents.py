"""The JSON files: annotations, tables, and what runs and data sets say of themselves."""

import contextlib
import dataclasses
import functools
import json
import pathlib
from typing import Any

from tests.fuzz.reader import Reader, as_json, on_file


def mpii_annotations(folder: pathlib.Path) -> Reader:
    from data_prep import json_values, mpii
    from data_prep.photographs import Photograph

    entry = {
        "image": "a.jpg",
        "center": [5.0, 4.0],
        "scale": 0.03,
        "joints": [[4, 3]] * 16,
        "joints_vis": [1] * 15 + [0],
    }
    picture = Photograph("a.jpg", "a.jpg", 8, 6, "JPEG", "RGB", 6)

    def read(path: str) -> None:
        entries = json_values.read_json(path, "--test-annotations")
        persons = mpii.read_persons(entries, path)
        fits = mpii._fit(persons)
        for one in {person.file for person in persons}:
            fits(dataclasses.replace(picture, name=one))
        mpii._check_boxes([(person, picture) for person in persons], entries, path)

    return Reader(
        on_file(folder / "valid.json", read), as_json([[entry], [entry, entry]]), is_json=True
    )


def _coco() -> dict[str, Any]:
    person = {
        "id": 7,
        "image_id": 1,
        "category_id": 1,
        "iscrowd": 0,
        "area": 9.0,
        "bbox": [1, 1, 5, 5],
        "num_keypoints": 17,
        "keypoints": [3, 4, 2] * 17,
    }
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 8, "height": 8}],
        "annotations": [person, {**person, "id": 8, "iscrowd": 1}],
    }


def coco_annotations(folder: pathlib.Path) -> Reader:
    from data_prep import coco, coco_annotations

    def read(path: str) -> None:
        annotated = coco_annotations.read_annotations(path, "--test-annotations", False)
        coco.read_persons(annotated, "test", [], [])
        coco_annotations.for_evaluation(annotated, set())

    names = [*coco_annotations.COCO_17.joints[::-1], "neck"]
    table = [{"id": 1, "name": "dog"}, {"id": "3", "name": "Person", "keypoints": names}]
    person = {
        "image_id": "1",
        "category_id": 3.0,
        "bbox": [1, 1, 5, 5],
        "keypoints": [3, 4, 2] * 18,
    }
    described = _coco() | {
        "annotations": [person, person | {"keypoints": None, "iscrowd": True}],
        "categories": table,
    }
    return Reader(
        on_file(folder / "person_keypoints.json", read), as_json([_coco(), described]), is_json=True
    )


def coco_evaluation(folder: pathlib.Path) -> Reader:
    from kdpose_jax.evaluate.metrics import coco_ap

    return Reader(
        on_file(folder / "test_annotations.json", coco_ap.read_annotations),
        as_json([_coco()]),
        is_json=True,
    )


def detections(folder: pathlib.Path) -> Reader:
    from data_prep import coco_annotations, coco_detections, json_values

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "person_keypoints.json").write_text(json.dumps(_coco()))
    annotated = coco_annotations.read_annotations(
        str(folder / "person_keypoints.json"), "--test-annotations", False
    )
    entry = {"image_id": 1, "category_id": 1, "bbox": [1.0, 1.0, 5.0, 5.0], "score": 0.5}

    def read(path: str) -> None:
        coco_detections.read_detections(
            json_values.read_json(path, "--detections"), annotated, path, [], []
        )

    seeds = [
        [entry],
        [entry, {**entry, "category_id": 2}],
        [{**entry, "image_id": "a.jpg"}, {**entry, "image_id": "1"}],
    ]
    return Reader(on_file(folder / "detections.json", read), as_json(seeds), is_json=True)


def cameras(folder: pathlib.Path) -> Reader:
    from data_prep import cameras

    lens = {
        "res_w": 100,
        "res_h": 90,
        "focal_length": [9.0, 9.0],
        "center": [5.0, 4.0],
        "radial_distortion": [0.1, 0.0, 0.0],
    }
    quaternion = {**lens, "orientation": [1.0, 0.0, 0.0, 0.0], "translation": [1.0, 2.0, 3.0]}
    matrix = {
        "w": 9,
        "h": 9,
        "f": [9, 9],
        "c": [4, 4],
        "p": [0, 0],
        "R": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        "t": [0, 1, 2],
    }
    seeds = as_json(
        [{"note": "x", "S1": [quaternion]}, {"S1/1": matrix, "S1/2": {**matrix, "T": [1, 2, 3]}}]
    )
    return Reader(on_file(folder / "cameras.json", cameras.read_cameras), seeds, is_json=True)


def joint_map(folder: pathlib.Path) -> Reader:
    """A table of joints, and a figure that it fits."""
    from data_prep.mocap import bvh as reader
    from data_prep.mocap import skeletons
    from tests.support import motion_files

    text, _ = motion_files.bvh(seed=0, frames=2, fps=60, unit=0.01)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.bvh").write_text(text)
    clip = reader.read(str(folder / "a.bvh"))

    def read(path: str) -> None:
        maps = skeletons.read_maps(path)
        skeletons.to_h36m("a.bvh", clip, skeletons.choose("a.bvh", clip, maps), 0.0, "")

    with open(skeletons.SHIPPED, encoding="utf-8") as file:
        entry = json.load(file)["cmu_bvh"] | {"metres": 0.01}
    moved = entry | {
        "up": "z",
        "joints": entry["joints"] | {"head": {"joint": "Head", "offset": [0, 1, 2.5]}},
    }
    return Reader(
        on_file(folder / "map.json", read),
        as_json([{"note": "x", "a": entry}, {"a": moved}]),
        is_json=True,
    )


def converter_json(folder: pathlib.Path) -> Reader:
    """The three small files by which converters know a set's subjects, and an output folder that
    they have begun.
    """
    from data_prep import records
    from data_prep.human36m.files import subjects_of_meta
    from data_prep.people import generate
    from kdpose_jax.errors import UserError

    configs = {"layout": "mpii", "seed": 1}
    out = folder / "out"
    out.mkdir(parents=True, exist_ok=True)

    def read(content: bytes) -> None:
        for name in ("metadata.json", generate.SETTINGS_FILE):
            (out / name).write_bytes(content)
        for check in (
            lambda: subjects_of_meta(str(out / "metadata.json"), "test"),
            lambda: subjects_of_meta(str(out / "metadata.json"), "val"),
            lambda: records._is_finished(str(out), {"kind": "k", "settings": configs}),
            lambda: generate._is_finished(str(out), configs),
        ):
            try:
                check()
            except UserError:
                pass

    seeds = [
        {"test_subjects": ["S1"]},
        {"subjects": {"S1": {"split": "test"}, "S2": {"split": "val"}}},
        {"kind": "k", "settings": configs, "finished": True},
    ]
    return Reader(read, as_json(seeds), is_json=True)


def metadata(folder: pathlib.Path) -> Reader:
    from kdpose_jax.data import schema
    from kdpose_jax.errors import UserError

    def read(path: str) -> None:
        for kind in schema.KINDS.values():
            with contextlib.suppress(UserError):
                use_metadata(schema.read_metadata(str(folder), kind))

    shared = {
        "schema_version": 1,
        "keypoints": "gt",
        "generated": True,
        "sources": {"a": "00"},
        "left_out": ["x"],
    }
    splits = {
        name: {
            "records": 1,
            "frames": 1,
            "shards": {"shard": 1},
            "subjects": ["S1"],
            "rule": "some",
        }
        for name in ("train", "val", "test")
    }
    reach = {
        name: {"scale_factor": 0.25, "rotation_factor": 30.0, "half_body": False} for name in splits
    }
    seeds = [
        {
            **shared,
            "kind": "pose_sequences",
            "skeleton": "h36m_17",
            "fps": 50,
            "settings": {"fps": 50},
            "splits": splits,
            "activities": {"S1": [[2, 1]]},
        },
        {
            **shared,
            "kind": "person_images",
            "skeleton": "mpii_16",
            "notes": [],
            "files": {"shard": "00"},
            "settings": {"reach": reach},
            "splits": splits,
        },
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shard").write_bytes(b"")
    return Reader(on_file(folder / "metadata.json", read), as_json(seeds), is_json=True)


def use_metadata(metadata: dict[str, Any]) -> None:
    """What the code does with metadata that was accepted."""
    from kdpose_jax.codecs.crops import Reach
    from kdpose_jax.data import schema
    from kdpose_jax.experiment import configs
    from kdpose_jax.skeletons import SKELETONS

    assert SKELETONS[metadata["skeleton"]].num_joints
    configs.data_identity(metadata)
    bool(metadata["generated"]), ", ".join(metadata["left_out"]), str(metadata["keypoints"])
    assert all(
        label + frames >= 0
        for runs in metadata.get("activities", {}).values()
        for label, frames in runs
    )
    for name, split in metadata["splits"].items():
        f"{split['records']:,}", sum(count + 1 for count in split["shards"].values())
        if metadata["kind"] == schema.PERSONS.name:
            reach = metadata["settings"]["reach"][name]
            Reach(reach["scale_factor"], reach["rotation_factor"], reach["half_body"]).covers(
                Reach(0.1, 1.0, True)
            )
        else:
            f"{split['frames']:,}"


def config_json(folder: pathlib.Path) -> Reader:
    """The two files by which a work directory knows its run."""
    from etils import epath

    from configs import scjd
    from kdpose_jax.errors import UserError
    from kdpose_jax.experiment import configs

    config = scjd.get_config()
    metadata = {name: 1 for name in configs.DATA_IDENTITY}
    folder.mkdir(parents=True, exist_ok=True)

    def read(content: bytes) -> None:
        for name in ("config.json", "data.json"):
            (folder / name).write_bytes(content)
        try:
            configs.refuse_other_run(epath.Path(folder), config)
        except UserError:
            pass
        configs.holds_other_data(epath.Path(folder), metadata)

    whole = configs.as_dict(config)
    seeds = [
        metadata,
        {
            "seed": 0,
            "name": whole["name"],
            "data": {**whole["data"], "selection": "x"},
            "baseline": True,
        },
    ]
    return Reader(read, as_json(seeds), is_json=True)


def results_json(folder: pathlib.Path) -> Reader:
    """results.json and metrics.jsonl, which a resumed run also cuts."""
    from etils import epath

    from kdpose_jax.errors import UserError
    from kdpose_jax.report import results
    from kdpose_jax.train import logs

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        for use in (
            results.read_results,
            results.read_metrics,
            lambda path: logs._lines_until(epath.Path(path), 3),
        ):
            try:
                use(path)
            except UserError:
                pass

    seeds = as_json(
        [
            {
                "schema_version": 1,
                "fingerprint": {},
                "networks": {"student": {"scores": {"mpjpe": 1.0}}},
            }
        ]
    )
    return Reader(
        read,
        [*seeds, b'{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n{"step": 2, "sco'],
        is_json=True,
    )


def checkpoint_json(folder: pathlib.Path) -> Reader:
    """The JSON files of a step.

    Its meta, as a run, a teacher and the best step are found by it, and its scores.
    """
    from configs import scjd
    from kdpose_jax.checkpoint import loading, stored
    from kdpose_jax.errors import UserError
    from kdpose_jax.experiment import configs, stored_runs

    step = folder / "checkpoints" / "3"
    for item in (stored.STATE, stored.META, stored.METRICS):
        (step / item).mkdir(parents=True, exist_ok=True)

    def read(content: bytes) -> None:
        meta, _, metrics = content.partition(b"\n")
        (step / stored.META / "metadata").write_bytes(meta)
        (step / stored.METRICS / stored.METRICS).write_bytes(metrics)
        for use in (
            lambda: stored_runs.run_of_checkpoint(str(step)),
            lambda: loading._best_step(step.parent, [3]),
        ):
            try:
                use()
            except UserError:
                pass

    config = configs.as_dict(scjd.get_config())
    kept = {key: config[key] for key in ("task", "method")}
    kept |= {
        "teacher": {"method": "supervised", "pretrained": ""},
        "student": {"pretrained": ""},
        "data": {"reader": "sequences"},
    }
    kept |= {"eval": {"protocol": "h36m"}, "gradient_report": {}}
    meta = {"run": {"config": kept, "teachers": {}}, "ranking": {"metric": "mpjpe", "lowest": True}}
    return Reader(
        read,
        [json.dumps(meta).encode() + b"\n" + json.dumps({"mpjpe": 3.5}).encode()],
        is_json=True,
    )


def keypoints_json(folder: pathlib.Path) -> Reader:
    """Detectors' keypoints: whatever the file looks like, every reader of JSON gets it too."""
    from tests.fuzz.keypoints import read_all, scene

    formats = ("openpose", "alphapose", "mmpose", "ultralytics", "coco", "mediapipe")
    read = functools.partial(read_all, formats=formats)
    flat, points = scene(17).reshape(-1).tolist(), scene(17)
    entry = {"image_id": "1.jpg", "category_id": 1, "keypoints": flat, "score": 2.0, "idx": [1.0]}
    person = {"keypoints": points[:, :2].tolist(), "keypoint_scores": [0.5] * 17, "track_id": 3}
    frames = [{"frame_id": n, "instances": [person, person]} for n in (0, 2)]
    x, y = points[:, 0].tolist(), points[:, 1].tolist()
    boxes = [{"name": "person", "keypoints": {"x": x, "y": y, "visible": [0.5] * 17}}]
    marks = [{"x": 0.5, "y": 0.25, "z": 0.0, "visibility": 0.9}] * 33
    people = [{"person_id": [-1], "pose_keypoints_2d": scene(25).reshape(-1).tolist()}]
    images = [{"id": 1, "file_name": "a_1.jpg", "width": 64, "height": 48}]
    annotations = [{"image_id": 1, "category_id": 1, "keypoints": flat, "track_id": 2}]
    names = {str(index): f"joint{index}" for index in range(16)} | {"16": "nose"}
    seeds = [
        [entry, entry | {"image_id": "2.jpg", "idx": 2}],
        {"0.jpg": {"bodies": [{"joints": scene(18).reshape(-1).tolist()}]}},
        {"version": 1.3, "people": people},
        frames,
        {"meta_info": {"keypoint_id2name": names}, "instance_info": frames},
        [boxes, []],
        {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]},
        [{"frame": 1, "pose_landmarks": [marks]}],
    ]
    return Reader(on_file(folder / "a.json", read), as_json(seeds), is_json=True)
