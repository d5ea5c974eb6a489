// The audience builder: wires editor, count, words, segment and panels together.

import { Api } from "./api.js";
import { alertBox, debounce, h } from "./dom.js";
import { Editor } from "./editor.js";
import { condition, fromFilter, group, nodeAt, toFilter } from "./filter.js";
import { insightsPanel } from "./insights.js";
import { membersPanel } from "./members.js";
import { overlapPanel } from "./overlap.js";
import { picker } from "./picker.js";
import { Reach } from "./reach.js";
import { SegmentForm } from "./segments.js";
import { tabs } from "./tabs.js";
import { targetingPanel } from "./targeting.js";
import { Words } from "./words.js";

const DATATYPE = "contact";
const EDIT_PAUSE_MILLISECONDS = 250;
const UNAUTHENTICATED = 16; // the code of gRPC

/** Show the builder in an element, for a connection: {gateway, org, token}. `token` is a function that resolves to a
 * valid JWT; it is called for each request. */
export async function startBuilder(element, connection) {
  const api = new Api(connection);
  const searches = {
    picker,
    audiences: async (name) =>
      (await api.call("ListSegments", { query: { name, orderBy: "name", pageSize: 10 } })).segments.map((segment) => ({ label: segment.name, detail: segment.type, item: segment })),
    cities: async (query) =>
      (await api.call("ListLocations", { query: { query, kind: "city", pageSize: 10 } })).nodes.map((city) => ({
        label: city.name,
        detail: city.ancestors.map(({ name }) => name).reverse().join(", "),
        item: city,
      })),
  };
  const [editorBox, countBox, wordsBox, segmentBox] = ["editor", "count", "words", "segment"].map((name) => h("div", { id: name }));
  const problem = h("div", {});

  const reach = new Reach(countBox, api);
  const words = new Words(wordsBox, api, (node) => editor.focus(node));
  const editor = new Editor(editorBox, { searches, onChange: () => edited() });
  const segmentForm = new SegmentForm(segmentBox, api, { searches, current: () => current, open, editor, onSaved: () => panels.refresh() });
  const context = { api, current: () => current, segment: () => segmentForm.segment };
  const panels = tabs("About this audience", [
    ["Members", membersPanel(context)],
    ["Insights", insightsPanel(context)],
    ["Overlap", overlapPanel(context)],
    ["Targeting", targetingPanel({ api, fields: editor.fields, add: (node) => editor.add(node) })],
  ]);

  /** The filter of the editor, its places and its incomplete nodes. */
  let current = { filter: { datatype: DATATYPE, where: {} }, places: new Map(), incomplete: [] };

  const evaluate = debounce(async () => {
    const { filter, places } = current;
    const messages = new Map();
    const tell = (node, text, kind) => messages.set(node, [...(messages.get(node) ?? []), { text, kind }]);
    const show = () => editor.showMessages(messages);
    const locate = (fieldPath) => nodeAt(places, fieldPath) ?? editor.root;
    // The service explains what is wrong with exact JSON.
    for (const node of current.incomplete.filter(({ kind }) => kind !== "exact")) tell(node, `${words.lackOf(node)} It is not counted yet.`, "hint");
    show();
    words.explain(filter, current.incomplete.length);
    panels.refresh();
    await reach.count(filter, {
      onWarnings: (warnings) => {
        words.showWarnings(warnings, locate);
        for (const { fieldPath, description } of warnings) tell(locate(fieldPath), `Check this: it ${description}.`, "warning");
        show();
      },
      onError: (error) => {
        for (const { field, description } of error.violations) tell(locate(field), `This ${description}.`, "error");
        show();
      },
    });
  }, EDIT_PAUSE_MILLISECONDS);

  function edited() {
    current = toFilter(editor.root, DATATYPE, editor.fields);
    words.fields = editor.fields;
    segmentForm.edited(current.filter);
    reach.pause();
    evaluate();
  }

  /** Show a segment, or a new audience. */
  async function open(segment) {
    const root = segment ? fromFilter(segment.filter, editor.fields) : group("all", [condition()]);
    await nameAudiences(api, root);
    segmentForm.show(segment);
    editor.show(root, segment ? undefined : root.children[0].id);
    segmentForm.saved(current.filter);
  }

  element.replaceChildren(
    h("a", { class: "skip", href: "#editor" }, "Skip to the conditions"),
    h("header", { class: "top" }, h("h1", {}, "Audience builder"), h("span", { class: "org" }, `Org ${connection.org}`), segmentForm.toolbar),
    h(
      "main",
      { class: "layout" },
      problem,
      h("section", { class: "card edit", "aria-labelledby": "edit-title" }, h("h2", { id: "edit-title" }, "Who is in the audience"), editorBox),
      h(
        "aside",
        { class: "summary", "aria-label": "Summary" },
        h("section", { class: "card count", "aria-labelledby": "count-title" }, h("h2", { id: "count-title" }, "Count"), countBox),
        h("section", { class: "card words", "aria-labelledby": "words-title" }, h("h2", { id: "words-title" }, "In plain words"), wordsBox),
        h("section", { class: "card save", "aria-labelledby": "save-title" }, h("h2", { id: "save-title" }, "Segment"), segmentBox),
      ),
      h("section", { class: "card panels", "aria-label": "About this audience" }, panels.element),
    ),
  );

  try {
    const [{ fields }] = await Promise.all([api.call("ListFields", { query: { datatype: DATATYPE } }), reach.countAll(DATATYPE)]);
    for (const field of fields) editor.fields.set(field.path, field);
    await open(null);
  } catch (error) {
    const cure = error.code === UNAUTHENTICATED ? ". Get a new token: in development, open the address that `make builder` prints." : "";
    problem.replaceChildren(alertBox(`${error.problem ?? error.message}${cure}`));
  }
}

/** Give the audiences in a tree their names, as far as they still exist. */
async function nameAudiences(api, node) {
  if (node.kind === "audience") {
    try {
      node.name = (await api.call("GetSegment", { path: { id: node.audienceId } })).name;
    } catch {
      node.name = node.audienceId; // a custom audience, or a deleted one, which the count reports
    }
  }
  await Promise.all((node.children ?? []).map((child) => nameAudiences(api, child)));
}

