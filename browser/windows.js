/*
 * Cuts a clip into the network's windows, as `kdpose_jax.load` does.
 *
 * Windows lie end to end, the last one ends with the video, and a frame that two windows have is
 * taken from the first. The first and the last frame are repeated beyond the ends. Frames between
 * two gaps are a video of their own.
 */

/** The runs of frames with all joints, as [first, end]. */
function stretchesOf(valid) {
  const stretches = [];
  valid.forEach((yes, frame) => {
    if (yes && !valid[frame - 1]) stretches.push([frame, frame]);
    if (yes) stretches.at(-1)[1] = frame + 1;
  });
  return stretches;
}

/**
 * All windows of a clip, in order.
 *
 * @returns each as {person, first, end, start, own}: a stretch of the person's frames, where the
 *   window begins, and the frames [from, to] that it decides
 */
function windowsOf(persons, { predicted }) {
  return persons.flatMap((person) => stretchesOf(person.valid).flatMap(([first, end]) => {
    const count = Math.ceil((end - first) / predicted);
    return Array.from({ length: count }, (_, number) => {
      const from = first + number * predicted;
      const start = Math.max(first, Math.min(from, end - predicted));
      return { person, first, end, start, own: [from, Math.min(from + predicted, end)] };
    });
  }));
}

/** What the network reads of a window: screen units, x from -1 to 1 and y on the same scale. */
function inputOf({ person, first, end, start }, network, [width, height]) {
  const joints = network.joints.length;
  const input = new Float32Array(network.window * joints * 2);
  for (let row = 0; row < network.window; row += 1) {
    const frame = Math.min(end - 1, Math.max(first, start - network.before + row));
    for (let joint = 0; joint < joints; joint += 1) {
      const [from, to] = [2 * (frame * joints + joint), 2 * (row * joints + joint)];
      input[to] = (person.points[from] / width) * 2 - 1;
      input[to + 1] = (person.points[from + 1] / width) * 2 - height / width;
    }
  }
  return input;
}

/** Puts a window's poses where they belong in the person's poses. */
function keepPoses({ start, own: [from, to] }, poses, space, joints) {
  const size = joints * 3;
  space.set(poses.subarray((from - start) * size, (to - start) * size), from * size);
}

/**
 * Which frames of the clip the network reads, [one in so many, from which one], as `kdpose predict`
 * says it. It is [1, 0] if they are not the same for all persons, stretches and windows.
 */
function keyframesOf(persons, network) {
  const { keyframe_stride: every, keyframe_offset: offset, before, predicted } = network;
  const firsts = persons.flatMap((person) => stretchesOf(person.valid).map(([start]) => (
    (person.first + start + offset - before + every * before) % every)));
  const fixed = network.keyframe_selection === "uniform" && predicted % every === 0
    && new Set(firsts).size === 1;
  return fixed ? [every, firsts[0]] : [1, 0];
}

/** The clip as the player shows it. No frame has a pose in space yet. */
function sceneOf(clip, network) {
  const side = (name) => (/^(left|right)/i.exec(name) || ["middle"])[0].toLowerCase();
  const joints = network.joints.length;
  const [every, from] = keyframesOf(clip.persons, network);
  return {
    joints: network.joints,
    parents: network.parents,
    fps: clip.fps,
    size: clip.size,
    stride: 1,
    frames: clip.frames,
    keyframe_stride: every,
    keyframe_offset: from,
    sides: network.joints.map(side),
    flat: false,
    persons: clip.persons.map((person) => ({
      ...person,
      network: {
        space: new Float32Array(person.frames * joints * 3).fill(NaN),
        picture: Float32Array.from(person.points),
      },
    })),
  };
}
