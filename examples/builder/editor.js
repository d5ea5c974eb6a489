// The editor of a filter: groups and conditions. It changes the tree and reports each change.
//
// A change of the structure draws the tree again and moves the focus to a useful place; a change of a value does not.

import { formatShare, h, readable } from "./dom.js";
import { audience, condition, group, lack, setField, setOperator, SYSTEM_FIELDS } from "./filter.js";
import { operatorLabel, operatorsOf } from "./operators.js";
import { valueEditor } from "./values.js";

const MODES = { all: "all", any: "any", none: "none" };
const MAX_DEPTH = 4;

export class Editor {
  /** `searches` find audiences and cities. `onChange` is called after each change of the tree. */
  constructor(element, { searches, onChange }) {
    this.element = element;
    this.searches = searches;
    this.onChange = onChange;
    this.fields = new Map();
    this.root = group();
  }

  /** Show a tree. `focus` is the id of the node to focus. */
  show(root, focus) {
    this.root = root;
    this.draw(focus);
    this.onChange();
  }

  /** Show messages at their nodes: a map of nodes to [{text, kind}]. */
  showMessages(messages) {
    for (const box of this.element.querySelectorAll("[data-messages]")) {
      const found = messages.get(this.nodes.get(box.dataset.messages)) ?? [];
      const texts = JSON.stringify(found);
      if (texts === (box.dataset.shown ?? "[]")) continue; // a screen reader would speak the same texts again
      box.dataset.shown = texts;
      box.replaceChildren(...found.map(({ text, kind }) => h("p", { class: `note ${kind}` }, text)));
      const isInvalid = found.some(({ kind }) => kind === "error");
      for (const control of box.parentElement.querySelectorAll(":scope > .controls :is(input, select, textarea)")) {
        if (isInvalid) control.setAttribute("aria-invalid", "true");
        else control.removeAttribute("aria-invalid");
      }
    }
  }

  /** Move the focus into a node. */
  focus(node) {
    const controls = document.getElementById(node.id)?.querySelectorAll("select, input, textarea") ?? [];
    const invalid = [...controls].filter((control) => control.tagName !== "SELECT").pop();
    (node.kind === "condition" && node.field && invalid ? invalid : controls[0])?.focus();
  }

  /** Add a complete condition to the root, as a picker elsewhere does. Returns whether the root takes conditions. */
  add(node) {
    if (this.root.kind === "exact") return false;
    this.root.children.push(node);
    this.draw();
    this.onChange();
    return true;
  }

  draw(focusId) {
    this.nodes = new Map();
    this.element.replaceChildren(this.root.kind === "exact" ? this.#json(this.root, null) : this.#group(this.root, null, 0));
    if (focusId) this.focus(this.nodes.get(focusId));
  }

  #changeStructure(change, focusId) {
    change();
    this.draw(focusId);
    this.onChange();
  }

