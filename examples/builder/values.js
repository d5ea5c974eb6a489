// The controls for the value of a condition, by the kind that its operator has.

import { formatShare, h, readable } from "./dom.js";
import { OPERATORS } from "./operators.js";
import { picker } from "./picker.js";

const numberOf = (text) => (text.trim() === "" || Number.isNaN(Number(text)) ? null : Number(text));

/** The controls. `change` gets each new value. */
export function valueEditor(node, field, context) {
  const label = `Value of ${readable(field.path)}`;
  return EDITORS[OPERATORS[node.operator].value](node, field, label, context);
}

const EDITORS = {
  none: () => null,

  text: (node, field, label, { change }) =>
    h("input", { type: "text", "aria-label": label, value: node.value ?? "", oninput: (event) => change(event.target.value) }),

  number: (node, field, label, { change }) =>
    h("input", { type: "number", step: "any", "aria-label": label, value: node.value ?? "", oninput: (event) => change(numberOf(event.target.value)) }),

  numbers: (node, field, label, { change }) =>
    pair(node.value, ["Lowest", "Highest"], label, { type: "number", step: "any" }, (values) => change(values.map(numberOf))),

  days: (node, field, label, { change }) => [
    h("input", { type: "number", min: 0, step: 1, class: "short", "aria-label": `Days: ${label}`, value: node.value ?? "", oninput: (event) => change(numberOf(event.target.value)) }),
    h("span", {}, "days"),
  ],

  day: (node, field, label, { change }) =>
    h("input", { type: "date", "aria-label": label, value: node.value ?? "", onchange: (event) => change(event.target.value) }),

  period: (node, field, label, { change }) => pair(node.value, ["First day", "Last day"], label, { type: "date" }, change),

  boolean: (node, field, label, { change }) =>
    h(
      "select",
      { "aria-label": label, onchange: (event) => change(event.target.value === "yes") },
      h("option", { value: "yes", selected: node.value }, "yes"),
      h("option", { value: "no", selected: !node.value }, "no"),
    ),

  city: (node, field, label, { change, fields, searchCities }) => {
    let found = node.value ?? { kilometers: 25 };
    const update = (values) => change((found = { ...found, ...values }));
    const siblings = [field.path.replace(/[^.]+$/, "country"), "country"];
    const { element } = picker({
      label,
      hiddenLabel: true,
      placeholder: "Search a city",
      value: found.name ?? "",
      search: searchCities,
      choose: (city) => update({ id: city.id, name: city.name, country: siblings.find((path) => fields.has(path)) }),
    });
    const within = h("input", { type: "number", min: 1, max: 200, class: "short", "aria-label": `Kilometres: ${label}`, value: found.kilometers, oninput: (event) => update({ kilometers: numberOf(event.target.value) }) });
    return [element, h("span", {}, "within"), within, h("span", {}, "km")];
  },

  values: (node, field, label, { change }) => {
    const isNumeric = field.types.some((type) => ["int", "long", "double", "decimal"].includes(type.name)) && !field.types.some((type) => type.name === "string");
    const shares = new Map(field.topValues.map(({ value, share }) => [value, share]));
    const chosen = new Set(node.value);
    const pills = h("div", { class: "pills" });
    const add = (value) => {
      chosen.add(value);
      change([...chosen]);
      draw();
    };
    const pill = (value) =>
      h(
        "label",
        { class: "pill" },
        h("input", {
          type: "checkbox",
          checked: chosen.has(value),
          onchange: (event) => {
            if (event.target.checked) chosen.add(value);
            else chosen.delete(value);
            change([...chosen]);
          },
        }),
        String(value),
        shares.has(value) && h("span", { class: "muted" }, formatShare(shares.get(value))),
      );
    const draw = () => pills.replaceChildren(...[...new Set([...shares.keys(), ...chosen])].map(pill));
    draw();
    const other = h("input", {
      type: isNumeric ? "number" : "text",
      step: isNumeric ? "any" : null,
      class: "other",
      placeholder: shares.size ? "Another value" : "A value",
      "aria-label": shares.size ? `Another ${label.toLowerCase()}` : label,
      onkeydown: (event) => {
        if (event.key !== "Enter") return;
        event.preventDefault();
        take();
      },
      // A value that was written and not added counts as well, as a reader of the page expects.
      onblur: () => take(),
    });
    const take = () => {
      const value = isNumeric ? numberOf(other.value) : other.value.trim();
      other.value = "";
      if (value !== null && value !== "") add(value);
    };
    return h("div", { class: "values", role: "group", "aria-label": label }, pills, other);
  },
};

function pair(values, names, label, attributes, change) {
  const inputs = names.map((name, number) => h("input", { ...attributes, "aria-label": `${name}: ${label}`, value: values?.[number] ?? "", oninput: () => change(inputs.map((input) => input.value)) }));
  return [inputs[0], h("span", {}, "and"), inputs[1]];
}
