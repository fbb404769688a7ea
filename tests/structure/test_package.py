"""The installed package: it works without the checkout around it, and says what it is."""

import subprocess
import sys

from repository import REPOSITORY

import kdpose_jax


def installed(tmp_path):
    """The package as a wheel lays it out: `configs`, `data_prep` and `samples` inside it."""
    site = tmp_path / "site"
    (site / "kdpose_jax" / "bundled").mkdir(parents=True)
    for name in (REPOSITORY / "kdpose_jax").iterdir():
        (site / "kdpose_jax" / name.name).symlink_to(name)
    for name in ("configs", "data_prep", "samples"):
        (site / "kdpose_jax" / "bundled" / name).symlink_to(REPOSITORY / name)
    (tmp_path / "empty").mkdir()
    return site


def kdpose(tmp_path, site, *words):
    """What `kdpose WORDS` does in an empty folder."""
    return subprocess.run(
        [sys.executable, "-m", "kdpose_jax.command", *words],
        cwd=tmp_path / "empty",
        env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_presets_and_converters_are_found_without_a_checkout(tmp_path):
    site = installed(tmp_path)
    done = kdpose(tmp_path, site, "--version")
    assert (done.returncode, done.stdout) == (0, f"kdpose_jax {kdpose_jax.__version__}\n")
    for words, code, said in (
        ((), 2, "kdpose needs a command: use train, eval, predict, export, convert, study"),
        (("trian",), 2, "'trian' is not a command of kdpose"),
        (("train", "--config", "scjd", "--config.seed=-1"), 2, "seed is -1: it must be at least 0"),
        (("train", "--config", "scdj"), 2, "did you mean --config scjd?"),
        (("study", "nothing"), 2, "use one of cdkd_audit, distillers"),
        (("convert", "synthetic", "--out", "x", "--frames", "0"), 2, "--frames is '0'"),
        (("convert", "mocap", "--out", "x"), 2, "(options: `kdpose convert mocap --help`)"),
    ):
        done = kdpose(tmp_path, site, *words)
        assert done.returncode == code and said in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1
    words = "--train-subjects 1 --test-subjects 1 --takes 1 --frames 30 --workers 1"
    made = kdpose(tmp_path, site, "convert", "synthetic", "--out", "x", *words.split())
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "empty" / "x" / "metadata.json").is_file()


def test_the_sample_clip_is_found_without_a_checkout(tmp_path):
    program = "from kdpose_jax import presets; presets.bring_in(); "
    program += "print(*map(presets.sample, ('samples/two_people.npz', 'samples/none.npz', 'a')))"
    site = installed(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "empty",
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = site / "kdpose_jax" / "bundled" / "samples" / "two_people.npz"
    assert done.stdout.split() == [str(found), "samples/none.npz", "a"], done.stderr


def test_the_package_does_not_need_its_converters():
    """Nothing in it imports them: an entry point names the module."""
    program = "import sys; import kdpose_jax.experiment.pipeline, kdpose_jax.program; "
    program += "sys.exit(any(name.split('.')[0] == 'data_prep' for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, timeout=120)
    assert done.returncode == 0
