/* Opens a page that player.html is part of. It is the last script of such a page. */

/** Opens the page's first clip. A clip that is alone plays, unless the user wants little motion. */
function openPage() {
  const { clips } = JSON.parse(document.getElementById("data").textContent);
  const section = document.querySelector(".player");
  if (!section || !clips.length) return;
  window.player = new Player(section);
  window.player.open(clips[0]);
  listenToClips(window.player, clips);
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (!still && clips.length === 1 && clips[0].scene.frames > 1) window.player.play(true);
}

openPage();
