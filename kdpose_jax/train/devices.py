"""Starts the devices, with one sentence for each way in which that can fail."""

import importlib.util
import os
import re
import subprocess
import sys

from kdpose_jax.errors import UserError

NVIDIA = ("jax_cuda12_plugin", "jax_cuda13_plugin")
# Value of JAX_PLATFORMS -> the platform that jax then reports.
KNOWN = {"cpu": "cpu", "cuda": "gpu", "gpu": "gpu", "rocm": "gpu", "tpu": "tpu"}
LONGEST_REASON = 300
# Parses XLA_FLAGS and uses no device but the CPU. In this process, jax would end the program at an
# unknown flag.
PROBE = "from jaxlib import xla_client; xla_client.make_cpu_client()"


def find(platform: str) -> None:
    """Starts jax's devices. It must come before any other use of them.

    Args:
      platform: the config's platform, "cpu", "gpu" or "tpu". "" takes any that is there.

    Raises:
      UserError: the environment names devices that are not there or cannot be used, or the devices
        are of another platform.
    """
    try:
        import jax
        import numpy as np

        devices = jax.devices()
    except Exception as error:  # jax may raise anything here, even an AssertionError
        raise UserError(_sentence(platform, error)) from error
    found = devices[0].platform
    if platform and found != platform:
        if _asked():
            raise UserError(
                f"--config.platform is '{platform}' and jax found {found}, with JAX_PLATFORMS "
                f"'{_asked()}': unset JAX_PLATFORMS, or leave --config.platform empty to take what "
                "is there."
            )
        raise UserError(
            f"--config.platform is '{platform}' and jax found {found}: "
            f"{_remedy(platform, '') or 'choose another machine'}, or leave "
            "--config.platform empty to take what is there."
        )
    for device in jax.local_devices():
        try:
            jax.block_until_ready(jax.device_put(np.zeros(1, np.float32), device))
        except Exception as error:
            raise UserError(
                f"Device {device} cannot be used ({_reason(error)}): end the other program that "
                "uses it (nvidia-smi shows those on a GPU), or choose other devices, for example "
                "with CUDA_VISIBLE_DEVICES or JAX_PLATFORMS=cpu."
            ) from error


def _asked() -> str:
    """Returns the platforms that the environment asks jax for."""
    return os.environ["JAX_PLATFORMS"] if "JAX_PLATFORMS" in os.environ else ""


def _sentence(platform: str, error: Exception) -> str:
    """Makes the sentence that says what is wrong and what to do."""
    asked, reason = _asked(), _reason(error)
    why = f" ({reason})" if reason else ""
    names = asked.split(",")
    place = (
        f"JAX_PLATFORMS is '{asked}'"
        if asked
        else f"--config.platform is '{platform}'"
        if platform
        else "JAX_PLATFORMS is not set"
    )
    if "in use" in reason.lower() or "ABORTED" in reason:
        return (
            f"{place}, and the device is used by another program{why}: end that program, or set "
            "JAX_PLATFORMS=cpu."
        )
    if "out of memory" in reason.lower() or "RESOURCE_EXHAUSTED" in reason:
        return (
            f"{place}, and the device has no memory left{why}: end the other program that uses it, "
            "or set JAX_PLATFORMS=cpu."
        )
    variables = sorted(
        name
        for name in os.environ
        if name == "XLA_FLAGS" or name.startswith("JAX_") and name != "JAX_PLATFORMS"
    )
    if not asked and variables:
        given = ", ".join(f"{name}={os.environ[name]}" for name in variables)
        return (
            f"jax could not be started{why}: check the variables of the environment that it reads "
            f"({given})."
        )
    if asked and all(KNOWN[name] == "cpu" for name in names):
        given = f", XLA_FLAGS '{os.environ['XLA_FLAGS']}'" if "XLA_FLAGS" in os.environ else ""
        return (
            f"{place}{given}, and jax could not be started{why}: unset what is not needed, and "
            "install requirements.txt again."
        )
    remedies = list(
        dict.fromkeys(filter(None, (_remedy(KNOWN[name], name) for name in names if asked)))
    )
    remedy = "; ".join(remedies) or "install requirements.txt again"
    return (
        f"{place}, and jax has no such device here{why}: {remedy}, or unset JAX_PLATFORMS to take "
        "what is there."
    )


def _remedy(kind: str, name: str) -> str:
    """Says what makes a platform's devices appear."""
    if kind == "tpu":
        if importlib.util.find_spec("libtpu") is None:
            return "install jax[tpu] on a machine with a TPU"
        return "use a machine with a TPU that no other program uses"
    if kind == "gpu" and name != "rocm":
        if not any(importlib.util.find_spec(plugin) for plugin in NVIDIA):
            return "install jax[cuda13] on a machine with an NVIDIA GPU"
        return "see whether nvidia-smi lists a GPU (a container needs --gpus all)"
    return "install jax for ROCm" if name == "rocm" else ""


def _reason(error: Exception) -> str:
    """Returns jax's own words on one line.

    Its advice about flags is left out, because this program gives its own.
    """
    said = re.sub(
        r"\(set JAX_PLATFORMS=.*?\)|\(you may need to uninstall.*?\)",
        "",
        " ".join(str(error).split()),
    ).strip()
    return said if len(said) <= LONGEST_REASON else f"{said[:LONGEST_REASON]} ..."


def check_environment() -> None:
    """Checks jax's environment variables before jax is imported, which takes seconds.

    Raises:
      UserError: JAX_PLATFORMS names something that is not a platform, or XLA_FLAGS has a flag at
        which jax would end the process with code 1 and a list of all flags.
    """
    asked = _asked()
    names = asked.split(",")
    unknown = [name for name in names if name not in KNOWN]
    if asked and unknown:
        meant = ",".join(name.strip().lower() for name in names if name.strip())
        known = all(name in KNOWN for name in meant.split(","))
        remedy = f"write JAX_PLATFORMS={meant}" if known else f"use {', '.join(KNOWN)}"
        raise UserError(
            f"JAX_PLATFORMS is '{asked}', and '{unknown[0]}' is not a platform's name: {remedy}, "
            f"or unset it to take what is there."
        )
    flags = os.environ["XLA_FLAGS"] if "XLA_FLAGS" in os.environ else ""
    if not flags.strip():
        return
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
    )
    if done.returncode == 0:
        return
    said = [line for line in done.stderr.splitlines() if line.strip()]
    fatal = next(
        (line for line in said if re.match(r"[EF]\d{4} ", line)),
        said[-1] if said else "it gives no reason",
    )
    reason = fatal.rpartition("] ")[2].strip()[:LONGEST_REASON]
    raise UserError(
        f"XLA_FLAGS is '{flags}', which jax refuses ({reason}): correct the flag, or unset "
        f"XLA_FLAGS."
    )
