"""Runs several connected CPU processes on this machine: `from pod import run_pod`."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from repository import REPOSITORY

SECONDS = 540


def free_port() -> int:
    """Returns a port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def run_pod(
    command: Sequence[str],
    processes: int,
    meanwhile: Callable[[list[subprocess.Popen]], None] | None = None,
) -> list[tuple[int, str, str]]:
    """Runs `python COMMAND` as connected processes with one device each.

    They learn about each other as launch.py's users would tell them.

    Args:
      command: the command's words.
      processes: number of processes.
      meanwhile: called with the processes while they run.

    Returns:
      Exit code, output and errors of every process.
    """
    told = {
        "KDPOSE_COORDINATOR": f"localhost:{free_port()}",
        "KDPOSE_PROCESSES": str(processes),
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}",
    }
    started = [
        subprocess.Popen(
            [sys.executable, *command],
            cwd=REPOSITORY,
            env={**os.environ, **told, "KDPOSE_PROCESS": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    try:
        if meanwhile is not None:
            meanwhile(started)
        deadline = time.monotonic() + SECONDS
        outputs = [
            process.communicate(timeout=max(1, deadline - time.monotonic())) for process in started
        ]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *output) for process, output in zip(started, outputs, strict=True)]
