// The filter in plain words, and its warnings with links to their conditions.

import { debounce, h } from "./dom.js";
import { lack } from "./filter.js";

export class Words {
  /** `focus` moves the focus to a node. */
  constructor(element, api, focus) {
    this.api = api;
    this.focus = focus;
    this.fields = new Map();
    this.description = h("p", { class: "description" }, "");
    this.warnings = h("ul", { class: "warnings", "aria-label": "Warnings" });
    element.append(this.description, h("div", { "aria-live": "polite" }, this.warnings));
  }

  lackOf(node) {
    return lack(node, this.fields);
  }

  /** Describe a filter. `incompleteCount` is the number of conditions that are not in it. */
  explain(filter, incompleteCount) {
    this.running?.abort();
    this.warnings.replaceChildren();
    if (filter.where && !Object.keys(filter.where).length) {
      this.description.textContent = incompleteCount ? "All contacts, until a condition is complete." : "All contacts.";
      return;
    }
    this.#describe(filter, (this.running = new AbortController()).signal);
  }

  #describe = debounce(async (filter, signal) => {
    if (signal.aborted) return;
    try {
      const { description } = await this.api.call("ExplainFilter", { body: { filter, analyze: false }, signal });
      this.description.textContent = `Contacts for whom ${description}.`;
    } catch (error) {
      if (signal.aborted) return;
      this.description.textContent = error.summary ?? error.message;
    }
  }, 200);

  /** Show warnings; `locate` finds the node of a field path. */
  showWarnings(warnings, locate) {
    this.warnings.replaceChildren(
      ...warnings.map(({ fieldPath, description }) =>
        h(
          "li",
          { class: "note warning" },
          `Check: it ${description}. `,
          h("button", { type: "button", class: "link", onclick: () => this.focus(locate(fieldPath)) }, "Go to the condition"),
        ),
      ),
    );
  }
}
