/* Runs the page's network on windows from the standard input; see `run_in_node` in plain.py. */

async function answer({ parts: { sizes, bytes }, windows }) {
  const decoded = Object.fromEntries(Object.entries(bytes).map(([name, text]) => (
    [name, new Uint8Array(Buffer.from(text, "base64"))])));
  const run = await runtime.openNetwork({ sizes, ...decoded });
  const [poses, times] = [[], []];
  for (const window of windows) {
    const start = performance.now();
    poses.push(Array.from(await run(Float32Array.from(window))));
    times.push(performance.now() - start);
  }
  const milliseconds = times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
  // A number that is not finite becomes null, which Python reads as NaN.
  process.stdout.write(JSON.stringify({ poses, milliseconds }));
}

answer(JSON.parse(require("fs").readFileSync(0, "utf-8")));
