// A table of some members.

import { alertBox, formatCount, h, readable } from "./dom.js";

const SHOWN = 10;
const USUAL_FIELDS = ["firstName", "lastName", "email"];
const MAX_COLUMNS = 6;

export function membersPanel({ api, current }) {
  const box = h("div", { "aria-live": "polite", "aria-busy": "false" });
  let running;

  async function show() {
    running?.abort();
    const { signal } = (running = new AbortController());
    const { filter, places } = current();
    const used = [...places.values()].filter((node) => node.kind === "condition" && node.field).map((node) => node.field);
    const fields = [...new Set([...USUAL_FIELDS, ...used])].slice(0, MAX_COLUMNS);
    box.setAttribute("aria-busy", "true");
    try {
      const members = await read(filter, fields, signal).catch((error) => {
        if (error.reason !== "MISSING_SCOPE") throw error;
        return read(filter, [], signal); // without the scope for values, the ids alone
      });
      draw(members, members.some((member) => member.fields) ? fields : []);
    } catch (error) {
      if (!signal.aborted) box.replaceChildren(alertBox(error.summary ?? error.message));
    } finally {
      box.setAttribute("aria-busy", "false");
    }
  }

  async function read(filter, fields, signal) {
    for await (const message of api.stream("StreamMembers", { body: { filter, fields, batchSize: SHOWN }, signal })) return message.members;
    return [];
  }

  function draw(members, fields) {
    if (!members.length) {
      box.replaceChildren(h("p", { class: "muted" }, "Nobody meets the conditions."));
      return;
    }
    const caption = members.length < SHOWN ? `All ${formatCount(members.length)} members` : `The first ${SHOWN} members`;
    const columns = fields.length ? fields : ["id"];
    box.replaceChildren(
      h(
        "div",
        { class: "scroll", tabindex: 0, role: "region", "aria-label": "Members" },
        h(
          "table",
          {},
          h("caption", {}, caption, fields.length ? "" : ". The token does not allow values of records (scope audiences.export)."),
          h("thead", {}, h("tr", {}, columns.map((path) => h("th", { scope: "col" }, readable(path))))),
          h("tbody", {}, members.map((member) => h("tr", {}, columns.map((path) => h("td", {}, format(fields.length ? member.fields[path] : member.id)))))),
        ),
      ),
    );
  }

  return { element: box, show, refresh: show };
}

function format(value) {
  if (value === undefined || value === null) return "";
  if (Array.isArray(value)) return value.map(format).join(", ");
  if (typeof value === "object") return JSON.stringify(value);
  return String(value).replace(/T00:00:00\.000Z$/, "").replace(/^(\d{4}-\d\d-\d\d)T(\d\d:\d\d).*Z$/, "$1 $2");
}
