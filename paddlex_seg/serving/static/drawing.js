/* Draws objects: masks, boxes and labels, on the screen and into a downloaded image. */

import { paintMask } from "./masks.js";

const BAND_CELLS = 4_000_000; // of the grid at once; the screen is one band, a large image many
const MOST_LABELLED = 0.1; // part of the canvas that labels may cover

/** The colour [red, green, blue] of a class, the same as in the drawings of the toolkit. */
export function classColour(classId) {
  const hue = (0.58 + classId * 0.618034) % 1;
  const saturation = Math.floor(classId / 8) % 2 ? 0.6 : 0.85;
  const sector = Math.floor(hue * 6);
  const rest = hue * 6 - sector;
  const high = 0.95;
  const low = high * (1 - saturation);
  const falling = high * (1 - saturation * rest);
  const rising = high * (1 - saturation * (1 - rest));
  const [red, green, blue] = [
    [high, rising, low],
    [falling, high, low],
    [low, high, rising],
    [low, falling, high],
    [rising, low, high],
    [high, low, falling],
  ][sector % 6];
  return [Math.round(red * 255), Math.round(green * 255), Math.round(blue * 255)];
}

/** Black or white, whichever has the larger contrast on the colour, by the formula of WCAG. */
export function contrast(colour) {
  const [red, green, blue] = colour.map((value) => (value / 255) ** 2.2);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 ? "#000" : "#fff";
}

export function cssColour([red, green, blue]) {
  return `rgb(${red}, ${green}, ${blue})`;
}

/**
 * Draws objects into a canvas. It keeps its buffers from one drawing to the next.
 *
 * frame: { left, top, scale, width, height, line, text }. left, top: the point of the image in the top left
 * corner of the canvas; scale: pixels of the canvas per pixel of the image; width, height, line (width of
 * lines) and text (height of letters) in pixels of the canvas.
 * style: { masks, boxes, labels: whether they are drawn, opacity: of masks, 0 to 1 }.
 * hot: the object that stands out, or null.
 */
export class Painter {
  #cells = new Uint16Array(0);
  #band = document.createElement("canvas");

  draw(context, frame, objects, style, hot = null) {
    context.save();
    if (style.masks) this.#drawMasks(context, frame, objects, style.opacity, hot);
    if (style.boxes) drawBoxes(context, frame, objects, hot);
    if (style.labels) drawLabels(context, frame, objects, hot);
    context.restore();
  }

  #drawMasks(context, frame, objects, opacity, hot) {
    const seen = objects.filter((object) => object.mask.area && isSeen(object.mask, frame));
    if (!seen.length) return;
    seen.sort((a, b) => (a === hot) - (b === hot) || b.mask.area - a.mask.area); // small ones stay visible
    const margin = Math.ceil(frame.line * 2); // cells around the band: outlines do not end at its edge
    const height = frame.height + 2 * margin;
    const step = Math.max(1, Math.floor(BAND_CELLS / height) - 2 * margin);
    for (let x = 0; x < frame.width; x += step) {
      const inner = Math.min(step, frame.width - x);
      const width = inner + 2 * margin;
      const grid = {
        cells: this.#clearedCells(width * height),
        width,
        height,
        left: frame.left + (x - margin) / frame.scale,
        top: frame.top - margin / frame.scale,
        scale: frame.scale,
      };
      seen.forEach((object, index) => paintMask(object.mask, grid, index + 1));
      const pixels = colourCells(grid, margin, maskLooks(seen, frame, opacity, hot));
      this.#band.width = inner;
      this.#band.height = frame.height;
      this.#band.getContext("2d").putImageData(pixels, 0, 0);
      context.drawImage(this.#band, x, 0);
    }
  }

  #clearedCells(count) {
    if (this.#cells.length < count) this.#cells = new Uint16Array(count);
    const cells = this.#cells.subarray(0, count);
    cells.fill(0);
    return cells;
  }
}

/** Fill colour, line colour and line width of each mask, by its number in the grid. */
function maskLooks(objects, frame, opacity, hot) {
  const looks = { fills: [0], lines: [0], widths: [0] };
  for (const object of objects) {
    const stands = object === hot;
    const filled = stands ? Math.min(1, opacity + 0.2) : hot ? opacity * 0.5 : opacity;
    const side = Math.min(object.mask.width, object.mask.height) * frame.scale;
    // Lines must not cover small objects.
    const width = Math.min(stands ? frame.line * 2 : frame.line, side / 8);
    looks.fills.push(pixelOf(object.colour, filled));
    looks.lines.push(pixelOf(object.colour, hot && !stands ? 0.6 : 1));
    looks.widths.push(Math.max(1, Math.round(width)));
  }
  return looks;
}

