/* The page: its images, what is asked of the service, and what is shown. */

import { classColour } from "./drawing.js";
import { Connection } from "./connection.js";
import { drawnImage, labelmeText, replyText, save } from "./downloads.js";
import { element, find } from "./elements.js";
import { decodeMask } from "./masks.js";
import { describe, Panel } from "./panel.js";
import { Service } from "./service.js";
import { Camera, listenForFiles } from "./sources.js";
import { makeLevels, Viewer } from "./viewer.js";

// Objects with scores from here on are asked for once, so that the slider moves without a request.
const LOWEST_THRESHOLD = 0.05;
const THUMBNAIL = { width: 96, height: 72 };

const service = new Service();
const items = []; // images, as in `add`
let current = null; // the item that is shown
let info = null; // what the service says about itself
let lowest = LOWEST_THRESHOLD;
// Objects: under the pointer, looked at in the table, clicked.
let hot = { hovered: null, pointed: null, selected: null };

const panel = new Panel({
  changed: showObjects,
  restyled: () => viewer.redraw(),
  point: (object) => mark({ pointed: object ?? null }),
  pick: (object) => {
    mark({ selected: object });
    viewer.showObject(object);
  },
});
const viewer = new Viewer(find("stage"), {
  hover: (object, pointer) => mark({ hovered: object }, pointer),
  select: (object) => mark({ selected: object }),
  zoom: (percent) => (find("percent").textContent = `${percent} %`),
  describe: (object) => describe(object, current.reply.result.size),
});
viewer.style = panel.style;

// ---- the service

const connection = new Connection(service, (waits) => service.info(waits), useModel);

function useModel(model) {
  info = model;
  const thresholds = typeof info.threshold === "number" ? [info.threshold] : Object.values(info.threshold);
  lowest = Math.min(LOWEST_THRESHOLD, ...thresholds);
  panel.setModel(info.threshold, lowest);
  showModel();
  for (const item of items.filter((one) => one.state === "queued")) segment(item);
}

function showModel() {
  const count = info.labels.length;
  find("about").querySelector("summary").textContent =
    `${info.model}, ${count === 1 ? "1 class" : `${count} classes`}`;
  const facts = { Model: info.model, Backend: info.backend, Precision: info.precision, Device: info.device };
  const pairs = Object.entries(facts).filter(([, value]) => value);
  find("facts").replaceChildren(
    ...pairs.flatMap(([name, value]) => [element("dt", name), element("dd", value)]),
  );
  find("labels").replaceChildren(...info.labels.map((label) => element("li", label)));
  find("about").hidden = false;
}

// ---- images

/** Take over files. origin: see `listenForFiles`. */
function add(files, origin) {
  const added = files.map((file) => ({
    file,
    origin,
    state: "queued", // then "sent", "waiting", "done" or "failed"
    reason: "", // why it waits or failed
    unseen: "", // why the image is not shown
    mayRetry: false, // whether the same request may succeed later
    reply: null, // of the service
    objects: [], // of the reply
    labelme: null, // the LabelMe file of the reply, once asked for
    ending: new AbortController(),
    ...stripEntry(file.name),
  }));
  items.push(...added);
  document.body.classList.toggle("blank", !items.length);
  for (const item of added) {
    find("strip").append(item.entry);
    item.button.addEventListener("click", () => open(item));
    item.removal.addEventListener("click", () => remove(item));
    segment(item);
  }
  if (added.length) open(added[0]);
  drawThumbnails(added);
}

/** Ask the service for the objects of an image. */
async function segment(item) {
  setState(item, "queued");
  if (!info) return; // `useModel` goes on
  const limit = info.limits?.bodyBytes;
  if (limit && item.file.size > limit) {
    // Some servers close the connection when too much is sent: their reason would be lost.
    const [size, most] = [item.file.size, limit].map((bytes) => `${(bytes / 1e6).toFixed(1)} MB`);
    setState(
      item,
      "failed",
      `The file has ${size}; this server takes up to ${most}. Make the image smaller.`,
    );
    return;
  }
  const options = { threshold: lowest, visualize: false, maskFormat: "rle" };
  try {
    item.reply = await ask(item, options);
    item.objects = item.reply.result.instances.map(toObject);
    setState(item, "done");
  } catch (problem) {
    fail(item, problem);
    return;
  }
  if (item !== current) return;
  showItem();
  await opening;
  if (item === current && !(viewer.image && hasSize(viewer.image, item))) open(item);
}

function ask(item, options) {
  return service.segment(item.file, options, {
    started: () => item.state !== "done" && setState(item, "sent"),
    waiting: (seconds, reason) =>
      item.state !== "done" && setState(item, "waiting", `${reason} Sent again in ${seconds} s.`),
    signal: item.ending.signal,
  });
}

