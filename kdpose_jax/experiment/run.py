"""Describes a run, and builds what it needs to be trained or evaluated.

That is its examples, its protocol, its method and its optimiser.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from etils import epath
from ml_collections import ConfigDict

from kdpose_jax.contracts import EvaluationProtocol, Method, MethodModule, Source
from kdpose_jax.experiment import configs, modules
from kdpose_jax.train import loop, optim
from kdpose_jax.train.preemption import Stop

RATE_SETTINGS = (
    "schedule",
    "learning_rate",
    "decay_per_epoch",
    "drop_epochs",
    "drop_factor",
    "final_learning_rate",
    "warmup_epochs",
)
OPTIMIZER_SETTINGS = ("weight_decay", "beta1", "beta2", "epsilon", "clip_norm")


@dataclasses.dataclass(frozen=True)
class Run:
    """One network of an experiment.

    Attributes:
      name: names the run's folder in the work directory.
      title: names the run in tables.
      stage: names the config's block that is trained, `teacher` or `student`.
      config: the experiment's config, as a copy for this run.
    """

    name: str
    title: str
    stage: str
    config: ConfigDict

    @property
    def block(self) -> ConfigDict:
        """The config block that is trained."""
        return self.config[self.stage]

    @property
    def method_name(self) -> str:
        """The name of the method that trains the network. A teacher has its own method."""
        return self.config.teacher.method if self.stage == "teacher" else self.config.method

    @property
    def method(self) -> MethodModule:
        """The module of the method."""
        field = "teacher.method" if self.stage == "teacher" else "method"
        return modules.method(self.method_name, field)

    def copy(self) -> "Run":
        """Copies the run, with an unlocked config."""
        return dataclasses.replace(self, config=configs.copy_of(self.config))


@dataclasses.dataclass(frozen=True)
class Context:
    """What all runs of an experiment share.

    Attributes:
      workdir: the experiment's folder.
      training_data: the reader's data; None if nothing is trained.
      selection_data: the protocol's data on which checkpoints are chosen; None if nothing is
        trained.
      chosen_on: says which data these are; "" if nothing is trained.
      test_data: the protocol's data of the test split.
      mesh: the devices.
      show: prints one line.
      stop: whether the program was told to stop.
      taught_by: name of each teacher whose predictions the training data have -> fingerprint of its
        weights.
      sources: training examples opened so far, by the reader's options. They are kept because
        opening them may copy all data.
    """

    workdir: epath.Path
    training_data: Any
    selection_data: Any
    chosen_on: str
    test_data: Any
    mesh: jax.sharding.Mesh
    show: Callable[[str], None]
    stop: Stop
    taught_by: Mapping[str, str] = dataclasses.field(default_factory=dict)
    sources: dict[str, Source] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Built:
    """A run whose length is known.

    Attributes:
      run: the run, locked, with its length in `config.run`.
      plan: how long to train, and when to log, evaluate and save.
      method: the method, built from the config.
      rate: (number of steps taken) -> learning rate.
      optimizer: the optimiser.
    """

    run: Run
    plan: loop.Plan
    method: Method
    rate: Callable[[Any], Any]
    optimizer: optax.GradientTransformation


def reads(run: Run, *, training: bool) -> dict[str, Any]:
    """Returns what the run's batches must hold, as its method says."""
    return run.method.reads(run.config, run.stage, training=training)


def open_training(run: Run, context: Context) -> Source:
    """Opens the training examples for the run's method. Runs with equal options share them."""
    config = run.config
    options = {
        "seed": config.seed,
        **reads(run, training=True),
        **config.data.training.to_dict(),
    }
    key = json.dumps(options, sort_keys=True)
    if key not in context.sources:
        reader = modules.reader(config.data.reader)
        context.sources[key] = reader.open_training(context.training_data, **options)
    return context.sources[key]


def open_protocol(run: Run, context: Context) -> EvaluationProtocol:
    """Opens the protocol that evaluates the run's network on the test split."""
    return _open_protocol(run, context.test_data)


def open_selection(run: Run, context: Context) -> EvaluationProtocol:
    """Opens the protocol that chooses the run's checkpoints while it trains."""
    return _open_protocol(run, context.selection_data)


def _open_protocol(run: Run, data: Any) -> EvaluationProtocol:
    settings = run.config.eval
    protocol = modules.protocol(settings.protocol)
    options = reads(run, training=False)
    return protocol.open_protocol(data, **options, **settings.settings)


def plan_of(run: Run, examples: int) -> loop.Plan:
    """Turns the config's epochs into a plan in steps.

    Args:
      run: the run, whose block's `train` is read.
      examples: number of training examples.
    """
    options = run.block.train
    steps_per_epoch = examples / options.batch
    return loop.Plan(
        steps=math.ceil(options.epochs * steps_per_epoch),
        steps_per_epoch=steps_per_epoch,
        log_every=options.log_every_steps,
        save_every=options.save_every_steps,
        evaluate_every=math.ceil(options.evaluate_every_epochs * steps_per_epoch),
    )


def build_method(run: Run, plan: loop.Plan) -> tuple[Run, Method]:
    """Writes the length into a copy of the run, locks it and builds its method.

    Raises:
      UserError: options do not fit together.
    """
    run = run.copy()
    run.config.run.steps, run.config.run.steps_per_epoch = plan.steps, plan.steps_per_epoch
    run.config.lock()
    return run, run.method.build(run.config, run.stage)


def build(run: Run, examples: int) -> Built:
    """Builds all that the config and the number of training examples decide.

    Raises:
      UserError: options do not fit together.
    """
    plan = plan_of(run, examples)
    run, method = build_method(run, plan)
    options = run.block.optim
    rate = optim.learning_rate(
        **{name: options[name] for name in RATE_SETTINGS},
        steps=plan.steps,
        steps_per_epoch=plan.steps_per_epoch,
    )
    optimizer = optim.build_optimizer(
        rate, **{name: options[name] for name in OPTIMIZER_SETTINGS}, groups=method.groups
    )
    return Built(run, plan, method, rate, optimizer)
