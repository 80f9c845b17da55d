"""The page to explore a run with: its forward pass against ours, and what clicks, keys and typing do to it."""

import base64
import gzip
import json
from contextlib import contextmanager

import pytest
import torch
from architectures import random_config, random_network
from browser import open_page, started
from helpers import random_model
from layout_checks import PHONE_WIDTH

from compo_mech.analyses.exploration import N_REFERENCE, explored, typed_lengths
from compo_mech.cli.commands import explore_command
from compo_mech.data.config import DataConfig
from compo_mech.data.encode import encode
from compo_mech.data.layout import Layout
from compo_mech.data.tasks import Copy, Parity, Polynomial, Symmetric
from compo_mech.evaluation.sets import drawn_sets
from compo_mech.evaluation.table import CONTROL
from compo_mech.ground_truth.build import build
from compo_mech.interventions.ablation import ablated_logits, ablation_values
from compo_mech.interventions.attention_patterns import ablate_patterns
from compo_mech.interventions.edges import Writer
from compo_mech.interventions.graph import embeddings, run_graph
from compo_mech.interventions.traces import trace
from compo_mech.model.config import ModelConfig
from compo_mech.model.forward import forward
from compo_mech.model.in_page import MAX_HALF, described, halved, network_script, packed
from compo_mech.model.params import Model
from compo_mech.report.explorer import (
    MAX_BYTES,
    MAX_CHECKPOINTS,
    MIN_CHECKPOINTS,
    check_explorable,
    explorer_page,
    fitting_checkpoints,
)
from compo_mech.runs import recipes
from compo_mech.runs.config import RunConfig
from compo_mech.runs.run import Run

N_POS = 11


@pytest.fixture(scope="module")
def browser():
    with started() as browser:
        yield browser


# ------------------------------------------------------------------------------------ the forward pass


def in_browser(browser, models, tokens, edits, script=None):
    """Logits [row, token] and patterns [layer][head] of each network on its tokens, as the page's script has them."""
    cases = [
        {"description": described(model.config, model.params), "tokens": row.tolist(), "edits": edit,
         "weights": base64.b64encode(packed([model.params])).decode()}
        for model, row, edit in zip(models, tokens, edits, strict=True)
    ]  # fmt: skip
    page = f"<script>{script or network_script()}</script>"
    with open_page(browser, page) as opened:
        found = opened.tab.evaluate(
            """cases => cases.map(({description, tokens, weights, edits}) => {
              const bytes = Uint8Array.from(atob(weights), (letter) => letter.charCodeAt(0)).buffer;
              const run = runNetwork(readNetwork(description, bytes), tokens, edits);
              const listed = (rows) => rows.map((row) => Array.from(row));
              return [listed(run.logits), run.patterns.map(listed)];
            })""",
            cases,
        )
    return [
        (torch.tensor(logits), [torch.tensor(layer).unflatten(-1, (len(logits), -1)) for layer in patterns])
        for logits, patterns in found
    ]


def networks(seeds):
    found = []
    for seed in seeds:
        model = random_network(config := random_config(seed), seed)
        found.append(Model(halved(model.params), config))
    return found


def strings(n):
    return torch.randint(0, 9, (n, N_POS), generator=torch.Generator().manual_seed(0))


def test_every_kind_of_network_has_the_logits_and_patterns_of_ours(browser):
    models = networks(range(24))  # every option of a configuration, in turn or drawn
    tokens = strings(len(models))
    for model, row, (logits, patterns) in zip(
        models, tokens, in_browser(browser, models, tokens, [{}] * len(models)), strict=True
    ):
        ours = trace(model, row[None], torch.arange(N_POS)[None])
        assert (logits - ours.logits[0]).abs().max() < 1e-5, model.config
        for layer, theirs in enumerate(patterns):
            assert (theirs - ours.pattern[layer][0]).abs().max() < 1e-5, model.config


def test_a_wrong_forward_pass_is_seen(browser):
    models, script = networks([1]), network_script()
    (broken,) = in_browser(
        browser, models, strings(1), [{}], script.replace("/= config.score_scale", "/= 1.01 * config.score_scale")
    )[:1]
    ours = trace(models[0], strings(1), torch.arange(N_POS)[None])
    assert (broken[0] - ours.logits[0]).abs().max() > 1e-4


# ------------------------------------------------------------------------------------------- the page


def quiet(what, n_parts):
    """Nobody looks how far it is."""


def measured(config, networks):
    """What is measured of networks by step, and of a control."""
    control = random_model(config.model, config.data, seed=99, n_ctx=config.n_ctx).params
    return explored("a <run>", config, {**networks, CONTROL: control}, 0, quiet)


