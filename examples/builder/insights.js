// The saved segment compared with its org, by a few dimensions.

import { alertBox, formatCount, formatShare, h, readable } from "./dom.js";

const DIMENSIONS = ["country", "ageBand", "lastOpened", "score", "lifecycleStage", "tags"];
const SHOWN_BUCKETS = 6;

export function insightsPanel({ api, segment }) {
  const box = h("div", { "aria-live": "polite" });
  let running;
  let shown; // the version of the segment, as it was sent

  /** Show another version than the one that is shown. */
  function refresh() {
    if (segment() !== shown) show();
  }

  async function show() {
    shown = segment();
    running?.abort();
    const { signal } = (running = new AbortController());
    if (!segment()) {
      box.replaceChildren(h("p", { class: "muted" }, "Save the audience as a segment to compare it with all contacts of the org."));
      return;
    }
    try {
      const query = { dimensions: DIMENSIONS.join(), maxBuckets: SHOWN_BUCKETS };
      draw(await api.call("GetInsights", { path: { audienceId: segment().id }, query, signal }));
    } catch (error) {
      if (signal.aborted) return;
      const isEmbedded = error.reason === "UNSUPPORTED_BY_STORE";
      const text = isEmbedded ? "The store in memory has no insights. Start the builder with AUDIENCE_MONGODB_URI to see them." : (error.problem ?? error.message);
      box.replaceChildren(alertBox(text, isEmbedded ? "hint" : "error"));
    }
  }

  function draw({ count, baselineCount, dimensions, warnings }) {
    box.replaceChildren(
      h(
        "p",
        {},
        `The saved segment: ${formatCount(count)} members, compared with ${formatCount(baselineCount)} contacts of the org.`,
        h("span", { class: "key audience-key" }, "audience"),
        h("span", { class: "key org-key" }, "org"),
      ),
      ...warnings.map(({ description }) => h("p", { class: "note warning" }, description)),
      h("div", { class: "dimensions" }, dimensions.map(drawDimension)),
    );
  }

  return { element: box, show, refresh };
}

function drawDimension({ name, buckets }) {
  const largest = Math.max(0.01, ...buckets.flatMap(({ share, baselineShare }) => [share, baselineShare ?? 0]));
  return h(
    "table",
    { class: "dimension" },
    h("caption", {}, readable(name)),
    h("thead", { class: "visually-hidden" }, h("tr", {}, ["Value", "Shares", "Audience", "Org"].map((text) => h("th", { scope: "col" }, text)))),
    h(
      "tbody",
      {},
      buckets.map(({ value, share, baselineShare }) => {
        const bar = (kind, size) => {
          const element = h("span", { class: kind });
          element.style.width = `${(size / largest) * 100}%`;
          return element;
        };
        return h(
          "tr",
          {},
          h("th", { scope: "row" }, value),
          h("td", { class: "bars", "aria-hidden": "true" }, bar("audience-bar", share), bar("org-bar", baselineShare ?? 0)),
          h("td", {}, formatShare(share)),
          h("td", { class: "muted" }, baselineShare === undefined ? "–" : formatShare(baselineShare)),
        );
      }),
    ),
  );
}
