/* Connects a player with the controls of its section, with keys and with pointers. */

/** Answers buttons, lists, the slider, and the pointer on curves. */
function listenToControls(player) {
  const on = (name, event, act) => player.part(name).addEventListener(event, act);
  const save = (kind, type, text) => {
    const name = player.clip.name.replace(/[^\w.-]+/g, "_").replace(/^\.+/, "") || "poses";
    download(`${name}.${kind}`, type, text);
  };
  on("play", "click", () => player.play(!player.playing));
  on("slider", "input", (event) => player.seek(Number(event.target.value)));
  on("speed", "change", (event) => { player.speed = Number(event.target.value); });
  on("person", "change", (event) => player.choose(Number(event.target.value)));
  on("others", "change", () => player.draw());
  on("whole", "change", () => player.draw());
  on("angle", "change", (event) => {
    player.angle = player.angles[event.target.value];
    player.compute();
  });
  on("nearer", "click", () => player.turn(0, 0, 1.2));
  on("farther", "click", () => player.turn(0, 0, 1 / 1.2));
  on("reset", "click", () => { player.view = { ...START }; player.draw(); });
  on("csv", "click", () => save("csv", "text/csv", csvOf(player.scene)));
  on("json", "click", () => (
    save("json", "application/json", jsonOf(player.scene, player.clip.about))));
  for (const name of OVERLAYS) {
    player.part(`only-${name}`).querySelector("input").addEventListener("change", (event) => {
      player.shown[name] = event.target.checked;
      player.compute();
    });
  }
  for (const name of ["angles", "errors"]) {
    const seek = (event) => {
      if (event.buttons) player.seek(player.charts[name].frameAt(event.offsetX));
    };
    on(name, "pointerdown", seek);
    on(name, "pointermove", seek);
  }
}

/** Answers keys, wherever the focus is. */
function listenToKeys(player) {
  document.addEventListener("keydown", (event) => {
    if (player.scene) press(player, event);
  });
}

/** Does what a key says, unless the focus is on a control that needs the key itself. */
function press(player, event) {
  const { target, key, shiftKey } = event;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const control = target.type === "range" ? "SLIDER" : target.tagName;
  const needed = {
    SELECT: /./,
    BUTTON: /^ $/,
    SUMMARY: /^ $/,
    INPUT: /^ $/,
    SLIDER: shiftKey ? /^$/ : /^(Arrow.*|Home|End)$/,
  }[control];
  if (needed && needed.test(key)) return;
  const acts = shiftKey ? {
    ArrowLeft: () => player.turn(-0.1, 0, 1),
    ArrowRight: () => player.turn(0.1, 0, 1),
    ArrowUp: () => player.turn(0, 0.1, 1),
    ArrowDown: () => player.turn(0, -0.1, 1),
  } : {
    ArrowLeft: () => player.seek(player.frame - 1),
    ArrowRight: () => player.seek(player.frame + 1),
    Home: () => player.seek(0),
    End: () => player.seek(player.scene.frames - 1),
    " ": () => player.play(!player.playing),
  };
  acts["+"] = () => player.turn(0, 0, 1.2);
  acts["="] = acts["+"];
  acts["-"] = () => player.turn(0, 0, 1 / 1.2);
  if (!acts[key]) return;
  event.preventDefault();
  acts[key]();
}

/** Lets pointers turn the view: one drags, two pinch. The wheel zooms where it has the focus. */
function listenToPointers(player, canvas) {
  const fingers = new Map();
  const apart = () => {
    const [one, other] = [...fingers.values()];
    return Math.hypot(one[0] - other[0], one[1] - other[1]);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const gap = fingers.size === 2 ? apart() : 0;
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (gap) player.turn(0, 0, apart() / gap);
    else player.turn((event.clientX - before[0]) * 0.01, (event.clientY - before[1]) * 0.01, 1);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas && !event.ctrlKey) return; // the page scrolls
    event.preventDefault();
    player.turn(0, 0, Math.exp(-event.deltaY * 0.0015));
  }, { passive: false });
}

/** Draws again where the size, the theme or the medium changes. */
function listenToTheLook(player) {
  new ResizeObserver(() => player.redraw()).observe(player.section);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", () => player.redraw());
  for (const [event, prints] of [["beforeprint", true], ["afterprint", false]]) {
    window.addEventListener(event, () => {
      document.documentElement.classList.toggle("printing", prints); // paper is white
      player.redraw();
    });
  }
}
