/* The view of one image: zoom and pan by mouse, fingers and keys, and which object is under the pointer. */

import { Painter } from "./drawing.js";
import { covers } from "./masks.js";

const LARGEST_SCALE = 40; // pixels of the screen per pixel of the image
const PAN_STEP = 60; // of an arrow key, in CSS pixels
const CLICK_DISTANCE = 4; // a pointer that moved farther drags

/**
 * Copies of an image at 1, 1/2, 1/4 ... of its size. With them, a view of 24 megapixels is drawn as fast as
 * one of 2, and without the jagged edges of leaving out pixels. Who opens the levels closes their bitmaps.
 */
export async function makeLevels(bitmap) {
  const levels = [bitmap];
  let { width, height } = bitmap;
  while (Math.max(width, height) > 1600) {
    width = Math.ceil(width / 2);
    height = Math.ceil(height / 2);
    const options = { resizeWidth: width, resizeHeight: height, resizeQuality: "medium" };
    levels.push(await createImageBitmap(levels.at(-1), options));
  }
  return levels;
}

/**
 * Shows an image and objects in the element stage, which has two canvases, .image and .overlay, and .tip for
 * what is said about the object that stands out.
 *
 * Of the events, hover(object or null) and select(object or null) tell what the pointer does; zoom(percent)
 * tells the scale. describe(object) is the text of the tip, line by line.
 */
export class Viewer {
  objects = [];
  style = { masks: true, boxes: true, labels: true, opacity: 0.45 };
  #levels = [];
  #hot = null;
  #scale = 1; // pixels of the screen per pixel of the image
  #centre = { x: 0, y: 0 }; // the point of the image in the middle of the stage
  #fitted = true;
  #pointers = new Map();
  #dragged = false;
  #stale = { image: false, overlay: false };
  #painter = new Painter();

