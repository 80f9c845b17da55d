from pathlib import Path

import pytest
import torch
from slow_twin import run_plainly

from compo_mech.ground_truth.directions import connected
from compo_mech.ground_truth.tracr import read_tracr, tracr_programs
from compo_mech.interventions.edges import all_edges

FOLDER = Path(__file__).parents[1] / "data" / "tracr"
NAMES = tracr_programs(FOLDER)


def logits_of(program, tokens, edges=(), other=None):
    """Behind the first token; `other` is what patched edges carry."""
    positions = torch.arange(tokens.shape[1]).expand_as(tokens)
    outputs, logits = run_plainly(program.model, tokens, positions, edges, other, program.causal)
    return outputs, logits[:, 1:]


@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_program_answers_as_the_interpreter(name):
    program = read_tracr(FOLDER, name)
    for length in program.lengths:
        tokens, answers = program.of_length(length)
        _, logits = logits_of(program, tokens)
        assert torch.equal(logits.argmax(-1), answers), length


def moved(program, candidates, n_rows=256):
    """Those of some sets of edges that change what comes out when they carry another string's values or elsewhere's."""
    found = set()
    draws = torch.Generator().manual_seed(0)
    for length in program.lengths[1:]:
        tokens, _ = program.of_length(length)
        clean = tokens[torch.randint(len(tokens), (n_rows,), generator=draws)]
        other = tokens[torch.randint(len(tokens), (n_rows,), generator=draws)]
        outputs, before = logits_of(program, clean)
        rows, columns = (torch.randint(n, clean.shape, generator=draws) for n in (n_rows, clean.shape[1]))
        carried = [logits_of(program, other)[0], {writer: x[rows, columns] for writer, x in outputs.items()}]
        for edges in candidates - found:
            for values in carried:
                after = logits_of(program, clean, edges, values)[1]
                if (after.softmax(-1) - before.softmax(-1)).abs().max() > 0.02:
                    found.add(edges)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_truth(name):
    program = read_tracr(FOLDER, name)
    possible = connected(program.model)
    rest = frozenset(all_edges(program.model.config)) - possible
    found = moved(program, {frozenset([edge]) for edge in possible} | {rest})
    assert rest not in found
    found = {edge for edges in found for edge in edges}
    print(name, len(all_edges(program.model.config)), len(found), "unmoved", sorted(map(str, possible - found)))
