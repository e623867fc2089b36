/* Where images come from: chosen, dropped and pasted files, and the camera. */

/**
 * Call add(files, origin) for the images of the user. origin is "file" for those that are files on the user's
 * machine, and "memory" for those that the user has nowhere else.
 */
export function listenForFiles(input, add) {
  input.addEventListener("change", () => {
    add([...input.files], "file");
    input.value = ""; // the same file may be chosen again
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return; // text for a field
    event.preventDefault();
    add(
      ...(files.every(isUnnamed) ? [files.map((file) => named(file, "pasted")), "memory"] : [files, "file"]),
    );
  });
  listenForDrops((files) => add(files, "file"));
}

function listenForDrops(add) {
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  const mark = (on) => document.body.classList.toggle("dragging", on);
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault(); // else the browser would open the file in place of the page
    event.dataTransfer.dropEffect = "copy";
    mark(true);
  });
  addEventListener("dragleave", (event) => event.relatedTarget ?? mark(false));
  addEventListener("drop", (event) => {
    mark(false);
    if (!carriesFiles(event)) return;
    event.preventDefault();
    add([...event.dataTransfer.files]);
  });
}

/** Browsers call the image of a clipboard image.png. */
function isUnnamed(file) {
  return file.type.startsWith("image/") && /^(image\.\w+)?$/.test(file.name);
}

const counts = {};

function named(blob, origin) {
  counts[origin] = (counts[origin] ?? 0) + 1;
  const suffix = blob.type.split("/")[1]?.replace("jpeg", "jpg") ?? "png";
  return new File([blob], `${origin}-${counts[origin]}.${suffix}`, { type: blob.type });
}

/** The dialog that shows what the camera sees. take(file) is called with an image. */
export class Camera {
  #stream = null;

  constructor(dialog, take) {
    this.dialog = dialog;
    this.take = take;
    this.video = dialog.querySelector("video");
    this.text = dialog.querySelector("#camera-text");
    this.button = dialog.querySelector("#camera-take");
    this.button.addEventListener("click", () => this.#takeImage());
    dialog.querySelector("#camera-close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("close", () => this.#stop()); // also after Escape
  }

  async open() {
    this.#show("Waiting for the camera. Allow this page to use it if the browser asks.");
    this.dialog.showModal();
    try {
      this.#stream = await this.#start();
    } catch (error) {
      this.#show(error instanceof CameraProblem ? error.message : whyNoCamera(error));
      return;
    }
    if (!this.dialog.open) {
      this.#stop(); // closed while the browser asked
      return;
    }
    this.video.srcObject = this.#stream;
    await this.video.play();
    this.#show("", true);
    this.button.focus();
  }

  #start() {
    if (!navigator.mediaDevices) {
      throw new CameraProblem(
        "Browsers give the camera only to pages of this machine (http://127.0.0.1) and to pages with https. " +
          "Take an image with another program, and add the file.",
      );
    }
    const video = { width: { ideal: 4096 }, height: { ideal: 2160 }, facingMode: { ideal: "environment" } };
    return navigator.mediaDevices.getUserMedia({ video, audio: false });
  }

  async #takeImage() {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: this.video.videoWidth, height: this.video.videoHeight });
    canvas.getContext("2d").drawImage(this.video, 0, 0);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    this.dialog.close();
    this.take(named(blob, "camera"));
  }

  #show(text, ready = false) {
    this.text.textContent = text;
    this.text.hidden = !text;
    this.video.hidden = this.button.hidden = !ready;
  }

  #stop() {
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = this.video.srcObject = null;
  }
}

class CameraProblem extends Error {}

function whyNoCamera(error) {
  return (
    {
      NotAllowedError:
        "This page may not use the camera. Allow it in the settings of the browser for this page.",
      NotFoundError: "The browser finds no camera. Connect one, and try again.",
      NotReadableError: "The camera is in use by another program. Close that program, and try again.",
    }[error.name] ?? `The camera does not start: ${error.message}`
  );
}
