/* The panel beside the image: threshold, display, classes, and the table of objects. */

import { cssColour } from "./drawing.js";
import { element, find } from "./elements.js";

const numbers = new Intl.NumberFormat("en");

/**
 * Decides which objects are shown, and lists them.
 *
 * changed() is called when the user shows other objects, restyled() when they look different, point(object or
 * null) and pick(object) for the object that the user looks at in the table, and chooses there.
 */
export class Panel {
  style = { masks: true, boxes: true, labels: true, opacity: 0.45 };
  #events;
  #model = 0.5; // the model's threshold: a number, or { class name: number }
  #threshold = null; // null: the model's
  #hidden = new Set(); // class ids
  #objects = [];
  #isKnown = false; // whether the service has replied
  #hot = null;
  #rows = new Map(); // object -> row of the table
  #classes = new Map(); // class id -> { box, count } of the list

  constructor(events) {
    this.#events = events;
    const slider = find("threshold");
    slider.addEventListener("input", () => this.#setThreshold(Number(slider.value)));
    find("threshold-reset").addEventListener("click", () => {
      this.#setThreshold(null);
      slider.focus(); // the button goes away
    });
    for (const [id, key] of Object.entries({ masks: "masks", boxes: "boxes", "labels-shown": "labels" })) {
      find(id).addEventListener("change", (event) => this.#restyle(key, event.target.checked));
    }
    find("opacity").addEventListener("input", (event) =>
      this.#restyle("opacity", Number(event.target.value)),
    );
    find("all-classes").addEventListener("click", () => this.#showClasses(true));
    find("no-classes").addEventListener("click", () => this.#showClasses(false));
    this.#listenToTable(find("objects"));
  }

  /** threshold: of the model; lowest: of the objects that are asked for. */
  setModel(threshold, lowest) {
    this.#model = threshold;
    find("threshold").min = lowest;
    this.#setThreshold(null);
  }

  /** Whether an object is shown: { classId, className, score }. */
  shows(object) {
    return !this.#hidden.has(object.classId) && this.#passes(object);
  }

  get shown() {
    return this.#objects.filter((object) => this.shows(object));
  }

  /** What the threshold is, in words. */
  get thresholdText() {
    return this.#isByClass
      ? "scores above the thresholds of their classes"
      : `score above ${this.#current.toFixed(2)}`;
  }

  /** objects: of the reply; none before there is one (isKnown: false). */
  setObjects(objects, isKnown) {
    this.#objects = objects;
    this.#isKnown = isKnown;
    this.#rows = new Map(objects.map((object) => [object, objectRow(object)]));
    find("objects").replaceChildren(...this.#rows.values());
    this.#listClasses();
    this.refresh();
  }

  /** The object that stands out, or null. */
  setHot(object, scroll = false) {
    this.#rows.get(this.#hot)?.classList.remove("hot");
    this.#rows.get(object)?.classList.add("hot");
    this.#hot = object;
    if (object && scroll) this.#rows.get(object)?.scrollIntoView({ block: "nearest" });
  }

  /** Show again what is shown. */
  refresh() {
    const shown = new Set(this.shown);
    for (const [object, row] of this.#rows) row.hidden = !shown.has(object);
    for (const [classId, { name, limit, count, item }] of this.#classes) {
      const number = this.#objects.filter((one) => one.classId === classId && this.#passes(one)).length;
      count.textContent = number;
      limit.textContent = this.#isByClass ? `above ${this.#limitOf(name).toFixed(2)}` : "";
      item.classList.toggle("none", !number);
    }
    find("count").textContent = this.#objects.length ? `${shown.size} of ${this.#objects.length}` : "";
    const nothing = find("no-objects");
    nothing.hidden = shown.size > 0 || !this.#isKnown;
    nothing.textContent = this.#objects.length
      ? "No object is shown. Lower the threshold, or show more classes."
      : "The model finds no objects in this image.";
    this.#keepOneTabStop();
  }

  // ---- threshold, display, classes

  get #current() {
    return this.#threshold ?? this.#model;
  }

  get #isByClass() {
    return typeof this.#current !== "number";
  }

  #limitOf(className) {
    return this.#isByClass ? (this.#current[className] ?? 0.5) : this.#current;
  }

  #passes({ className, score }) {
    return Math.fround(score) > Math.fround(this.#limitOf(className)); // as the server compares
  }

  #setThreshold(value) {
    this.#threshold = value;
    const current = this.#current;
    const slider = find("threshold");
    slider.value = this.#isByClass ? 0.5 : current;
    find("threshold-value").textContent = this.#isByClass ? "by class" : current.toFixed(2);
    slider.setAttribute("aria-valuetext", this.#isByClass ? "one for each class" : current.toFixed(2));
    find("threshold-note").textContent =
      typeof this.#model === "number"
        ? `Objects with a higher score are shown. The model's threshold is ${this.#model.toFixed(2)}.`
        : "Objects with a higher score are shown. The model has one threshold for each class; " +
          "moving this sets one for all.";
    find("threshold-reset").hidden = value === null || value === this.#model;
    this.#changed();
  }

  #changed() {
    this.refresh();
    this.#events.changed();
  }

  #restyle(key, value) {
    this.style[key] = value;
    this.#events.restyled();
  }

  #listClasses() {
    this.#classes.clear();
    for (const { classId, className, colour } of this.#objects) {
      if (this.#classes.has(classId)) continue;
      const item = document.createElement("li");
      const label = element("label");
      const box = element("input");
      const count = element("span", "", "number");
      const limit = element("span", "", "muted");
      box.type = "checkbox";
      box.checked = !this.#hidden.has(classId);
      box.addEventListener("change", () => {
        this.#hide(classId, !box.checked);
        this.#changed();
      });
      label.append(box, swatch(colour), element("span", className, "name"), limit, count);
      item.append(label);
      this.#classes.set(classId, { name: className, limit, item, box, count });
    }
    find("classes").replaceChildren(...[...this.#classes.values()].map(({ item }) => item));
  }

  #hide(classId, hide) {
    if (hide) this.#hidden.add(classId);
    else this.#hidden.delete(classId);
  }

  #showClasses(show) {
    for (const [classId, { box }] of this.#classes) {
      box.checked = show;
      this.#hide(classId, !show);
    }
    this.#changed();
  }

  // ---- the table: Tab enters it once, the arrow keys go through its objects

  #listenToTable(body) {
    const objectOf = (event) => this.#objects[event.target.closest("tr")?.dataset.index];
    body.addEventListener("focusin", (event) => {
      this.#keepOneTabStop(event.target);
      this.#events.point(objectOf(event));
    });
    body.addEventListener("focusout", () => this.#events.point(null));
    body.addEventListener("mouseover", (event) => this.#events.point(objectOf(event) ?? null));
    body.addEventListener("mouseleave", () => this.#events.point(null));
    body.addEventListener("click", (event) => objectOf(event) && this.#events.pick(objectOf(event)));
    body.addEventListener("keydown", (event) => {
      const buttons = this.#shownButtons();
      const at = buttons.indexOf(event.target);
      const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
      if (next === undefined || at < 0) return;
      event.preventDefault();
      buttons[Math.min(Math.max(next, 0), buttons.length - 1)].focus();
    });
  }

  #shownButtons() {
    return [...find("objects").querySelectorAll("tr:not([hidden]) button")];
  }

  #keepOneTabStop(wanted = null) {
    const buttons = this.#shownButtons();
    const stop =
      buttons.find((one) => one === wanted) ?? buttons.find((one) => one.tabIndex === 0) ?? buttons[0];
    for (const button of find("objects").querySelectorAll("button"))
      button.tabIndex = button === stop ? 0 : -1;
  }
}

/** What is said about an object in an image of this height and width, line by line. */
export function describe({ className, score, mask, box: [x1, y1, x2, y2] }, [height, width]) {
  const part = ((100 * mask.area) / (height * width)).toPrecision(2);
  return [
    `${className} ${score.toFixed(2)}`,
    `Area ${numbers.format(mask.area)} px, ${Number(part)} % of the image`,
    `Box ${Math.round(x2 - x1)} × ${Math.round(y2 - y1)} px at ${Math.round(x1)}, ${Math.round(y1)}`,
  ];
}

function objectRow(object) {
  const row = element("tr");
  row.dataset.index = object.index;
  const name = element("th");
  name.scope = "row";
  const button = element("button", "", "link");
  button.type = "button";
  button.tabIndex = -1;
  button.append(swatch(object.colour), element("span", object.className, "name"));
  name.append(button);
  row.append(name, element("td", object.score.toFixed(2)), element("td", numbers.format(object.mask.area)));
  return row;
}

function swatch(colour) {
  const mark = element("i", "", "swatch");
  mark.style.backgroundColor = cssColour(colour);
  return mark;
}
