// Elements, texts and numbers.

const REST = 150; // milliseconds without a change, after which what takes longer is drawn

/** Make an element: attributes that are null or false are left out, those named on… are listeners. */
function h(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** Make an element of a drawing. */
function draw(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== false));
  return element;
}

/** Put new children into an element. A button in it that has the focus keeps it: one of the same data-key gets it.
 *  What scrolls sideways stays where it was scrolled to. */
function fill(root, ...children) {
  const key = root.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const places = [...root.querySelectorAll(".wide")].map((box) => box.scrollLeft);
  root.replaceChildren(...children);
  root.querySelectorAll(".wide").forEach((box, i) => (box.scrollLeft = places[i] || 0));
  if (key !== undefined) root.querySelector(`[data-key="${key}"]`)?.focus({preventScroll: true});
}

const SUBSCRIPTS = "₀₁₂₃₄₅₆₇₈₉";

/** Write the name of a position with its number below the line: x3 as x₃. */
function label(name) {
  return name.replace(/\d/g, (digit) => SUBSCRIPTS[digit]);
}

const headName = (layer, head) => `L${layer}H${head}`;
const headColour = (world, layer, head) => `var(--h${(layer * world.config.n_heads + head) % 8})`;
const two = (value) => (value === undefined ? "–" : value.toFixed(2).replace("-0.00", "0.00"));
const percent = (value) => (value === undefined ? "–" : `${(100 * value).toFixed(value > 0 && value < 0.1 ? 1 : 0)}%`);

/** A table with a head, the first cell of each row being its heading. */
function table(caption, head, rows) {
  return h("div", {class: "wide", tabindex: "0", role: "group", "aria-label": caption},
    h("table", {},
      h("caption", {class: "unseen"}, caption),
      h("thead", {}, h("tr", {}, ...head.map((text) => h("th", {scope: "col"}, text)))),
      h("tbody", {}, ...rows.map(([first, ...cells]) =>
        h("tr", {}, h("th", {scope: "row"}, first), ...cells.map((cell) => h("td", {}, cell)))))));
}
