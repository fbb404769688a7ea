/*
 * Reads files of 2D keypoints, and makes the joints that the network reads.
 *
 * A clip is {name, size, fps, frames, persons, notes}. A person has `name`, `first` (the number of
 * the first frame), `frames`, and flat arrays, frame by frame and joint by joint: `points` (pixels,
 * NaN where missing), `scores`, and `seen` (1 where the file has the joint).
 */

const LONGEST_GAP = 0.5; // seconds, which are filled linearly in time, as `kdpose predict` does
const MOST_BYTES = 300e6;
const MOST_FRAMES = 200000; // of all persons
const FARTHEST = 1e6; // pixels: a joint beyond means nothing
// Numbers of frames beyond so many for one with a person, and beyond the second, are no video's.
const [SPARSE, SPARSE_AT_LEAST] = [100, 10000];
// Layouts of lists of results, told apart by the number of joints.
const OF_RESULTS = ["coco_17", "halpe_26", "halpe_68", "halpe_136", "coco_133"];
const KNOWN_FORMATS = "the json of `kdpose predict`, COCO results, AlphaPose's json, or "
  + "{\"size\": [width, height], \"fps\": 30, \"joints\": [names], \"keypoints_2d\": "
  + "[frames][joints][x, y]}";

/** A sentence for the user. */
class Refusal extends Error {}

function refuseUnless(right, sentence) {
  if (!right) throw new Refusal(sentence);
}

/**
 * Reads a file.
 *
 * @param text the file's content
 * @param name the file's name
 * @param defaults {size, fps}: what is taken where the file does not say it; null where not known
 * @param network the page's network: {joints, layouts}
 */
function readKeypoints(text, name, defaults, network) {
  let content;
  try {
    content = JSON.parse(text.replace(/\bNaN\b/g, "null"));
  } catch (error) {
    throw new Refusal(`'${name}' is not JSON (${error.message}): give ${KNOWN_FORMATS}.`);
  }
  const read = [readResults, readPoses, readPlain].find((one) => one.takes(content));
  refuseUnless(read, `'${name}' has no keypoints that this page reads: give ${KNOWN_FORMATS}.`);
  const found = { size: null, fps: null, notes: [], filled: false, ...read(content, name, network) };
  const size = sizeOf(found, defaults, name);
  const fps = rateOf(found, defaults, name);
  const frames = found.persons.reduce((sum, one) => sum + one.rows.length, 0);
  refuseUnless(frames > 0, `'${name}' has nobody in it: give keypoints of at least one frame.`);
  refuseUnless(frames <= MOST_FRAMES, `'${name}' has ${frames} frames, and this page takes up to `
    + `${MOST_FRAMES}: use \`kdpose predict\`.`);
  const { ways, note } = conversionOf(found.joints, network, name);
  const persons = found.persons.map((one) => converted(one, ways, found.joints));
  const longest = found.filled ? 0 : Math.floor(LONGEST_GAP * fps + 1e-6);
  refuseOtherUnits(persons, size, name);
  for (const person of persons) fillGaps(person, network.joints.length, longest);
  const notes = [...found.notes, ...note, ...sharesOf(persons, longest)];
  const length = persons.reduce((most, one) => Math.max(most, one.first + one.frames), 0);
  refuseUnless(persons.some((one) => one.valid.includes(1)), `'${name}' has no frame with all `
    + `${network.joints.length} joints that the network reads: give a video of the whole person.`);
  return { name, size, fps, frames: length, persons, notes };
}

/** Width and height, from the file or else from the user. */
function sizeOf(found, defaults, name) {
  const size = found.size || defaults.size;
  refuseUnless(size, `'${name}' does not say the size of the video: fill in width and height.`);
  const right = Array.isArray(size) && size.length === 2
    && size.every((side) => Number.isInteger(side) && side > 0 && side <= 100000);
  refuseUnless(right, `The size of the video is ${shown(size)}: give whole pixels, such as `
    + "1920 and 1080.");
  return size;
}

function rateOf(found, defaults, name) {
  const fps = found.fps === null ? defaults.fps : found.fps;
  if (found.fps === null) {
    found.notes.push(`'${name}' does not say its rate: ${fps} frames per second are assumed.`);
  }
  const right = Number.isFinite(fps) && fps > 0 && fps <= 1000;
  refuseUnless(right, `The rate is ${shown(fps)}: give frames per second, such as 30.`);
  return fps;
}

/** Refuses coordinates that are not pixels, such as shares of the picture, or of another size. */
function refuseOtherUnits(persons, size, name) {
  let [largest, known, outside] = [0, 0, 0];
  for (const { points } of persons) {
    points.forEach((value, place) => {
      if (Number.isNaN(value)) return;
      largest = Math.max(largest, Math.abs(value));
      known += 1;
      if (value < 0 || value > size[place % 2]) outside += 1;
    });
  }
  const picture = `a video of ${size[0]} x ${size[1]}`;
  refuseUnless(!known || largest > 2 || Math.min(...size) <= 2, `'${name}' has coordinates up to `
    + `${largest.toPrecision(3)}, which are not pixels of ${picture}: multiply shares of the `
    + "picture by width and height.");
  refuseUnless(outside <= known / 2, `'${name}' has ${Math.round((100 * outside) / known)} % of its `
    + `coordinates outside ${picture}: fill in the size of the video that was detected.`);
}

