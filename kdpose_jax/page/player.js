/* Plays a clip on two canvases: as a camera saw it (2D), and in space (3D). Curves lie below. */

const START = { yaw: 0.6, pitch: 0.2, zoom: 1 };
const OVERLAYS = ["teacher", "truth"];
const DASHES = { network: [], teacher: [1, 3], truth: [5, 3] };

/** A section of the page as player.html has it, which shows one clip at a time. */
class Player {
  constructor(section) {
    this.section = section;
    this.part = (name) => section.querySelector(`.${name}`);
    this.view = { ...START };
    this.shown = { teacher: true, truth: true };
    this.speed = 1;
    this.playing = false;
    this.spots = {}; // where the chosen person's joints are drawn, which tests read
    listenToControls(this);
    listenToKeys(this);
    listenToPointers(this, this.part("space"));
    listenToTheLook(this);
  }

  /** Shows a clip from the page's data. */
  open(clip) {
    this.show(clip, unpack(clip.scene));
  }

  /** Shows a clip whose scene is unpacked. */
  show(clip, scene) {
    Object.assign(this, { clip, scene, position: 0 });
    this.angles = anglesOf(this.scene);
    this.angle = this.angles[0];
    const { flat, persons } = this.scene;
    this.charts = {
      angles: new Chart(this.part("of-angles"), { unit: "°", digits: 0, steps: [15, 30, 45, 90] }),
      errors: new Chart(this.part("of-errors"), {
        unit: flat ? " px" : " mm", digits: flat ? 1 : 0, steps: null }),
    };
    this.measure();
    this.fillIn();
    const longest = Math.max(...persons.map((one) => one.frames));
    this.choose(persons.findIndex((one) => one.frames === longest));
    this.seek(Math.max(0, this.gaps.indexOf(false)));
  }

  get frame() {
    return Math.floor(this.position);
  }

  get person() {
    return this.scene.persons[this.chosen];
  }

  /** The kind of coordinates that errors and angles are computed from. */
  get kind() {
    return this.scene.flat ? "picture" : "space";
  }

  /** Finds how tall bodies are, where persons stand, and which part of the picture they fill. */
  measure() {
    const { scene } = this;
    const [heights, places] = [[], []];
    for (const person of scene.persons) {
      const frames = spread(person.frames, 200).map((row) => row + person.first);
      const points = (kind) => frames.map((frame) => (
        poseOf(scene, person, "network", kind, frame).filter(Boolean)));
      for (const pose of points("space").filter((one) => one.length)) {
        const levels = pose.map((point) => point[1]);
        heights.push(Math.max(...levels) - Math.min(...levels));
      }
      const spots = points("picture").flat();
      places.push(...spots);
      person.across = quantile(spots.map((spot) => spot[0]), 0.5) || 0;
    }
    this.height = Math.max(0.2, quantile(heights, 0.95) || 1.7);
    const end = (axis, share, otherwise) => (
      places.length ? quantile(places.map((place) => place[axis]), share) : otherwise);
    const [left, right] = [end(0, 0.005, 0), end(0, 0.995, scene.size[0])];
    const [top, bottom] = [end(1, 0.005, 0), end(1, 0.995, scene.size[1])];
    const rim = 0.12 * Math.max(right - left, bottom - top, 10);
    this.near = [left - rim, top - rim, right + rim, bottom + rim];
    const share = Math.max((right - left) / scene.size[0], (bottom - top) / scene.size[1]);
    this.small = share < 0.6;
  }

  /** Writes the clip's choices into the section, and hides what it has no use for. */
  fillIn() {
    const { scene, part } = this;
    const persons = scene.persons.length;
    const list = (select, names) => (
      select.replaceChildren(...names.map((name, place) => new Option(name, place))));
    list(part("person"), scene.persons.map((one) => one.name));
    list(part("angle"), this.angles.map((one) => one.name));
    part("others").checked = persons <= 4;
    part("slider").max = scene.frames - 1;
    part("keyframe").textContent = `keyframe (one frame in ${scene.keyframe_stride})`;
    const size = `${scene.size[0]} × ${scene.size[1]} pixels`;
    part("about-2d").textContent = scene.nominal ? "The picture's size is not known." : size;
    const overlays = OVERLAYS.filter((name) => scene.persons.some((one) => one[name]));
    const whom = overlays.map((name) => `the ${name}`).join(" and ");
    part("about-error").textContent = `mean distance of the joints from ${whom}`;
    this.section.classList.toggle("flat", scene.flat);
    const needed = {
      "only-3d": !scene.flat,
      "only-persons": persons > 1,
      "only-small": this.small,
      "only-keyframes": scene.keyframe_stride > 1,
      "only-teacher": overlays.includes("teacher"),
      "only-truth": overlays.includes("truth"),
      "of-errors": overlays.length > 0,
      "of-angles": this.angles.length > 0,
    };
    for (const [name, use] of Object.entries(needed)) {
      for (const one of this.section.querySelectorAll(`.${name}`)) one.hidden = !use;
    }
  }