/** A colour as one number of image data, whose bytes are red, green, blue, alpha on all machines in use. */
function pixelOf([red, green, blue], alpha) {
  return ((Math.round(alpha * 255) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** The image data of the grid without its margin. Outlines lie along the inner side of the edge of a mask. */
function colourCells(grid, margin, { fills, lines, widths }) {
  const { cells, height } = grid;
  const columns = grid.width - 2 * margin;
  const rows = height - 2 * margin;
  const data = new ImageData(columns, rows);
  const pixels = new Uint32Array(data.data.buffer);
  for (let x = 0; x < columns; x++) {
    const start = (x + margin) * height + margin;
    for (let y = 0; y < rows; y++) {
      const at = start + y;
      const number = cells[at];
      if (!number) continue;
      const width = widths[number];
      const inside =
        cells[at - width] === number &&
        cells[at + width] === number &&
        cells[at - width * height] === number &&
        cells[at + width * height] === number;
      pixels[y * columns + x] = inside ? fills[number] : lines[number];
    }
  }
  return data;
}

function isSeen({ left, top, width, height }, frame) {
  return (
    left < frame.left + frame.width / frame.scale &&
    left + width > frame.left &&
    top < frame.top + frame.height / frame.scale &&
    top + height > frame.top
  );
}

function boxOnCanvas([x1, y1, x2, y2], frame) {
  const place = (value, origin) => Math.round((value - origin) * frame.scale);
  return [place(x1, frame.left), place(y1, frame.top), place(x2, frame.left), place(y2, frame.top)];
}

function drawBoxes(context, frame, objects, hot) {
  for (const object of inOrder(objects, hot).reverse()) {
    const [x1, y1, x2, y2] = boxOnCanvas(object.box, frame);
    const width = Math.max(1, Math.round(object === hot ? frame.line * 2 : frame.line));
    context.globalAlpha = hot && object !== hot ? 0.5 : 1;
    context.lineWidth = width;
    context.strokeStyle = cssColour(object.colour);
    const half = (width % 2) / 2; // lines of an odd width are sharp between two pixels
    context.strokeRect(x1 + half, y1 + half, x2 - x1, y2 - y1);
  }
  context.globalAlpha = 1;
}

/**
 * Best scores choose their place first. Labels that would cover another one, or too much of the image, are
 * left out: zooming in shows them.
 */
function drawLabels(context, frame, objects, hot) {
  const padding = Math.round(frame.text * 0.35);
  const height = Math.round(frame.text * 1.45);
  const taken = [];
  let room = MOST_LABELLED * frame.width * frame.height;
  context.font = `600 ${frame.text}px system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif`;
  context.textBaseline = "middle";
  for (const object of inOrder(objects, hot)) {
    const [x1, y1, x2, y2] = boxOnCanvas(object.box, frame);
    if (x2 < 0 || y2 < 0 || x1 > frame.width || y1 > frame.height) continue;
    const text = `${object.className} ${object.score.toFixed(2)}`;
    const width = Math.min(frame.width, Math.ceil(context.measureText(text).width) + 2 * padding);
    const inside = (value, size, limit) => Math.min(Math.max(value, 0), Math.max(0, limit - size));
    const x = inside(x1, width, frame.width);
    const spots = [y1 - height, y2, y1].map((y) => [x, inside(y, height, frame.height)]);
    const free = spots.find(
      ([left, top]) =>
        !taken.some(([l, t, w]) => left < l + w && l < left + width && top < t + height && t < top + height),
    );
    room -= free ? width * height : 0;
    if (!free || room < 0) continue;
    const [left, top] = free;
    taken.push([left, top, width]);
    context.globalAlpha = hot && object !== hot ? 0.5 : 1;
    context.fillStyle = cssColour(object.colour);
    context.fillRect(left, top, width, height);
    context.fillStyle = contrast(object.colour);
    context.fillText(text, left + padding, top + height / 2, width - 2 * padding);
  }
  context.globalAlpha = 1;
}

function inOrder(objects, hot) {
  return hot && objects.includes(hot) ? [hot, ...objects.filter((object) => object !== hot)] : [...objects];
}
