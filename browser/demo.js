/* Runs the network on a clip, window by window, while the player shows it. */

const BUDGET = 12; // milliseconds of the network between two pictures
const PAUSE = 250; // milliseconds between two computations of the curves
const RECENT = 200; // windows whose times are shown

/** The page: files in, poses out. */
class Demo {
  /** @param data what build.py writes: {network, sample, runtime} */
  constructor(data) {
    this.network = data.network;
    this.sample = data.sample;
    this.player = new Player(document.querySelector(".player"));
    this.part = (name) => document.querySelector(`.${name}`);
    this.files = 0; // opened so far
    listenToFiles(this);
  }

  /** Loads the network and shows the sample. */
  async start({ sizes, bytes }) {
    this.tell("The network is being loaded ...");
    const decoded = Object.entries(bytes).map(([name, text]) => [name, bytesOf(text)]);
    this.run = await runtime.openNetwork({ sizes, ...Object.fromEntries(decoded) });
    this.tell("The network is ready: open a file of keypoints.");
    if (this.sample && !this.files) this.openSample();
    await this.work();
  }

  /** Shows the clip in the page, with the true pose over it. */
  openSample() {
    this.last = null;
    this.files += 1;
    const { file, truth, name } = this.sample;
    this.openText(JSON.stringify(file), name);
    if (!truth) return;
    const space = Float32Array.from(truth.flat(2));
    this.player.scene.persons[0].truth = { space, picture: null };
    this.player.fillIn();
    this.player.refresh();
  }

  /** Opens a file that the user chose. */
  async openFile(file) {
    this.last = file;
    this.files += 1;
    const number = this.files;
    this.refuse("");
    try {
      refuseUnless(file.size <= MOST_BYTES, `'${file.name}' has ${file.size} bytes, and this page `
        + `takes up to ${MOST_BYTES}: use \`kdpose predict\`.`);
      const text = await file.text();
      if (number === this.files) this.openText(text, file.name);
    } catch (error) {
      this.refuse(error instanceof Refusal ? error.message
        : `'${file.name}' cannot be read (${error.message}): give ${KNOWN_FORMATS}.`);
    }
  }

  /** Opens keypoints, and shows them. */
  openText(text, name) {
    const clip = readKeypoints(text, name, this.defaults(), this.network);
    this.refuse("");
    this.clip = clip;
    this.windows = windowsOf(clip.persons, this.network);
    this.lifted = new Uint8Array(this.windows.length);
    this.pointer = 0; // no earlier window is left
    this.entered = -1;
    this.times = [];
    this.refreshed = 0;
    const scene = sceneOf(clip, this.network);
    this.spaces = new Map(clip.persons.map((one, place) => (
      [one, scene.persons[place].network.space])));
    this.places = clip.persons.map((one) => new Int32Array(one.frames).fill(-1));
    this.windows.forEach(({ person, own: [from, to] }, number) => (
      this.places[clip.persons.indexOf(person)].fill(number, from, to)));
    const { name: network, fingerprint } = this.network;
    this.part("player").hidden = false;
    this.player.show({ name, about: { title: name, network, fingerprint, notes: clip.notes } }, scene);
    this.part("title").textContent = name;
    this.note(clip.notes);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (!still && !this.player.playing && scene.frames > 1) this.player.play(true);
  }

  /** What the user filled in, for what a file does not say. */
  defaults() {
    const number = (name) => (this.part(name).value === "" ? null : Number(this.part(name).value));
    const size = [number("width"), number("height")];
    return { size: size.includes(null) ? null : size, fps: number("rate") };
  }

  /** Runs the network for ever, a little before each picture. */
  async work() {
    for (;;) {
      await new Promise(requestAnimationFrame);
      const end = performance.now() + BUDGET;
      const before = this.left;
      let ran = false;
      while (performance.now() < end && this.next() >= 0) {
        await this.lift(this.next());
        ran = true;
      }
      if (ran) this.show(before);
    }
  }

  /** How many windows have no poses yet. */
  get left() {
    return this.clip ? this.lifted.reduce((sum, yes) => sum - yes, this.lifted.length) : 0;
  }

