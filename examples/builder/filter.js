// The tree that the editor shows, and its filter. A node is
//
//   {kind: "group", mode: "all" | "any" | "none", children, isObject}
//   {kind: "condition", field, operator, value, saved}   `field` is a path; empty until one is chosen
//   {kind: "audience", id, name, negated}            the members of another audience
//   {kind: "json", text}                             a part of a filter that the builder has no controls for
//   {kind: "exact", text}                            a whole filter of another tool, as exact JSON (`where_json`)
//
// A filter that nobody edits stays as it is: toFilter(fromFilter(filter)) is the same JSON. So a group of several fields
// in one object notes `isObject`, and a condition notes what was `saved`: {field, operator, value, part}.

import { newId } from "./dom.js";
import { emptyValue, lackOf, OPERATORS, operatorsOf } from "./operators.js";

const MODES = new Map([["$and", "all"], ["$or", "any"], ["$nor", "none"]]);
const KEYS = { all: "$and", any: "$or", none: "$nor" };
/** The fields of the record itself, as ListFields names them. A field of the payload with such a name is `data.<name>`. */
export const SYSTEM_FIELDS = new Set(["author", "createdate", "datatype", "modifydate", "name", "owner", "pk", "sk", "state", "version"]);

export const group = (mode = "all", children = [], isObject = false) => ({ kind: "group", id: newId("group"), mode, children, isObject });
export const condition = (field = "", operator = "", value = null, saved = null) => ({ kind: "condition", id: newId("condition"), field, operator, value, saved });
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
  const incomplete = [];
  if (root.kind === "exact") {
    if (lack(root, fields)) incomplete.push(root);
    const places = new Map(["filter.where_json", "filter.whereJson"].map((path) => [path, root]));
    return { filter: { datatype, whereJson: root.text }, places, incomplete };
  }

  /** The part of the filter that a node is, and the nodes by their paths in it; null if it is left out. */
  const write = (node) => {
    if (node !== root && lack(node, fields)) {
      incomplete.push(node);
      return null;
    }
    if (node.kind !== "group") return { part: partOf(node, fields), places: [["", node]] };
    const written = node.children.map(write).filter(Boolean);
    return written.length ? join(node, written) : null;
  };

  const { part, places } = write(root) ?? { part: {}, places: [["", root]] };
  return { filter: { datatype, where: part }, places: new Map(places.map(([path, node]) => [`filter.where${path}`, node])), incomplete };
}

function partOf(node, fields) {
  if (node.kind === "json") return JSON.parse(node.text);
  if (node.kind === "audience") {
    const isMember = { $inAudience: node.audienceId };
    return node.negated ? { $nor: [isMember] } : isMember;
  }
  const { saved } = node;
  if (saved && ["field", "operator", "value"].every((name) => saved[name] === node[name])) return saved.part;
  return { [node.field]: OPERATORS[node.operator].write(node.value, fields.get(node.field)) };
}

/** The part that a group is, of those of its children: one object if it was one and their keys differ, else a list. */
function join(node, written) {
  const parts = written.map(({ part }) => part);
  const names = parts.flatMap(Object.keys);
  if (node.isObject && node.mode === "all" && new Set(names).size === names.length) {
    const placesOf = ({ part, places }) => places.flatMap(([path, each]) => (path ? [[path, each]] : Object.keys(part).map((name) => [`.${name}`, each])));
    return { part: Object.fromEntries(parts.flatMap(Object.entries)), places: [["", node], ...written.flatMap(placesOf)] };
  }
  const key = KEYS[node.mode];
  const inside = written.flatMap(({ places }, number) => places.map(([path, each]) => [`.${key}[${number}]${path}`, each]));
  return { part: { [key]: parts }, places: [["", node], ...inside] };
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
  return found.length === 1 && found[0].kind === "group" ? found[0] : group("all", found, true);
}

function readParts(where, fields) {
  return Object.entries(where).map(([key, value]) => {
    const mode = MODES.get(key);
    if (mode) {
      const inner = key === "$nor" && value.length === 1 ? value[0] : {};
      if (Object.keys(inner).join() === "$inAudience" && typeof inner.$inAudience === "string") return audience(inner.$inAudience, true);
      return group(mode, value.map((each) => asOne(readParts(each, fields))));
    }
    if (key === "$inAudience" && typeof value === "string") return audience(value);
    return readCondition(key, value, fields) ?? json(JSON.stringify({ [key]: value }, null, 2));
  });
}

function asOne(nodes) {
  if (!nodes.length) return json("{}");
  return nodes.length === 1 ? nodes[0] : group("all", nodes, true);
}

function readCondition(key, value, fields) {
  const field = fields.get(displayPath(key));
  for (const operator of field ? operatorsOf(field) : []) {
    const found = OPERATORS[operator].read(value, field);
    if (found === undefined || lackOf(operator, found)) continue;
    return condition(field.path, operator, found, { field: field.path, operator, value: found, part: { [key]: value } });
  }
  return null;
}

/** A path of a filter as ListFields has it: without `data.`, unless the rest would mean another field. */
function displayPath(path) {
  const bare = path.replace(/^data\./, "");
  const [head] = bare.split(".");
  return SYSTEM_FIELDS.has(head) || head === "data" || bare.startsWith("$") ? path : bare;
}