def some_network(config, seed=1):
    return random_model(config.model, config.data, seed, n_ctx=config.n_ctx).params


@contextmanager
def opened(browser, found, width=1200):
    with open_page(browser, explorer_page(found, "compo-mech explore <run>"), width=width) as page:
        page.tab.wait_for_selector("#explorer:not([hidden])")
        page.tab.wait_for_selector("#maps canvas")
        page.tab.locator("#ablations td").first.wait_for()
        page.settle()
        yield page


@pytest.fixture(scope="module")
def known():
    """A random network, then a hand-built iteration head for parity, as two checkpoints of a run."""
    built = build(Parity(), max_length=4)
    n_ctx = {"n_ctx": built.model.n_ctx, "init": "reference"}
    config = RunConfig(data=built.data, model=built.model.config.model_copy(update=n_ctx))
    return measured(config, {0: some_network(config), 100: built.model.params})


def test_what_is_measured_of_a_known_circuit(known):
    of = known.accuracy.set_index(["network", "length", "ablation", "layer", "head"])["value"].sort_index()
    whole = known.accuracy[known.accuracy["ablation"] == "none"].set_index(["network", "length"])["value"]
    for length in known.config.data.lengths:
        assert whole[100, length] == 1
        assert whole[CONTROL, length] < 0.9
        assert of[100, length, "mean", 0, 1] == 1  # a spare head, whose mean does as well
    assert abs(of[100, 4, "zero", 1, 0] - known.guess["parity", 4]) < 0.15  # without its iteration head it guesses
    assert known.n_test["parity", 1] == 2
    assert {len(strings) for strings in known.references.values()} == {N_REFERENCE}
    assert str(known.routes["parity", 100].summary("x").name) == "textbook diagonal"
    assert 0 < known.rounding < 0.05


def cards(tab):
    said = "all => all.map(one => one.getAttribute('aria-label').split(';')[0])"
    return tab.eval_on_selector_all("#answers button", said)


@pytest.fixture(scope="module")
def desk(browser, known):
    """The known circuit's page, for whatever leaves it as it is."""
    with opened(browser, known) as page:
        yield page


def test_a_known_circuit_is_explored_with_the_mouse(browser, known):
    with opened(browser, known) as page:
        tab = page.tab
        assert tab.inner_text("h1") == "Explore a <run>"
        tab.fill("#string", "1011")
        answers = {"s₁": "1", "s₂": "1", "s₃": "0", "s₄": "1", "EoS": "[EoS]"}
        assert cards(tab) == [f"{name}: answers {token}, right" for name, token in answers.items()]
        assert tab.inner_text("#summary").startswith("4 of 4 states right (control ")
        tab.click("#answers button >> nth=2")  # s3, whose iteration head attends to x3
        assert "L1H0 attends most to x₃: 1.00 (control 0." in tab.inner_text("#attention")
        assert "x₃ → s₃: textbook diagonal." in tab.inner_text("#routes")
        assert "stays at x₃; L1H0 reads it there\t1.00\t" in tab.inner_text("#routes table")
        tab.click("#variable >> text=the state before")
        assert "s₂ → s₃: straight from its row." in tab.inner_text("#routes")
        tab.click("#heads button:has-text('L1H0')")
        assert " of 4 states right without L1H0 (control" in tab.inner_text("#summary")
        assert not tab.inner_text("#summary").startswith("4 of 4")
        tab.click("#heads button:has-text('L1H0')")
        assert tab.inner_text("#summary").startswith("4 of 4")
        tab.fill("#string", "1" * typed_lengths(known.config)[-1])  # as wide as it gets
        tab.click("#answers button:last-child")
        page.settle()
        for scheme in ("dark", "light"):
            tab.emulate_media(color_scheme=scheme)
            for width in (1280, PHONE_WIDTH):
                page.narrow(width)
                page.check_width(width)
                cut = "tokens => tokens.filter(token => token.scrollWidth > token.clientWidth).map(t => t.innerText)"
                assert page.tab.eval_on_selector_all("#answers .token", cut) == []


