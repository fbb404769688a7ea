"""Intervals, the metrics log and the progress line."""

import json
import math
import resource

import numpy as np
import pytest

from kdpose_jax.data import schema
from kdpose_jax.train.logs import MetricsLog, Progress, mean_metrics

tf = schema.load_tensorflow()


def test_metrics_are_divided_once():
    collected = [
        {"loss": (np.float32(6.0), np.float32(2))},
        {"loss": (np.float32(1.0), np.float32(8))},
    ]
    assert mean_metrics(collected) == {"loss": pytest.approx(0.7)}  # not the mean of 3 and 0.125
    assert mean_metrics([]) == {}


def steps_in(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_log_goes_on_without_gap_or_double(tmp_path):
    log = MetricsLog(str(tmp_path), first_step=0, writes=True)
    for step in (5, 10, 15):
        log.write(step, {"loss": float(step), "bad": math.nan})
    log.close()
    path = tmp_path / "metrics.jsonl"
    assert json.loads(path.read_text().splitlines()[0]) == {"step": 5, "loss": 5.0, "bad": None}
    with path.open("a") as file:
        file.write('{"step": 17, "lo')  # a kill in the middle of a line
    log = MetricsLog(
        str(tmp_path), first_step=10, writes=True
    )  # the last checkpoint was of step 10
    log.write(15, {"loss": 1.5})
    log.close()
    assert steps_in(path) == [5, 10, 15]
    assert json.loads(path.read_text().splitlines()[-1])["loss"] == 1.5


def test_tensorboard_hides_what_is_written_again(tmp_path):
    for first_step in (0, 2):
        log = MetricsLog(str(tmp_path), first_step=first_step, writes=True)
        for step in (1, 2, 3):
            log.write(step, {"loss": float(step)})
        log.close()
    events = []
    for path in sorted((tmp_path / "tensorboard").iterdir()):
        content = path.read_bytes()
        while content:
            length = int.from_bytes(content[:8], "little")
            events.append(tf.compat.v1.Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    starts = [event.step for event in events if event.HasField("session_log")]
    assert starts == [1, 3]  # TensorBoard drops what earlier files have from these steps on
    assert [event.step for event in events if event.HasField("summary")] == [1, 2, 3, 1, 2, 3]


def test_full_disk_raises_and_does_not_hang(tmp_path):
    log = MetricsLog(str(tmp_path), first_step=0, writes=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            for step in range(1, 1000):
                log.write(step, {"loss": float(step)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.close()
    again = MetricsLog(str(tmp_path), first_step=5, writes=True)
    again.close()
    assert steps_in(tmp_path / "metrics.jsonl") == [1, 2, 3, 4, 5]


def test_only_one_process_writes(tmp_path):
    log = MetricsLog(str(tmp_path), first_step=0, writes=False)
    log.write(1, {"loss": 1.0})
    log.close()
    assert not list(tmp_path.iterdir())


def test_progress_line_says_rate_terms_and_time_left(monkeypatch):
    clock = iter([0.0, 10.0, 10.0])
    monkeypatch.setattr("kdpose_jax.train.logs.time.perf_counter", lambda: next(clock))
    shown = []
    progress = Progress(
        "student",
        first_step=100,
        steps=300,
        steps_per_epoch=50.0,
        unit=("frames", 27),
        shown=("loss",),
        show=shown.append,
    )
    rates = progress.line(200, {"loss": 0.25, "task": 1.0}, waited=0.5)
    assert rates == {"frames_per_second": 270.0, "data_wait_seconds": 0.5, "interval_seconds": 10.0}
    assert shown == ["student  step 200/300  epoch 4.00  270 frames/s  loss 0.25  0:10 left"]
