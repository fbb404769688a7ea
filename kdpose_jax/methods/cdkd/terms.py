"""Resolves CDKD's options, and computes its two terms on the teacher's maps and logits."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from kdpose_jax.codecs import keypoints_2d
from kdpose_jax.contracts import Batch, Tree
from kdpose_jax.errors import UserError, require
from kdpose_jax.methods.cdkd import adapters, losses
from kdpose_jax.methods.cdkd.adapters import ProjectorEnsemble, ScaleAdaptiveProjection
from kdpose_jax.methods.cdkd.temperature import reversal_strength, temperature
from kdpose_jax.models import initial
from kdpose_jax.models.pose_net import PoseFeatures, PoseNet
from kdpose_jax.skeletons import find_skeleton
from kdpose_jax.tasks import pose2d

MAP_STRIDE = 4  # pixels of the input per cell of HRNet's final maps


@dataclasses.dataclass(frozen=True)
class Distillation:
    """Everything that the distillation terms read, resolved from the config once.

    Attributes:
      options: the `distill` config block.
      run: the `run` config block: steps, steps_per_epoch.
      size: side of the student's crop, pixels.
      split_ratio: k, bins per pixel.
      teacher: the network, for training-time targets; None without distillation.
      student_maps: shape (J, h, w) of the student's final maps.
      projection: SAPE; None without a teacher.
    """

    options: ConfigDict
    run: ConfigDict
    size: int
    split_ratio: float
    teacher: PoseNet | None
    student_maps: tuple[int, int, int]
    projection: ScaleAdaptiveProjection | None

    @property
    def active(self) -> bool:
        """Whether any term has a weight."""
        return self.teacher is not None

    def init_teacher(self, key: jax.Array, batch: Batch) -> dict[str, Tree]:
        """Initialises the frozen variables of the teacher, {"params", "state"}."""
        assert self.teacher is not None  # `active`: only then is there a teacher to initialise
        pictures = pose2d.normalize(jnp.asarray(batch["teacher_image"]))
        variables = initial.variables(self.teacher, key, pictures, train=False)
        return {"params": variables["params"], "state": {"batch_stats": variables["batch_stats"]}}


def build_distillation(config: ConfigDict) -> Distillation:
    """Resolves and checks the `distill` block.

    Args:
      config: the locked config; reads `data`, `student`, `teacher`, `distill` and `run`.

    Raises:
      UserError: an option is out of range, or options do not fit together.
    """
    options, size = config.distill, config.student.input.size
    joints = find_skeleton(config.data.skeleton, config.data.joints).num_joints
    teacher = projection = None
    for name, weight in options.weights.items():
        if not weight >= 0:
            raise UserError(f"distill.weights.{name} is {weight}: use 0 or more.")
    if any(options.weights.values()):
        teacher_size = config.teacher.input.size
        if teacher_size <= size:
            raise UserError(
                f"teacher.input.size is {teacher_size} and student.input.size {size}: a teacher "
                f"sees more pixels."
            )
        teacher = pose2d.build_pose_net(
            config.teacher.network,
            joints=joints,
            size=teacher_size,
            split_ratio=config.data.split_ratio,
            training=True,
            place="teacher",
        )
        check_projection(options.projection)
        check_alignment(config)
        chosen = options.projection
        projectors = ProjectorEnsemble(
            kind=chosen.kind,
            ensemble=chosen.ensemble,
            size=teacher_size // MAP_STRIDE,
            rank=chosen.rank,
            activation=chosen.projector_activation,
            chunked=chosen.chunked,
        )
        projection = ScaleAdaptiveProjection(projectors)
    student_maps = (joints, size // MAP_STRIDE, size // MAP_STRIDE)
    return Distillation(
        options, config.run, size, config.data.split_ratio, teacher, student_maps, projection
    )


def distillation_terms(
    distillation: Distillation,
    params: Tree,
    model_state: Tree,
    frozen: Tree,
    batch: Batch,
    prediction: dict[str, jax.Array],
    features: PoseFeatures,
    step: jax.Array,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array], Tree]:
    """Computes the unweighted terms, by the name of their weight; skips terms without a weight.

    Args:
      distillation: the resolved options.
      params: the run's parameters, with `projection` and `temperature` if their terms have a
        weight.
      model_state: the run's batch statistics, with `projection` if that term has a weight.
      frozen: the run's frozen variables, with `teacher`.
      batch: the crops, with `teacher_image`.
      prediction: the student's logits, {"x": `[B, J, W k]`, "y": `[B, J, H k]`}.
      features: the student's features.
      step: number of steps taken so far.

    Returns:
      The terms `[B]` by name, further metrics `[B]` by name, and the new batch statistics.
    """
    weights = distillation.options.weights
    images = pose2d.normalize(jnp.asarray(batch["teacher_image"]))
    variables = {"params": frozen["teacher"]["params"], **frozen["teacher"]["state"]}
    assert distillation.teacher is not None  # there is one wherever a term has a weight
    taught, taught_features = jax.lax.stop_gradient(
        distillation.teacher.apply(variables, images, train=False)
    )
    terms, metrics = {}, {}
    if weights.projection:
        terms["projection"], model_state = projection_term(
            distillation, params, model_state, features["joint_maps"], taught_features["joint_maps"]
        )
    if weights.alignment:
        heat = current_temperature(distillation, params["temperature"], step)
        terms["alignment"] = alignment_term(distillation, prediction, taught, heat, batch)
        metrics["temperature"] = jnp.full(images.shape[:1], heat)
    return terms, metrics, model_state


def projection_term(
    distillation: Distillation,
    params: Tree,
    model_state: Tree,
    maps: Float[Array, "B J h w"],
    taught: Float[Array, "B J S S"],
) -> tuple[Float[Array, " B"], Tree]:
    """Computes SAPE, and the batch statistics with the new ones of its norms.

    The released code stops the gradient at the student's maps and hands no optimiser the projectors
    (docs/methods/cdkd.md#deviations, D1 and D2): `student_gradient` and `trained`.

    Args:
      distillation: the resolved options.
      params: the run's parameters, with `projection`.
      model_state: the run's batch statistics, with `projection`.
      maps: the student's final maps.
      taught: the teacher's final maps.
    """
    options = distillation.options.projection
    maps = maps if options.student_gradient else jax.lax.stop_gradient(maps)
    adapter = (
        params["projection"] if options.trained else jax.lax.stop_gradient(params["projection"])
    )
    assert distillation.projection is not None  # there is one wherever a term has a weight
    projected, updated = distillation.projection.apply(
        {"params": adapter, **model_state["projection"]}, maps, train=True, mutable=["batch_stats"]
    )
    taught = adapters.ACTIVATIONS[options.teacher_activation](taught)
    state = {**model_state, "projection": {"batch_stats": updated["batch_stats"]}}
    return losses.projection_loss(projected, taught), state


def current_temperature(distillation: Distillation, tau: jax.Array, step: jax.Array) -> jax.Array:
    """Computes ETHT's temperature at a step, whose gradient on tau is multiplied by lambda."""
    options, run = distillation.options.temperature, distillation.run
    strength = reversal_strength(
        step,
        ends=options.reversal,
        loops=options.loops,
        steps=run.steps,
        steps_per_epoch=run.steps_per_epoch,
    )
    return temperature(
        tau,
        strength,
        start=options.start,
        reach=options.range,
        limit=options.limit,
        trained=options.trained,
    )


def alignment_term(
    distillation: Distillation,
    prediction: dict[str, jax.Array],
    taught: dict[str, jax.Array],
    heat: jax.Array,
    batch: Batch,
) -> Float[Array, " B"]:
    """Computes CCA from the logits of both networks at temperature `heat`."""
    options = distillation.options.alignment
    weight = None
    if options.mask == "visible":
        side, ratio = distillation.size, distillation.split_ratio
        _, weight = keypoints_2d.to_bins(
            jnp.asarray(batch["joints"]),
            jnp.asarray(batch["joint_weight"]),
            size=(side, side),
            split_ratio=ratio,
        )
    return losses.alignment_loss(
        prediction,
        taught,
        heat,
        grouping=options.grouping,
        order=options.order,
        reduction=options.reduction,
        weight=weight,
        target_gradient=options.target_gradient,
    )


def check_projection(options: ConfigDict) -> None:
    """Checks the block `distill.projection`.

    Raises:
      UserError: an option is out of range.
    """
    place = "distill.projection"
    for name, allowed in (
        ("kind", adapters.KINDS),
        ("projector_activation", tuple(adapters.ACTIVATIONS)),
        ("teacher_activation", tuple(adapters.ACTIVATIONS)),
    ):
        require(f"{place}.{name}", options[name], allowed)
    for name in ("ensemble", "rank"):
        if options[name] < 1:
            raise UserError(f"{place}.{name} is {options[name]}: use at least 1.")


def check_alignment(config: ConfigDict) -> None:
    """Checks the blocks `distill.alignment` and `distill.temperature` against the two networks.

    Raises:
      UserError: an option is out of range, or the networks' bins cannot be aligned.
    """
    options, softening = config.distill.alignment, config.distill.temperature
    for name, allowed in (
        ("grouping", losses.GROUPINGS),
        ("order", losses.ORDERS),
        ("mask", losses.MASKS),
        ("reduction", losses.REDUCTIONS),
    ):
        require(f"distill.alignment.{name}", options[name], allowed)
    ends = softening.reversal
    if len(ends) != 2 or not all(type(end) in (int, float) and -1 <= end <= 1 for end in ends):
        raise UserError(
            f"distill.temperature.reversal is {ends}: use two numbers from -1 to 1, lambda at the "
            "start and at the end, such as (0.0, -1.0)."
        )
    for name in ("start", "limit"):
        if not softening[name] > 0:
            raise UserError(
                f"distill.temperature.{name} is {softening[name]}: use a number above 0."
            )
    for name in ("range", "loops", "learning_rate_factor"):
        if not softening[name] >= 0:
            raise UserError(f"distill.temperature.{name} is {softening[name]}: use 0 or more.")
    if not config.distill.weights.alignment:
        return
    for place in ("student", "teacher"):
        head = config[place].network.head
        if head != "simdr":
            raise UserError(
                f"{place}.network.head is '{head}', which has no bins to align: set "
                f"distill.weights.alignment=0."
            )
    small, large = config.student.input.size, config.teacher.input.size
    if large % small and options.grouping != "hat":
        raise UserError(
            f"teacher.input.size {large} is not a multiple of student.input.size {small}, and "
            f"distill.alignment.grouping is '{options.grouping}': set it to 'hat'."
        )
