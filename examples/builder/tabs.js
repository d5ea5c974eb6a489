// Tabs, as the ARIA pattern "tabs with automatic activation" describes them: arrow keys change the tab.

import { h, newId } from "./dom.js";

/** {element, refresh}. Each panel is {element, show, refresh}: `show` is called when it is opened, and `refresh`, if it has
 * one, after each edit while it is open. */
export function tabs(label, entries) {
  let selected = 0;
  const boxes = entries.map(([name, panel]) => {
    const [tabId, panelId] = [newId("tab"), newId("panel")];
    const tab = h("button", { id: tabId, type: "button", role: "tab", "aria-controls": panelId, onclick: () => select(entries.findIndex(([each]) => each === name)) }, name);
    return [tab, h("div", { id: panelId, role: "tabpanel", "aria-labelledby": tabId, tabindex: 0 }, panel.element)];
  });

  function select(number) {
    selected = number;
    boxes.forEach(([tab, panel], each) => {
      tab.setAttribute("aria-selected", String(each === number));
      tab.tabIndex = each === number ? 0 : -1;
      panel.hidden = each !== number;
    });
    entries[selected][1].show();
  }

  const list = h(
    "div",
    {
      role: "tablist",
      "aria-label": label,
      onkeydown: (event) => {
        const target = { ArrowRight: selected + 1, ArrowLeft: selected - 1, Home: 0, End: boxes.length - 1 }[event.key];
        if (target === undefined) return;
        event.preventDefault();
        select((target + boxes.length) % boxes.length);
        boxes[selected][0].focus();
      },
    },
    boxes.map(([tab]) => tab),
  );
  boxes.forEach(([tab, panel], each) => {
    tab.setAttribute("aria-selected", String(each === 0));
    tab.tabIndex = each === 0 ? 0 : -1;
    panel.hidden = each !== 0;
  });
  return { element: h("div", { class: "tabs" }, list, boxes.map(([, panel]) => panel)), refresh: () => entries[selected][1].refresh?.() };
}
