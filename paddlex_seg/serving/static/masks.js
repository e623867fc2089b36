/*
 * Masks: COCO's run-length encoding (RLE), decoded into intervals of columns.
 *
 * A mask never becomes pixels of the image: 300 masks in 24 megapixels would take gigabytes. Intervals take
 * kilobytes. They give the area, tell which mask is under the pointer, and are painted at the size of the
 * screen, exact at any zoom.
 */

/**
 * The run lengths of COCO's compressed text, column by column; the first run is background.
 *
 * 5 bits per character, lowest bits first; the 6th bit says that more follow. From the fourth run on, a
 * number is the difference to the run two places before. Throws an Error for damaged text.
 */
export function runLengths(counts) {
  const runs = [];
  for (let at = 0; at < counts.length;) {
    let value = 0;
    let weight = 1;
    let code;
    do {
      code = counts.charCodeAt(at++) - 48; // NaN after the end
      if (!(code >= 0 && code < 64)) throw new Error("The text of a mask is damaged.");
      value += (code & 31) * weight; // no shift: shifts end at 32 bits
      weight *= 32;
    } while (code & 32);
    if (code & 16) value -= weight;
    if (runs.length > 2) value += runs[runs.length - 2];
    runs.push(value);
  }
  return runs;
}

/**
 * The mask of an object of the server's reply: { left, top, width, height, area, starts, edges }.
 *
 * left, top: of the crop in the image; all in pixels of the image. starts: for each column, and for the end,
 * the index of its first edge in edges. There, the first row of an interval and the one after it take turns.
 */
export function decodeMask({ rleResult, size: [height, width], offset: [left, top] }) {
  const starts = new Uint32Array(width + 1);
  const edges = [];
  let area = 0;
  let column = 0;
  let position = 0;
  runLengths(rleResult).forEach((length, index) => {
    const end = position + length;
    if (length < 0 || end > width * height) throw new Error("The text of a mask is damaged.");
    if (index % 2) {
      area += length;
      while (position < end) {
        const here = Math.floor(position / height);
        while (column <= here) starts[column++] = edges.length;
        const stop = Math.min(end, (here + 1) * height); // the run may go on in the next column
        edges.push(position - here * height, stop - here * height);
        position = stop;
      }
    }
    position = end;
  });
  if (position !== width * height) throw new Error("The text of a mask is damaged.");
  while (column <= width) starts[column++] = edges.length;
  return { left, top, width, height, area, starts, edges: Uint32Array.from(edges) };
}

/** Whether the mask covers the pixel (x, y) of the image. */
export function covers(mask, x, y) {
  const column = Math.floor(x) - mask.left;
  if (column < 0 || column >= mask.width) return false;
  const row = Math.floor(y) - mask.top;
  for (let i = mask.starts[column]; i < mask.starts[column + 1]; i += 2) {
    if (row >= mask.edges[i] && row < mask.edges[i + 1]) return true;
  }
  return false;
}

/**
 * Write number into all cells of grid that the mask covers.
 *
 * grid: { cells, width, height, left, top, scale }, its cells column by column, so that an interval is one
 * fill. left, top: the point of the image at its top left corner; scale: cells per pixel of the image.
 */
export function paintMask(mask, grid, number) {
  const { cells, width, height, scale } = grid;
  const across = (mask.left - grid.left) * scale;
  const down = (mask.top - grid.top) * scale;
  // A cell belongs to the mask when its centre does.
  const first = Math.max(0, Math.ceil(across - 0.5));
  const last = Math.min(width, Math.ceil(across + mask.width * scale - 0.5));
  for (let cell = first; cell < last; cell++) {
    const column = Math.min(mask.width - 1, Math.max(0, Math.floor((cell + 0.5 - across) / scale)));
    for (let i = mask.starts[column]; i < mask.starts[column + 1]; i += 2) {
      const from = Math.max(0, Math.ceil(down + mask.edges[i] * scale - 0.5));
      const to = Math.min(height, Math.ceil(down + mask.edges[i + 1] * scale - 0.5));
      if (from < to) cells.fill(number, cell * height + from, cell * height + to);
    }
  }
}
