"""A trained network is exported, checked on its records, and scored again as a file."""

import json

import numpy as np
import pytest
from launching import launch_main

import kdpose_jax
from kdpose_jax.experiment import configs


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory):
    """The folder with the exported student of the finished run."""
    workdir, _ = finished
    out = tmp_path_factory.mktemp("exported")
    student = str(workdir / "student")
    assert launch_main("--mode=export", f"--checkpoint={student}", f"--out={out}") == 0
    return out


def test_an_export_is_checked_on_the_runs_own_records(finished, exported):
    workdir, _ = finished
    run = json.loads((workdir / "results.json").read_text())["networks"]
    found = json.loads((exported / "student.json").read_text())

    def plain(name):  # docs/methods/lifting.md: the mean over actions, without flip
        return run[name]["scores"]["plain"]["compat"]["mean_over_actions"]["mpjpe_mm"]

    entry, speed = found["artifacts"]["student.stablehlo"], found["speed"]
    assert entry["largest_difference"] < 1e-4
    np.testing.assert_allclose(entry["score"], plain("student"), rtol=1e-4)
    np.testing.assert_allclose(speed["network"]["score"], plain("student"), rtol=1e-4)
    assert speed["teacher"]["score"] == plain("teacher") and speed["metric"] == "mpjpe_mm"
    assert min(speed[name]["milliseconds"] for name in ("network", "teacher")) > 0
    assert "examples of the test split" in speed["words"] and "random" not in speed["words"]
    assert found["training"]["data"]["fps"] == 50.0
    assert found["training"]["reported"]["scores"] == run["student"]["table"]
    text = (exported / "student.md").read_text()
    assert "these numbers say nothing about any real data set" in text
    assert f"{entry['score']:.4g}" in text


def test_an_artifact_is_scored_as_its_network(finished, exported, records, tmp_path):
    workdir, _ = finished
    file = exported / "student.stablehlo"
    words = ("--mode=eval", f"--artifact={file}", f"--records={records}", f"--workdir={tmp_path}")
    assert launch_main(*words) == 0
    network = json.loads((workdir / "results.json").read_text())["networks"]["student"]
    found = json.loads((tmp_path / "eval" / "results.json").read_text())["networks"]
    (record,) = found.values()
    wanted = configs.flatten(network["scores"]["plain"])
    scores = configs.flatten(record["scores"]["plain"])
    assert set(wanted) == set(scores)
    for name, value in wanted.items():
        np.testing.assert_allclose(scores[name], value, rtol=1e-3, err_msg=name)
    assert record["loaded"] == "exported as stablehlo"
    for name in ("parameters", "macs_linear_per_output", "macs_total_per_output"):
        assert record["cost"][name] == network["cost"][name]


def test_a_run_is_loaded_from_its_folder_and_its_file(finished, exported):
    workdir, _ = finished
    network = kdpose_jax.load(workdir / "student")
    file = kdpose_jax.load(exported / "student.stablehlo")
    assert file.fingerprint == network.fingerprint
    video = np.random.default_rng(0).uniform(100, 900, size=(1, 17, 2)) + np.zeros((40, 1, 1))
    np.testing.assert_allclose(
        file(video, size=(1000, 1000)), network(video, size=(1000, 1000)), atol=1e-5
    )
