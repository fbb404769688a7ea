"use strict";
/*
 * Reads the page's data, and computes what its curves show. It draws nothing.
 *
 * The data are a JSON object with `clips`. A clip's `scene` has the keys that encoding.py writes.
 * Space has the camera's axes (x right, y down, z away) in metres. A picture has pixels.
 */

const MISSING = -32768;
const NO_SCORE = 255;
const AXES = { space: 3, picture: 2 };
// A name, and the joints of one side. The angle is at the second joint.
const ANGLES = [
  ["Knees", "hip", "knee", "ankle"],
  ["Hips", "shoulder", "hip", "knee"],
  ["Elbows", "shoulder", "elbow", "wrist"],
  ["Shoulders", "hip", "shoulder", "elbow"],
];

/** The bytes of a text in base64. */
function bytesOf(text) {
  const letters = atob(text);
  return new Uint8Array(letters.length).map((_, place) => letters.charCodeAt(place));
}

/** Coordinates from a text of int16, which count steps of a length. A missing one is NaN. */
function coordinatesOf(text, step) {
  if (!text) return null;
  const counts = new Int16Array(bytesOf(text).buffer);
  return new Float32Array(counts).map((count) => (count === MISSING ? NaN : count * step));
}

/** The scene with arrays instead of texts. They are flat: frame by frame, joint by joint. */
function unpack(packed) {
  const poses = (one) => one && {
    space: coordinatesOf(one.pose_3d, packed.metres),
    picture: coordinatesOf(one.keypoints_2d, packed.pixels),
  };
  const persons = packed.persons.map((one) => {
    const bits = bytesOf(one.seen);
    const seen = new Uint8Array(one.frames * packed.joints.length);
    return {
      ...one,
      network: poses(one),
      teacher: poses(one.teacher),
      truth: poses(one.truth),
      scores: new Float32Array(bytesOf(one.scores)).map((count) => (
        count === NO_SCORE ? NaN : count * packed.score)),
      seen: seen.map((_, place) => (bits[place >> 3] >> (place & 7)) & 1),
    };
  });
  const side = (name) => (/^(left|right)/i.exec(name) || ["middle"])[0].toLowerCase();
  const flat = !persons.some((one) => one.network.space);
  return { ...packed, persons, sides: packed.joints.map(side), flat };
}

/**
 * The position of a joint in a frame of the scene, or null where there is none.
 *
 * @param source whose: "network", "teacher" or "truth"
 * @param kind "space" or "picture"
 */
function pointOf(scene, person, source, kind, frame, joint) {
  const values = person[source] && person[source][kind];
  const row = frame - person.first;
  if (!values || row < 0 || row >= person.frames) return null;
  const start = (row * scene.joints.length + joint) * AXES[kind];
  if (Number.isNaN(values[start])) return null;
  return Array.from(values.subarray(start, start + AXES[kind]));
}

/** The positions of all joints in a frame. */
function poseOf(scene, person, source, kind, frame) {
  return scene.joints.map((_, joint) => pointOf(scene, person, source, kind, frame, joint));
}

/** The angle at `middle` in degrees, where 180 is straight. NaN where a joint is missing. */
function angleAt(first, middle, last) {
  if (!first || !middle || !last) return NaN;
  const one = first.map((value, axis) => value - middle[axis]);
  const other = last.map((value, axis) => value - middle[axis]);
  const dot = one.reduce((sum, value, axis) => sum + value * other[axis], 0);
  const cosine = dot / Math.hypot(...one) / Math.hypot(...other);
  return (Math.acos(Math.min(1, Math.max(-1, cosine))) * 180) / Math.PI;
}

/** The mean distance from another's joints, over those that both have. NaN where there is none. */
function meanDistance(scene, person, source, kind, frame) {
  const row = frame - person.first;
  if (row < 0 || row >= person.frames) return NaN;
  const [mine, other] = [person.network[kind], person[source][kind]];
  if (!mine || !other) return NaN;
  const size = scene.joints.length * AXES[kind];
  let [sum, count] = [0, 0];
  for (let start = row * size; start < (row + 1) * size; start += AXES[kind]) {
    let squares = 0;
    for (let place = start; place < start + AXES[kind]; place += 1) {
      squares += (mine[place] - other[place]) ** 2;
    }
    if (Number.isNaN(squares)) continue;
    sum += Math.sqrt(squares);
    count += 1;
  }
  return sum / count;
}

/** Whether any joint of a person has a place in a frame. */
function hasPose(scene, person, kind, frame) {
  const row = frame - person.first;
  const values = person.network[kind];
  if (!values || row < 0 || row >= person.frames) return false;
  const size = scene.joints.length * AXES[kind];
  return values.subarray(row * size, (row + 1) * size).some((value) => !Number.isNaN(value));
}

/** The angles of this skeleton: a name, and lines with three joints and a side. */
function anglesOf(scene) {
  const pairs = ANGLES.map(([name, ...parts]) => ({
    name,
    lines: ["left", "right"].map((side) => (
      { side, joints: parts.map((part) => scene.joints.indexOf(`${side}_${part}`)) })),
  })).filter((pair) => pair.lines.every((line) => !line.joints.includes(-1)));
  if (pairs.length) return pairs;
  // Another skeleton: every joint that has one bone on either side.
  return scene.parents.flatMap((parent, joint) => {
    const children = scene.parents.flatMap((one, child) => (one === joint ? [child] : []));
    if (parent < 0 || children.length !== 1) return [];
    const line = { side: scene.sides[joint], joints: [parent, joint, children[0]] };
    return [{ name: scene.joints[joint], lines: [line] }];
  });
}

/** The value below which a share of the numbers lies. Undefined where there are no numbers. */
function quantile(numbers, share) {
  const sorted = Float64Array.from(numbers).filter(Number.isFinite).sort();
  return sorted[Math.round(share * (sorted.length - 1))];
}

/** At most `count` whole numbers below `end`, evenly spread. */
function spread(end, count) {
  const step = Math.max(1, Math.ceil(end / count));
  return Array.from({ length: Math.ceil(end / step) }, (_, place) => place * step);
}
