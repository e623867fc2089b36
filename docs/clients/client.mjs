// Send an image to the service, print the objects, and write the drawing. Needs Node 18 or newer, and no package.
//
//   node client.mjs http://127.0.0.1:8080 photo.jpg drawing.jpg
//
// The API key, if the service has one, is read from the environment variable API_KEY.
import { readFile, writeFile } from "node:fs/promises";

const [url, image, drawing] = process.argv.slice(2);
const headers = { "Content-Type": "application/json" };
if (process.env.API_KEY) headers["X-API-Key"] = process.env.API_KEY;

const response = await fetch(`${url}/instance-segmentation`, {
  method: "POST",
  headers,
  body: JSON.stringify({ image: (await readFile(image)).toString("base64"), visualize: true }),
  signal: AbortSignal.timeout(60_000),
});
const reply = await response.json();
if (reply.errorCode !== 0) {
  console.error(`${reply.errorCode}: ${reply.errorMsg}`);
  process.exit(1);
}
for (const { categoryName, score, bbox } of reply.result.instances) {
  console.log([categoryName, score.toFixed(3), bbox.map((edge) => edge.toFixed(1)).join(" ")].join("\t"));
}
await writeFile(drawing, Buffer.from(reply.result.image, "base64"));
