// The texts of the page whose contrast is too low, by WCAG 2.2 (https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio).
const parse = (color) => {
  const numbers = color.match(/[\d.]+/g).map(Number);
  return numbers.length > 3 ? numbers : [...numbers, 1];
};
const blend = (above, below) => [0, 1, 2].map((i) => above[i] * above[3] + below[i] * (1 - above[3])).concat(1);
const luminance = (color) => {
  const [r, g, b] = color.slice(0, 3).map((value) => (value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ratio = (a, b) => {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
};
const background = (element) => {
  const layers = [];
  for (let each = element; each; each = each.parentElement) layers.unshift(parse(getComputedStyle(each).backgroundColor));
  let color = [255, 255, 255, 1];
  for (const layer of layers) color = blend(layer, color);
  // A text in a picture can be on all of its circles.
  for (const circle of element.closest("svg")?.querySelectorAll("circle") ?? []) {
    const { fill, fillOpacity } = getComputedStyle(circle);
    color = blend([...parse(fill).slice(0, 3), Number(fillOpacity)], color);
  }
  return color;
};
const found = [];
let count = 0;
for (const element of document.querySelectorAll("body *")) {
  if (!element.checkVisibility({ visibilityProperty: true }) || element.disabled || element.closest(".visually-hidden")) continue;
  const ownText = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join("");
  const styles = ownText ? [getComputedStyle(element)] : [];
  if (element.placeholder) styles.push(getComputedStyle(element, "::placeholder"));
  for (const style of styles) {
    count += 1;
    const below = background(element);
    const value = ratio(blend(parse(element.closest("svg") ? style.fill : style.color), below), below);
    if (value < 4.5) found.push(`${element.tagName} ${ownText || element.placeholder}: ${value.toFixed(2)}`);
  }
}
return [count, found];