  constructor(stage, { hover, select, zoom, describe }) {
    this.stage = stage;
    this.events = { hover, select, zoom, describe };
    this.canvas = stage.querySelector(".image");
    this.overlay = stage.querySelector(".overlay");
    this.tip = stage.querySelector(".tip");
    new ResizeObserver(() => this.#resize()).observe(stage);
    stage.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    stage.addEventListener("pointerdown", (event) => this.#onPointerDown(event));
    stage.addEventListener("pointermove", (event) => this.#onPointerMove(event));
    stage.addEventListener("pointerup", (event) => this.#onPointerUp(event));
    stage.addEventListener("pointercancel", (event) => this.#pointers.delete(event.pointerId));
    stage.addEventListener("pointerleave", () => this.events.hover(null));
    stage.addEventListener("keydown", (event) => this.#onKey(event));
  }

  /** Show the image of these levels, or nothing for []. */
  setImage(levels) {
    this.#levels = levels;
    this.fit();
  }

  get image() {
    return this.#levels[0] ?? null;
  }

  /** What changed outside: objects, style. */
  redraw() {
    this.#invalidate("overlay");
  }

  /** The object that stands out, or null. */
  setHot(object, pointer = null) {
    if (this.#hot !== object) {
      this.#hot = object;
      this.#invalidate("overlay");
    }
    this.#placeTip(pointer);
  }

  fit() {
    this.#fitted = true;
    if (!this.image) {
      this.#invalidate("image", "overlay");
      return;
    }
    this.#centre = { x: this.image.width / 2, y: this.image.height / 2 };
    this.#setScale(this.#fitScale());
  }

  /** One pixel of the image on one pixel of the screen. */
  actualSize(point = null) {
    this.zoomBy(1 / this.#scale, point);
  }

  /** Zoom, but keep the point of the stage (CSS pixels from its top left corner; default: the middle). */
  zoomBy(factor, point = null) {
    if (!this.image) return;
    const kept = point && this.#toImage(point);
    const scale = clamp(this.#scale * factor, this.#smallestScale(), LARGEST_SCALE);
    if (kept) {
      const ratio = this.#scale / scale;
      this.#centre.x = kept.x + (this.#centre.x - kept.x) * ratio;
      this.#centre.y = kept.y + (this.#centre.y - kept.y) * ratio;
    }
    this.#fitted = scale === this.#fitScale();
    this.#setScale(scale);
  }

  /** Bring an object into view, large enough to be looked at. */
  showObject({ box: [x1, y1, x2, y2] }) {
    if (!this.image) return;
    const wanted = Math.min(this.overlay.width / (x2 - x1), this.overlay.height / (y2 - y1)) * 0.5;
    this.#centre = { x: (x1 + x2) / 2, y: (y1 + y2) / 2 };
    this.#fitted = false;
    this.#setScale(clamp(wanted, this.#smallestScale(), Math.max(8, this.#fitScale())));
  }

  // ---- geometry

  #fitScale() {
    const { width, height } = this.image;
    return Math.min(this.overlay.width / width, this.overlay.height / height, 8);
  }

  #smallestScale() {
    return Math.min(1, this.#fitScale());
  }

  #setScale(scale) {
    this.#scale = scale;
    for (const [axis, side, shown] of [
      ["x", this.image.width, this.overlay.width / scale],
      ["y", this.image.height, this.overlay.height / scale],
    ]) {
      this.#centre[axis] = shown >= side ? side / 2 : clamp(this.#centre[axis], shown / 2, side - shown / 2);
    }
    // At fit, a finger that moves up or down scrolls the page; else it moves the image.
    this.stage.classList.toggle("zoomed", scale > this.#fitScale());
    this.events.zoom(Math.round(scale * 100));
    this.#placeTip(null);
    this.#invalidate("image", "overlay");
  }

  /** The part of the image on the stage, as `Painter` takes it. */
  #frame() {
    const { width, height } = this.overlay;
    return {
      left: this.#centre.x - width / 2 / this.#scale,
      top: this.#centre.y - height / 2 / this.#scale,
      scale: this.#scale,
      width,
      height,
      line: 1.5 * devicePixelRatio,
      text: Math.round(12 * devicePixelRatio),
    };
  }

  #toImage({ x, y }) {
    const { left, top, scale } = this.#frame();
    return { x: left + (x * devicePixelRatio) / scale, y: top + (y * devicePixelRatio) / scale };
  }

  #resize() {
    const width = Math.max(1, Math.round(this.stage.clientWidth * devicePixelRatio));
    const height = Math.max(1, Math.round(this.stage.clientHeight * devicePixelRatio));
    for (const canvas of [this.canvas, this.overlay]) Object.assign(canvas, { width, height });
    if (this.#fitted) this.fit();
    else this.#setScale(Math.max(this.#scale, this.#smallestScale()));
    this.#draw(); // at once: a canvas of a new size is blank
  }

  // ---- drawing

  #invalidate(...layers) {
    if (!this.#stale.image && !this.#stale.overlay) requestAnimationFrame(() => this.#draw());
    for (const layer of layers) this.#stale[layer] = true;
  }

  #draw() {
    const frame = this.#frame();
    if (this.#stale.image) this.#drawImage(frame);
    if (this.#stale.overlay) {
      const context = this.overlay.getContext("2d");
      context.clearRect(0, 0, frame.width, frame.height);
      if (this.image) this.#painter.draw(context, frame, this.objects, this.style, this.#hot);
    }
    this.#stale = { image: false, overlay: false };
  }

  #drawImage(frame) {
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, frame.width, frame.height);
    if (!this.image) return;
    const level = this.#levels.findLast((one) => one.width / this.image.width >= frame.scale) ?? this.image;
    const shrink = level.width / this.image.width;
    context.imageSmoothingEnabled = frame.scale < 3; // pixels of the image are seen when they are large
    context.setTransform(frame.scale / shrink, 0, 0, frame.scale / shrink, 0, 0);
    context.translate(-frame.left * shrink, -frame.top * shrink);
    context.drawImage(level, 0, 0);
    context.resetTransform();
  }

  /** Beside the pointer, or below the box of the object. Screen readers have the table of objects instead. */
  #placeTip(pointer) {
    this.tip.hidden = !this.#hot || !this.image;
    if (this.tip.hidden) return;
    this.tip.replaceChildren(
      ...this.events.describe(this.#hot).map((line) => {
        const row = document.createElement("span");
        row.textContent = line;
        return row;
      }),
    );
    const { left, top, scale } = this.#frame();
    const [x1, y1, , y2] = this.#hot.box;
    const down = (y) => ((y - top) * scale) / devicePixelRatio;
    // Below the pointer or the box; above, if the stage ends there.
    const [x, above, below] = pointer
      ? [pointer.x + 14, pointer.y - 10, pointer.y + 16]
      : [((x1 - left) * scale) / devicePixelRatio, down(y1) - 26, down(y2) + 6];
    const { offsetWidth: width, offsetHeight: height } = this.tip;
    const y = below + height <= this.stage.clientHeight ? below : above - height;
    const place = [
      clamp(x, 4, this.stage.clientWidth - width - 4),
      clamp(y, 4, this.stage.clientHeight - height - 4),
    ];
    this.tip.style.transform = `translate(${place.map((value) => `${Math.round(value)}px`).join(", ")})`;
  }

  // ---- mouse, fingers, keys

  /** The smallest of the shown objects whose mask is at a point of the stage, or null. */
  #objectAt(point) {
    if (!this.image) return null;
    const { x, y } = this.#toImage(point);
    const found = this.objects.filter(({ mask }) => covers(mask, x, y));
    return found.reduce((best, one) => (best && best.mask.area <= one.mask.area ? best : one), null);
  }

