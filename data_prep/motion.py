"""Generates motion for Human3.6M's 17 joints.

It is made of smooth joint angles on a skeleton with human proportions. All of it is our own design.
"""

import dataclasses

import numpy as np

FPS = 50.0
# Half widths and lengths of an average adult, metres (the bones of H36M_17, left = right).
BONES = {
    "hip": 0.132,
    "thigh": 0.45,
    "shank": 0.45,
    "spine": 0.24,
    "chest": 0.25,
    "neck": 0.115,
    "head": 0.115,
    "shoulder": 0.15,
    "upper_arm": 0.28,
    "forearm": 0.25,
}
ANKLE_HEIGHT = 0.08
STUDIO_RADIUS = 1.6
# Range of each angle, radians. Flexion is positive. A knee bends back, an elbow bends forward, and
# neither overextends.
LIMITS = {
    "hip_flexion": (-0.6, 2.2),
    "hip_abduction": (-0.3, 0.8),
    "hip_rotation": (-0.5, 0.6),
    "knee": (0.02, 2.5),
    "shoulder_flexion": (-1.0, 2.9),
    "shoulder_abduction": (-0.1, 2.6),
    "shoulder_rotation": (-1.2, 1.2),
    "elbow": (0.05, 2.5),
}


@dataclasses.dataclass(frozen=True)
class Action:
    """Holds a kind of motion's parameters; angles in radians, frequencies in hertz.

    Attributes:
      cadence: gait cycles per second, 0 for none.
      leg_swing, knee_lift, arm_swing: amplitudes in the gait.
      crouch, crouch_swing: mean and amplitude of both legs' bend (1: thighs level), at `tempo`.
      raise_arms, arm_motion: mean and strength of the arms' lift; `arm_band` is how fast they move.
      elbow: mean bend of the elbows.
      lean: how far the trunk leans forward; `trunk_motion` is the strength of its movement.
      tempo: cycles per second in the repeated part that is not gait.
      wave: amplitude of the right forearm's wave.
    """

    cadence: float = 0.0
    leg_swing: float = 0.0
    knee_lift: float = 0.0
    arm_swing: float = 0.0
    crouch: float = 0.0
    crouch_swing: float = 0.0
    raise_arms: float = 0.1
    arm_motion: float = 0.1
    arm_band: float = 0.6
    elbow: float = 0.4
    lean: float = 0.05
    trunk_motion: float = 0.06
    tempo: float = 0.3
    wave: float = 0.0


ACTIONS = {
    "Walking": Action(cadence=0.9, leg_swing=0.42, knee_lift=1.0, arm_swing=0.4),
    "Jogging": Action(
        cadence=1.25, leg_swing=0.55, knee_lift=1.5, arm_swing=0.7, elbow=1.5, lean=0.2
    ),
    "Waving": Action(raise_arms=0.3, arm_motion=0.3, arm_band=0.8, wave=0.6, tempo=1.1),
    "Gesturing": Action(
        raise_arms=0.5, arm_motion=0.45, arm_band=1.2, elbow=1.1, trunk_motion=0.12
    ),
    "Sitting": Action(
        crouch=1.0, raise_arms=0.4, arm_motion=0.35, elbow=0.9, lean=0.15, trunk_motion=0.15
    ),
    "Squatting": Action(
        crouch=0.55, crouch_swing=0.5, raise_arms=0.6, arm_motion=0.3, lean=0.3, tempo=0.35
    ),
}


def smooth_noise(rng: np.random.Generator, frames: int, channels: int, band: float) -> np.ndarray:
    """Makes noise of unit variance `[F, channels]`: eight sinusoids below `band` hertz."""
    frequency = rng.uniform(0.05 * band, band, (8, channels))
    phase = rng.uniform(0, 2 * np.pi, (8, channels))
    time = np.arange(frames)[:, None, None] / FPS
    # The variance of a sine is 1/2, and that of eight sines is 4.
    return np.sin(2 * np.pi * frequency * time + phase).sum(axis=1) / 2


def body(rng: np.random.Generator) -> dict[str, float]:
    """Draws a subject's bone lengths, metres.

    One factor scales the whole body, and each bone varies a little more.
    """
    size = rng.normal(1, 0.05)
    return {name: length * size * rng.normal(1, 0.03) for name, length in BONES.items()}


