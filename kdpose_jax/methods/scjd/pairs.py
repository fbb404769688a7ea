"""Says which terms a student and a teacher have, and why a term is missing.

docs/methods/scjd.md#which-pairs-have-which-terms has the table that follows from this.
"""

from typing import NamedTuple

from ml_collections import ConfigDict

from kdpose_jax.errors import UserError
from kdpose_jax.tasks import lifting_networks

# Network -> which frames' joints it has tokens and attention for.
JOINT_TOKENS = {
    "mixste": "every frame",
    "mixste_hot": "some frames",
    "poseformer_v2": "some frames",
    "videopose3d": "no frame",
}
# Terms, as fields of `distill`: each has a weight.
TERMS = (
    "weights.temporal",
    "temporal.velocity",
    "temporal.correlation",
    "weights.embedding",
    "weights.attention",
)
# Term -> the number of predicted frames that it needs.
FRAMES = {"temporal.velocity": 2, "temporal.correlation": 3}
PREDICT_SOME = ("poseformer_v2", "videopose3d")  # they have the field predicted_frames
FEATURES = {
    "weights.embedding": "tokens per joint",
    "weights.attention": "attention between joints",
}


class Lifter(NamedTuple):
    """What decides which terms a network has.

    Attributes:
      network: its name, one of `lifting_networks.BUILDERS`.
      frames: `data.frames`, the number of frames that a predicted frame depends on.
      predicted: number of frames that a training example predicts.
      on_keyframes: whether it reads keyframes alone.
    """

    network: str
    frames: int
    predicted: int
    on_keyframes: bool


def student_of(config: ConfigDict) -> Lifter:
    """Describes the config's student."""
    return _lifter(config.student, config.data.frames)


def teacher_of(config: ConfigDict) -> Lifter:
    """Describes the config's teacher."""
    return _lifter(config.teacher, config.teacher.data.frames)


def _lifter(block: ConfigDict, frames: int) -> Lifter:
    span = lifting_networks.span(block.network, frames, training=True)
    return Lifter(block.network.name, frames, span.predicted, "input" in block)


def why_not(term: str, student: Lifter, teacher: Lifter) -> str:
    """Says why a pair does not have a term.

    Args:
      term: one of `TERMS`.
      student: the student.
      teacher: the teacher.

    Returns:
      The reason, "" if the pair has the term. Every pair has the teacher's poses.
    """
    if term in FRAMES and student.predicted < FRAMES[term]:
        return (
            f"student {student.network} predicts {student.predicted} frame(s) of a training "
            f"example, and the term needs {FRAMES[term]}"
        )
    if term not in FEATURES:
        return ""
    feature = FEATURES[term]
    for role, lifter in (("student", student), ("teacher", teacher)):
        has = JOINT_TOKENS[lifter.network]
        if has == "no frame":
            return f"{role} {lifter.network} has no {feature}"
        if has == "some frames":
            return f"{role} {lifter.network} has {feature} for some frames alone"
    if teacher.on_keyframes:
        return f"teacher {teacher.network} reads keyframes, and has {feature} for them alone"
    if teacher.frames != student.frames:
        return (
            f"the teacher has {feature} in windows of {teacher.frames} frames, and the student "
            f"reads windows of {student.frames}"
        )
    return ""


def require_terms(options: ConfigDict, student: Lifter, teacher: Lifter) -> None:
    """Refuses a weight for a term that the pair does not have.

    Args:
      options: the `distill` config block.
      student: the student.
      teacher: the teacher.

    Raises:
      UserError: such a term has a weight.
    """
    for term in TERMS:
        block, name = term.split(".")
        weight, reason = options[block][name], why_not(term, student, teacher)
        if block == "temporal" and not options["weights"]["temporal"]:
            continue
        if weight and reason:
            more = ""
            if term in FRAMES and student.network in PREDICT_SOME:
                more = f", or student.network.predicted_frames to at least {FRAMES[term]}"
            raise UserError(f"distill.{term} is {weight}, and {reason}: set it to 0{more}.")