  /** The window of the chosen person that the player's frame is in; -1 or undefined without. */
  get here() {
    const { player } = this;
    return this.places[player.chosen][player.frame - player.person.first];
  }

  /** The window to lift now: the one that the player has just come to, else the first one left. */
  next() {
    if (!this.clip) return -1;
    const { here } = this;
    if (here >= 0 && here !== this.entered) return here;
    while (this.lifted[this.pointer]) this.pointer += 1;
    return this.pointer < this.windows.length ? this.pointer : -1;
  }

  /** Runs the network on one window. */
  async lift(number) {
    const { clip } = this;
    const place = this.windows[number];
    const input = inputOf(place, this.network, clip.size);
    const start = performance.now();
    const poses = await this.run(input);
    const milliseconds = performance.now() - start;
    if (clip !== this.clip) return; // the user opened another one meanwhile
    keepPoses(place, poses, this.spaces.get(place.person), this.network.joints.length);
    this.lifted[number] = 1;
    if (number === this.here) this.entered = number;
    this.times.push(milliseconds);
    if (this.times.length > RECENT) this.times.shift();
  }

  /** Shows new poses, and says how long they took. `before` is how many windows were left. */
  show(before) {
    const now = performance.now();
    if (before && (!this.left || now - this.refreshed > PAUSE)) {
      this.refreshed = now;
      this.player.refresh();
    }
    this.tellTimes();
  }

  tellTimes() {
    const { predicted, window } = this.network;
    const usual = quantile(this.times, 0.5);
    const frames = predicted === 1 ? `a frame (from ${window})` : `${predicted} frames`;
    // A browser may round its clock, even to nothing.
    const pace = usual > 0
      ? `: ${Math.round((1000 * predicted) / usual).toLocaleString("en")} frames per second`
      : "";
    const number = document.createElement("b");
    number.textContent = `${usual.toFixed(1)} ms`;
    const left = this.left ? `, ${this.left} of ${this.windows.length} windows are left` : "";
    this.tell(number, ` for ${frames}${pace} on one core of this machine `
      + `(the last window took ${this.times.at(-1).toFixed(1)} ms${left})`);
  }

  tell(...parts) {
    this.part("pace").replaceChildren(...parts);
  }

  /** Shows a sentence on what is wrong; "" shows none. */
  refuse(sentence) {
    this.part("refusal").hidden = !sentence;
    this.part("refusal").textContent = sentence;
  }

  note(notes) {
    this.part("told").hidden = !notes.length;
    this.part("notes").replaceChildren(...notes.map((note) => {
      const item = document.createElement("li");
      item.textContent = note;
      return item;
    }));
  }
}

/** Answers the buttons above the player, the numbers, and files that are dropped. */
function listenToFiles(demo) {
  const on = (name, event, act) => demo.part(name).addEventListener(event, act);
  on("choose", "click", () => demo.part("file").click());
  on("file", "change", (event) => {
    if (event.target.files.length) demo.openFile(event.target.files[0]);
    event.target.value = ""; // so that the same file can be chosen again
  });
  demo.part("sample").hidden = !demo.sample;
  on("sample", "click", () => demo.openSample());
  for (const name of ["width", "height", "rate"]) {
    on(name, "change", () => { if (demo.last) demo.openFile(demo.last); });
    on(name, "keydown", (event) => event.stopPropagation()); // the player has keys of its own
  }
  const drop = (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", event.type === "dragover");
    if (event.type === "drop" && event.dataTransfer.files.length && demo.run) {
      demo.openFile(event.dataTransfer.files[0]);
    }
  };
  for (const kind of ["dragover", "dragleave", "drop"]) window.addEventListener(kind, drop);
}

/** Opens the page. */
function openDemo() {
  const data = JSON.parse(document.getElementById("data").textContent);
  window.demo = new Demo(data);
  window.player = window.demo.player;
  window.demo.start(data.runtime).catch((error) => {
    window.demo.tell("");
    window.demo.refuse(error instanceof Refusal ? error.message
      : `The network cannot run in this browser (${error.message}).`);
  });
}

openDemo();