  /** Turns the view by angles in radians, and zooms by a factor. */
  turn(yaw, pitch, zoom) {
    this.view.yaw += yaw;
    this.view.pitch = Math.min(1.5, Math.max(-0.3, this.view.pitch + pitch));
    this.view.zoom = Math.min(8, Math.max(0.3, this.view.zoom * zoom));
    this.draw();
  }

  /** Shows poses that came into the scene after it was opened. */
  refresh() {
    this.measure();
    this.choose(this.chosen);
  }

  /** Goes to a frame of the scene, or to the nearest one that exists. */
  seek(frame) {
    this.position = Math.min(this.scene.frames - 1, Math.max(0, frame));
    this.draw();
  }

  /** Chooses the person that the curves are about. */
  choose(person) {
    this.chosen = person;
    this.part("person").value = person;
    this.gaps = Array.from({ length: this.scene.frames }, (_, frame) => (
      !hasPose(this.scene, this.person, this.kind, frame)));
    this.part("only-gaps").hidden = !this.gaps.includes(true);
    this.compute();
  }

  /** Plays or stops. After the last frame comes the first one. */
  play(yes) {
    this.playing = yes;
    this.part("play").textContent = yes ? "Pause" : "Play";
    let last = performance.now();
    const step = (now) => {
      if (!this.playing) return;
      const { fps, stride, frames } = this.scene;
      const moved = (Math.max(0, now - last) / 1000) * (fps / stride) * this.speed;
      this.position = (this.position + moved) % frames;
      last = now;
      this.draw();
      requestAnimationFrame(step);
    };
    if (yes) requestAnimationFrame(step);
  }

  /** Computes the curves of the chosen person. */
  compute() {
    const { scene, person, kind } = this;
    const over = (value) => new Float32Array(scene.frames).map((_, frame) => value(frame));
    const at = (source, frame, joint) => pointOf(scene, person, source, kind, frame, joint);
    const shown = OVERLAYS.filter((name) => person[name] && this.shown[name]);
    const angles = ["network", ...shown].flatMap((source) => (
      this.angle ? this.angle.lines : []).map(({ side, joints }) => ({
      name: source === "network" ? side : "",
      colour: side,
      dashes: DASHES[source],
      values: over((frame) => angleAt(...joints.map((joint) => at(source, frame, joint)))),
    })));
    const errors = shown.map((source) => ({
      name: source,
      colour: source,
      dashes: [],
      values: over((frame) => (
        (scene.flat ? 1 : 1000) * meanDistance(scene, person, source, kind, frame))),
    }));
    this.charts.angles.show(angles, scene);
    this.charts.errors.show(errors, scene);
    this.redraw();
  }

  /** Draws everything, in the page's size and colours of now. */
  redraw() {
    if (!this.charts) return;
    this.look = lookOfPage(this.section);
    for (const chart of Object.values(this.charts)) chart.render(this.look);
    this.drawTicks();
    this.draw();
  }

  /** Draws the frame. */
  draw() {
    if (!this.look) return;
    const { scene, frame } = this;
    const number = frame * scene.stride;
    const now = `frame ${number}, ${(number / scene.fps).toFixed(2)} s`;
    this.part("slider").value = frame;
    this.part("slider").setAttribute("aria-valuetext", now);
    this.part("now").textContent = now;
    for (const [name, kind] of [["picture", "2D"], ["space", "3D"]]) {
      this.part(name).setAttribute("aria-label", `${kind} pose of ${this.person.name}, ${now}`);
    }
    this.drawPicture();
    if (!scene.flat) this.drawSpace();
    for (const chart of Object.values(this.charts)) chart.mark(frame);
  }

