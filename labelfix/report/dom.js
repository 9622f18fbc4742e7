// The data, and building the page from it. Text from the data only ever becomes text nodes and attributes.

const DATA = JSON.parse(document.getElementById("data").textContent);
const CLASSES = DATA.classes;
const { summary } = DATA;
const S = DATA.suspects;
const COUNT = S.image.length;
const NONE = "–";
const SVG = "http://www.w3.org/2000/svg";

const count = (value) => Number(value).toLocaleString("en");
function percent(value, digits = 1) {
  if (value == null) return NONE;
  const shown = (100 * value).toFixed(digits);
  if (value < 1 && Number(shown) === 100) return `>\u202f${(100 - 10 ** -digits).toFixed(digits)}\u202f%`; // nearly sure is not sure
  return `${shown}\u202f%`;
}
const plural = (value, one, many) => `${count(value)} ${value === 1 ? one : many}`;
const range = (low, high) => (low == null ? "" : `${(100 * low).toFixed(1)}–${percent(high)}`);
const likeness = (value) => (Math.abs(value) < 0.005 ? 0 : value).toFixed(2).replace("-", "−");
const coverage = `${+(100 * DATA.coverage).toFixed(2)}\u202f% interval`;
const collator = new Intl.Collator("en", { numeric: true });
const byName = (a, b) => collator.compare(a, b);
const nameOf = (k) => (k >= 0 ? CLASSES[k] : NONE);

// Make an element: el("p", {class: "quiet", onclick: f}, "text", child, …). `css` sets properties one by one.
function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "css") for (const [key, v] of Object.entries(value)) node.style.setProperty(key, v);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return node;
}

// One string holds all thumbnails; a piece of it is cut out when its image is wanted.
const thumbnailNode = document.getElementById("thumbnails").firstChild;
const thumbnailText = thumbnailNode ? thumbnailNode.data : "";
const ENDS = DATA.thumbnails.ends;
document.documentElement.classList.toggle("bare", !ENDS.at(-1)); // nothing is pictured
const pictured = [...new Set(S.image)].concat(S.others);
const pictureOf = new Map(pictured.map((name, number) => [name, number]));

function picture(number, alt) {
  const start = number > 0 ? ENDS[number - 1] : 0;
  const box = el("div", { class: "picture" });
  if (number == null || !(ENDS[number] > start)) {
    box.append(el("span", { "aria-hidden": "true" }, "no image"), el("span", { class: "spoken" }, alt));
    return box;
  }
  const text = thumbnailText.slice(start, ENDS[number]);
  box.append(el("img", { src: `data:${DATA.thumbnails.mime};base64,${text}`, alt, decoding: "async", draggable: "false" }));
  return box;
}

function section(title, lead, ...children) {
  const id = `s-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  return el("section", { "aria-labelledby": id }, el("h2", { id }, title), lead && el("p", { class: "lead" }, lead), ...children);
}

const empty = (text) => el("p", { class: "empty" }, text);
const note = (text) => el("p", { class: "note" }, text);
