"""What is read once and patched by batches is what TransformerLens' own forward pass and hooks give."""

import pytest
import torch
from helpers import generator

from compo_mech.pretrained.few_shot import FORMS, TASKS, drawn_lines, few_shot
from compo_mech.pretrained.head_patches import Replaced, each_head_interchanged, heads_replaced, read_last_lines
from compo_mech.pretrained.prefix import Prefix

N_LAYERS, N_HEADS = 3, 4


@pytest.fixture(scope="module", params=FORMS)
def lines(model, request: pytest.FixtureRequest):
    draws = generator()
    before, last = (drawn_lines(TASKS["copy digits"], n, 4, draws) for n in (3, 3))
    prompts = [few_shot(model.tokenizer, FORMS[request.param], [*before, line]) for line in last]
    with torch.no_grad():
        prefix = Prefix.of(model, prompts[0].tokens[: prompts[0].input_positions[-1][0]])
    return read_last_lines(prefix, prompts)


def digits_of(model, prompt, hooks=()):
    """Logits of the digits by the whole forward pass with hooks."""
    ids = [model.tokenizer.convert_tokens_to_ids(c) for c in "0123456789"]
    rows = [position - 1 for position in prompt.state_positions[-1]]
    with torch.no_grad():
        return model.run_with_hooks(prompt.tokens[None], fwd_hooks=list(hooks))[0, rows][:, ids]


def replaced(model, line, other, heads):
    """Hooks that put the z of another prompt's last rows into some heads."""
    _, cache = model.run_with_cache(other.prompt.tokens[None])

    def hook(z, hook):
        for layer, head in heads:
            if layer == hook.layer():
                z[:, line.prompt.first_row :, head] = cache[hook.name][:, line.prompt.first_row :, head]
        return z

    return [(f"blocks.{layer}.attn.hook_z", hook) for layer in range(N_LAYERS)]


def test_nothing_replaced_is_the_forward_pass_and_its_patterns(model, lines):
    for line in lines:
        torch.testing.assert_close(line.logits, digits_of(model, line.prompt), rtol=0, atol=2e-4)
        _, cache = model.run_with_cache(line.prompt.tokens[None])
        rows = [position - 1 for position in line.prompt.state_positions[-1]]
        for layer, pattern in enumerate(line.patterns):
            expected = cache["pattern", layer][0][:, rows, : pattern.shape[-1]]
            torch.testing.assert_close(pattern, expected, rtol=0, atol=1e-5)


def test_each_head_interchanged_is_a_hook_on_that_head(model, lines):
    line, other = lines[:2]
    found = each_head_interchanged(line, other)
    for layer, head in ((0, 1), (1, 3), (2, 0)):
        expected = digits_of(model, line.prompt, replaced(model, line, other, [(layer, head)]))
        torch.testing.assert_close(found[layer, head], expected, rtol=0, atol=2e-4)
        assert (found[layer, head] - line.logits).abs().max() > 1e-2


def test_sets_of_heads_are_replaced_each_under_its_own_condition(model, lines):
    line, other, third = lines
    sets = ([(0, 1), (2, 3)], [(1, 0)], [(0, 0), (0, 2), (1, 1)])
    sources = (other, third, other)
    found = heads_replaced(line, [Replaced(s, source.z) for s, source in zip(sets, sources, strict=True)])
    for logits, heads, source in zip(found, sets, sources, strict=True):
        expected = digits_of(model, line.prompt, replaced(model, line, source, heads))
        torch.testing.assert_close(logits, expected, rtol=0, atol=2e-4)
    everywhere = [(layer, head) for layer in range(N_LAYERS) for head in range(N_HEADS)]
    torch.testing.assert_close(heads_replaced(line, [Replaced(everywhere, line.z)])[0], line.logits)
