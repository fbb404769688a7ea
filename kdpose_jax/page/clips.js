/* The buttons that open a page's clips in its player. Each shows a still. */

/** Draws the middle frame of a clip: the body, and the truth over it. */
function drawStill(canvas, scene) {
  const context = contextOf(canvas);
  const look = lookOfPage(canvas);
  const person = scene.persons[0];
  const frame = person.first + Math.floor(person.frames / 2);
  const [pose, truth] = ["network", "truth"].map((source) => (
    poseOf(scene, person, source, "space", frame)));
  const levels = pose.filter(Boolean).map((point) => point[1]);
  const [top, floor] = [Math.min(...levels), Math.max(...levels)];
  const camera = cameraOf(canvas, START, Math.max(0.5, floor - top), 1.4 * (floor - top));
  const stand = (point) => point && camera([point[0], point[1] - floor, point[2]]);
  const strength = pose.map(() => 1);
  const hollow = pose.map(() => false);
  drawBody(context, scene, look, pose.map(stand), { width: 2.5, strength, hollow });
  drawOutline(context, scene, truth.map(stand), look.truth, 1.2);
}

/** Makes the buttons of the page work. */
function listenToClips(player, clips) {
  const buttons = Array.from(document.querySelectorAll(".clip"));
  const press = (button) => {
    for (const one of buttons) one.setAttribute("aria-pressed", one === button);
    player.part("title").textContent = clips[button.dataset.clip].name;
  };
  const scenes = buttons.map((button) => unpack(clips[button.dataset.clip].scene));
  const draw = () => buttons.forEach((button, number) => {
    if (button.offsetWidth) drawStill(button.querySelector("canvas"), scenes[number]);
  });
  buttons.forEach((button) => button.addEventListener("click", () => {
    press(button);
    player.open(clips[button.dataset.clip]);
    player.section.scrollIntoView({ block: "nearest" });
  }));
  if (!buttons.length) return;
  press(buttons[0]);
  const sizes = new ResizeObserver(draw); // a list that is closed has no size
  for (const list of document.querySelectorAll(".clips")) sizes.observe(list);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  window.addEventListener("beforeprint", draw);
  window.addEventListener("afterprint", draw);
}