def generate(
    rng: np.random.Generator, action: Action, bones: dict[str, float], frames: int
) -> np.ndarray:
    """Generates one take.

    Args:
      rng: the take's generator.
      action: what the subject does.
      bones: the subject's bone lengths, metres.
      frames: number F of frames, at 50 per second.

    Returns:
      `[F, 17, 3]` float64, metres, world coordinates with z up and the floor at 0, around the
      origin.
    """
    style = rng.normal(1, 0.12, 6)  # the style of this take
    time = np.arange(frames) / FPS
    cadence = action.cadence * style[0] * (1 + 0.06 * smooth_noise(rng, frames, 1, 0.3)[:, 0])
    phase = 2 * np.pi * (np.cumsum(cadence) / FPS + rng.uniform())
    beat = np.sin(2 * np.pi * (action.tempo * style[1] * time + rng.uniform()))
    angles = {
        side: _limb_angles(rng, action, style, phase + offset, beat, side)
        for side, offset in (("left", 0.0), ("right", np.pi))
    }
    sway = smooth_noise(rng, frames, 3, 0.5) * action.trunk_motion
    trunk = np.stack(
        [
            sway[:, 0],
            action.lean * style[2] + 0.35 * action.crouch_swing * (1 + beat) + sway[:, 1],
            sway[:, 2],
        ],
        axis=1,
    )
    trunk[:, 2] += 0.25 * action.arm_swing * np.sin(phase)  # shoulders turn against the hips
    heading, course = _course(rng, action, style, bones, frames)
    pose = _forward_kinematics(
        angles, trunk, bones, -0.1 * action.leg_swing * np.sin(phase), rng.normal(0, 0.05)
    )
    pose = pose @ np.swapaxes(_turn(heading, 2), -1, -2)
    # The lower ankle stands on the floor. The minimum is soft (1 cm), so that the body does not
    # jerk when the feet change.
    lowest = -np.logaddexp(-pose[:, 3, 2] / 0.01, -pose[:, 6, 2] / 0.01) * 0.01
    pose[..., 2] += ANKLE_HEIGHT - lowest[:, None]
    pose[..., :2] += course[:, None, :]
    return pose


def _limb_angles(
    rng: np.random.Generator,
    action: Action,
    style: np.ndarray,
    phase: np.ndarray,
    beat: np.ndarray,
    side: str,
) -> dict[str, np.ndarray]:
    """Computes the angles for one leg and one arm, `[F]` each, within LIMITS."""
    frames = len(phase)
    slow, arm = (
        smooth_noise(rng, frames, 4, 0.4),
        smooth_noise(rng, frames, 4, action.arm_band) * action.arm_motion,
    )
    crouch = np.clip(action.crouch * style[3] + action.crouch_swing * beat, 0, 1.3)
    walks = 1.0 if action.cadence else 0.0
    # The knee bends most as the leg starts forward.
    lift = ((1 + np.cos(phase + np.pi / 4)) / 2) ** 2
    wave = action.wave if side == "right" else 0.0
    angles = {
        "hip_flexion": action.leg_swing * style[4] * np.sin(phase)
        + 0.1 * walks
        + 1.5 * crouch
        + 0.05 * slow[:, 0],
        "hip_abduction": 0.06 + 0.15 * crouch + 0.04 * slow[:, 1],
        "hip_rotation": 0.1 + 0.06 * slow[:, 2],
        "knee": 0.12 + action.knee_lift * style[5] * lift + 1.55 * crouch + 0.06 * slow[:, 3],
        "shoulder_flexion": action.raise_arms
        - action.arm_swing * np.sin(phase)
        + arm[:, 0]
        + 0.8 * wave,
        "shoulder_abduction": 0.12 + 0.4 * action.arm_motion + 0.6 * arm[:, 1] + 2.0 * wave,
        "shoulder_rotation": arm[:, 2] + wave * beat,
        "elbow": action.elbow
        + 0.3 * action.arm_swing * (1 - np.sin(phase))
        + arm[:, 3]
        + wave * (1 + beat),
    }
    return {name: _limit(angle, *LIMITS[name]) for name, angle in angles.items()}


def _limit(angle: np.ndarray, low: float, high: float) -> np.ndarray:
    """Bends an angle smoothly into (low, high), so that nothing jerks at the limit."""
    middle, half = (low + high) / 2, (high - low) / 2
    return middle + half * np.tanh((angle - middle) / half)


