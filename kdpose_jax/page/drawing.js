/* Draws bodies on canvases: a spot is [x, y, depth] in CSS pixels, or null. */

const PALE_BELOW = 0.5; // a joint with a lower score is paler
const BESIDE = 1.1; // metres between persons that stand side by side
const COLOURS = ["panel", "ink", "quiet", "line", "left", "right", "middle", "truth", "teacher"];

/** Fits a canvas to its box on the screen, and returns its context in CSS pixels. */
function contextOf(canvas) {
  const dots = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * dots);
  const height = Math.round(canvas.clientHeight * dots);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.setTransform(dots, 0, 0, dots, 0, 0);
  context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
  return context;
}

/** The colours and the typeface that the page's style has now. */
function lookOfPage(element) {
  const style = getComputedStyle(element);
  const colours = COLOURS.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]);
  const axis = parseFloat(style.getPropertyValue("--axis"));
  return { ...Object.fromEntries(colours), typeface: style.fontFamily, axis };
}

/** Draws a line through points. A null breaks it. */
function strokeThrough(context, points) {
  context.beginPath();
  let open = false;
  for (const point of points) {
    if (point) context[open ? "lineTo" : "moveTo"](point[0], point[1]);
    open = Boolean(point);
  }
  context.stroke();
}

/** The bones whose ends are there, as [parent, child], the farthest first. */
function bonesOf(scene, spots) {
  const bones = scene.parents.map((parent, child) => [parent, child]);
  const depth = ([parent, child]) => (spots[parent][2] || 0) + (spots[child][2] || 0);
  return bones
    .filter(([parent, child]) => parent >= 0 && spots[parent] && spots[child])
    .sort((one, other) => depth(other) - depth(one));
}

/** Draws a body in one colour: a shadow, a teacher or the truth. */
function drawOutline(context, scene, spots, colour, width) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.lineCap = "round";
  for (const [parent, child] of bonesOf(scene, spots)) {
    strokeThrough(context, [spots[parent], spots[child]]);
  }
}

/**
 * Draws a body in the colours of its sides.
 *
 * @param strength of each joint, from 0 to 1; a bone is as strong as its weaker joint
 * @param hollow whether each joint is drawn as a ring
 */
function drawBody(context, scene, look, spots, { width, strength, hollow }) {
  context.lineCap = "round";
  for (const [parent, child] of bonesOf(scene, spots)) {
    context.strokeStyle = look.panel; // a rim, which sets near bones off from far ones
    context.lineWidth = width + 3;
    strokeThrough(context, [spots[parent], spots[child]]);
    context.globalAlpha = Math.min(strength[parent], strength[child]);
    context.strokeStyle = look[scene.sides[child]];
    context.lineWidth = width;
    strokeThrough(context, [spots[parent], spots[child]]);
    context.globalAlpha = 1;
  }
  spots.forEach((spot, joint) => {
    if (!spot) return;
    const colour = look[scene.sides[joint]];
    context.beginPath();
    context.arc(spot[0], spot[1], width * 0.75 + 1, 0, 2 * Math.PI);
    context.fillStyle = look.panel;
    context.fill();
    context.globalAlpha = strength[joint];
    context.fillStyle = hollow[joint] ? look.panel : colour;
    context.strokeStyle = colour;
    context.lineWidth = 1.5;
    context.fill();
    if (hollow[joint]) context.stroke();
    context.globalAlpha = 1;
  });
}

/** How a person's body is drawn in a frame: pale where scores are low, rings where interpolated. */
function styleOf(scene, person, frame, width, dim) {
  const start = (frame - person.first) * scene.joints.length;
  const strength = scene.joints.map((_, joint) => {
    const score = person.scores[start + joint];
    return dim * (score < PALE_BELOW ? 0.25 + (0.5 * score) / PALE_BELOW : 1);
  });
  return { width, strength, hollow: scene.joints.map((_, joint) => !person.seen[start + joint]) };
}

/**
 * A function from a point in space to its spot. The floor is where y is 0.
 *
 * @param view {yaw, pitch, zoom}: angles in radians
 * @param height of a body, metres
 * @param width that all bodies take, metres
 */
function cameraOf(canvas, view, height, width) {
  const away = Math.max(5, 3 * height);
  const metre = Math.min(canvas.clientHeight / (1.35 * height), canvas.clientWidth / width);
  const [cosYaw, sinYaw] = [Math.cos(view.yaw), Math.sin(view.yaw)];
  const [cosPitch, sinPitch] = [Math.cos(view.pitch), Math.sin(view.pitch)];
  return ([x, y, z]) => {
    const level = y + height / 2;
    const [across, behind] = [cosYaw * x + sinYaw * z, cosYaw * z - sinYaw * x];
    const depth = cosPitch * behind + sinPitch * level;
    const scale = (view.zoom * metre * away) / Math.max(0.1, away + depth);
    return [
      canvas.clientWidth / 2 + across * scale,
      canvas.clientHeight / 2 + (cosPitch * level - sinPitch * behind) * scale,
      depth,
    ];
  };
}

/** Draws the floor, from -wide to wide and 2 m deep. */
function drawFloor(context, camera, colour, wide) {
  const step = 0.25;
  context.strokeStyle = colour;
  context.lineWidth = 1;
  for (let x = -wide; x <= wide; x += step) {
    strokeThrough(context, [camera([x, 0, -1]), camera([x, 0, 1])]);
  }
  for (let z = -1; z <= 1; z += step) {
    strokeThrough(context, [camera([-wide, 0, z]), camera([wide, 0, z])]);
  }
}
