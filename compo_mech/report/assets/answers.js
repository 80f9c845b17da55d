// What the network answers, row by row, beside the control; and how right it is over training.

/** Return the name of what a scored row predicts. */
function predictedName(world, length, i) {
  const layout = world.layouts[length];
  return i === layout.scored.length - 1 ? "EoS" : label(`s${layout.predicted[i]}`);
}

/** One card for each scored row. */
function showAnswers(root, world, state, trained, control, choose) {
  const last = trained.rows.length - 1;
  const cards = trained.rows.map((row, i) => {
    const name = predictedName(world, state.inputs.length, i), chance = control.rows[i].probabilities[row.target];
    const p = row.probabilities[row.target], said = world.symbol(row.answer), verdict = row.right ? "right" : "wrong";
    return h("button", {
      class: `card ${verdict}`, type: "button", "data-key": `row${i}`, "aria-pressed": String(i === state.row),
      "aria-label": `${name}: answers ${said}, ${verdict}; probability of the right answer ${two(p)}, `
        + `control ${two(chance)}`,
      onclick: () => choose(i),
      onkeydown: (event) => {
        const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
        if (!step) return;
        const next = Math.max(0, Math.min(last, i + step));
        choose(next);
        root.querySelector(`[data-key="row${next}"]`).focus();
      },
    },
      h("span", {class: "what"}, name),
      h("span", {class: "token"}, said, h("span", {class: "mark"}, row.right ? "✓" : "✗")),
      h("span", {class: "bar"}, h("span", {class: "done", style: `width:${100 * p}%`})),
      h("span", {class: "number"}, two(p)),
      h("span", {class: "bar thin"}, h("span", {class: "done", style: `width:${100 * chance}%`})),
      h("span", {class: "number quiet"}, two(chance)));
  });
  fill(root, ...cards);
}

/** One line: how many states of the string are right. */
function summary(world, state, trained, control) {
  const n = trained.rows.length - 1, off = [...state.ablated].map((name) => headName(...name.split(".")));
  const without = off.length ? ` without ${off.join(", ")}` : "";
  const states = n === 1 ? "state" : "states";
  return `${trained.nRight} of ${n} ${states} right${without} (control ${control.nRight})`;
}

/** The likeliest tokens at the chosen row, of the network and of the control. */
function showDistribution(root, world, state, trained, control) {
  const row = trained.rows[state.row], other = control.rows[state.row].probabilities, length = state.inputs.length;
  const reads = label(world.layouts[length].labels[row.position]), name = predictedName(world, length, state.row);
  const tokens = [...row.probabilities.keys()].sort((a, b) => row.probabilities[b] - row.probabilities[a]).slice(0, 5);
  if (!tokens.includes(row.target)) tokens[tokens.length - 1] = row.target;
  const value = world.symbol(trained.tokens[row.position]);
  fill(root,
    h("p", {}, `The row of ${reads}${reads === "EoI" ? "" : ` = ${value}`} predicts ${name}; `
      + `the right answer is ${world.symbol(row.target)}.`),
    h("div", {class: "bars"}, ...tokens.flatMap((token) => [
      h("span", {class: token === row.target ? "name target" : "name", title: world.symbol(token)},
        world.symbol(token)),
      h("span", {class: "pair"},
        h("span", {class: "bar"}, h("span", {class: "done", style: `width:${100 * row.probabilities[token]}%`})),
        h("span", {class: "bar thin"}, h("span", {class: "done", style: `width:${100 * other[token]}%`}))),
      h("span", {class: "number"}, two(row.probabilities[token]),
        h("span", {class: "quiet"}, ` (${two(other[token])})`)),
    ])));
}

/** The accuracy at this length over training, above the slider, with the control's as a dashed line. */
function showCourse(root, world, state) {
  const {task, inputs, ablated, ablation} = state, n = world.control, length = inputs.length;
  const x = (i) => (n === 1 ? 50 : (100 * i) / (n - 1)), y = (value) => 30 - 28 * value;
  const whole = Array.from({length: n}, (_, i) => world.accuracy(i, task, length));
  if (whole[0] === undefined) {
    fill(root, h("p", {class: "quiet"}, `Strings of length ${length} are not among those trained and measured.`));
    return;
  }
  const head = ablated.size === 1 ? [...ablated][0] : null;
  const without = head && Array.from({length: n}, (_, i) => world.accuracy(i, task, length, ablation, head));
  const line = (values) => values.map((value, i) => `${x(i)},${y(value)}`).join(" ");
  const chance = world.accuracy(world.control, task, length), now = whole[state.step];
  const isMeasured = head && without[0] !== undefined;
  const said = `At length ${length}, over ${world.tasks[task].nTest[length]} test strings, ${percent(now)} of states `
    + `are right at this step (control ${percent(chance)})`
    + (isMeasured ? `; ${percent(without[state.step])} without ${headName(...head.split("."))}` : "");
  fill(root,
    h("span", {class: "top", "aria-hidden": "true"}, "100%"), h("span", {class: "bottom", "aria-hidden": "true"}, "0%"),
    draw("svg", {viewBox: "0 0 100 32", preserveAspectRatio: "none", role: "img", "aria-label": said},
      draw("line", {x1: 0, x2: 100, y1: y(chance), y2: y(chance), class: "course control"}),
      isMeasured && draw("polyline", {points: line(without), class: "course without"}),
      draw("polyline", {points: line(whole), class: "course"}),
      draw("line", {x1: x(state.step), x2: x(state.step), y1: 0, y2: 32, class: "now"})),
    h("p", {class: "quiet"}, `${said}.`));
}
