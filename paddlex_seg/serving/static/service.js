/* Requests to the service, and its errors in plain words. */

const AT_ONCE = 2; // requests
const TRIES = 30; // while the service says that it is busy
const LONGEST_WAIT = 60; // seconds between them
const PATIENCE = 120_000; // milliseconds until a reply

/** Why a request has no result. status: of HTTP; 0 when there was no reply. */
export class ServiceProblem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The service that this page came from. Its addresses are relative: a proxy may have it at any path. */
export class Service {
  key = ""; // kept in memory only
  #running = 0;
  #queue = [];

  /** What GET /info says: model, labels, threshold, limits and more. */
  info(waits = {}) {
    return this.#send("info", {}, waits);
  }

  /** The OpenAPI description of the service. */
  description(waits = {}) {
    return this.#send("openapi.json", {}, waits);
  }

  /**
   * The reply for an image file. Two requests run at once; more wait for their turn.
   *
   * options: of the query. started() is called when it is sent; waiting(seconds, reason) each second while
   * the service is busy; signal ends it. Throws ServiceProblem, and AbortError.
   */
  async segment(file, options, { started = () => {}, waiting, signal } = {}) {
    await this.#turn(signal);
    try {
      started();
      const type = file.type.startsWith("image/") ? file.type : "application/octet-stream";
      const request = { method: "POST", body: file, headers: { "Content-Type": type }, signal };
      return await this.#send(`instance-segmentation?${new URLSearchParams(options)}`, request, {
        started,
        waiting,
      });
    } finally {
      this.#running--;
      this.#queue.shift()?.();
    }
  }

  async #turn(signal) {
    while (this.#running >= AT_ONCE) await new Promise((resolve) => this.#queue.push(resolve));
    this.#running++;
    if (signal?.aborted) {
      this.#running--;
      this.#queue.shift()?.();
      signal.throwIfAborted();
    }
  }

  /** Send until the service is no longer busy. */
  async #send(path, request, { started = () => {}, waiting = () => {} }) {
    for (let attempt = 1; ; attempt++) {
      const reply = await this.#fetch(path, request);
      if (reply.ok) return content(reply);
      const problem = new ServiceProblem(reply.status, await reason(reply));
      if (![429, 503].includes(reply.status) || attempt === TRIES) throw problem;
      const asked = Number(reply.headers.get("Retry-After"));
      await pause(asked > 0 ? Math.min(asked, LONGEST_WAIT) : 2, request.signal, (left) =>
        waiting(left, problem.message),
      );
      started();
    }
  }

  async #fetch(path, { headers = {}, signal, ...request }) {
    const end = AbortSignal.timeout(PATIENCE);
    try {
      return await fetch(path, {
        ...request,
        headers: this.key ? { ...headers, "X-API-Key": this.key } : headers,
        signal: signal ? AbortSignal.any([signal, end]) : end,
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      if (end.aborted) throw new ServiceProblem(0, "The server did not reply within two minutes.");
      throw new ServiceProblem(
        0,
        `The server at ${location.host} does not answer. Check that it is still running.`,
      );
    }
  }
}

async function content(reply) {
  try {
    return await reply.json();
  } catch {
    throw new ServiceProblem(0, "The reply cannot be read. It was cut off, or it is not from this service.");
  }
}

/** What the server says, or what its status means if something before it replied, such as a proxy. */
async function reason(reply) {
  try {
    const { errorMsg } = await reply.json();
    if (errorMsg) return String(errorMsg);
  } catch {
    // not our JSON
  }
  return (
    {
      413: "The image is larger than the server takes.",
      502: "The server behind the proxy does not answer.",
      503: "The server is not ready.",
      504: "The server behind the proxy did not answer in time.",
    }[reply.status] ?? `The server replied with the status ${reply.status}.`
  );
}

async function pause(seconds, signal, tell) {
  for (let left = Math.ceil(seconds); left > 0; left--) {
    signal?.throwIfAborted();
    tell(left);
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  signal?.throwIfAborted();
}
