"""Builds blocks that experiments share, and parses the text behind a config's colon."""

from typing import Any

from ml_collections import ConfigDict

from kdpose_jax.errors import UserError, require

KINDS = {int: "a whole number", float: "a number", str: "a text"}  # of an option, in words


def parse_preset(
    text: str, presets: tuple[str, ...], options: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Splits `h36m,frames=81,r=9` into the preset and its options.

    Args:
      text: the text behind the colon; "" stands for the first preset.
      presets: the allowed presets.
      options: the allowed options with their defaults. A default's type is the option's type.

    Returns:
      The preset and all options.

    Raises:
      UserError: a preset or an option is unknown, or a value has another type.
    """
    words = [word.strip() for word in text.split(",")] if text else [presets[0]]
    preset, chosen = words[0], dict(options)
    if preset not in presets:
        raise UserError(
            f"'{preset}' is not a preset of this config: use one of {', '.join(presets)}."
        )
    for index, word in enumerate(words[1:], 1):
        name, equals, value = word.partition("=")
        if name in (earlier.partition("=")[0] for earlier in words[1:index]):
            raise UserError(f"Option '{name}' of preset '{preset}' stands twice: give one value.")
        if name not in options or not equals:
            known = ", ".join(f"{key}={default}" for key, default in options.items())
            raise UserError(
                f"'{word}' is not an option of preset '{preset}': the options are "
                f"{known or 'none'}."
            )
        try:
            chosen[name] = type(options[name])(value)
        except ValueError:
            raise UserError(
                f"'{word}' of preset '{preset}' must be {KINDS[type(options[name])]}: write, for "
                f"example, {name}={options[name]}."
            ) from None
    return preset, chosen


def experiment(method: str, task: str, reader: str) -> ConfigDict:
    """Starts an experiment with the fields that all of them have, and their defaults.

    Args:
      method: folder of `kdpose_jax.methods`.
      task: module of `kdpose_jax.tasks`.
      reader: module of `kdpose_jax.data`.
    """
    config = ConfigDict()
    config.name = ""
    config.method = method
    config.task = task
    config.seed = 0
    config.baseline = True  # also train the student with every distillation weight zero
    config.platform = ""  # cpu, gpu or tpu: refuse to start on another; empty takes what is there
    config.data = ConfigDict(
        {
            "reader": reader,
            # Folder of TFRecords. Empty: the run makes them from `source` in the work directory.
            "records": "",
            # Raw files to convert. Empty: the records exist, or the data are generated.
            "source": "",
            "converter": ConfigDict({"name": "", "settings": ConfigDict()}),
            # What chooses checkpoints. "validation": networks train on `train`, and `val` chooses.
            # "published": they train on both, and the test split chooses, as in the papers.
            "selection": "validation",
        }
    )
    config.checkpoint = checkpoint()
    # gradients.json of the student: the norm of each term's gradient at the start and the end.
    config.gradient_report = False
    config.run = ConfigDict({"steps": 0, "steps_per_epoch": 0.0})  # filled in from the data
    return config


# Names an option of presets. An empty one takes the config's default.
SELECTIONS = ("", "validation", "published")


def select(config: ConfigDict, preset: str, selection: str, *, default: str) -> None:
    """Sets what chooses checkpoints.

    Args:
      config: the experiment's config.
      preset: names the preset, for error messages.
      selection: the preset's option; "" for the default.
      default: "validation" or "published".

    Raises:
      UserError: there is no such way to choose.
    """
    require(f"option selection of preset {preset}", selection, SELECTIONS)
    config.data.selection = selection or default


def adamw(learning_rate: float, *, weight_decay: float, clip_norm: float) -> ConfigDict:
    """Configures AdamW with a rate that falls by 1 % per epoch.

    `schedule` may be `epoch_decay`, `cosine` or `steps`.
    """
    return ConfigDict(
        {
            "learning_rate": learning_rate,
            "schedule": "epoch_decay",
            "decay_per_epoch": 0.99,  # MixSTE, HoT: run.py
            "drop_epochs": (170.0, 200.0),  # used by `steps`: HRNet, SimCC
            "drop_factor": 0.1,  # used by `steps`
            "final_learning_rate": 1e-6,  # used by `cosine`
            "warmup_epochs": 0.0,
            "weight_decay": weight_decay,
            "beta1": 0.9,  # torch's defaults
            "beta2": 0.999,
            "epsilon": 1e-8,
            "clip_norm": clip_norm,  # 0 switches clipping off
        }
    )


def train(*, batch: int, epochs: float, ema_decay: float) -> ConfigDict:
    """Configures the training loop. `batch` counts the examples of all devices together."""
    return ConfigDict(
        {
            "batch": batch,
            # Number of parts in which a batch is computed, one after another, to save memory.
            "accumulate": 1,
            # What batch normalisation takes its statistics of: "global" is the batch of all
            # devices together, "device" is each device's share, as in PyTorch's parallel modules.
            # "device" cannot be combined with fsdp.
            "batch_statistics": "global",
            # Devices share large parameters and their optimiser state instead of each keeping a
            # copy.
            "fsdp": False,
            "epochs": epochs,
            # 0: no average. Otherwise the averaged weights are evaluated and exported.
            "ema_decay": ema_decay,
            "log_every_steps": 50,
            "save_every_steps": 1000,
            "evaluate_every_epochs": 1.0,
            # Evenly spread examples that are scored during training, to choose checkpoints.
            # 0: all.
            "evaluate_examples": 0,
            # How long the loop waits for a batch before it reports that the input hangs.
            "patience_seconds": 300.0,
            "log_examples": False,  # examples.jsonl: the numbers of the examples of every step
        }
    )


def quick_stage(
    stage: ConfigDict,
    learning_rate: float,
    *,
    epochs: float,
    warmup_epochs: float,
    ema_decay: float,
    evaluate_every_epochs: float,
    evaluate_examples: int,
) -> None:
    """Sets the optimiser and the loop of a network that is trained on a small machine.

    The rate is high and falls by a cosine. A batch has 16 examples.
    """
    stage.optim = adamw(learning_rate, weight_decay=0.01, clip_norm=1.0)
    stage.optim.schedule = "cosine"
    stage.optim.warmup_epochs = warmup_epochs
    stage.train = train(batch=16, epochs=epochs, ema_decay=ema_decay)
    stage.train.evaluate_every_epochs = evaluate_every_epochs
    stage.train.evaluate_examples = evaluate_examples


def evaluation(protocol: str, *, batch: int, settings: dict[str, Any]) -> ConfigDict:
    """Configures how networks are scored and timed. `settings` are the protocol's."""
    return ConfigDict(
        {
            "protocol": protocol,
            "batch": batch,  # examples per device
            "settings": ConfigDict(settings),
            "latency_batches": (
                1,
                64,
            ),  # examples per call; the largest gives the rate of the table
            # Calls before the timed ones, at most: the time is bounded (evaluate/cost.py).
            "latency_warmup": 5,
            "latency_runs": 50,  # timed calls, at most
        }
    )


def checkpoint() -> ConfigDict:
    """Configures which checkpoints are kept."""
    return ConfigDict({"keep_latest": 2, "keep_best": 1, "asynchronous": True})