function fail(item, problem) {
  if (problem.name === "AbortError") return; // removed
  if (problem.status === 401) {
    setState(item, "queued", "Waits for the API key.");
    info = null;
    connection.askForKey();
  } else {
    item.mayRetry = !problem.status || problem.status === 429 || problem.status >= 500;
    setState(item, "failed", problem.message);
  }
}

function toObject(entry, index) {
  const { categoryId: classId, categoryName: className, score, bbox: box } = entry;
  return {
    index,
    entry,
    classId,
    className,
    score,
    box,
    mask: decodeMask(entry.mask),
    colour: classColour(classId),
  };
}

function hasSize({ width, height }, item) {
  const [rows, columns] = item.reply.result.size;
  return width === columns && height === rows;
}

function remove(item) {
  item.ending.abort();
  const index = items.indexOf(item);
  items.splice(index, 1);
  item.entry.remove();
  document.body.classList.toggle("blank", !items.length);
  const next = items[Math.min(index, items.length - 1)] ?? null;
  if (item === current) open(next);
  (next?.button ?? find("drop").querySelector("button")).focus();
}

/** Show an image; null shows none. */
function open(item) {
  opening = show(item);
}

let opening = Promise.resolve(); // until the image is decoded
let shownLevels = []; // of the current image; no other image is kept decoded

async function show(item) {
  current = item;
  for (const one of items) one.button.setAttribute("aria-current", one === item);
  item?.entry.scrollIntoView({ block: "nearest", inline: "nearest" });
  showLevels([]);
  showItem();
  find("stage").setAttribute("aria-busy", Boolean(item));
  find("notice").hidden ||= !item;
  if (!item) return;
  const levels = await loadLevels(item);
  if (current !== item) {
    close(levels);
    return;
  }
  showLevels(levels);
  showObjects();
  find("stage").setAttribute("aria-busy", false);
}

function showLevels(levels) {
  close(shownLevels);
  shownLevels = levels;
  viewer.setImage(levels);
}

function close(levels) {
  for (const level of levels) level.close();
}

/**
 * The image as the service sees it, upright. Where the browser cannot decode it, as a TIFF, or turns it in
 * another way, the service draws it: without objects, since no score is higher than 1.
 */
async function loadLevels(item) {
  item.unseen = "";
  try {
    const bitmap = await createImageBitmap(item.file);
    if (item.state !== "done" || hasSize(bitmap, item)) return await makeLevels(bitmap);
    bitmap.close();
  } catch {
    if (item.state !== "done") return []; // shown when the reply is there
  }
  try {
    const { result } = await ask(item, { threshold: 1, visualize: true, maskFormat: "none" });
    const bytes = Uint8Array.from(atob(result.image), (letter) => letter.charCodeAt(0));
    return await makeLevels(await createImageBitmap(new Blob([bytes], { type: "image/jpeg" })));
  } catch (problem) {
    item.unseen = `The image cannot be shown. ${problem.message}`;
    return [];
  }
}

async function drawThumbnails(added) {
  for (const { file, thumbnail } of added) {
    try {
      const bitmap = await createImageBitmap(file);
      const scale = Math.max(THUMBNAIL.width / bitmap.width, THUMBNAIL.height / bitmap.height);
      const small = await createImageBitmap(bitmap, {
        resizeWidth: Math.max(1, Math.round(bitmap.width * scale)),
        resizeHeight: Math.max(1, Math.round(bitmap.height * scale)),
        resizeQuality: "medium",
      });
      const { width, height } = Object.assign(thumbnail, THUMBNAIL);
      thumbnail.getContext("2d").drawImage(small, (width - small.width) / 2, (height - small.height) / 2);
      bitmap.close();
      small.close();
    } catch {
      // Not an image that the browser decodes: its name stands in the strip.
    }
  }
}

// ---- what is shown

function showItem() {
  panel.setObjects(current?.objects ?? [], current?.state === "done");
  hot = { hovered: null, pointed: null, selected: null };
  mark({});
  showObjects();
}

/** Show the objects that the panel lets through. */
function showObjects() {
  viewer.objects = panel.shown;
  if (!viewer.objects.includes(hot.selected)) mark({ selected: null });
  viewer.redraw();
  for (const item of items) showState(item);
  const done = current?.state === "done";
  for (const id of ["save-json", "save-png", "save-labelme"]) find(id).disabled = !done;
  find("save-png").disabled ||= !viewer.image;
  find("stage").setAttribute(
    "aria-label",
    current ? `${current.file.name}. ${stateText(current)}` : "No image",
  );
  sayState();
}

