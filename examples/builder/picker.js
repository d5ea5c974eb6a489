// A search box with a list of results, as the ARIA pattern "combobox with list autocomplete" describes it:
// arrow keys move in the list, Enter chooses, Escape closes it.

import { debounce, h, newId } from "./dom.js";

/** A picker: {element, input}. `search` resolves to [{label, detail, item}] for a text; `choose` gets an item. */
export function picker({ label, hiddenLabel = false, placeholder = "", value = "", search, choose }) {
  const [inputId, listId] = [newId("search"), newId("results")];
  let options = [];
  let active = -1;
  let latest = 0;

  const input = h("input", {
    id: inputId,
    type: "text",
    value,
    placeholder,
    role: "combobox",
    autocomplete: "off",
    spellcheck: "false",
    "aria-autocomplete": "list",
    "aria-expanded": "false",
    "aria-controls": listId,
    oninput: () => {
      close(); // the results of another text
      find(input.value);
    },
    onfocus: () => find(input.value === value ? "" : input.value),
    onblur: () => close(),
    onkeydown: (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (step && options.length) {
        event.preventDefault();
        activate((active + step + options.length) % options.length);
      } else if (event.key === "Enter" && active >= 0) {
        event.preventDefault();
        pick(active);
      } else if (event.key === "Escape" && !list.hidden) {
        event.stopPropagation();
        close();
      }
    },
  });
  const list = h("ul", { id: listId, role: "listbox", class: "results", "aria-label": `Results: ${label}`, hidden: true });
  const status = h("span", { class: "visually-hidden", role: "status" });

  const find = debounce(async (text) => {
    const number = (latest += 1);
    let found;
    try {
      found = await search(text.trim());
    } catch (error) {
      if (number === latest) show([], error.problem ?? error.message);
      return;
    }
    if (number === latest && document.activeElement === input) show(found, found.length ? "" : "Nothing found.");
  }, 150);

  function show(found, problem) {
    options = found;
    active = -1;
    input.removeAttribute("aria-activedescendant");
    list.replaceChildren(
      ...found.map((option, number) =>
        h(
          "li",
          {
            id: `${listId}-${number}`,
            role: "option",
            "aria-selected": "false",
            // The mouse button must not take the focus out of the input, which would close the list.
            onmousedown: (event) => event.preventDefault(),
            onclick: () => pick(number),
          },
          h("span", {}, option.label),
          h("span", { class: "muted" }, option.detail ?? ""),
        ),
      ),
      ...(problem ? [h("li", { class: "muted", role: "option", "aria-disabled": "true" }, problem)] : []),
    );
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    status.textContent = problem || `${found.length} results; use the arrow keys.`;
  }

  function activate(number) {
    list.children[active]?.setAttribute("aria-selected", "false");
    active = number;
    list.children[active].setAttribute("aria-selected", "true");
    list.children[active].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", list.children[active].id);
  }

  function pick(number) {
    const option = options[number];
    close();
    input.value = option.label;
    choose(option.item);
  }

  function close() {
    latest += 1;
    list.hidden = true;
    list.replaceChildren();
    options = [];
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    status.textContent = "";
  }

  const element = h(
    "div",
    { class: "picker" },
    h("label", { for: inputId, class: hiddenLabel ? "visually-hidden" : null }, label),
    input,
    list,
    status,
  );
  return { element, input };
}
