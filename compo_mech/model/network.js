// The network in a page: what blocks.py computes, for one row of tokens and in plain JavaScript.
//
//   readNetwork(description, bytes)       a network from its half-precision weights
//   runNetwork(network, tokens, edits)    its logits, attention patterns and z, with heads ablated if asked
//
// Parameters go by HookedTransformer's names. Matrices are flat and row-major; sums are in double precision.

/** Return the number that 16 bits stand for (IEEE 754 half precision). */
function halfToNumber(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 0x1f, fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15); // packed weights are finite
}

/** Return a network: its configuration, and its parameters by name as Float32Arrays.
 *  description: {config, shapes: [[name, shape], ...]}; bytes: an ArrayBuffer, little-endian, in that order. */
function readNetwork(description, bytes, offset = 0) {
  const view = new DataView(bytes), params = {};
  for (const [name, shape] of description.shapes) {
    const values = new Float32Array(shape.reduce((product, n) => product * n, 1));
    for (let i = 0; i < values.length; i++, offset += 2) values[i] = halfToNumber(view.getUint16(offset, true));
    params[name] = values;
  }
  return {config: description.config, params};
}

/** Return x @ weight + bias, for weight[nIn][nOut] that begins at `from` in a larger array. */
function linear(x, nIn, weight, nOut, bias, from = 0, biasFrom = 0) {
  const nRows = x.length / nIn, out = new Float64Array(nRows * nOut);
  for (let row = 0; row < nRows; row++) {
    const to = row * nOut;
    if (bias) for (let j = 0; j < nOut; j++) out[to + j] = bias[biasFrom + j];
    for (let i = 0; i < nIn; i++) {
      const value = x[row * nIn + i], start = from + i * nOut;
      for (let j = 0; j < nOut; j++) out[to + j] += value * weight[start + j];
    }
  }
  return out;
}

/** Divide each row by its root mean square, having subtracted its mean if `centres`. */
function normalised(x, width, eps, centres, gain, bias) {
  const out = new Float64Array(x.length);
  for (let from = 0; from < x.length; from += width) {
    let mean = 0, square = 0;
    if (centres) for (let i = 0; i < width; i++) mean += x[from + i] / width;
    for (let i = 0; i < width; i++) square += (x[from + i] - mean) ** 2 / width;
    const size = Math.sqrt(square + eps);
    for (let i = 0; i < width; i++) {
      out[from + i] = ((x[from + i] - mean) / size) * (gain ? gain[i] : 1) + (bias ? bias[i] : 0);
    }
  }
  return out;
}

/** Pass the stream through the norm of that name, if there is one. */
function norm({config, params}, name, x) {
  if (config.normalization === "none") return x;
  const centres = config.normalization.startsWith("LN") && !(name === "ln_final" && config.final_rms);
  return normalised(x, config.d_model, config.eps, centres, params[`${name}.w`], params[`${name}.b`]);
}

/** The error function, to 1.5e-7. Source: Abramowitz and Stegun 1964, formula 7.1.26. */
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const poly = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - poly * Math.exp(-x * x));
}

const geluTanh = (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
const ACTIVATIONS = {
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  gelu_new: geluTanh,
  gelu_fast: geluTanh,
  gelu_pytorch_tanh: geluTanh,
  relu: (x) => Math.max(x, 0),
  relu2: (x) => Math.max(x, 0) ** 2,
  silu: (x) => x / (1 + Math.exp(-x)),
};

/** Apply the nonlinearity in place. */
function activate(name, x, width) {
  if (name !== "solu") {
    for (let i = 0; i < x.length; i++) x[i] = ACTIVATIONS[name](x[i]);
    return x;
  }
  for (let from = 0; from < x.length; from += width) {
    const row = x.subarray(from, from + width), weights = softmax(row);
    for (let i = 0; i < width; i++) row[i] *= weights[i];
  }
  return x;
}

/** Return probabilities that are proportional to exp(scores). */
function softmax(scores) {
  const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = Float64Array.from(scores, (score) => Math.exp(score - largest));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / total);
}

/** Rotate each row's first dimensions to its position, in place. Source: Su et al. 2021, RoFormer. */
function rotate(config, x) {
  const width = config.rotated_width, half = width / 2;
  for (let row = 0; row * config.head_width < x.length; row++) {
    for (let pair = 0; pair < half; pair++) {
      const angle = row / config.rotary_base ** (pair / half), cos = Math.cos(angle), sin = Math.sin(angle);
      const from = row * config.head_width;
      const [i, j] = config.rotary_adjacent_pairs ? [2 * pair, 2 * pair + 1] : [pair, pair + half];
      const one = x[from + i], other = x[from + j];
      x[from + i] = one * cos - other * sin;
      x[from + j] = other * cos + one * sin;
    }
  }
}

/** Return queries (Q), keys (K) or values (V) of one head, ready to be multiplied. */
function project(network, layer, which, head, normed) {
  const {config, params} = network, {d_model: d, head_width: width} = config, attention = `blocks.${layer}.attn`;
  const bias = params[`${attention}.b_${which}`];
  const x = linear(normed, d, params[`${attention}.W_${which}`], width, bias, head * d * width, head * width);
  if (which === "V") return x;
  const gain = config.use_qk_norm ? params[`${attention}.${which.toLowerCase()}_norm.w`] : null;
  const ready = gain ? normalised(x, width, config.eps, false, gain) : x;
  if (config.positional_embedding === "rotary") rotate(config, ready);
  return ready;
}