/** A value as it stands in a sentence. */
function shown(value) {
  return (JSON.stringify(value) || String(value)).slice(0, 60);
}

/** COCO results and AlphaPose's json: a list with one person in one picture an entry. */
function readResults(content, name, network) {
  const best = new Map();
  const folders = new Set(content.map((entry) => String(entry.image_id).replace(/[^/\\]*$/, "")));
  refuseUnless(folders.size < 2, `'${name}' has pictures of ${folders.size} folders `
    + `(${[...folders].slice(0, 2).map(shown).join(" and ")}): give the frames of one video.`);
  for (const entry of content) {
    const digits = String(entry.image_id).match(/\d+(?=\D*$)/);
    refuseUnless(digits && Array.isArray(entry.keypoints), `'${name}' has an entry without a `
      + `number in its image_id or without keypoints (${shown(entry)}): give COCO results.`);
    const frame = Number(digits[0]);
    const before = best.get(frame);
    if (!before || scoreOf(entry) > scoreOf(before)) best.set(frame, entry);
  }
  const numbers = [...best.keys()].sort((one, other) => one - other);
  const most = Math.max(SPARSE * numbers.length, SPARSE_AT_LEAST);
  const frames = numbers.at(-1) - numbers[0] + 1;
  const first = numbers.at(-1) < most ? numbers[0] : 0;
  refuseUnless(frames <= most, `'${name}' has ${numbers.length} pictures with `
    + `numbers from ${numbers[0]} to ${numbers.at(-1)}, which are not those of one video: give its frames.`);
  const count = best.get(numbers[0]).keypoints.length / 3;
  const layout = OF_RESULTS.find((one) => network.layouts[one].count === count);
  refuseUnless(layout, `'${name}' has ${count} joints for a person: give one of `
    + `${OF_RESULTS.join(", ")}.`);
  const { joints } = network.layouts[layout];
  const rows = Array.from({ length: frames }, (_, row) => {
    const entry = best.get(row + numbers[0]);
    if (!entry) return null;
    const { keypoints } = entry;
    refuseUnless(keypoints.length === 3 * count, `'${name}' has persons of ${count} and of `
      + `${keypoints.length / 3} joints: give one layout.`);
    return joints.map((_name, joint) => keypoints.slice(3 * joint, 3 * joint + 3));
  });
  const others = content.length - numbers.length;
  const notes = others ? [`${others} further persons were left out: the one with the highest score `
    + "in each picture is shown. `kdpose predict --to json` tells persons apart."] : [];
  return { joints, notes, persons: [{ name: "1", first, rows }] };
}

readResults.takes = (content) => Array.isArray(content) && content.length > 0
  && content.every((one) => one && typeof one === "object" && "keypoints" in one);

function scoreOf(entry) {
  return Number.isFinite(entry.score) ? entry.score : 0;
}

/** The json of `kdpose predict`. Its poses are not read: this page's network makes them again. */
function readPoses(content, name) {
  const persons = content.persons.map((one) => {
    refuseUnless(one && Array.isArray(one.frames) && Number.isInteger(one.first_frame)
      && one.first_frame >= 0 && one.first_frame <= MOST_FRAMES, `'${name}' is damaged: a person `
      + "has no frames or no first_frame.");
    const rows = one.frames.map((frame) => {
      if (!frame || !frame.valid || !Array.isArray(frame.keypoints_2d)) return null;
      const seen = Array.isArray(frame.seen) ? frame.seen : [];
      const scores = Array.isArray(frame.scores) ? frame.scores : [];
      return frame.keypoints_2d.map((point, joint) => (
        Array.isArray(point) ? [point[0], point[1], scores[joint], seen[joint] !== false] : null));
    });
    return { name: String(one.name).slice(0, 60), first: one.first_frame, rows };
  });
  return {
    joints: namesIn(content.joints, name),
    size: content.size || null,
    fps: content.fps === undefined ? null : content.fps,
    persons,
    filled: true,
  };
}

readPoses.takes = (content) => Boolean(content) && Array.isArray(content.persons);

/** One person's keypoints as plain arrays. */
function readPlain(content, name, network) {
  const known = typeof content.joints === "string" && network.layouts[content.joints];
  const joints = known ? known.joints : namesIn(content.joints, name);
  const rows = content.keypoints_2d.map((row, frame) => {
    if (row === null) return null;
    refuseUnless(Array.isArray(row) && row.length === joints.length, `'${name}' names `
      + `${joints.length} joints and has ${row.length} in frame ${frame}: give as many.`);
    return row;
  });
  return {
    joints,
    size: content.size || null,
    fps: content.fps === undefined ? null : content.fps,
    persons: [{ name: "1", first: 0, rows }],
  };
}

readPlain.takes = (content) => Boolean(content) && Array.isArray(content.keypoints_2d);