@pytest.mark.slow
def test_a_known_circuit_is_explored_with_the_keyboard_on_a_phone(browser, known):
    with opened(browser, known, PHONE_WIDTH) as page:
        tab = page.tab
        page.check_width()
        tab.focus("#string")
        tab.keyboard.press("Control+A")
        tab.keyboard.type("101x")
        assert tab.inner_text("#string-says") == "x₄ = x: must be 0 to 1. Shown is 101."
        tab.keyboard.press("Backspace")
        assert tab.inner_text("#string-says") == "3 inputs"
        tab.fill("#string", "0" * 60)
        assert "60 inputs: the network has positions for at most" in tab.inner_text("#string-says")
        tab.fill("#string", "111")
        tab.focus("#answers button >> nth=0")
        for _ in range(2):
            tab.keyboard.press("ArrowRight")
        assert tab.evaluate("document.activeElement.getAttribute('aria-label')").startswith("s₃: answers 1, right")
        assert "x₃ → s₃" in tab.inner_text("#routes")
        tab.focus("#step")
        tab.keyboard.press("ArrowLeft")
        assert tab.inner_text("#step-says") == f"0 of {known.config.train.n_steps}"
        assert tab.inner_text("#summary") != "3 of 3 states right (control 0)"
        tab.focus("#heads button >> nth=0")
        tab.keyboard.press("Space")
        assert tab.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
        unnamed = tab.eval_on_selector_all("svg", "all => all.filter(one => !one.getAttribute('aria-label')).length")
        assert unnamed == 0
        page.settle()
        page.check_width()


def asked(page, index, task, strings, ablation, heads, own=False):
    """Probabilities [string, row, token] of the page's network, and how many states are right."""
    state = {"task": task, "own": own, "ablation": ablation}
    code = """([index, state, strings, heads]) => {
      const found = strings.map((inputs) => window.explorer.world.answers(index, {...state, inputs}, heads));
      return [found.map(({rows}) => rows.map((row) => Array.from(row.probabilities))), found.map((one) => one.nRight)];
    }"""
    probabilities, n_right = page.tab.evaluate(code, [index, state, strings, heads])
    return torch.tensor(probabilities), sum(n_right)


@pytest.mark.slow
def test_heads_are_ablated_as_ours_are(desk, known):
    data, length = known.config.data, 4
    heads = [Writer("head", 0, 1), Writer("head", 1, 0)]
    names = [f"{head.layer}.{head.head}" for head in heads]
    references = encode(data, Parity(), torch.tensor(known.references["parity", length]))
    (test,) = drawn_sets(data.model_copy(update={"min_length": length}), Parity(), 8)
    strings, rows = test.tokens[:, 1 : length + 1].tolist(), test.layout.scored(length)
    for index, params in enumerate(known.networks.values()):
        model = Model(params, known.config.model)
        outputs = embeddings(model, test.read, test.position_ids)
        others = run_graph(model, embeddings(model, references.read, references.position_ids))[0]
        for ablation in ("zero", "mean"):
            values = {name: out[: len(strings)] for name, out in ablation_values(model, others, ablation).items()}
            ours = ablated_logits(model, outputs, heads, values)[:, rows].softmax(-1)
            assert (asked(desk, index, 0, strings, ablation, names)[0] - ours).abs().max() < 1e-4
        for found in ablate_patterns(model, [test], ["iteration"]):
            own = [f"{layer}.{head}" for layer, head in found.heads]
            n_right = asked(desk, index, 0, strings, "uniform", own)[1]
            assert n_right == round(found.uniform.mean * length * len(strings))


@pytest.mark.slow
def test_a_network_goes_on_from_the_states_that_it_wrote(desk, known):
    free, n_right = asked(desk, 1, 0, [[1, 1, 1, 1]], "zero", [], own=True)
    assert n_right == 4
    assert free[0].argmax(-1).tolist()[:4] == [1, 0, 1, 0]
    free = asked(desk, 0, 0, [[1, 1, 1, 1]], "zero", [], own=True)[0][0]  # of a random network, whose states are wrong
    written = encode(known.config.data, Parity(), torch.ones(1, 4, dtype=torch.long), states=free[None, :4].argmax(-1))
    ours = forward(Model(known.networks[0], known.config.model), written.read)[list(Layout().scored(4))].softmax(-1)
    assert (free - ours).abs().max() < 1e-4


