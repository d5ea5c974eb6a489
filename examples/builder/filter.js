// The tree that the editor shows, and its filter. A node is
//
//   {kind: "group", mode: "all" | "any" | "none", children}
//   {kind: "condition", field, operator, value}      `field` is a path; empty until one is chosen
//   {kind: "audience", id, name, negated}            the members of another audience
//   {kind: "json", text}                             a part of a filter that the builder has no controls for
//   {kind: "exact", text}                            a whole filter of another tool, as exact JSON (`where_json`)

import { newId } from "./dom.js";
import { emptyValue, lackOf, OPERATORS, operatorsOf } from "./operators.js";

const MODES = { $and: "all", $or: "any", $nor: "none" };
const KEYS = { all: "$and", any: "$or", none: "$nor" };

export const group = (mode = "all", children = []) => ({ kind: "group", id: newId("group"), mode, children });
export const condition = (field = "", operator = "", value = null) => ({ kind: "condition", id: newId("condition"), field, operator, value });
export const audience = (id = "", negated = false) => ({ kind: "audience", id: newId("audience"), audienceId: id, name: id, negated });
export const json = (text = "{}") => ({ kind: "json", id: newId("json"), text });

/** Set the field of a condition, with the first operator that fits it. */
export function setField(node, field) {
  node.field = field.path;
  setOperator(node, operatorsOf(field)[0]);
}

/** Set the operator of a condition. Its value stays if the new operator has the same kind of value. */
export function setOperator(node, operator) {
  if (OPERATORS[node.operator]?.value !== OPERATORS[operator].value) node.value = emptyValue(operator);
  node.operator = operator;
}

/** What a node lacks, as an instruction; empty if it is complete. */
export function lack(node, fields) {
  switch (node.kind) {
    case "condition":
      if (!node.field) return "Choose a field.";
      return fields.has(node.field) ? lackOf(node.operator, node.value) : "";
    case "audience":
      return node.audienceId ? "" : "Search an audience and choose it.";
    case "group":
      return node.children.length ? "" : "Add a condition, or remove the group.";
    default:
      try {
        const where = JSON.parse(node.text);
        return typeof where === "object" && where && !Array.isArray(where) ? "" : 'Write an object, such as {"country": "US"}.';
      } catch (error) {
        return `This is not JSON: ${error.message}.`;
      }
  }
}

/** The filter of a tree: {filter, places, incomplete}.
 *
 * `places` has the node of each field path, so that an error or warning is shown where it belongs. Incomplete nodes are
 * left out of the filter.
 */
export function toFilter(root, datatype, fields) {
  const places = new Map();
  const incomplete = [];
  if (root.kind === "exact") {
    places.set("filter.where_json", root).set("filter.whereJson", root);
    if (lack(root, fields)) incomplete.push(root);
    return { filter: { datatype, whereJson: root.text }, places, incomplete };
  }
  const write = (node, path) => {
    places.set(path, node);
    if (node !== root && lack(node, fields)) {
      incomplete.push(node);
      return null;
    }
    if (node.kind === "condition") return { [node.field]: OPERATORS[node.operator].write(node.value, fields.get(node.field)) };
    if (node.kind === "json") return JSON.parse(node.text);
    if (node.kind === "audience") {
      const isMember = { $inAudience: node.audienceId };
      return node.negated ? { $nor: [isMember] } : isMember;
    }
    const parts = [];
    for (const child of node.children) {
      const part = write(child, `${path}.${KEYS[node.mode]}[${parts.length}]`);
      if (part) parts.push(part);
    }
    return parts.length ? { [KEYS[node.mode]]: parts } : null;
  };
  return { filter: { datatype, where: write(root, "filter.where") ?? {} }, places, incomplete };
}

/** The node of a field path in an error or warning: the innermost one that contains it. */
export function nodeAt(places, fieldPath) {
  const path = fieldPath.replace(/^segment\./, "").replace(/^where/, "filter.where");
  const inside = [...places.keys()].filter((each) => path.startsWith(each) && /^($|[.[])/.test(path.slice(each.length)));
  return places.get(inside.sort((a, b) => b.length - a.length)[0]);
}

/** The tree of a saved filter. A part that the builder has no controls for becomes JSON, so that nothing is lost. */
export function fromFilter(filter, fields) {
  if (filter.whereJson) return { kind: "exact", id: newId("exact"), text: filter.whereJson };
  const found = readParts(filter.where, fields);
  return found.length === 1 && found[0].kind === "group" ? found[0] : group("all", found);
}

function readParts(where, fields) {
  return Object.entries(where).map(([key, value]) => {
    if (MODES[key]) {
      const inner = key === "$nor" && value.length === 1 ? value[0] : {};
      if (Object.keys(inner).join() === "$inAudience" && typeof inner.$inAudience === "string") return audience(inner.$inAudience, true);
      return group(MODES[key], value.map((each) => asOne(readParts(each, fields))));
    }
    if (key === "$inAudience" && typeof value === "string") return audience(value);
    return readCondition(key, value, fields) ?? json(JSON.stringify({ [key]: value }, null, 2));
  });
}

const asOne = (nodes) => (nodes.length === 1 ? nodes[0] : group("all", nodes));

function readCondition(key, value, fields) {
  const path = key.replace(/^data\./, "");
  const field = fields.get(key) ?? fields.get(path);
  for (const name of field ? operatorsOf(field) : []) {
    const found = OPERATORS[name].read(value);
    if (found !== undefined) return condition(field.path, name, found);
  }
  return null;
}