  /** The persons that are drawn, from left to right in the picture. */
  visible() {
    const others = this.part("others").checked;
    return this.scene.persons
      .filter((one) => others || one === this.person)
      .sort((one, other) => one.across - other.across);
  }

  /**
   * Draws one person and what lies over it.
   *
   * @param place a function from a position to its spot
   */
  drawPerson(context, person, kind, width, place) {
    const { scene, frame, look } = this;
    const pose = (source) => (
      poseOf(scene, person, source, kind, frame).map((point) => point && place(point)));
    const spots = pose("network");
    const dim = person === this.person ? 1 : 0.4;
    const drawOverlays = () => {
      for (const name of OVERLAYS.filter((one) => this.shown[one] && person[one])) {
        drawOutline(context, scene, pose(name), look[name], 1.6);
      }
    };
    if (kind === "picture") drawOverlays(); // mostly the same keypoints, which would be covered
    drawBody(context, scene, look, spots, styleOf(scene, person, frame, width, dim));
    if (kind === "space") drawOverlays();
    if (person === this.person) this.spots[kind] = spots;
  }

  drawPicture() {
    const canvas = this.part("picture");
    const context = contextOf(canvas);
    const [wide, high] = this.scene.size;
    const all = [-0.03 * wide, -0.03 * high, 1.03 * wide, 1.03 * high];
    const [left, top, right, bottom] = this.small && !this.part("whole").checked ? this.near : all;
    const { clientWidth: width, clientHeight: height } = canvas;
    const scale = Math.min(width / (right - left), height / (bottom - top));
    const place = ([x, y]) => [
      width / 2 + (x - (left + right) / 2) * scale,
      height / 2 + (y - (top + bottom) / 2) * scale,
    ];
    context.strokeStyle = this.look.line;
    context.lineWidth = 1;
    context.strokeRect(...place([0, 0]), wide * scale, high * scale);
    for (const person of this.visible()) this.drawPerson(context, person, "picture", 3, place);
    this.sayIfAbsent(context, canvas);
  }

  drawSpace() {
    const canvas = this.part("space");
    const context = contextOf(canvas);
    const { scene, frame, height } = this;
    const persons = this.visible();
    const half = ((persons.length - 1) / 2) * BESIDE;
    const camera = cameraOf(canvas, this.view, height, 1.2 * height + 2 * half);
    drawFloor(context, camera, this.look.line, 1 + Math.ceil(half * 4) / 4);
    this.part("beside").hidden = persons.length === 1;
    persons.forEach((person, number) => {
      const pose = poseOf(scene, person, "network", "space", frame);
      const levels = pose.filter(Boolean).map((point) => point[1]);
      const floor = levels.length ? Math.max(...levels) : height / 2;
      const aside = number * BESIDE - half;
      const shadow = pose.map((point) => point && camera([point[0] + aside, 0, point[2]]));
      drawOutline(context, scene, shadow, this.look.line, 4);
      this.drawPerson(context, person, "space", 4.5, ([x, y, z]) => (
        camera([x + aside, y - floor, z])));
    });
    this.sayIfAbsent(context, canvas);
  }

  /** Says on a canvas that the chosen person has no pose in this frame. */
  sayIfAbsent(context, canvas) {
    if (!this.gaps[this.frame]) return;
    context.fillStyle = this.look.quiet;
    context.font = `14px ${this.look.typeface}`;
    context.textAlign = "center";
    context.fillText("no pose in this frame", canvas.clientWidth / 2, 28);
  }

  /** Draws keyframes and gaps above the slider. */
  drawTicks() {
    const canvas = this.part("ticks");
    const context = contextOf(canvas);
    const { left, right } = plotOf(canvas, this.look);
    const { frames, stride, keyframe_stride: every, keyframe_offset: from } = this.scene;
    const apart = (right - left) / Math.max(1, frames - 1);
    const fill = (colour, frame, width, top) => {
      context.fillStyle = colour;
      context.fillRect(left + frame * apart - width / 2, top, width, canvas.clientHeight - top);
    };
    for (let frame = 0; frame < frames; frame += 1) {
      if (this.gaps[frame]) fill(this.look.line, frame, apart + 0.5, 0);
    }
    if (every < 2 || (apart * every) / stride < 3) return; // they would be a grey bar
    for (let frame = 0; frame < frames; frame += 1) {
      if ((frame * stride - from) % every === 0) fill(this.look.quiet, frame, 1, 4);
    }
  }
}
