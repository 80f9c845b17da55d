// What the page holds, and what its networks make of a string.

/** Return what is compressed in one of the page's elements, as an ArrayBuffer. */
async function inflated(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

class World {
  constructor(data, weights) {
    Object.assign(this, data);
    this.weights = weights;
    this.config = data.description.config;
    this.control = data.networks.length - 1;
    this.bytesOfOne = weights.byteLength / data.networks.length;
    this.read = new Map();
    this.means = new Map();
    this.lengths = Object.keys(data.layouts).map(Number);
    this.heads = [];
    for (let layer = 0; layer < this.config.n_layers; layer++) {
      for (let head = 0; head < this.config.n_heads; head++) this.heads.push([layer, head]);
    }
  }

  /** Return a network by its index; the control is the last. */
  network(index) {
    if (!this.read.has(index)) {
      this.read.set(index, readNetwork(this.description, this.weights, index * this.bytesOfOne));
    }
    return this.read.get(index);
  }

  /** Return what a token is called. */
  symbol(token) {
    return this.symbols[token];
  }

  /** Return the states that a task gives a string of inputs. */
  states(task, inputs) {
    const rule = this.tasks[task].rule, states = [];
    let state = rule.length - 1; // the start's row
    for (const x of inputs) states.push((state = rule[state][x]));
    return states;
  }

  /** Return the tokens that a network reads, with the task's own states, and what it should answer at scored rows. */
  encode(task, inputs) {
    const layout = this.layouts[inputs.length], tokens = new Array(layout.labels.length);
    const states = this.states(task, inputs).slice(-layout.states.length);
    tokens[0] = this.tasks[task].first;
    tokens[layout.end] = this.endOfInput;
    layout.inputs.forEach((position, i) => (tokens[position] = inputs[i]));
    layout.states.forEach((position, i) => (tokens[position] = states[i]));
    return {tokens, targets: [...states, this.endOfStates]};
  }

  /** Return what a text says as inputs of a task, or why it cannot be one, as {inputs} or {problem}. */
  parsed(task, text) {
    const {nInputs, firstInput} = this.tasks[task], longest = this.lengths[this.lengths.length - 1];
    const isSpaced = /[\s,;]/.test(text.trim()) || nInputs > 10;
    const words = isSpaced ? text.split(/[\s,;]+/).filter(Boolean) : [...text.trim()];
    const wrong = words.findIndex((word) => !/^\d+$/.test(word) || +word < firstInput || +word >= nInputs);
    if (!words.length) return {problem: `Type 1 to ${longest} inputs, each ${firstInput} to ${nInputs - 1}.`};
    if (wrong >= 0) {
      return {problem: `${label(`x${wrong + 1}`)} = ${words[wrong]}: must be ${firstInput} to ${nInputs - 1}.`};
    }
    if (words.length > longest) {
      return {problem: `${words.length} inputs: the network has positions for at most ${longest}.`};
    }
    return {inputs: words.map(Number)};
  }

  /** Write inputs as they are typed. */
  text(task, inputs) {
    return inputs.join(this.tasks[task].nInputs > 10 ? " " : "");
  }

  /** Return each head's mean z over the page's other strings of this length, which is computed once. */
  meanZ(index, task, length) {
    const key = `${index} ${task} ${length}`;
    if (!this.means.has(key)) {
      const rows = this.tasks[task].references[length].map((inputs) => this.encode(task, inputs).tokens);
      this.means.set(key, meanZ(this.network(index), rows));
    }
    return this.means.get(key);
  }

  /** Return how `runNetwork` ablates these heads, each written "layer.head". */
  edits(index, task, length, heads, ablation) {
    const layout = this.layouts[length], edits = {};
    for (const name of heads) {
      const [layer, head] = name.split(".").map(Number);
      if (ablation === "uniform") edits[name] = {uniform: layout.scored.slice(0, -1)};
      else if (ablation === "mean") edits[name] = {z: this.meanZ(index, task, length)[layer][head]};
      else edits[name] = {z: new Float64Array(layout.labels.length * this.config.head_width)};
    }
    return edits;
  }

  /** Run a network on a string. Return its tokens, patterns, and for each scored row what it answers. */
  answers(index, {task, inputs, own, ablation}, heads) {
    const network = this.network(index), layout = this.layouts[inputs.length];
    const {tokens, targets} = this.encode(task, inputs);
    const edits = this.edits(index, task, inputs.length, heads, ablation);
    let run = runNetwork(network, tokens, edits);
    if (own) {
      for (const position of layout.scored.slice(0, -1)) { // causal, so that rows up to this one are final
        tokens[position + 1] = likeliest(run.logits[position]);
        run = runNetwork(network, tokens, edits);
      }
    }
    const rows = layout.scored.map((position, i) => {
      const probabilities = softmax(run.logits[position]), answer = likeliest(run.logits[position]);
      return {position, target: targets[i], answer, right: answer === targets[i], probabilities};
    });
    return {tokens, rows, patterns: run.patterns, nRight: rows.slice(0, -1).filter((row) => row.right).length};
  }

  /** Return a measured accuracy on test strings: of the whole network, or with one head ablated. */
  accuracy(index, task, length, ablation = "none", head = null) {
    const found = this.tasks[task].accuracy[`${this.networks[index]} ${length}`] || {};
    return found[head === null ? ablation : `${ablation} ${head}`];
  }
}

/** Return the token of the highest logit. */
function likeliest(logits) {
  return logits.reduce((best, value, token) => (value > logits[best] ? token : best), 0);
}
