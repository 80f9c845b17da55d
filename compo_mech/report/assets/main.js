// The page's state, what changes it, and what is drawn anew then.

const $$ = (id) => document.getElementById(id);
class Explorer {
  constructor(world) {
    this.world = world;
    const length = world.trained.reduce((best, one) => (Math.abs(one - 6) < Math.abs(best - 6) ? one : best));
    this.state = {
      task: 0, inputs: world.tasks[0].references[length][0], step: world.control - 1,
      ablated: new Set(), ablation: "mean", own: false,
      row: Math.min(3, world.layouts[length].scored.length - 2), variable: "x", input: 1,
    };
    this.typed();
    this.build();
    this.update();
  }

  randomInputs(task, length) {
    const {firstInput, nInputs} = this.world.tasks[task];
    return Array.from({length}, () => firstInput + Math.floor(Math.random() * (nInputs - firstInput)));
  }

  /** Write the string into its field. */
  typed() {
    $$("string").value = this.world.text(this.state.task, this.state.inputs);
  }

  /** Change the state and draw it. */
  set(changes) {
    Object.assign(this.state, changes);
    const {scored} = this.world.layouts[this.state.inputs.length];
    this.state.row = Math.min(this.state.row, scored.length - 1);
    this.update();
  }

  setInputs(inputs) {
    this.set({inputs});
    this.typed();
    $$("string").setAttribute("aria-invalid", "false");
  }

  /** Put the controls into the page, once. */
  build() {
    const {world, state} = this;
    $$("task-field").hidden = world.tasks.length < 2;
    $$("task").append(...world.tasks.map((task, i) => h("option", {value: i}, task.name)));
    $$("task").addEventListener("change", (event) => {
      const task = +event.target.value, length = this.state.inputs.length;
      const {inputs} = world.parsed(task, world.text(task, this.state.inputs));
      this.set({task, inputs: inputs || this.randomInputs(task, length)});
      this.typed();
    });
    $$("string").addEventListener("input", (event) => this.read(event.target.value));
    $$("random").addEventListener("click", () => this.setInputs(this.randomInputs(state.task, state.inputs.length)));
    $$("shorter").addEventListener("click", () => this.shorten());
    $$("longer").addEventListener("click", () => this.lengthen());
    $$("step").max = world.control - 1;
    $$("step").value = state.step;
    $$("step").addEventListener("input", (event) => this.set({step: +event.target.value}));
    $$("play").addEventListener("click", () => this.play());
    this.choice("ablation", [
      ["mean", "puts out its mean"], ["zero", "puts out zero"], ["uniform", "attends uniformly"]]);
    this.choice("own", [[false, "the true states"], [true, "the states it wrote"]]);
    this.choice("variable", [["x", "an input, xₜ"], ["s", "the state before, sₜ₋₁"]]);
    $$("input").addEventListener("change", (event) => this.set({input: +event.target.value}));
    $$("maps-box").addEventListener("toggle", () => this.rest());
  }

  /** Make radio buttons of values and their texts, which set the state's entry of that name. */
  choice(name, options) {
    $$(name).append(...options.map(([value, text]) => h("label", {},
      h("input", {type: "radio", name, checked: this.state[name] === value, onchange: () => this.set({[name]: value})}),
      ` ${text}`)));
  }

  /** Take what is typed, or say why it cannot be taken. */
  read(text) {
    const {inputs, problem} = this.world.parsed(this.state.task, text);
    $$("string").setAttribute("aria-invalid", String(Boolean(problem)));
    if (problem) {
      $$("string-says").textContent = `${problem} Shown is ${this.world.text(this.state.task, this.state.inputs)}.`;
      $$("string-says").classList.add("wrong");
    } else {
      this.set({inputs});
    }
  }

  shorten() {
    if (this.state.inputs.length > 1) this.setInputs(this.state.inputs.slice(0, -1));
  }