def _course(
    rng: np.random.Generator,
    action: Action,
    style: np.ndarray,
    bones: dict[str, float],
    frames: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Computes heading `[F]` (radians) and place on the floor `[F, 2]`.

    A gait goes round within the studio. Other actions stand and turn a little.
    """
    wander = smooth_noise(rng, frames, 3, 0.25)
    # A cycle has two steps, each as long as the two legs' spread.
    speed = (
        4
        * action.cadence
        * style[0]
        * (bones["thigh"] + bones["shank"])
        * np.sin(action.leg_swing * style[4])
    )
    rate = rng.choice([-1, 1]) * speed / rng.uniform(1.0, 1.5) + 0.35 * wander[:, 0]
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rate) / FPS
    course = np.cumsum(speed * np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0) / FPS
    course += rng.normal(0, 0.2, 2) + 0.03 * wander[:, 1:] - course.mean(axis=0)
    return heading, course * min(1.0, STUDIO_RADIUS / np.linalg.norm(course, axis=1).max())


def _turn(angle: np.ndarray, axis: int) -> np.ndarray:
    """Makes rotation matrices `[..., 3, 3]` by `angle` about axis 0 (x), 1 (y) or 2 (z)."""
    matrix = np.zeros(np.shape(angle) + (3, 3))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix[..., axis, axis] = 1
    matrix[..., first, first] = matrix[..., second, second] = np.cos(angle)
    matrix[..., second, first] = np.sin(angle)
    matrix[..., first, second] = -np.sin(angle)
    return matrix


def _forward_kinematics(
    angles: dict[str, dict[str, np.ndarray]],
    trunk: np.ndarray,
    bones: dict[str, float],
    pelvis_turn: np.ndarray,
    pelvis_roll: float,
) -> np.ndarray:
    """Computes joints `[F, 17, 3]` from angles, with the hip at the origin.

    x is forward, y left, z up.
    """
    frames = len(trunk)
    pose = np.zeros((frames, 17, 3))
    up = np.asarray([0.0, 0.0, 1.0])
    pelvis = _turn(pelvis_turn, 2) @ _turn(np.full(frames, pelvis_roll), 0)
    bend = pelvis
    for joint, parent, bone, share in ((7, 0, "spine", 0.4), (8, 7, "chest", 0.6)):
        bend = (
            bend
            @ _turn(share * trunk[:, 0], 0)
            @ _turn(share * trunk[:, 1], 1)
            @ _turn(share * trunk[:, 2], 2)
        )
        pose[:, joint] = pose[:, parent] + bend @ (bones[bone] * up)
    nod = bend @ _turn(0.35 - 0.6 * trunk[:, 1], 1)  # the face stays nearly upright
    pose[:, 9] = pose[:, 8] + nod @ (bones["neck"] * up)
    pose[:, 10] = pose[:, 9] + nod @ _turn(np.full(frames, -0.3), 1) @ (bones["head"] * up)
    for side, sign, leg, arm in (
        ("left", 1, (4, 5, 6), (11, 12, 13)),
        ("right", -1, (1, 2, 3), (14, 15, 16)),
    ):
        angle = angles[side]
        thigh = (
            pelvis
            @ _turn(-angle["hip_flexion"], 1)
            @ _turn(sign * angle["hip_abduction"], 0)
            @ _turn(sign * angle["hip_rotation"], 2)
        )
        shank = thigh @ _turn(angle["knee"], 1)
        upper = (
            bend
            @ _turn(-angle["shoulder_flexion"], 1)
            @ _turn(sign * angle["shoulder_abduction"], 0)
        )
        upper = upper @ _turn(-sign * angle["shoulder_rotation"], 2)
        forearm = upper @ _turn(-angle["elbow"], 1)
        pose[:, leg[0]] = pelvis @ np.asarray([0, sign * bones["hip"], 0])
        pose[:, arm[0]] = pose[:, 8] + bend @ np.asarray([0, sign * bones["shoulder"], -0.02])
        limbs = (
            (leg, thigh, shank, ("thigh", "shank")),
            (arm, upper, forearm, ("upper_arm", "forearm")),
        )
        for (start, middle, end), near, far, names in limbs:
            pose[:, middle] = pose[:, start] - near @ (bones[names[0]] * up)
            pose[:, end] = pose[:, middle] - far @ (bones[names[1]] * up)
    return pose