  #group(node, parent, depth) {
    this.nodes.set(node.id, node);
    const add = (label, make, text) =>
      h(
        "button",
        {
          type: "button",
          "aria-label": label,
          onclick: () => {
            const child = make();
            this.#changeStructure(() => node.children.push(child), child.kind === "group" ? child.children[0].id : child.id);
          },
        },
        text,
      );
    const mode = h(
      "select",
      {
        "aria-label": "How many of the conditions must be met",
        onchange: (event) => {
          node.mode = event.target.value;
          this.onChange();
        },
      },
      Object.entries(MODES).map(([value, text]) => h("option", { value, selected: node.mode === value }, text)),
    );
    return h(
      "fieldset",
      { id: node.id, class: `group depth-${depth % 2}` },
      h("legend", { class: "visually-hidden" }, depth ? "Group of conditions" : "Conditions of the audience"),
      h(
        "div",
        { class: "controls" },
        h("span", {}, depth ? "Meets" : "Contacts who meet"),
        mode,
        h("span", {}, "of these"),
        parent && this.#removeButton(node, parent, "Remove this group"),
      ),
      this.#messages(node),
      h(
        "ul",
        { class: "conditions" },
        node.children.map((child) => h("li", {}, child.kind === "group" ? this.#group(child, node, depth + 1) : this.#leaf(child, node))),
      ),
      h(
        "div",
        { class: "adders" },
        add("Add a condition", () => condition(), "+ Condition"),
        depth < MAX_DEPTH && add("Add a group of conditions", () => group("any", [condition()]), "+ Group"),
        add("Add members of another audience", () => audience(), "+ Audience"),
      ),
    );
  }

  #leaf(node, parent) {
    return { condition: () => this.#condition(node, parent), audience: () => this.#audience(node, parent), json: () => this.#json(node, parent) }[node.kind]();
  }

  /** A condition. Its selects stay in place when their value changes, since a keyboard changes it letter by letter. */
  #condition(node, parent) {
    this.nodes.set(node.id, node);
    const [operatorBox, valueBox, hintBox] = [h("span", { class: "contents" }), h("span", { class: "contents" }), h("div", {})];
    const remove = this.#removeButton(node, parent, "Remove this condition");
    const box = h("div", { id: node.id, class: "condition", role: "group" });

    const drawValue = () => {
      const field = this.fields.get(node.field);
      const change = (value) => {
        node.value = value;
        this.onChange();
      };
      const context = { fields: this.fields, searchCities: this.searches.cities, change };
      valueBox.replaceChildren(...[valueEditor(node, field, context)].flat().filter(Boolean));
    };
    const drawField = () => {
      const field = this.fields.get(node.field);
      box.setAttribute("aria-label", field ? `Condition: ${readable(field.path)}` : "New condition");
      if (!field) {
        if (node.field) hintBox.replaceChildren(h("p", { class: "hint" }, "The org's records have this field no more."));
        return;
      }
      remove.setAttribute("aria-label", `Remove the condition on ${readable(field.path)}`);
      const changeOperator = (event) => {
        setOperator(node, event.target.value);
        drawValue();
        this.onChange();
      };
      operatorBox.replaceChildren(
        h(
          "select",
          { "aria-label": `Operator of ${readable(field.path)}`, onchange: changeOperator },
          operatorsOf(field).map((name) => h("option", { value: name, selected: node.operator === name }, operatorLabel(name, field))),
        ),
      );
      hintBox.replaceChildren(h("p", { class: "hint" }, describeField(field)));
      drawValue();
    };
    const changeField = (event) => {
      setField(node, this.fields.get(event.target.value));
      drawField();
      this.onChange();
    };
    box.append(h("div", { class: "controls" }, this.#fieldSelect(node, changeField), operatorBox, valueBox), remove, hintBox, this.#messages(node));
    drawField();
    return box;
  }

  #fieldSelect(node, onchange) {
    const option = (field) => h("option", { value: field.path, selected: node.field === field.path }, readable(field.path));
    const isOffered = (field) => operatorsOf(field).length && !field.types.every((type) => type.name === "object");
    const offered = [...this.fields.values()].filter((field) => field.path === node.field || isOffered(field));
    const [own, system] = [offered.filter((field) => !SYSTEM_FIELDS.has(field.path)), offered.filter((field) => SYSTEM_FIELDS.has(field.path))];
    return h(
      "select",
      { "aria-label": "Field", onchange },
      h("option", { value: "", disabled: true, selected: !node.field }, "Choose a field…"),
      h("optgroup", { label: "Fields of the contact" }, own.map(option)),
      h("optgroup", { label: "Fields of the record" }, system.map(option)),
    );
  }

  #audience(node, parent) {
    this.nodes.set(node.id, node);
    const search = this.searches.audiences;
    const { element } = this.#picker({
      label: "Audience",
      value: node.name,
      placeholder: "Search by name",
      search,
      choose: (segment) => {
        [node.audienceId, node.name] = [segment.id, segment.name];
        this.onChange();
      },
    });
    const negation = h(
      "select",
      {
        "aria-label": "Members or not members",
        onchange: (event) => {
          node.negated = event.target.value === "not";
          this.onChange();
        },
      },
      h("option", { value: "in", selected: !node.negated }, "is a member of"),
      h("option", { value: "not", selected: node.negated }, "is not a member of"),
    );
    return h(
      "div",
      { id: node.id, class: "condition", role: "group", "aria-label": "Members of another audience" },
      h("div", { class: "controls" }, negation, element),
      this.#removeButton(node, parent, "Remove this audience"),
      this.#messages(node),
    );
  }

  #picker(options) {
    return this.searches.picker({ hiddenLabel: true, ...options });
  }

  #json(node, parent) {
    this.nodes.set(node.id, node);
    const isWhole = node.kind === "exact";
    return h(
      "div",
      { id: node.id, class: "condition", role: "group", "aria-label": "Conditions as JSON" },
      h(
        "div",
        { class: "controls" },
        h("textarea", {
          "aria-label": isWhole ? "The filter as exact JSON" : "Condition as JSON",
          rows: Math.min(12, node.text.split("\n").length + 1),
          spellcheck: "false",
          value: node.text,
          oninput: (event) => {
            node.text = event.target.value;
            this.onChange();
          },
        }),
      ),
      parent && this.#removeButton(node, parent, "Remove these conditions"),
      h("p", { class: "hint" }, "Written in the filter language: the builder has no controls for it, and keeps it as it is."),
      this.#messages(node),
    );
  }

  #removeButton(node, parent, label) {
    return h(
      "button",
      {
        type: "button",
        class: "remove",
        "aria-label": label,
        title: label,
        onclick: () => {
          const place = parent.children.indexOf(node);
          this.#changeStructure(() => parent.children.splice(place, 1));
          const next = parent.children[Math.min(place, parent.children.length - 1)];
          if (next) this.focus(next);
          else document.getElementById(parent.id).querySelector(".adders button").focus();
        },
      },
      "×",
    );
  }

  #messages(node) {
    return h("div", { "data-messages": node.id, "aria-live": "polite" });
  }

  /** The first node that is not complete. */
  firstIncomplete(incomplete) {
    return incomplete.find((node) => lack(node, this.fields) && node.kind !== "group") ?? incomplete[0];
  }
}

function describeField(field) {
  const types = field.types.filter((type) => type.name !== "array").map((type) => ({ int: "number", long: "number", double: "number", string: "text", bool: "yes or no" })[type.name] ?? type.name);
  return `${[...new Set(types)].join(", ") || "list"} · ${formatShare(field.fillRate)} of contacts have one`;
}
