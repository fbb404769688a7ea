"""Checks a config before any data are read and before any device is used."""

import inspect
import math

from ml_collections import ConfigDict

from kdpose_jax.errors import UserError, require
from kdpose_jax.experiment import modules, splits

PLATFORMS = ("cpu", "gpu", "tpu")
SEEDS = 2**32  # JAX drops further bits, so that larger seeds would repeat smaller ones
BATCH_STATISTICS = ("global", "device")
# Block, field and lowest value of the fields that both teacher and student have.
LOWEST = (
    ("train", "batch", 1),
    ("train", "accumulate", 1),
    ("train", "log_every_steps", 1),
    ("train", "save_every_steps", 0),
    ("train", "evaluate_every_epochs", 0),
    ("train", "evaluate_examples", 0),
    ("train", "patience_seconds", 1),
    ("optim", "learning_rate", 0),
    ("optim", "weight_decay", 0),
    ("optim", "warmup_epochs", 0),
    ("optim", "clip_norm", 0),
)


def check(config: ConfigDict) -> None:
    """Checks everything about a config that needs neither data nor devices.

    Raises:
      UserError: a method or protocol is unknown, or a value is out of its range.
    """
    check_values(config)
    if modules.method(config.teacher.method, "teacher.method").TITLE:
        raise UserError(
            f"teacher.method is '{config.teacher.method}', which has a teacher itself: use "
            f"supervised."
        )
    for field, name in (("method", config.method), ("teacher.method", config.teacher.method)):
        tasks = modules.method(name, field).TASKS
        if config.task not in tasks:
            raise UserError(
                f"task is '{config.task}', and {field} '{name}' trains {', '.join(sorted(tasks))}: "
                "change one of them."
            )
    check_protocol(config)
    modules.reader(config.data.reader)


def check_values(config: ConfigDict) -> None:
    """Checks the values that need no imports, which would take seconds.

    Raises:
      UserError: a value is out of its range.
    """
    if config.platform not in ("", *PLATFORMS):
        raise UserError(
            f"platform is '{config.platform}': use one of {', '.join(PLATFORMS)}, or leave it "
            "empty for what is there."
        )
    for stage in ("teacher", "student"):
        block = config[stage].train
        if not 0 < block.epochs < math.inf:
            raise UserError(f"{stage}.train.epochs is {block.epochs}: it must be greater than 0.")
        for part, field, lowest in LOWEST:
            options = config[stage][part]
            if field in options and not lowest <= options[field] < math.inf:  # older runs lack some
                raise UserError(
                    f"{stage}.{part}.{field} is {options[field]}: it must be at least {lowest}."
                )
        if not 0 <= block.ema_decay < 1:
            raise UserError(
                f"{stage}.train.ema_decay is {block.ema_decay}: it must be at least 0 and below 1."
            )
        require(f"{stage}.train.batch_statistics", block.batch_statistics, BATCH_STATISTICS)
        if block.batch_statistics == "device" and block.fsdp:
            raise UserError(
                f"{stage}.train.batch_statistics is 'device', for which each device needs all "
                f"parameters, and {stage}.train.fsdp shares them: use 'global', or set fsdp to "
                "False."
            )
    require("data.selection", config.data.selection, splits.SELECTIONS)
    if not 0 <= config.seed < SEEDS:
        raise UserError(f"seed is {config.seed}: it must be at least 0 and below {SEEDS}.")
    for field in ("batch", "latency_warmup", "latency_runs"):
        if config.eval[field] < 1:
            raise UserError(f"eval.{field} is {config.eval[field]}: it must be at least 1.")
    batches = config.eval.latency_batches
    if not batches or not all(type(batch) is int and batch >= 1 for batch in batches):
        raise UserError(
            f"eval.latency_batches is {batches}: name at least one number of examples per call, "
            "each at least 1."
        )


def check_protocol(config: ConfigDict) -> None:
    """Checks that the protocol exists and takes the settings that the config has for it.

    Raises:
      UserError: there is no such protocol, it has other settings, or a value is out of its range.
    """
    check_settings = modules.protocol(config.eval.protocol).check_settings
    expected, stored = set(inspect.signature(check_settings).parameters), set(config.eval.settings)
    if expected != stored:
        raise UserError(
            f"eval.protocol is '{config.eval.protocol}', whose settings are "
            f"{', '.join(sorted(expected))}, and eval.settings has {', '.join(sorted(stored))}: "
            "choose the config of that protocol."
        )
    check_settings(**config.eval.settings)