function namesIn(joints, name) {
  const right = Array.isArray(joints) && joints.length > 0 && joints.length <= 1000
    && joints.every((one) => typeof one === "string") && new Set(joints).size === joints.length;
  refuseUnless(right, `'${name}' has joints ${shown(joints)}: name each joint once, such as `
    + "[\"nose\", \"left_eye\", ...], or write \"coco_17\".");
  return joints;
}

/**
 * How the network's joints are made of a file's: for each one, {joint of the file: share}.
 *
 * build.py takes the ways from `kdpose_jax/keypoints/layouts.json`.
 */
function conversionOf(joints, network, name) {
  if (network.joints.every((one) => joints.includes(one))) {
    return { ways: network.joints.map((one) => ({ [one]: 1 })), note: [] };
  }
  const [layout] = Object.keys(network.layouts)
    .filter((one) => network.layouts[one].joints.every((joint) => joints.includes(joint)))
    .sort((one, other) => network.layouts[other].joints.length - network.layouts[one].joints.length);
  refuseUnless(layout, `'${name}' has the joints ${shown(joints)}, which are neither the `
    + `network's (${network.joints.join(", ")}) nor one of ${Object.keys(network.layouts).join(", ")}.`);
  const { ways, made, absent } = network.layouts[layout];
  refuseUnless(ways, `'${name}' has the joints of ${layout}, which neither have nor can make `
    + `${(absent || []).join(", ")}: give a layout that does.`);
  const note = `Joints of ${layout} were converted to the network's by name`;
  return { ways, note: [made.length ? `${note}; made were: ${made.join("; ")}.` : `${note}.`] };
}

/** A person's flat arrays in the network's joints. */
function converted({ name, first, rows }, ways, joints) {
  const count = ways.length;
  const places = ways.map((way) => (
    Object.entries(way).map(([joint, share]) => [joints.indexOf(joint), share])));
  const points = new Float64Array(rows.length * count * 2).fill(NaN);
  const scores = new Float32Array(rows.length * count);
  const seen = new Uint8Array(rows.length * count);
  rows.forEach((row, frame) => places.forEach((parts, joint) => {
    const sources = row ? parts.map(([place]) => row[place]) : [null];
    if (!sources.every(isThere)) return;
    const at = frame * count + joint;
    for (const axis of [0, 1]) {
      points[2 * at + axis] = parts.reduce((sum, [place, share]) => (
        sum + share * row[place][axis]), 0);
    }
    const given = sources.map((one) => (Number.isFinite(one[2]) ? one[2] : 1));
    seen[at] = sources.every((one) => one[3] !== false) ? 1 : 0;
    scores[at] = Math.min(...given);
  }));
  return { name, first, frames: rows.length, points, scores, seen };
}

/** Whether a joint was found. Detectors write 0, 0 or -1, -1 or a score of 0 for one that was not. */
function isThere(point) {
  const [x, y] = Array.isArray(point) ? point : [];
  if (![x, y].every((one) => typeof one === "number" && Math.abs(one) <= FARTHEST)) return false;
  if (point[3] === false) return true; // interpolated before
  return [0, -1].every((mark) => x !== mark || y !== mark)
    && (point[2] === undefined || point[2] > 0);
}

/** Fills gaps of at most `longest` frames, joint by joint, and marks frames with all joints. */
function fillGaps(person, joints, longest) {
  const { points, frames } = person;
  for (let joint = 0; joint < joints; joint += 1) {
    let last = -1;
    for (let frame = 0; frame < frames; frame += 1) {
      if (Number.isNaN(points[2 * (frame * joints + joint)])) continue;
      const missing = frame - last - 1;
      if (last >= 0 && missing > 0 && missing <= longest) fillGap(points, joints, joint, last, frame);
      last = frame;
    }
  }
  person.valid = new Uint8Array(frames).map((_, frame) => {
    const row = points.subarray(2 * frame * joints, 2 * (frame + 1) * joints);
    return row.some(Number.isNaN) ? 0 : 1;
  });
}

/** Fills one joint between two frames that have it. */
function fillGap(points, joints, joint, left, right) {
  for (let frame = left + 1; frame < right; frame += 1) {
    const share = (frame - left) / (right - left);
    for (const axis of [0, 1]) {
      const at = (one) => 2 * (one * joints + joint) + axis;
      points[at(frame)] = points[at(left)] * (1 - share) + points[at(right)] * share;
    }
  }
}

/** Says how many joints were interpolated, and how many frames have no pose. */
function sharesOf(persons, longest) {
  const count = (list) => persons.reduce((sum, one) => sum + list(one), 0);
  const total = count((one) => one.seen.length);
  const missing = total - count((one) => one.seen.reduce((sum, value) => sum + value, 0));
  const without = count((one) => one.valid.length - one.valid.reduce((sum, value) => sum + value, 0));
  const notes = [];
  if (missing && longest) {
    notes.push(`${missing} of ${total} joints are not in the file. Gaps of up to ${longest} frames `
      + `(${LONGEST_GAP} s) are filled linearly in time.`);
  }
  if (without) notes.push(`${without} frames have no pose, because joints are missing in them.`);
  return notes;
}
