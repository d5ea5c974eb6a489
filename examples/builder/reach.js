// The count, which narrows while the service reads records. A new filter cancels the count of the old one.

import { alertBox, formatCount, formatShare, h } from "./dom.js";

export class Reach {
  constructor(element, api) {
    this.api = api;
    this.all = 0;
    this.allText = "";
    this.number = h("p", { class: "number" }, "…");
    this.detail = h("p", { class: "interval" }, "");
    this.bar = h("div", { class: "bar" }, h("span", { class: "interval-bar" }), h("span", { class: "share-bar" }));
    this.problem = h("div", {});
    // The visible numbers change many times a second; a screen reader hears the result alone.
    this.spoken = h("p", { class: "visually-hidden", role: "status", "aria-live": "polite", id: "spoken-count" });
    element.append(this.number, this.detail, this.bar, this.problem, this.spoken);
  }

  /** Count the org's contacts, with which each count is compared. */
  async countAll(datatype) {
    const { count, exact } = await this.api.call("EstimateReach", { body: { filter: { datatype, where: {} } } });
    this.all = count;
    this.allText = `${exact ? "" : "about "}${formatCount(count)} contacts`;
  }

  /** Mark the count as old, and cancel it. */
  pause() {
    this.running?.abort();
    this.number.classList.add("old");
  }

  /** Count a filter. `onWarnings` gets its warnings, `onError` an ApiError. */
  async count(filter, { onWarnings, onError }) {
    const running = (this.running = new AbortController());
    try {
      let last;
      for await (const message of this.api.stream("StreamReach", { body: { filter }, signal: running.signal })) {
        if (running.signal.aborted) return;
        this.#show((last = message));
      }
      this.spoken.textContent = `${formatCount(last.count)} of ${this.allText}`;
      onWarnings(last.warnings);
    } catch (error) {
      if (running.signal.aborted) return;
      this.#refuse(error);
      if (error.violations) onError(error);
    }
  }

  #show({ count, exact, lowerBound, upperBound }) {
    const share = (value) => (this.all ? Math.min(value / this.all, 1) : 0);
    this.problem.replaceChildren();
    this.number.classList.remove("old");
    this.number.replaceChildren(h("span", { class: exact ? "" : "estimate" }, `${exact ? "" : "about "}${formatCount(count)}`));
    this.detail.textContent = exact
      ? `of ${this.allText}, ${formatShare(share(count))}: exact`
      : `between ${formatCount(lowerBound)} and ${formatCount(upperBound)} (95 % interval)`;
    const [interval, exactShare] = this.bar.children;
    interval.style.left = `${share(lowerBound) * 100}%`;
    interval.style.width = `${(share(upperBound) - share(lowerBound)) * 100}%`;
    exactShare.style.width = `${share(count) * 100}%`;
  }

  #refuse(error) {
    this.number.replaceChildren("–");
    this.number.classList.remove("old");
    this.detail.textContent = "No count";
    this.spoken.textContent = "";
    for (const part of this.bar.children) part.style.width = "0";
    this.problem.replaceChildren(alertBox(error.summary ?? error.message));
  }
}