/** Return the attention weights [query][key] of one head, each row over itself and the rows before it. */
function attentionPattern(config, q, k) {
  const width = config.head_width, n = q.length / width, pattern = new Float64Array(n * n);
  for (let query = 0; query < n; query++) {
    const scores = new Float64Array(query + 1);
    for (let key = 0; key <= query; key++) {
      for (let i = 0; i < width; i++) scores[key] += q[query * width + i] * k[key * width + i];
      scores[key] /= config.score_scale;
    }
    pattern.set(softmax(scores), query * n);
  }
  return pattern;
}

/** Make attention uniform over all visible keys at these rows. */
function makeUniform(pattern, n, rows) {
  for (const row of rows) {
    for (let key = 0; key <= row; key++) pattern[row * n + key] = 1 / (row + 1);
  }
}

/** Return what the heads of a layer write together, and each head's pattern and z. */
function attend(network, layer, normed, edits) {
  const {config, params} = network, width = config.head_width, n = normed.length / config.d_model;
  const bias = params[`blocks.${layer}.attn.b_O`], weight = params[`blocks.${layer}.attn.W_O`];
  const out = new Float64Array(n * config.d_model), patterns = [], zs = [], shared = {};
  if (bias) for (let i = 0; i < out.length; i++) out[i] = bias[i % config.d_model];
  for (let head = 0; head < config.n_heads; head++) {
    const own = Math.floor(head / (config.n_heads / config.n_kv_heads)), edit = edits[`${layer}.${head}`] || {};
    shared[own] ||= ["K", "V"].map((which) => project(network, layer, which, own, normed));
    const [k, v] = shared[own], pattern = attentionPattern(config, project(network, layer, "Q", head, normed), k);
    if (edit.uniform) makeUniform(pattern, n, edit.uniform);
    const z = edit.z || linear(pattern, n, v, width);
    const written = linear(z, width, weight, config.d_model, null, head * width * config.d_model);
    for (let i = 0; i < out.length; i++) out[i] += written[i];
    patterns.push(pattern);
    zs.push(z);
  }
  return {out, patterns, zs};
}

/** Return what an MLP writes, given the stream that it reads. */
function mlpOut({config, params}, layer, normed) {
  const mlp = `blocks.${layer}.mlp`, {d_model: d, mlp_width: width, act_fn} = config;
  const bias = params[`${mlp}.b_in`], weight = params[`${mlp}.W_in`];
  let neurons;
  if (config.gated_mlp) {
    const gate = activate(act_fn, linear(normed, d, params[`${mlp}.W_gate`], width), width);
    const values = linear(normed, d, weight, width);
    neurons = gate.map((x, i) => x * values[i] + (bias ? bias[i % width] : 0));
  } else {
    neurons = activate(act_fn, linear(normed, d, weight, width, bias), width);
  }
  return linear(neurons, width, params[`${mlp}.W_out`], d, params[`${mlp}.b_out`]);
}

/** Return the stream in front of layer 0, positions being counted from 0. */
function embed({config, params}, tokens) {
  const d = config.d_model, x = new Float64Array(tokens.length * d), positions = params["pos_embed.W_pos"];
  tokens.forEach((token, row) => {
    for (let i = 0; i < d; i++) {
      x[row * d + i] = params["embed.W_E"][token * d + i] + (positions ? positions[row * d + i] : 0);
    }
  });
  return x;
}

const sum = (x, y) => x.map((value, i) => value + y[i]);

/** Return the logits of every row, as arrays over the vocabulary. */
function logitsOf(network, stream) {
  const {config, params} = network, d = config.d_model, normed = norm(network, "ln_final", stream);
  let weight = params["unembed.W_U"];
  const embedding = params["embed.W_E"], nTokens = (weight || embedding).length / d;
  if (!weight) weight = Float32Array.from(embedding, (_, i) => embedding[(i % nTokens) * d + Math.floor(i / nTokens)]);
  const flat = linear(normed, d, weight, nTokens, params["unembed.b_U"]);
  return Array.from({length: normed.length / d}, (_, row) => flat.subarray(row * nTokens, (row + 1) * nTokens));
}

/** Run a network on one row of tokens. Return {logits: [row], patterns: [layer][head], z: [layer][head]}.
 *  edits: by "layer.head", {z} that replaces the head's, or {uniform: rows} at which its attention is uniform. */
function runNetwork(network, tokens, edits = {}) {
  const {config} = network, patterns = [], z = [];
  let stream = embed(network, tokens);
  for (let layer = 0; layer < config.n_layers; layer++) {
    const attention = attend(network, layer, norm(network, `blocks.${layer}.ln1`, stream), edits);
    const mid = sum(stream, attention.out), read = config.parallel_attn_mlp ? stream : mid;
    stream = config.attn_only ? mid : sum(mid, mlpOut(network, layer, norm(network, `blocks.${layer}.ln2`, read)));
    patterns.push(attention.patterns);
    z.push(attention.zs);
  }
  return {logits: logitsOf(network, stream), patterns, z};
}

/** Return each head's mean z over several rows of tokens of one length, as [layer][head]. */
function meanZ(network, rows) {
  const runs = rows.map((tokens) => runNetwork(network, tokens).z);
  return runs[0].map((heads, layer) => heads.map((first, head) => {
    const total = new Float64Array(first.length);
    for (const z of runs) for (let i = 0; i < total.length; i++) total[i] += z[layer][head][i] / runs.length;
    return total;
  }));
}
