/* The first request of a page: asks for an API key where the service wants one, and says what goes wrong. */

import { find } from "./elements.js";

/**
 * Call ask() until it gives something, and then ready(it). Its ServiceProblem is shown; one about the API key
 * shows the form for it, whose key becomes service.key.
 */
export class Connection {
  constructor(service, ask, ready) {
    Object.assign(this, { service, ask, ready });
    find("banner")
      .querySelector("button")
      .addEventListener("click", () => this.connect());
    find("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      service.key = find("key").value.trim();
      find("key").value = "";
      this.connect();
    });
  }

  async connect() {
    this.#show("");
    let answer;
    try {
      answer = await this.ask({
        waiting: (seconds, reason) => this.#show(`${reason} Asked again in ${seconds} s.`, false),
      });
    } catch (problem) {
      if (problem.status === 401) this.askForKey();
      else this.#show(problem.message);
      return;
    }
    this.#show("");
    find("key-form").hidden = true;
    this.ready(answer);
  }

  askForKey() {
    find("key-text").textContent = this.service.key
      ? "The server did not accept this key. Enter another one."
      : "This server asks for an API key. It is kept until this page is closed.";
    find("key-form").hidden = false;
    find("key").focus();
  }

  #show(text, again = true) {
    const banner = find("banner");
    banner.hidden = !text;
    banner.querySelector("p").textContent = text;
    banner.querySelector("button").hidden = !again;
  }
}
