"""Runs launch.py inside the test process, as a user would from a shell."""

import sys
from unittest import mock

from absl.testing import flagsaver

import launch

TINY = (
    "--config.data.frames=9",
    "--config.teacher.network.width=8",
    "--config.teacher.network.depth=2",
    "--config.teacher.network.heads=2",
    "--config.student.network.width=8",
    "--config.student.network.depth=1",
    "--config.student.network.heads=2",
    "--config.teacher.train.batch=8",
    "--config.student.train.batch=8",
    "--config.teacher.train.epochs=0.2",
    "--config.student.train.epochs=0.2",
    "--config.teacher.train.save_every_steps=5",
    "--config.student.train.save_every_steps=5",
    "--config.teacher.train.log_every_steps=5",
    "--config.student.train.log_every_steps=5",
    "--config.teacher.train.evaluate_every_epochs=0.1",
    "--config.student.train.evaluate_every_epochs=0.1",
    "--config.eval.batch=16",
    "--config.eval.latency_runs=1",
    "--config.eval.latency_warmup=1",
    "--config.eval.latency_batches=(1,)",
)


def launch_main(*arguments: str) -> int:
    """Exit code of `python launch.py ARGUMENTS`; what it prints is captured by pytest's `capsys`."""
    words = ["launch.py", *arguments]
    with flagsaver.flagsaver(), mock.patch.object(sys, "argv", words):
        return launch.main(words)
