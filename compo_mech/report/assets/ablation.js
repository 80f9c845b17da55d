// What it costs to ablate each head: on the typed string, and as measured on test strings, beside the control.

const ABLATIONS = {
  mean: "a head puts out its mean over other strings of the same length, at each position",
  zero: "a head puts out zero",
  uniform: "a head attends uniformly to all that it sees, at the rows that predict a state",
};

/** A row for the whole network, each head, and the heads that are switched off if they are several. */
function showAblations(root, world, state) {
  const {task, inputs, step, ablation, ablated} = state, length = inputs.length;
  const right = (heads) => {
    const found = world.answers(step, state, heads);
    return `${found.nRight} of ${found.rows.length - 1}`;
  };
  const rows = [["none", right([]), percent(world.accuracy(step, task, length)),
    percent(world.accuracy(world.control, task, length))]];
  for (const [layer, head] of world.heads) {
    const name = `${layer}.${head}`;
    rows.push([headName(layer, head), right([name]), percent(world.accuracy(step, task, length, ablation, name)),
      percent(world.accuracy(world.control, task, length, ablation, name))]);
  }
  if (ablated.size > 1) {
    const names = [...ablated].map((name) => headName(...name.split("."))).join(" + ");
    rows.push([names, right([...ablated]), "–", "–"]);
  }
  const guess = world.tasks[task].guess[length];
  fill(root,
    table("States that are right without each head",
      ["ablated", "this string", `${world.tasks[task].nTest[length] || "no"} test strings`, "control"], rows),
    h("p", {class: "quiet"}, `States that are right when ${ABLATIONS[ablation]}. `
      + (guess === undefined ? "" : `The best guess without knowing the input is right ${percent(guess)} of the time. `)
      + "A dash: not measured."));
}