OTHERS = {
    "mixture": RunConfig(
        data=DataConfig(tasks=(Parity(), Polynomial(), Copy()), max_length=4, task_weights=(1, 1, 0)),
        model=ModelConfig(d_model=16, n_heads=2, biases=True),
    ),
    "no-chain-of-thought": RunConfig(data=DataConfig(max_length=4, chain_of_thought=False)),
    "three-layers": RunConfig(
        data=DataConfig(max_length=4, task_token=False),
        model=ModelConfig(n_layers=3, n_heads=4, n_key_value_heads=2, positional_embedding="rotary", gated_mlp=True,
                          normalization="RMS", d_model=16),
    ),
    "one-layer-without-mlp": RunConfig(data=DataConfig(max_length=3), model=ModelConfig(n_layers=1, attn_only=True)),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_other_networks_are_explored_too(browser, name):
    config = OTHERS[name]
    found = measured(config, {0: some_network(config, 1), 8: some_network(config, 2)})
    draws = torch.Generator().manual_seed(0)
    with opened(browser, found, PHONE_WIDTH) as page:
        for i, task in enumerate(config.data.measured_tasks):
            if len(config.data.measured_tasks) > 1:
                page.tab.select_option("#task", str(i))
            for length in (1, typed_lengths(config)[-1]):
                inputs = torch.randint(task.first_input, task.n_inputs, (1, length), generator=draws)
                text = " ".join(map(str, inputs[0].tolist()))
                page.tab.fill("#string", text)
                assert page.tab.inner_text("#string-says").startswith(f"{length} input")
                read = encode(config.data, task, inputs).read
                for index, params in enumerate(found.networks.values()):
                    ours = forward(Model(params, config.model), read)[config.data.layout.scored(length)].softmax(-1)
                    theirs = asked(page, index, i, inputs.tolist(), "zero", [])[0][0]
                    assert (theirs - ours).abs().max() < 1e-4
                for variable in ("x", "s"):
                    page.tab.check(f"#variable label:nth-of-type({1 if variable == 'x' else 2}) input")
                    for row in range(page.tab.locator("#answers button").count()):
                        page.tab.click(f"#answers button >> nth={row}")
                        said = page.tab.inner_text("#routes")
                        if config.model.n_layers != 2:
                            assert (
                                said == f"Routes are defined for two layers; this network has {config.model.n_layers}."
                            )
                        assert said
        page.tab.check("#own label:nth-of-type(2) input")
        page.settle()
        page.check_width()


# ------------------------------------------------------------------------------- sizes, and the command


def test_a_page_holds_as_many_checkpoints_as_fit():
    parity = recipes.parity()
    assert fitting_checkpoints(parity) == MAX_CHECKPOINTS
    deep, wide = (RunConfig(model=ModelConfig(**more)) for more in ({"n_layers": 3}, {"d_model": 512}))
    assert MIN_CHECKPOINTS < fitting_checkpoints(deep) < MAX_CHECKPOINTS
    assert fitting_checkpoints(wide) == MIN_CHECKPOINTS


def test_what_is_too_large_for_a_page_is_refused_before_anything_is_measured():
    with pytest.raises(ValueError, match=r"^model = \d+ parameters: must be at most 4194304 to be run in a page$"):
        check_explorable(RunConfig(model=ModelConfig(d_model=1024)))
    with pytest.raises(ValueError, match=r"^task = symmetric\(n=6\): its rule has 519120 entries, must have at most"):
        check_explorable(RunConfig(data=DataConfig(tasks=(Symmetric(n=6),))))


def test_weights_and_logits_that_no_page_can_show_are_refused():
    config = RunConfig(data=DataConfig(max_length=2), model=ModelConfig(d_model=8, normalization="none"))
    for value, said in ((float("nan"), "= nan: must be finite"), (1e5, "= 1e.05: must be at most 65504")):
        params = some_network(config)
        params["embed.W_E"][1, 2] = value
        with pytest.raises(ValueError, match=f"^weight embed.W_E {said}"):
            halved(params)
    largest = {name: param.sign() * MAX_HALF for name, param in some_network(config).items()}
    with pytest.raises(ValueError, match=r"^logits = nan: must be finite"):
        measured(config, {0: largest})


def test_the_command_writes_a_page_of_four_megabytes_at_most(tmp_path, capsys):
    config = RunConfig(data=DataConfig(max_length=2), model=ModelConfig(d_model=8))
    run = Run.create(tmp_path / "one", config)
    for step in range(3):
        run.save(step, some_network(config, step), {})
    out = tmp_path / "explore.html"
    explore_command(run.path, 2, 0, out)
    page = out.read_text(encoding="utf-8")
    assert len(page) < MAX_BYTES
    assert f"Look at {out}" in capsys.readouterr().out
    assert "explore" in page
    assert [name for name in page.split("<code>")[1].split("</code>")[0].split() if name.startswith("--")] == [
        "--n-checkpoints", "--seed", "--out"]  # fmt: skip
    (run.path / "checkpoints" / "000002.safetensors").write_bytes(b"")  # said, and the checkpoint before it is shown
    explore_command(run.path, 2, 0, out)
    assert "000002.safetensors: is damaged" in capsys.readouterr().out.replace("\n", "")
    packed_data = out.read_text(encoding="utf-8").split('id="data-gz">')[1].split("<")[0]
    assert json.loads(gzip.decompress(base64.b64decode(packed_data)))["networks"] == ["0", "1", CONTROL]
    with pytest.raises(SystemExit):
        explore_command(run.path, 2, 0, tmp_path / "explore.png")
    assert capsys.readouterr().err == f"error: out = {tmp_path / 'explore.png'}: must end in .html\n"
