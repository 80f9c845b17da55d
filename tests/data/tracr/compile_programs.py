"""Compile RASP programs with Tracr and write down what each should answer; see README.md in this folder.

Runs in an environment of its own, with `tracr-pypi` and `safetensors`: python tests/data/tracr/compile_programs.py
"""

import hashlib
import itertools
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from safetensors.numpy import save
from tracr.compiler import compiling, lib
from tracr.rasp import causal_eval, rasp

HERE = Path(__file__).parent
BITS, LETTERS, NUMBERS = (0, 1), ("a", "b", "c"), (1, 2, 3)


def parity():
    """1 where the number of ones in the whole string is odd."""
    return rasp.Map(lambda n: n % 2, lib.make_count(rasp.tokens, 1)).named("parity")


def most_frequent():
    """Tokens in order of how often they occur."""
    return lib.make_sort_freq(max_seq_len=4)


def sorted_histogram_reversed():
    """Three programs in one: how often each token of the sorted string occurs, from the back."""
    in_order = lib.make_sort(rasp.tokens, rasp.tokens, max_seq_len=4, min_key=1)
    same = rasp.Select(in_order, in_order, rasp.Comparison.EQ)
    return lib.make_reverse(rasp.SelectorWidth(same).named("hist_of_sorted"))


CAUSAL = ("prefix parity",)
"""Compiled for attention to earlier positions alone; all others attend both ways."""

PROGRAMS = {  # program, vocabulary, longest string, strings of distinct tokens alone
    "reverse": (lambda: lib.make_reverse(rasp.tokens), LETTERS, 5, False),
    "histogram": (lib.make_hist, LETTERS, 5, False),
    "sort": (lambda: lib.make_sort(rasp.tokens, rasp.tokens, max_seq_len=4, min_key=1), NUMBERS, 4, False),
    "sort unique": (lambda: lib.make_sort_unique(rasp.tokens, rasp.tokens), (1, 2, 3, 4), 4, True),
    "most frequent": (most_frequent, LETTERS, 4, False),
    "fraction of previous": (lambda: lib.make_frac_prevs(rasp.tokens == "a"), LETTERS, 5, False),
    "shuffled Dyck 1": (lambda: lib.make_shuffle_dyck(["()"]), ("(", ")"), 5, False),
    "pair balance": (lambda: lib.make_pair_balance(rasp.tokens, "(", ")"), ("(", ")"), 5, False),
    "parity": (parity, BITS, 5, False),
    "prefix parity": (parity, BITS, 5, False),
    "count": (lambda: lib.make_count(rasp.tokens, "a"), LETTERS, 5, False),
    "length": (lib.make_length, LETTERS, 5, False),
    "histogram of sorted, reversed": (sorted_histogram_reversed, NUMBERS, 4, False),
}


def renamed(params, config):
    """The parameters under the names and shapes of TransformerLens, without the unembedding."""
    heads, width = config.num_heads, config.key_size
    found = {
        "embed.W_E": params["token_embed"]["embeddings"],
        "pos_embed.W_pos": params["pos_embed"]["embeddings"],
    }
    for layer in range(config.num_layers):
        block = f"transformer/layer_{layer}"
        for letter, name in (("Q", "query"), ("K", "key"), ("V", "value")):
            weight, bias = (np.asarray(params[f"{block}/attn/{name}"][part]) for part in "wb")
            found[f"blocks.{layer}.attn.W_{letter}"] = weight.reshape(-1, heads, width).transpose(1, 0, 2)
            found[f"blocks.{layer}.attn.b_{letter}"] = bias.reshape(heads, width)
        weight, bias = (np.asarray(params[f"{block}/attn/linear"][part]) for part in "wb")
        found[f"blocks.{layer}.attn.W_O"] = weight.reshape(heads, width, -1)
        found[f"blocks.{layer}.attn.b_O"] = bias
        for number, way in ((1, "in"), (2, "out")):
            for part, letter in (("w", "W"), ("b", "b")):
                found[f"blocks.{layer}.mlp.{letter}_{way}"] = params[f"{block}/mlp/linear_{number}"][part]
    return {name: np.ascontiguousarray(np.asarray(value, dtype=np.float32)) for name, value in found.items()}


def plain(value):
    """A value of RASP as JSON has it: booleans and whole numbers as integers, others to nine digits."""
    if isinstance(value, str) or value is None:
        return value
    return int(value) if value == int(value) else round(float(value), 9)


def compiled(name):
    """The weights of a program, and what belongs to them."""
    make, vocabulary, longest, distinct = PROGRAMS[name]
    program = make()
    causal = name in CAUSAL
    model = compiling.compile_rasp_to_model(program, set(vocabulary), longest, causal=causal, compiler_bos="BOS")
    labels, tokens = model.residual_labels, model.input_encoder.encoding_map
    output_labels, output_values = [program.label], None
    if hasattr(model.output_encoder, "encoding_map"):
        output_labels = [f"{program.label}:{value}" for value in model.output_encoder.encoding_map]
        output_values = [plain(value) for value in model.output_encoder.encoding_map]
    assert set(output_labels) <= set(labels), (output_labels, labels)
    outputs = []
    for length in range(1, longest + 1):
        for string in itertools.product(vocabulary, repeat=length):
            if not distinct or len(set(string)) == length:
                expected = causal_eval.evaluate(program, list(string)) if causal else program(list(string))
                outputs.append([list(string), [plain(value) for value in expected]])
    return renamed(model.params, model.model_config), {
        "program": name,
        "causal": causal,
        "tokens": sorted(tokens, key=tokens.get),
        "beginning": "BOS",
        "longest": longest,
        "residual_labels": labels,
        "output_labels": output_labels,
        "output_values": output_values,
        "outputs": outputs,
    }


def main():
    """Compile every program."""
    script = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    for name in PROGRAMS:
        weights, facts = compiled(name)
        file = HERE / name.replace(" ", "_").replace(",", "")
        content = save(weights)
        file.with_suffix(".safetensors").write_bytes(content)
        facts |= {"weights_sha256": hashlib.sha256(content).hexdigest(), "script_sha256": script}
        facts["versions"] = {package: version(package) for package in ("tracr-pypi", "jax", "dm-haiku")}
        file.with_suffix(".json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
        print(f"{name}: {len(content) / 1e6:.2f} MB, {len(facts['outputs'])} strings, {weights['embed.W_E'].shape}")


if __name__ == "__main__":
    main()
