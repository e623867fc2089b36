// Runs an ONNX file with onnxruntime-web (WebAssembly, one thread), as a browser does.
//
//     node run_network.mjs TASK.json
//
// TASK.json: {"model": file, "runs": n, "inputs": {name: {"dims": [...], "file": float32 values}},
// "outputs": folder}. Writes the values of output number i to the file "i" in that folder, and prints JSON:
// the type and dims of each output, the milliseconds of loading and of each run, and the peak memory.

import fs from 'node:fs';
import path from 'node:path';
import * as ort from 'onnxruntime-web';

const task = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
ort.env.wasm.numThreads = 1;

// In MiB; null where the system does not say. maxRSS of Node has the memory of the parent process in it.
function peakMemory() {
  if (!fs.existsSync('/proc/self/status')) return null;
  return Number(fs.readFileSync('/proc/self/status', 'utf8').match(/VmHWM:\s+(\d+) kB/)[1]) / 1024;
}

const nodeMb = peakMemory();
const start = performance.now();
const session = await ort.InferenceSession.create(fs.readFileSync(task.model), {
  executionProviders: ['wasm'],
});
const loadMs = performance.now() - start;

const feeds = {};
for (const name of session.inputNames) {
  const { dims, file } = task.inputs[name];
  const bytes = fs.readFileSync(file);
  feeds[name] = new ort.Tensor('float32', new Float32Array(new Uint8Array(bytes).buffer), dims);
}

const runMs = [];
let found;
for (let run = 0; run < task.runs; run += 1) {
  const begin = performance.now();
  found = await session.run(feeds);
  runMs.push(performance.now() - begin);
}

const outputs = session.outputNames.map((name, index) => {
  const { data, dims, type } = found[name];
  fs.writeFileSync(path.join(task.outputs, String(index)), Buffer.from(data.buffer, data.byteOffset, data.byteLength));
  return { type, dims };
});
console.log(JSON.stringify({ outputs, loadMs, runMs, peakMb: peakMemory(), nodeMb }));
