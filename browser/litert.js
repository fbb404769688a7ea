/* Runs an exported network by LiteRT.js. litert.py bundles this file with that package. */

import { Environment, loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";

/** The bytes that were compressed by gzip. */
async function unzipped(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * Opens a network of one input and one output.
 *
 * @param sizes {shape} of the input
 * @param glue the script that comes with the WebAssembly, gzipped
 * @param wasm the WebAssembly, gzipped
 * @param network the bytes of the .tflite file
 * @returns an asynchronous function from the input's numbers to the output's, both Float32Array
 */
export async function openNetwork({ sizes: { shape }, glue, wasm, network }) {
  if (typeof DecompressionStream === "undefined" || typeof WebAssembly === "undefined") {
    throw new Error("it has no WebAssembly or no DecompressionStream: use one of 2023 or later");
  }
  const script = new Blob([await unzipped(glue)], { type: "text/javascript" });
  // Where a page has no server, the loader gets the WebAssembly from here.
  self.Module = { wasmBinary: (await unzipped(wasm)).buffer, print: () => {}, printErr: () => {} };
  // It would ask for a GPU, which is not used, and complain where there is none.
  const { create } = Environment;
  Environment.create = () => create.call(Environment, { webGpuDevice: null });
  // The loader wants an address that ends so.
  await loadLiteRt(`${URL.createObjectURL(script)}#litert.js`);
  const model = await loadAndCompile(network, { accelerator: "wasm" });
  const run = async (numbers) => {
    const input = new Tensor(numbers, shape);
    const [output] = await model.run([input]);
    const found = output.toTypedArray().slice();
    input.delete();
    output.delete();
    return found;
  };
  await run(new Float32Array(shape.reduce((product, side) => product * side, 1))); // warms up
  return run;
}
