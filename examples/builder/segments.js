// Saving the filter as a segment, and opening one.

import { alertBox, h, newId } from "./dom.js";

export class SegmentForm {
  /** `current` returns the editor's filter, `open` shows a segment in it. `onSaved` is called after a segment is saved. */
  constructor(element, api, { searches, current, open, editor, onSaved }) {
    Object.assign(this, { api, current, open, editor, onSaved });
    this.segment = null;
    this.savedFilter = "";
    this.filter = "";
    const nameId = newId("name");
    const oninput = () => this.#showStatus();
    this.name = h("input", { id: nameId, type: "text", maxlength: 200, required: true, autocomplete: "off", "aria-describedby": `${nameId}-problem`, oninput });
    this.problem = h("div", { id: `${nameId}-problem` });
    this.description = h("textarea", { rows: 1, oninput });
    this.status = h("p", { role: "status", class: "hint" });
    this.saveButton = h("button", { class: "primary" }, "Save");
    this.copyButton = h("button", { type: "button", hidden: true, onclick: () => this.#save(true) }, "Save as new");
    element.append(
      h(
        "form",
        {
          novalidate: true,
          onsubmit: (event) => {
            event.preventDefault();
            this.#save(false);
          },
        },
        h("label", { for: nameId }, "Name"),
        this.name,
        this.problem,
        h("label", {}, "Description (optional)", this.description),
        h("div", { class: "buttons" }, this.saveButton, this.copyButton),
        this.status,
      ),
    );
    const { element: search } = searches.picker({
      label: "Open a segment",
      hiddenLabel: true,
      placeholder: "Open a segment…",
      search: searches.audiences,
      choose: (segment) => this.#open(segment),
    });
    this.search = search.querySelector("input");
    this.toolbar = h("div", { class: "toolbar" }, search, h("button", { type: "button", onclick: () => this.#open(null) }, "New"));
  }

  /** Whether the filter, the name or the description is not the one that was opened or saved. */
  get isEdited() {
    return this.filter !== this.savedFilter || this.#texts() !== this.savedTexts;
  }

  #texts() {
    return JSON.stringify([this.name.value, this.description.value]);
  }

  /** Note the filter of the editor. */
  edited(filter) {
    this.filter = JSON.stringify(filter);
    this.#showStatus();
  }

  /** Note that this filter is the one that is saved. */
  saved(filter) {
    this.savedFilter = JSON.stringify(filter);
    this.#showStatus();
  }

  /** Show the fields of a segment, or of a new one. */
  show(segment) {
    this.segment = segment;
    this.name.value = segment?.name ?? "";
    this.description.value = segment?.description ?? "";
    this.savedTexts = this.#texts();
    this.saveButton.textContent = segment ? "Save changes" : "Save as a segment";
    this.copyButton.hidden = !segment;
    this.#refuse("");
  }

  #showStatus() {
    this.status.textContent = !this.segment ? "" : this.isEdited ? "Edited, not saved." : `Saved: version ${this.segment.version}.`;
  }

  #open(segment) {
    this.search.value = "";
    if (segment && segment.type !== "dynamic") {
      this.#refuse(`${segment.name} is a fixed list, which has no conditions to edit. Use it as a condition: + Audience.`);
    } else if (segment && segment.filter.datatype !== this.current().filter.datatype) {
      this.#refuse(`${segment.name} is about records of ${segment.filter.datatype}. This page edits audiences of ${this.current().filter.datatype}.`);
    } else if (!this.isEdited || confirm("Leave the changes that are not saved?")) {
      this.open(segment);
    }
  }

  async #save(asNew) {
    const { filter, incomplete } = this.current();
    if (incomplete.length) {
      this.#refuse("A condition is not complete. Complete it, or remove it.");
      this.editor.focus(this.editor.firstIncomplete(incomplete));
      return;
    }
    const isNew = asNew || !this.segment;
    const body = { name: this.name.value.trim(), description: this.description.value, filter, type: "dynamic" };
    this.saveButton.disabled = true;
    try {
      this.segment = isNew
        ? await this.api.call("CreateSegment", { body })
        : await this.api.call("UpdateSegment", { path: { id: this.segment.id }, body: { ...body, version: this.segment.version } });
      this.show(this.segment);
      this.saved(filter);
      this.onSaved();
    } catch (error) {
      this.#explain(error);
    } finally {
      this.saveButton.disabled = false;
    }
  }

  #explain(error) {
    const cures = {
      NAME_TAKEN: "Another segment has this name; choose another name.",
      STALE_VERSION: "Somebody else has changed this segment meanwhile. Open it again, or save yours as new.",
    };
    const ofName = error.violations?.some(({ field }) => /(^|\.)name$/.test(field));
    this.#refuse(cures[error.reason] ?? (ofName ? `The name ${error.problem}.` : (error.problem ?? error.message)));
    if (ofName || error.reason === "NAME_TAKEN") {
      this.name.setAttribute("aria-invalid", "true");
      this.name.focus();
    }
  }

  #refuse(text) {
    this.name.removeAttribute("aria-invalid");
    this.problem.replaceChildren(...(text ? [alertBox(text)] : []));
  }
}
