// A picture of the overlap of two or three segments, with the same numbers as a table.

import { alertBox, formatCount, h } from "./dom.js";

const MAX_AUDIENCES = 3;
const RADIUS = 96;
// The circles, and the place of the number of each region: the digits of a key say which circles contain it.
const LAYOUTS = {
  2: { size: [440, 290], circles: [[165, 160], [275, 160]], regions: { 10: [120, 160], 11: [220, 160], "01": [320, 160] }, names: [[120, 40], [320, 40]] },
  3: {
    size: [440, 390],
    circles: [[165, 150], [275, 150], [220, 245]],
    regions: { 100: [122, 130], "010": [318, 130], "001": [220, 300], 110: [220, 115], 101: [160, 220], "011": [280, 220], 111: [220, 182] },
    names: [[110, 36], [330, 36], [220, 370]],
  },
};

export function overlapPanel({ api, segment }) {
  const choices = h("fieldset", { class: "choices" }, h("legend", {}, "Choose two or three segments"));
  const picture = h("div", { "aria-live": "polite" });
  const chosen = new Map();
  let running;
  let shown; // the segment of the editor, when the choices were read

  /** Read the segments again if one was saved. */
  function refresh() {
    if (segment() !== shown) show();
  }

  async function show() {
    shown = segment();
    try {
      const segments = await api.list("ListSegments", "segments", { orderBy: "name", state: "active" });
      for (const id of [...chosen.keys()]) if (!segments.some((segment) => segment.id === id)) chosen.delete(id);
      choices.replaceChildren(choices.firstChild, h("div", { class: "pills" }, segments.map(choice)));
      if (segments.length < 2) picture.replaceChildren(h("p", { class: "muted" }, "Save at least two segments to compare them."));
      else await compare();
    } catch (error) {
      picture.replaceChildren(alertBox(error.problem ?? error.message));
    }
  }

  function choice(segment) {
    return h(
      "label",
      { class: "pill" },
      h("input", {
        type: "checkbox",
        checked: chosen.has(segment.id),
        onchange: (event) => {
          if (event.target.checked) chosen.set(segment.id, segment.name);
          else chosen.delete(segment.id);
          compare();
        },
      }),
      segment.name,
    );
  }

  async function compare() {
    running?.abort();
    const { signal } = (running = new AbortController());
    const ids = [...chosen.keys()];
    for (const input of choices.querySelectorAll("input")) input.disabled = !input.checked && ids.length >= MAX_AUDIENCES;
    if (ids.length < 2) {
      picture.replaceChildren(h("p", { class: "muted" }, "The picture appears once two segments are chosen."));
      return;
    }
    picture.replaceChildren(h("p", { class: "muted" }, "Counting…"));
    try {
      const found = await api.call("GetOverlapRegions", { body: { audienceIds: ids }, signal });
      const sizes = new Map(found.sizes.map(({ audienceId, size }) => [audienceId, size]));
      draw(ids.map((id) => ({ id, name: chosen.get(id), size: sizes.get(id) })), found);
    } catch (error) {
      if (!signal.aborted) picture.replaceChildren(alertBox(error.problem ?? error.message));
    }
  }

  function draw(audiences, { regions, unionCount, subsets, duplicates }) {
    const counts = new Map(regions.map(({ audienceIds, count }) => [audiences.map(({ id }) => (audienceIds.includes(id) ? "1" : "0")).join(""), count]));
    const layout = LAYOUTS[audiences.length];
    const rows = Object.keys(layout.regions)
      .map((key) => ({ key, text: describeRegion(key, audiences), count: counts.get(key) ?? 0 }))
      .sort((a, b) => b.count - a.count);
    const facts = [
      ...duplicates.map(({ audienceIds }) => `${names(audienceIds)} have exactly the same members.`),
      ...subsets.map((each) => `${chosen.get(each.supersetAudienceId)} contains all of ${chosen.get(each.subsetAudienceId)}.`),
    ];
    picture.replaceChildren(
      h(
        "figure",
        { class: "overlap" },
        drawCircles(audiences, layout, counts),
        h(
          "figcaption",
          {},
          h("p", {}, `${formatCount(unionCount)} different contacts in total. ${facts.join(" ")}`),
          h(
            "table",
            { class: "dimension" },
            h("caption", { class: "visually-hidden" }, "Regions of the picture"),
            h("thead", { class: "visually-hidden" }, h("tr", {}, ["Region", "Share", "Contacts"].map((text) => h("th", { scope: "col" }, text)))),
            h(
              "tbody",
              {},
              rows.map(({ text, count }) => {
                const bar = h("span", { class: "audience-bar" });
                bar.style.width = `${unionCount ? (count / unionCount) * 100 : 0}%`;
                return h("tr", {}, h("th", { scope: "row" }, text), h("td", { class: "bars", "aria-hidden": "true" }, bar), h("td", {}, formatCount(count)));
              }),
            ),
          ),
          h("p", { class: "hint" }, "The circles show which audiences overlap; the bars are to scale."),
        ),
      ),
    );
  }

  const names = (ids) => ids.map((id) => chosen.get(id)).join(" and ");
  return { element: h("div", {}, choices, picture), show, refresh };
}

function describeRegion(key, audiences) {
  const inside = audiences.filter((_, number) => key[number] === "1").map(({ name }) => name);
  if (inside.length === 1) return `Only ${inside[0]}`;
  return inside.length === audiences.length ? (inside.length === 2 ? "In both" : "In all three") : inside.join(" and ");
}

function drawCircles(audiences, { size: [width, height], circles, regions, names }, counts) {
  const cut = (text) => (text.length > 24 ? `${text.slice(0, 23)}…` : text);
  const label = `Overlap of ${audiences.map(({ name, size }) => `${name} (${formatCount(size)})`).join(", ")}`;
  return h(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    circles.map(([cx, cy], number) => h("circle", { cx, cy, r: RADIUS, class: `circle-${number}` })),
    names.map(([x, y], number) =>
      h("text", { x, y, class: "name" }, cut(audiences[number].name), h("tspan", { class: "size" }, `  ${formatCount(audiences[number].size)}`)),
    ),
    Object.entries(regions).map(([key, [x, y]]) => h("text", { x, y, class: "region" }, formatCount(counts.get(key) ?? 0))),
  );
}
