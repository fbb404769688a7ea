"""The first question to jax, in processes of their own.

What the environment asks for and what is said where it is not there.
"""

import os
import subprocess
import sys

import pytest

from kdpose_jax.errors import UserError
from kdpose_jax.train import devices

ASK = """
import sys
from kdpose_jax.errors import UserError
from kdpose_jax.train import devices
try:
    devices.check_environment()
    devices.find(sys.argv[1])
except UserError as error:
    print(error)
    sys.exit(2)
"""


def ask(platform, **environment):
    """Exit code, and what was printed to both streams."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", ASK, platform],
        env={**kept, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("platform", "environment", "said"),
    [
        ("", {"JAX_PLATFORMS": "cuda"}, "JAX_PLATFORMS is 'cuda'"),  # an AssertionError of jax's
        ("", {"JAX_PLATFORMS": "tpu"}, "JAX_PLATFORMS is 'tpu'"),
        (
            "gpu",
            {"JAX_PLATFORMS": "cpu"},
            "--config.platform is 'gpu' and jax found cpu, with JAX_PLATFORMS 'cpu'",
        ),
        ("", {"JAX_NUM_CPU_DEVICES": "0"}, "(JAX_NUM_CPU_DEVICES=0)"),
        (
            "",
            {"XLA_FLAGS": "--xla_cpu_no_such_flag=1"},
            "XLA_FLAGS is '--xla_cpu_no_such_flag=1', which jax refuses",
        ),
        (
            "",
            {"XLA_FLAGS": "--xla_force_host_platform_device_count=many"},
            "Couldn't interpret value many",
        ),
    ],
)
def test_devices_that_are_not_there(platform, environment, said):
    code, printed = ask(platform, **environment)
    assert code == 2 and said in printed and printed.count("\n") == 1, printed


def test_devices_that_are_there():
    code, printed = ask(
        "cpu", JAX_PLATFORMS="cuda,cpu", XLA_FLAGS="--xla_force_host_platform_device_count=2"
    )
    assert code == 0, printed


@pytest.mark.parametrize(
    ("asked", "remedy"),
    [
        ("cpuu", "use cpu, cuda"),
        ("CUDA", "write JAX_PLATFORMS=cuda"),
        ("cpu, ", "write JAX_PLATFORMS=cpu,"),
    ],
)
def test_names_that_are_none(monkeypatch, asked, remedy):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setenv("JAX_PLATFORMS", asked)
    with pytest.raises(UserError) as refused:
        devices.check_environment()
    assert f"JAX_PLATFORMS is '{asked}'" in str(refused.value) and remedy in str(refused.value)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (
            "Unable to initialize backend 'tpu': ABORTED: The TPU is already in use by process "
            "with pid 4711.",
            "used by another program",
        ),
        (
            "INTERNAL: failed call to cuDevicePrimaryCtxRetain: CUDA_ERROR_OUT_OF_MEMORY: out of "
            "memory",
            "has no memory left",
        ),
        ("line one\nline two " + "x" * 5000, "line one line two xxx"),
        ("", "JAX_PLATFORMS is 'cuda'"),
    ],
)
def test_what_jax_raises_becomes_one_sentence(monkeypatch, raised, said):
    import jax

    def refuse():
        raise RuntimeError(raised)

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "devices", refuse)
    with pytest.raises(UserError) as refused:
        devices.find("")
    message = str(refused.value)
    assert said in message and "\n" not in message and len(message) < 900


def test_device_without_memory(monkeypatch):
    import jax

    def full(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4 bytes")

    monkeypatch.setattr(jax, "device_put", full)
    with pytest.raises(UserError, match="cannot be used .RESOURCE_EXHAUSTED"):
        devices.find("")
