// By which routes x_t, or s_{t-1}, reaches the answer: as they were patched, on other strings of the same length.

const COLUMN = 34, LEVELS = [46, 118, 190], LEVEL_NAMES = ["embeddings", "after layer 0", "prediction"], MARGIN = 112;

/** Say a route in words. */
function routeWords(layout, [first, carrier, second, head]) {
  const at = label(layout.labels[carrier]);
  const begin = first === null ? `stays at ${at}` : `${headName(0, first)} carries it to ${at}`;
  if (second === "residual") return `${begin}; the residual stream passes it on`;
  return `${begin}; ${headName(1, head)} ${second === "key" ? "reads it there" : "forms its query of it"}`;
}

/** Return the cell of the chosen row, or why there is none, as {cell, t} or {problem}. */
function cellOf(world, state, index) {
  const {task, inputs, variable} = state, length = inputs.length, layout = world.layouts[length];
  if (world.config.n_layers !== 2) {
    return {problem: `Routes are defined for two layers; this network has ${world.config.n_layers}.`};
  }
  if (state.row === layout.scored.length - 1) return {problem: "The last row predicts [EoS], to which no input leads."};
  const isOne = layout.scored.length === 2 && length > 1; // without chain of thought one row answers for every x_t
  const t = isOne ? Math.min(state.input, length) : layout.predicted[state.row];
  const routes = world.tasks[task].routes[world.networks[index]];
  if (!Object.keys(routes).some((key) => key.startsWith(`${length} `))) {
    return {problem: `Routes were not mapped for strings of length ${length}.`};
  }
  const cell = routes[`${length} ${t} ${variable}`];
  if (!cell && variable === "s" && (isOne || t === 1)) return {problem: "No state is read before this one."};
  return cell ? {cell, t} : {problem: "No other value changes the answer, so there is no route to find."};
}

/** Draw a cell: the source at the top, positions that carry it after layer 0, the predicting row at the bottom. */
function drawRoutes(world, state, layout, cell, source, row, said) {
  const n = layout.labels.length, x = (i) => MARGIN + COLUMN * i;
  const parts = LEVEL_NAMES.map((name, i) => draw("text", {x: 0, y: LEVELS[i] + 4, class: "level"}, name));
  const largest = Math.max(0.01, ...cell.routes.map((route) => Math.abs(route[4])));
  for (const [first, carrier, second, head, share] of [...cell.routes].reverse()) {
    const width = (9 * Math.abs(share)) / Math.max(1, largest), kind = share < 0 ? "route less" : "route";
    const hop = (level, from, to, stroke) => draw("line", {
      x1: x(from), y1: LEVELS[level], x2: x(to), y2: LEVELS[level + 1], stroke, "stroke-width": width, class: kind,
    });
    parts.push(hop(0, source, carrier, first === null ? "var(--stays)" : headColour(world, 0, first)));
    parts.push(hop(1, carrier, row, head === null ? "var(--stays)" : headColour(world, 1, head)));
  }
  const carriers = new Set(cell.routes.map((route) => route[1]));
  const dot = (i, level, isChosen) => draw("circle", {
    cx: x(i), cy: LEVELS[level], r: isChosen ? 6 : 2, class: isChosen ? "dot chosen" : "dot",
  });
  for (let i = 0; i < n; i++) {
    parts.push(draw("text", {x: x(i), y: 18, class: i === source ? "place chosen" : "place"}, label(layout.labels[i])));
    parts.push(dot(i, 0, i === source), dot(i, 1, carriers.has(i)));
  }
  parts.push(dot(row, 2, true));
  parts.push(draw("text", {x: x(row), y: LEVELS[2] + 24, class: "place chosen"},
    predictedName(world, state.inputs.length, state.row)));
  const width = x(n - 1) + 22;
  return h("div", {class: "wide", tabindex: "0", role: "group", "aria-label": "Drawing of the routes"},
    draw("svg", {viewBox: `0 0 ${width} 224`, width, height: 224, role: "img", "aria-label": said}, ...parts));
}

/** The routes of the chosen cell: a sentence, a drawing, a table with the control's. */
function showRoutes(root, world, state) {
  const {cell, t, problem} = cellOf(world, state, state.step), layout = world.layouts[state.inputs.length];
  if (problem) {
    fill(root, h("p", {class: "quiet"}, problem));
    return;
  }
  const other = cellOf(world, state, world.control).cell, row = layout.scored[state.row];
  const source = state.variable === "x" ? layout.inputs[t - 1] : row;
  const what = label(layout.labels[source]), answer = predictedName(world, state.inputs.length, state.row);
  const verdict = `${what} → ${answer}: ${cell.name}.`;
  const facts = `At this step, ${state.ablated.size ? "with every head on, " : ""}${what} alone is changed in `
    + `${cell.n} random strings of length ${state.inputs.length}. The answer follows in ${percent(cell.follows)} of `
    + `them (control ${percent(other?.follows)}); its logit falls by ${two(cell.effect)} against the other answer's `
    + `(control ${two(other?.effect)}). A route's share is what the change does by that route alone.`;
  const words = cell.routes.map((route) => `${routeWords(layout, route)}: ${two(route[4])}`);
  if (cell.name === "no route") {
    fill(root, h("p", {class: "verdict"}, verdict), h("p", {class: "quiet"}, facts));
    return;
  }
  const same = (one) => other?.routes.find((route) => route.slice(0, 4).every((part, i) => part === one[i]));
  const controls = (one) => (!other || other.name === "no route" ? "no route" : two(same(one)?.[4]));
  fill(root,
    h("p", {class: "verdict"}, verdict), h("p", {class: "quiet"}, facts),
    drawRoutes(world, state, layout, cell, source, row, `${verdict} ${words.join("; ")}`),
    table("Strongest routes", ["route", "share", "control"],
      cell.routes.slice(0, 5).map((route) => [routeWords(layout, route), two(route[4]), controls(route)])));
}