  #place(event) {
    const { left, top } = this.stage.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }

  #onWheel(event) {
    if (!this.image) return;
    if (event.deltaY > 0 && this.#scale <= this.#smallestScale()) return; // the page may scroll instead
    event.preventDefault();
    const pixels = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? event.deltaY * 33 : event.deltaY;
    const speed = event.ctrlKey ? 0.01 : 0.0018; // two fingers on a touchpad come as small steps with Ctrl
    const point = this.#place(event);
    this.zoomBy(Math.exp(-clamp(pixels, -300, 300) * speed), point);
    this.events.hover(this.#objectAt(point), point);
  }

  #onPointerDown(event) {
    if (!this.image || event.button > 0 || event.target.closest("button")) return;
    this.#pointers.set(event.pointerId, this.#place(event));
    this.#dragged = this.#pointers.size > 1;
    this.stage.setPointerCapture(event.pointerId);
  }

  #onPointerMove(event) {
    const now = this.#place(event);
    const before = this.#pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType === "mouse") this.events.hover(this.#objectAt(now), now);
      return;
    }
    if (this.#pointers.size === 2) {
      const [other] = [...this.#pointers].find(([id]) => id !== event.pointerId).slice(1);
      const middle = { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 };
      this.zoomBy(distance(now, other) / Math.max(1, distance(before, other)), middle);
      this.#pan((now.x - before.x) / 2, (now.y - before.y) / 2);
    } else {
      if (!this.#dragged && distance(now, before) < CLICK_DISTANCE) return;
      this.#dragged = true;
      this.events.hover(null);
      this.#pan(now.x - before.x, now.y - before.y);
    }
    this.#pointers.set(event.pointerId, now);
  }

  #onPointerUp(event) {
    if (!this.#pointers.delete(event.pointerId) || this.#dragged) return;
    this.events.select(this.#objectAt(this.#place(event)));
  }

  /** Move the image by CSS pixels. */
  #pan(x, y) {
    if (!this.image) return;
    this.#centre.x -= (x * devicePixelRatio) / this.#scale;
    this.#centre.y -= (y * devicePixelRatio) / this.#scale;
    this.#setScale(this.#scale);
  }

  #onKey(event) {
    if (event.target !== this.stage || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? PAN_STEP * 4 : PAN_STEP;
    const action = {
      ArrowLeft: () => this.#pan(step, 0),
      ArrowRight: () => this.#pan(-step, 0),
      ArrowUp: () => this.#pan(0, step),
      ArrowDown: () => this.#pan(0, -step),
      "+": () => this.zoomBy(1.25),
      "=": () => this.zoomBy(1.25),
      "-": () => this.zoomBy(0.8),
      0: () => this.fit(),
      1: () => this.actualSize(),
      Escape: () => this.events.select(null),
    }[event.key];
    if (!action || !this.image) return;
    event.preventDefault();
    action();
  }
}

function clamp(value, low, high) {
  return Math.max(low, Math.min(value, high));
}

function distance(a, b) {
  return Math.hypot(a.x - b.x, a.y - b.y);
}