  lengthen() {
    const {lengths} = this.world, {inputs, task} = this.state;
    if (inputs.length < lengths[lengths.length - 1]) this.setInputs([...inputs, ...this.randomInputs(task, 1)]);
  }

  /** Go through the steps from the first, or from here, one after the other; or stop. */
  play() {
    const isOn = this.timer !== undefined;
    clearInterval(this.timer);
    this.timer = undefined;
    if (!isOn) {
      if (this.state.step === this.world.control - 1) this.set({step: 0});
      this.timer = setInterval(() => {
        if (this.state.step < this.world.control - 1) this.set({step: this.state.step + 1});
        else this.play();
      }, 700);
    }
    $$("play").textContent = isOn ? "Play" : "Stop";
    $$("play").setAttribute("aria-pressed", String(!isOn));
  }

  toggle(name) {
    const ablated = new Set(this.state.ablated);
    if (!ablated.delete(name)) ablated.add(name);
    this.set({ablated});
  }

  /** Draw all that follows from the state. */
  update() {
    const {world, state} = this, heads = [...state.ablated];
    const trained = world.answers(state.step, state, heads), control = world.answers(world.control, state, heads);
    this.showControls(trained, control);
    showCourse($$("course"), world, state);
    showAnswers($$("answers"), world, state, trained, control, (row) => this.set({row}));
    showDistribution($$("distribution"), world, state, trained, control);
    showAttention($$("attention"), world, state, trained, control);
    showRoutes($$("routes"), world, state);
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.rest(), REST);
  }

  /** Draw what takes longer. */
  rest() {
    const {world, state} = this;
    showAblations($$("ablations"), world, state);
    if ($$("maps-box").open) showMaps($$("maps"), world, state, world.answers(state.step, state, [...state.ablated]));
  }

  showControls(trained, control) {
    const {world, state} = this, step = world.networks[state.step], length = state.inputs.length;
    const isTrained = world.trained.includes(length);
    $$("string-says").textContent = `${length} ${length === 1 ? "input" : "inputs"}`
      + (isTrained ? "" : "; strings of this length were never trained");
    $$("string-says").classList.toggle("wrong", !isTrained);
    $$("step").value = state.step;
    $$("step").setAttribute("aria-valuetext", `step ${step} of ${world.nSteps}`);
    $$("step-says").textContent = `${step} of ${world.nSteps}`;
    $$("summary").textContent = summary(world, state, trained, control);
    fill($$("heads"), ...world.heads.map(([layer, head]) => {
      const name = `${layer}.${head}`, isOff = state.ablated.has(name);
      return h("button", {
        type: "button", class: "head", "data-key": name, "aria-pressed": String(isOff),
        style: `--head:${headColour(world, layer, head)}`, onclick: () => this.toggle(name),
      }, headName(layer, head), h("span", {class: "quiet"}, isOff ? " off" : " on"));
    }));
    const isOne = world.layouts[length].states.length === 1 && length > 1;
    $$("input-field").hidden = !isOne || state.variable !== "x";
    if (isOne) {
      fill($$("input"), ...Array.from({length}, (_, i) =>
        h("option", {value: i + 1, selected: Math.min(state.input, length) === i + 1}, label(`x${i + 1}`))));
    }
  }
}

/** Unpack everything, and begin; or say why not. */
async function begin() {
  if (!("DecompressionStream" in window)) throw new Error("This browser is too old: it cannot unpack the page (2023).");
  const [bundle, data, weights] = await Promise.all(["circuitsvis-gz", "data-gz", "weights-gz"].map(inflated));
  document.head.append(h("script", {}, new TextDecoder().decode(bundle)));
  $$("explorer").hidden = false;
  window.explorer = new Explorer(new World(JSON.parse(new TextDecoder().decode(data)), weights));
}

begin().catch((error) => {
  $$("failure").textContent = error.message;
  $$("failure").hidden = false;
  console.error(error);
});
