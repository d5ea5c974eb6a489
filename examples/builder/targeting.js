// Pickers of locations, interests and options of ad platforms. A location can become a condition; the rest is a list
// to take to an ad platform.

import { h } from "./dom.js";
import { condition } from "./filter.js";
import { picker } from "./picker.js";

const KINDS = [
  ["Location", "ListLocations", {}],
  ["Language", "ListLocations", { kind: "language" }],
  ["Interest", "ListInterests", {}],
  ["Option of an ad platform", "ListTargetingOptions", { kind: "option" }],
];

export function targetingPanel({ api, fields, add }) {
  const picked = new Map();
  const list = h("ul", { class: "picked", "aria-label": "Chosen targets" });
  const status = h("p", { role: "status", class: "hint" }, "Nothing is chosen yet.");

  const pickers = KINDS.map(([label, rpc, filter]) =>
    picker({
      label,
      placeholder: "Search",
      search: async (query) =>
        (await api.call(rpc, { query: { query, pageSize: 12, ...filter } })).nodes.map((node) => ({ label: node.name, detail: describe(node), item: node })),
      choose: (node) => {
        picked.set(node.id, node);
        draw();
        status.textContent = `${node.name} is chosen.`;
      },
    }),
  );

  function draw() {
    list.replaceChildren(...[...picked.values()].map(drawNode));
  }

  function drawNode(node) {
    const found = conditionOf(node);
    return h(
      "li",
      {},
      h("span", {}, h("strong", {}, node.name), " ", h("span", { class: "muted" }, `${describe(node)} · ${node.id}`)),
      found &&
        h(
          "button",
          {
            type: "button",
            "aria-label": `Use ${node.name} as a condition`,
            onclick: () => {
              const isAdded = add(found());
              status.textContent = isAdded ? `${node.name} is a condition of the audience now.` : "This audience is written as JSON; add the condition there.";
            },
          },
          "Use as a condition",
        ),
      h(
        "button",
        {
          type: "button",
          class: "remove",
          "aria-label": `Remove ${node.name}`,
          onclick: () => {
            picked.delete(node.id);
            draw();
            status.textContent = `${node.name} is removed.`;
            pickers[0].input.focus();
          },
        },
        "×",
      ),
    );
  }

  /** A function that makes the condition of a node, or null if no field of the contacts holds it. */
  function conditionOf(node) {
    const first = (...paths) => paths.find((path) => fields.has(path));
    const country = first("address.country", "country");
    if (node.kind === "country" && country) return () => condition(country, "anyOf", [node.country]);
    const city = first("address.city", "city");
    if (node.kind === "city" && city) return () => condition(city, "nearCity", { id: node.id, name: node.name, kilometers: 25, country });
    const language = first("language");
    if (node.kind === "language" && language) return () => condition(language, "anyOf", [node.id.replace("language-", "")]);
    return null;
  }

  return {
    element: h(
      "div",
      {},
      h("p", { class: "muted" }, "Values that ad platforms can target, in many languages. Locations and languages can become conditions."),
      h("div", { class: "pickers" }, pickers.map(({ element }) => element)),
      status,
      list,
    ),
    show: () => {}, // it changes by itself
  };
}

function describe(node) {
  const above = node.ancestors.map(({ name }) => name).reverse().join(", ");
  return [node.kind === "option" ? node.platform : node.kind.replace("_", " "), above].filter(Boolean).join(" · ");
}
