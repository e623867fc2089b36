/* The files of one image that can be downloaded: the reply as JSON, the drawn image as PNG, LabelMe. */

import { Painter } from "./drawing.js";

/** Let the browser save text or a Blob under a name. */
export function save(content, name) {
  const blob = content instanceof Blob ? content : new Blob([content], { type: "application/json" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser reads it after the click
}

/** The server's reply with the shown objects only. */
export function replyText(reply, shown) {
  const instances = shown.map((object) => object.entry);
  return JSON.stringify({ ...reply, result: { ...reply.result, instances } }, null, 2);
}

/** The image at full size with what is shown on it, as a PNG. */
export async function drawnImage(image, objects, style) {
  const canvas = document.createElement("canvas");
  const { width, height } = Object.assign(canvas, { width: image.width, height: image.height });
  const context = canvas.getContext("2d");
  if (context) {
    const [long, short] = [Math.max(width, height), Math.min(width, height)];
    const line = Math.max(1, Math.round(Math.min(long * 0.0025, short * 0.02))); // as the toolkit draws
    const text = Math.round(Math.min(Math.max(long * 0.018, 11), 72));
    context.drawImage(image, 0, 0);
    new Painter().draw(context, { left: 0, top: 0, scale: 1, width, height, line, text }, objects, style);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    if (blob) return blob;
  }
  throw new Error(`This browser cannot make an image of ${width} x ${height} pixels.`);
}

/**
 * The text of a LabelMe file of the shown objects.
 *
 * labelme: of the server's reply, in the order of all objects; parts of an object share a group_id. Objects
 * whose mask has no pixel have no shape. embedded: whether the file holds the image, for one that is no file
 * of the user.
 */
export async function labelmeText(labelme, objects, shown, file, embedded) {
  const kept = new Set(shown);
  const shapes = [];
  let next = 0;
  let object = null;
  let group = null;
  for (const shape of labelme.shapes) {
    if (group === null || shape.group_id !== group) {
      const fits = (one) => one.className === shape.label && Math.abs(one.score - shape.score) < 1e-4;
      while (next < objects.length && !fits(objects[next])) next++;
      if (next === objects.length) throw new Error("The server found other objects this time.");
      object = objects[next++];
      group = shape.group_id;
    }
    if (kept.has(object)) shapes.push(shape);
  }
  const imageData = embedded ? await base64(file) : null;
  return JSON.stringify({ ...labelme, shapes, imagePath: file.name, imageData }, null, 2);
}

async function base64(blob) {
  const reader = new FileReader();
  await new Promise((resolve, reject) => {
    reader.onload = resolve;
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
  return reader.result.slice(reader.result.indexOf(",") + 1);
}
