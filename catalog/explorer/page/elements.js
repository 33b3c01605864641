// Small things that every part of the page needs.
export const byId = (id) => document.getElementById(id);
export const thousands = (value) => value.toLocaleString("en-GB");
export const fixed = (value, digits = 3) => (Number.isFinite(value) ? value.toFixed(digits) : "–");
export const words = (name) => name.replaceAll("_", " ");

/** An element with attributes and children; text goes in as text, never as HTML: names in a catalog are strangers' words. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== undefined));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";
export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function dot(colour) {
  const made = element("span", { class: "dot", "aria-hidden": "true" });
  made.style.background = colour;
  return made;
}

/** Round numbers between two bounds, about as many as wanted. */
export function ticks(low, high, wanted = 6) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((each) => each >= rough);
  const made = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9; k++) made.push(Number((k * step).toPrecision(12)));
  return made;
}
