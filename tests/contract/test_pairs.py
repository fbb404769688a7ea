"""Every pair of a student and a teacher has the terms that docs/methods/scjd.md says, builds with
them, and refuses the others by their names.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from repository import REPOSITORY
from tiny import built_on, example_batch, get_config, shrink

from configs import networks
from kdpose_jax.errors import UserError
from kdpose_jax.experiment import pipeline
from kdpose_jax.methods.scjd import pairs
from kdpose_jax.methods.scjd.pairs import Lifter

LETTERS = dict(zip(pairs.TERMS, "PVCEA", strict=True))
SINGLE = ("poseformer_v2", "videopose3d")
LIVE = ("weights.embedding", "weights.attention")
every_student = pytest.mark.parametrize("student", networks.LIFTERS)
every_teacher = pytest.mark.parametrize("teacher", networks.LIFTERS)


def students():
    for name in networks.LIFTERS:
        for predicted in (1, 2, 3) if name in SINGLE else (27,):
            says = f", {predicted} predicted" if name in SINGLE else ""
            yield f"`{name}`{says}", Lifter(name, 27, predicted, on_keyframes=name == "mixste")


def teachers():
    yield "`mixste`", Lifter("mixste", 27, 27, on_keyframes=False)
    yield "`mixste`, other frames", Lifter("mixste", 81, 81, on_keyframes=False)
    yield "`mixste` on keyframes", Lifter("mixste", 27, 27, on_keyframes=True)
    for name in list(networks.LIFTERS)[1:]:
        yield f"`{name}`", Lifter(name, 27, 1 if name in SINGLE else 27, on_keyframes=False)


def table() -> str:
    columns = dict(teachers())
    lines = [f"| student | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for title, student in students():
        cells = [
            " ".join(LETTERS[term] for term in pairs.TERMS if not pairs.why_not(term, student, one))
            for one in columns.values()
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def test_the_docs_have_the_table():
    """Paste what this shows into the section if the code has changed on purpose."""
    assert table() in (REPOSITORY / "docs/methods/scjd.md").read_text(), f"\n{table()}"


def config_of(student, teacher):
    return shrink(get_config("scjd", f"mocap,student={student},teacher_network={teacher}"))


@every_student
@every_teacher
def test_a_pair_builds_with_its_terms_and_refuses_the_others(student, teacher):
    config = config_of(student, teacher)
    live = (student, teacher) == ("mixste", "mixste")
    method, locked = built_on(config, 64)
    assert locked.distill.weights.temporal and method.reads_teacher_poses
    assert bool(method.teachers) == live
    assert bool(locked.distill.weights.embedding and locked.distill.weights.attention) == live
    assert len(pipeline.check_before_data(pipeline.planned_runs(config))) == 0
    if not live:
        for term in LIVE:
            config = config_of(student, teacher)
            config.update_from_flattened_dict({f"distill.{term}": 0.5})
            with pytest.raises(UserError, match=f"^distill.{term} is 0.5, and .*: set it to 0"):
                built_on(config, 64)


def with_motion(config):
    """Makes a student predict nine frames of an example, and weighs their motion."""
    if "predicted_frames" in config.student.network:
        config.student.network.predicted_frames = 9
    config.distill.temporal.velocity, config.distill.temporal.correlation = 2.0, 0.1
    return config


@every_student
def test_a_student_takes_a_step(student):
    """All that is trained has a gradient, and more predicted frames than one have a motion."""
    config = with_motion(config_of(student, "videopose3d"))
    method, locked = built_on(config, 64)
    batch = example_batch(config)
    assert batch["teacher_pose_3d"].shape == (2, 9, 17, 3)
    params, state, frozen = jax.jit(method.init)(jax.random.key(0), batch)
    assert frozen == {}

    def loss(params):
        return method.loss(params, state, {}, batch, jax.random.key(1), jnp.asarray(3))

    gradient, (metrics, new) = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert metrics["weighted_temporal"][0] > 0 and jax.tree.structure(new) == jax.tree.structure(
        state
    )
    missing = [
        jax.tree_util.keystr(where, simple=True, separator="/")
        for where, leaf in jax.tree.leaves_with_path(gradient)
        if not np.isfinite(leaf).all() or not np.any(leaf)
    ]
    # HoT's queries start at zero (docs/methods/lifting.md#hot).
    assert all("recovery" in path for path in missing), missing


@pytest.mark.parametrize(("changes", "message"), [
    ({"student.network.predicted_frames": 1},
     "distill.temporal.velocity is 2.0, and student videopose3d predicts 1 .* needs 2: set it to "
     "0, or student.network.predicted_frames to at least 2"),
    ({"student.network.predicted_frames": 2},
     "distill.temporal.correlation is 0.1, and student videopose3d predicts 2 .* needs 3: set it "
     "to 0, or"),
    ({"student.network.predicted_frames": 0}, "student.network.predicted_frames is 0: use 1"),
    ({"distill.weights.embedding": 1.0},
     "distill.weights.embedding is 1.0, and student videopose3d has no tokens per joint: set it "
     "to 0.$"),
    ({"distill.weights.attention": 1.0}, "student videopose3d has no attention between joints"),
    ({"distill.temporal.correlation": -1.0}, "distill.temporal.correlation is -1"),
])  # fmt: skip
def test_terms_that_a_student_does_not_have(changes, message):
    config = with_motion(config_of("videopose3d", "mixste"))
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=message) as caught:
        built_on(config, 64)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_a_single_frame_learns_from_poses_alone():
    config = config_of("videopose3d", "mixste")  # as the preset is
    assert built_on(config, 64)[0].reads_teacher_poses
    assert example_batch(config)["teacher_pose_3d"].shape == (2, 1, 17, 3)


def test_terms_that_need_the_student_in_the_teachers_windows():
    config = config_of("mixste", "mixste")
    config.teacher.data.frames = 27
    with pytest.raises(UserError, match="embedding is 1.0, and the teacher has .* 27 frames"):
        built_on(config, 64)
    config = config_of("mixste", "mixste")
    config.teacher.input = config.student.input
    with pytest.raises(UserError, match="teacher mixste reads keyframes, and has tokens per joint"):
        built_on(config, 64)
