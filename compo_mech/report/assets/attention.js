// Where heads attend: at the chosen row as a strip of tokens, and at every row as circuitsvis draws it.

/** One line of cells for each head: its attention weights at the chosen row. */
function showAttention(root, world, state, trained, control) {
  const layout = world.layouts[state.inputs.length], {position} = trained.rows[state.row], n = layout.labels.length;
  const head = h("tr", {}, h("th", {scope: "col"}, "head"), ...layout.labels.map((name, i) =>
    h("th", {scope: "col", class: i === position ? "own" : "", title: world.symbol(trained.tokens[i])},
      h("span", {class: "what"}, label(name)),
      h("span", {class: "token"}, i === 0 || i === layout.end ? "·" : world.symbol(trained.tokens[i])))));
  const lines = [], sentences = [];
  for (const [layer, index] of world.heads) {
    const weights = trained.patterns[layer][index].subarray(position * n, (position + 1) * n);
    const best = likeliest(weights), other = control.patterns[layer][index][position * n + best];
    const off = state.ablated.has(`${layer}.${index}`);
    const note = off && state.ablation !== "uniform" ? " (ablated: its pattern is not used)" : off ? " (ablated)" : "";
    sentences.push(h("li", {}, `${headName(layer, index)} attends most to ${label(layout.labels[best])}: `
      + `${two(weights[best])} (control ${two(other)})${note}`));
    lines.push(h("tr", {class: off ? "off" : ""}, h("th", {scope: "row"}, headName(layer, index)),
      ...layout.labels.map((_, key) => key > position
        ? h("td", {class: "unread"})
        : h("td", {
          style: `--w:${Math.round(100 * weights[key])}%;--head:${headColour(world, layer, index)}`,
          class: weights[key] > 0.5 ? "strong" : "",
        }, weights[key] >= 0.095 ? weights[key].toFixed(1).replace(/^0/, "") : h("span", {class: "unseen"}, "0")))));
  }
  const caption = `Attention at the row that predicts ${predictedName(world, state.inputs.length, state.row)}`;
  fill(root,
    h("div", {class: "wide", tabindex: "0", role: "group", "aria-label": caption},
      h("table", {class: "strip"},
        h("caption", {class: "unseen"}, caption), h("thead", {}, head), h("tbody", {}, ...lines))),
    h("ul", {class: "plain"}, ...sentences),
    h("p", {class: "quiet"}, "A weight alone does not show that a head is used: routes and ablations do."));
}

/** All heads' attention at every row, drawn by circuitsvis, which draws into an element of its own each time. */
function showMaps(root, world, state, trained) {
  const {labels} = world.layouts[state.inputs.length], n = labels.length;
  const tokens = labels.map((name, i) => (/\d/.test(name) ? `${name}=${world.symbol(trained.tokens[i])}` : name));
  const attention = world.heads.map(([layer, head]) => Array.from({length: n}, (_, row) =>
    Array.from(trained.patterns[layer][head].subarray(row * n, (row + 1) * n), (weight) => +weight.toFixed(4))));
  const names = world.heads.map(([layer, head]) => headName(layer, head));
  const place = h("div", {id: `circuitsvis-${(showMaps.nDrawn = (showMaps.nDrawn || 0) + 1)}`});
  root.style.minHeight = `${root.offsetHeight}px`; // until it is drawn, which takes a moment
  root.replaceChildren(place);
  CircuitsVis.render(place.id, CircuitsVis.AttentionHeads, {
    attention, tokens, attentionHeadNames: names, minValue: -1, maxValue: 1, maskUpperTri: true,
  });
  setTimeout(() => (root.style.minHeight = ""), REST);
}
