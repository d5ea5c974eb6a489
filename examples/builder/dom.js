// Elements of the page, and numbers as text. Text never becomes HTML.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "circle", "text", "title", "tspan"]);
let lastId = 0;

export const newId = (prefix) => `${prefix}-${(lastId += 1)}`;

/** An element with attributes and children. An attribute `on…` is a listener; false and null leave it out. */
export function h(tag, attributes = {}, ...children) {
  const element = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked") element[name] = value;
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A function that runs the last of many calls, once there was none for some milliseconds. */
export function debounce(action, milliseconds) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), milliseconds);
  };
}

export const formatCount = (number) => number.toLocaleString("en-US");

export function formatShare(share) {
  return `${(share * 100).toLocaleString("en-US", { maximumFractionDigits: share < 0.1 ? 1 : 0 })} %`;
}

/** `lastEmailOpenedAt` as "Last email opened at", `address.city` as "Address › City". */
export function readable(path) {
  const words = (name) => name.replace(/[_-]/g, " ").replace(/([a-z\d])([A-Z])/g, (_, a, b) => `${a} ${b.toLowerCase()}`);
  return path.split(".").map(words).map((name) => name.charAt(0).toUpperCase() + name.slice(1)).join(" › ");
}

/** A message that a screen reader speaks at once. */
export const alertBox = (text, kind = "error") => h("p", { class: `note ${kind}`, role: "alert" }, text);
