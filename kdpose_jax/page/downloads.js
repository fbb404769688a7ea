/* Writes the page's poses as csv and as JSON, for other programs. */

const DIGITS = { space: 4, picture: 2 };

/** A number as short as its precision allows, or what stands for a missing one. */
function rounded(value, digits, missing) {
  return Number.isFinite(value) ? Number(value.toFixed(digits)) : missing;
}

/** The columns of coordinates that a scene fills. */
function columnsOf(scene) {
  const names = { space: ["x_m", "y_m", "z_m"], picture: ["u_px", "v_px"] };
  const columns = [];
  for (const source of ["network", "teacher", "truth"]) {
    for (const kind of ["space", "picture"]) {
      if (!scene.persons.some((one) => one[source] && one[source][kind])) continue;
      const owner = source === "network" ? "" : `${source}_`;
      names[kind].forEach((name, axis) => columns.push({ name: owner + name, source, kind, axis }));
    }
  }
  return columns;
}

/** The scene as a table. A row is one joint in one frame. */
function csvOf(scene) {
  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const columns = columnsOf(scene);
  const head = ["frame", "time_s", "person", "joint", ...columns.map((one) => one.name)];
  const lines = [[...head, "score", "seen"].join(",")];
  for (const person of scene.persons) {
    for (let row = 0; row < person.frames; row += 1) {
      const number = (row + person.first) * scene.stride;
      const time = rounded(number / scene.fps, 4, "");
      scene.joints.forEach((name, joint) => {
        const place = row * scene.joints.length + joint;
        const values = columns.map(({ source, kind, axis }) => {
          const point = pointOf(scene, person, source, kind, row + person.first, joint);
          return point ? rounded(point[axis], DIGITS[kind], "") : "";
        });
        const score = rounded(person.scores[place], 3, "");
        const about = [number, time, quoted(person.name), quoted(name)];
        lines.push([...about, ...values, score, person.seen[place]].join(","));
      });
    }
  }
  return `${lines.join("\n")}\n`;
}

/** The clip as JSON. Arrays are [frame][joint][axis], with null where a joint is missing. */
function jsonOf(scene, about) {
  const joints = scene.joints.length;
  const grid = (rows, cell) => Array.from({ length: rows }, (_, row) => (
    scene.joints.map((_name, joint) => cell(row * joints + joint))));
  const nested = (values, rows, kind) => values && grid(rows, (place) => (
    Array.from(values.subarray(place * AXES[kind], (place + 1) * AXES[kind]), (value) => (
      rounded(value, DIGITS[kind], null)))));
  const poses = (one, rows) => one && {
    pose_3d_m: nested(one.space, rows, "space"),
    keypoints_2d_px: nested(one.picture, rows, "picture"),
  };
  const persons = scene.persons.map((one) => ({
    name: one.name,
    frames: Array.from({ length: one.frames }, (_, row) => (row + one.first) * scene.stride),
    ...poses(one.network, one.frames),
    scores: grid(one.scores.length / joints, (place) => rounded(one.scores[place], 3, null)),
    seen: grid(one.frames, (place) => Boolean(one.seen[place])),
    teacher: poses(one.teacher, one.frames),
    truth: poses(one.truth, one.frames),
  }));
  const { parents, root, fps, size, stride } = scene;
  const skeleton = { joints: scene.joints, parents, root };
  return JSON.stringify({ ...about, ...skeleton, fps, size, stride, persons });
}

/** Gives the user a file. */
function download(name, kind, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