function mark(change, pointer = null) {
  hot = { ...hot, ...change };
  const object = hot.hovered ?? hot.pointed ?? hot.selected;
  viewer.setHot(object, hot.hovered ? pointer : null);
  panel.setHot(object, Boolean(change.selected));
}

function setState(item, state, reason = "") {
  Object.assign(item, { state, reason });
  showState(item);
  if (item === current) showObjects();
}

function stateText(item) {
  const count = item.objects.filter((object) => panel.shows(object)).length;
  return {
    queued: item.reason || "In the queue",
    sent: "Waiting for the reply",
    waiting: "The server is busy",
    done: count === 1 ? "1 object" : `${count} objects`,
    failed: "Failed",
  }[item.state];
}

function showState(item) {
  item.text.textContent = stateText(item);
  item.entry.dataset.state = item.state;
  item.button.title = item.reason ? `${item.file.name}: ${item.reason}` : item.file.name;
  if (item !== current) return;
  const notice = find("notice");
  notice.hidden = item.state === "done" && !item.unseen;
  notice.dataset.state = item.state;
  notice.querySelector("p").textContent = item.reason || item.unseen || `${stateText(item)} …`;
  notice.querySelector("button").hidden = item.state !== "failed" || !item.mayRetry;
}

let speaking = 0;

/** Say what is shown, but not each step of a slider. */
function sayState() {
  clearTimeout(speaking);
  speaking = setTimeout(() => {
    if (!current) say("");
    else if (current.state !== "done") say(`${current.file.name}: ${current.reason || stateText(current)}`);
    else {
      const [height, width] = current.reply.result.size;
      say(`${current.file.name}, ${width} × ${height}: ${stateText(current)} shown, ${panel.thresholdText}`);
    }
  }, 250);
}

function say(text) {
  if (find("status").textContent !== text) find("status").textContent = text;
}

function stripEntry(name) {
  const entry = element("li");
  const button = element("button", "", "image");
  const removal = element("button", "×", "remove");
  const thumbnail = element("canvas");
  const text = element("span", "", "state");
  for (const one of [button, removal]) one.type = "button";
  removal.setAttribute("aria-label", `Remove ${name}`);
  button.append(thumbnail, element("span", name, "name"), text);
  entry.append(button, removal);
  return { entry, button, removal, thumbnail, text };
}

// ---- downloads

/** Save what make(item, stem) gives, { content, name }, and say what goes wrong. */
function offerDownload(id, make) {
  find(id).addEventListener("click", async () => {
    const item = current;
    say(`Preparing the file of ${item.file.name} …`);
    try {
      const { content, name } = await make(item, item.file.name.replace(/\.[^.]*$/, "") || "image");
      save(content, name);
      say(`Saved ${name}`);
    } catch (problem) {
      if (problem.name !== "AbortError") say(`The file was not saved. ${problem.message}`);
    }
  });
}

offerDownload("save-json", (item, stem) => ({
  content: replyText(item.reply, panel.shown),
  name: `${stem}_result.json`,
}));
offerDownload("save-png", async (item, stem) => ({
  content: await drawnImage(viewer.image, panel.shown, panel.style),
  name: `${stem}_drawn.png`,
}));
offerDownload("save-labelme", async (item, stem) => {
  const shown = panel.shown; // when the button was clicked
  item.labelme ??= (
    await ask(item, { threshold: lowest, visualize: false, maskFormat: "none", labelme: true })
  ).result.labelme;
  return {
    content: await labelmeText(item.labelme, item.objects, shown, item.file, item.origin === "memory"),
    name: `${stem}.json`, // LabelMe looks for it beside the image
  };
});

// ---- start

const camera = new Camera(find("camera"), (file) => add([file], "memory"));
listenForFiles(find("files"), add);
for (const button of document.querySelectorAll(".choose")) {
  button.addEventListener("click", () => find("files").click());
}
for (const button of document.querySelectorAll(".use-camera"))
  button.addEventListener("click", () => camera.open());
find("zoom-in").addEventListener("click", () => viewer.zoomBy(1.25));
find("zoom-out").addEventListener("click", () => viewer.zoomBy(0.8));
find("fit").addEventListener("click", () => viewer.fit());
find("actual").addEventListener("click", () => viewer.actualSize());
for (const kind of ["click", "keydown"]) {
  document.addEventListener(kind, (event) => {
    const isAway = kind === "click" ? !find("about").contains(event.target) : event.key === "Escape";
    if (isAway) find("about").open = false;
  });
}
find("notice")
  .querySelector("button")
  .addEventListener("click", () => {
    for (const item of items.filter((one) => one.state === "failed" && one.mayRetry)) segment(item);
  });
connection.connect();
