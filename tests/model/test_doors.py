import pytest
import torch
from helpers import generator, random_model

from compo_mech.data.config import DataConfig
from compo_mech.data.tokenizer import SymbolTokenizer
from compo_mech.model import same_logits
from compo_mech.model.bridge import hook_to_edit, to_bridge
from compo_mech.model.config import ModelConfig
from compo_mech.model.forward import forward
from compo_mech.model.hooked import to_hooked
from compo_mech.model.kinds import is_bridge
from compo_mech.model.params import Model, init_params
from compo_mech.model.same_logits import check_logits
from compo_mech.model.sites import HEAD_KINDS, Site
from compo_mech.runs.run import Run

DATA = DataConfig(max_length=4)
SMALL = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_mlp": 12, "biases": True}
LLAMA = {"normalization": "RMS", "gated_mlp": True, "positional_embedding": "rotary", "n_ctx": 20, "rotary_base": 99.0}


def params_of(config, n_ctx=20):
    return init_params(config, len(DATA.vocabulary), n_ctx, generator())


@pytest.mark.parametrize("options", [{}, {"tie_word_embeddings": True}, LLAMA | {"n_key_value_heads": 1}])
def test_a_hooked_transformer_comes_back_as_it_went_to_the_bit(options):
    model = random_model(ModelConfig(**(SMALL | options)), DATA)
    back = Model.of(to_hooked(model))
    assert list(back.params) == list(model.params)
    assert all(torch.equal(param, back.params[name]) for name, param in model.params.items())
    tokens = torch.randint(0, model.d_vocab, (3, 20), generator=generator())
    assert torch.equal(forward(back, tokens), forward(model, tokens))


@pytest.mark.parametrize(("n_logits", "n_rows", "n_pos"), [(10_000, 13, 4), (400, 2, 4), (150, 1, 3), (10, 1, 1)])
def test_no_more_logits_are_compared_than_fit(n_logits, n_rows, n_pos, monkeypatch):
    config, asked = ModelConfig(**SMALL), []
    model = Model(init_params(config, 50, 4, generator()), config)  # 13 rows of 4 positions have every token
    other = to_hooked(model)
    other.register_forward_pre_hook(lambda module, given: asked.append(given[0]))
    monkeypatch.setattr(same_logits, "MAX_LOGITS", n_logits)
    check_logits(other, model)
    tokens, repeated = asked
    assert tokens.shape == (n_rows, n_pos)
    assert len(tokens.unique()) == min(50, n_rows * n_pos)
    assert repeated.shape == (min(n_rows, 4), max(1, n_pos // 2))
    assert all(len(row.unique()) == (len(row) + 1) // 2 for row in repeated)


class Changed:
    """A network whose logits are changed."""

    def __init__(self, model, change):
        self.cfg, self.forward, self.change, self.tokenizer = to_hooked(model).cfg, model, change, None

    def __call__(self, tokens):
        return self.change(forward(self.forward, tokens).unflatten(0, tokens.shape), tokens)


def with_logits(scale=1.0, bias=0.0, token=0, **options):
    model = random_model(ModelConfig(**(SMALL | options)), DATA)
    params = model.params | {"unembed.W_U": model.params["unembed.W_U"] * scale}
    params["unembed.b_U"] = torch.zeros_like(params["unembed.b_U"])
    params["unembed.b_U"][token] = bias
    return Model(params, model.config)


TOKENS = torch.tensor([False, True, False, False, False, False])
"""That a fault reaches: not the one with the large bias."""


@pytest.mark.parametrize(
    "settings",
    [{}, {"bias": -1e4}, {"bias": 1e9}, {"scale": 1e-5}, {"scale": 1e5}, {"scale": 1e-5, "bias": -1e4}],
)
@pytest.mark.parametrize("normalization", ["LN", "none"])
def test_logits_are_compared_by_how_far_they_lie_apart(settings, normalization):
    """One token that is never to come, and logits that are all small, hide nothing."""
    model = with_logits(**settings, normalization=normalization)
    spread = float(forward(model, torch.arange(6)[None])[:, 1].std())

    def by(share):
        return Changed(model, lambda logits, _: logits + share * spread * TOKENS)

    check_logits(by(0), model)
    check_logits(by(3e-5), model)
    for wrong in (by(1e-3), by(torch.nan)):
        with pytest.raises(ValueError, match="logits = off by"):
            check_logits(wrong, model)


def test_what_all_logits_share_hides_nothing_and_is_compared():
    """A network whose logits all move together by far more than they differ."""
    model = with_logits(normalization="none")
    params = dict(model.params)
    params["unembed.W_U"] = params["unembed.W_U"] + 300 * torch.randn(8, 1, generator=generator())
    model = Model(params, model.config)
    for share in (0, 1):  # one token's, and all tokens'
        change = torch.where(TOKENS | bool(share), 1000.0**share * 0.2, 0.0)
        with pytest.raises(ValueError, match="logits = off by"):
            check_logits(Changed(model, lambda logits, _, change=change: logits + change), model)
    check_logits(Changed(model, lambda logits, _: logits), model)


def test_one_place_with_large_logits_does_not_decide_about_the_others():
    model = with_logits(normalization="none")
    params = model.params | {"pos_embed.W_pos": model.params["pos_embed.W_pos"].clone()}
    params["pos_embed.W_pos"][-1] *= 1e6
    model = Model(params, model.config)
    check_logits(Changed(model, lambda logits, _: logits), model)
    with pytest.raises(ValueError, match="logits = off by"):
        check_logits(Changed(model, lambda logits, tokens: logits + 0.2 * (tokens == 1)[..., None] * TOKENS), model)


@pytest.mark.parametrize("options", [{}, {"normalization": "none"}, LLAMA])
@pytest.mark.parametrize(("scale", "bias"), [(1e4, 0.0), (1.0, 1e5), (1e-5, 0.0), (0.0, 0.0)])
def test_equal_networks_are_the_same_however_large_their_logits(scale, bias, options):
    model = with_logits(scale, bias, slice(None), **options)
    back = Model.of(to_hooked(model))
    assert all(torch.equal(param, back.params[name]) for name, param in model.params.items())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda logits, tokens: logits + (tokens[:, 1:] == tokens[:, :-1]).any(-1)[:, None, None] * TOKENS,
        lambda logits, tokens: logits * tokens.shape[1] / 20,
    ],
)
def test_a_network_that_reads_repeated_tokens_or_shorter_rows_otherwise_is_refused(wrong):
    model = with_logits()
    with pytest.raises(ValueError, match="logits = off by"):
        check_logits(Changed(model, wrong), model)


def test_the_same_network_comes_in_by_every_door(tiny_run):
    run = Run.open(tiny_run.path)
    ours, config = Model(run.params(), run.config.model), run.config.model
    tokens = torch.randint(0, ours.d_vocab, (3, 5), generator=generator())
    doors = (ours, run, (run.params(), config), run.model(), to_hooked(ours), to_bridge(ours))
    for source in doors:
        torch.testing.assert_close(forward(Model.of(source), tokens), forward(ours, tokens), atol=1e-6, rtol=1e-6)
    assert Model.of(ours) is ours
    assert Model.of(run).config == config
    assert not torch.equal(Model.of(run).params["embed.W_E"], run.params(0)["embed.W_E"])  # the last checkpoint


def words(padding_side):
    """A tokenizer of transformers that pads with a symbol of ours."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    symbols = {symbol: i for i, symbol in enumerate(DATA.vocabulary.decode(list(range(len(DATA.vocabulary)))))}
    model = Tokenizer(WordLevel(symbols, unk_token="[EoI]"))
    return PreTrainedTokenizerFast(tokenizer_object=model, pad_token="1", padding_side=padding_side)


def test_a_tokenizer_comes_with_its_network(tiny_run):
    assert Model.of(tiny_run).tokenizer == SymbolTokenizer(tiny_run.config.data.vocabulary)
    model = Model.of(tiny_run)
    for network in (to_hooked(model), to_bridge(model)):
        assert Model.of(network).tokenizer is None
        for side in ("right", "left"):  # which a bridge masks in lists of texts alone
            network.tokenizer = words(side)
            if side == "right" or is_bridge(network):
                assert Model.of(network).tokenizer is network.tokenizer


@pytest.mark.parametrize("with_bos", [False, True])
def test_padding_on_the_left_masks_what_prompts_begin_with_and_is_refused(with_bos):
    model = random_model(ModelConfig(**SMALL), DATA)
    network = to_hooked(model)
    network.tokenizer = words("left")
    network.cfg.default_prepend_bos = with_bos
    if with_bos:  # the first of such tokens is then read, but not two of them
        network.tokenizer.bos_token = "1"
    tokens = torch.tensor([[1, 1, 0, 2]])
    assert (network(tokens)[0] - forward(model, tokens)).abs().max() > 0.01
    with pytest.raises(
        ValueError, match=r"^model tokenizer\.padding_side = 'left': must be 'right', or .* token 1 in "
    ):
        Model.of(network)
    network.tokenizer.padding_side = "right"
    assert Model.of(network).tokenizer is network.tokenizer
    network.tokenizer.padding_side = "left"
    network.tokenizer.add_special_tokens({"pad_token": "[PAD]"})  # which is none of the network's
    assert Model.of(network).tokenizer is network.tokenizer


def test_a_run_needs_no_transformer_lens(tiny_run, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "transformer_lens", None)
    assert Model.of(tiny_run).config == tiny_run.config.model


def test_parameters_of_another_output_size_or_without_a_table_of_positions_are_taken_in():
    config = ModelConfig(**SMALL)
    params = {name: p[..., :3] if name.startswith("unembed.") else p for name, p in params_of(config).items()}
    assert Model.of((params, config)).params is params
    config = ModelConfig(**(SMALL | LLAMA))
    assert Model.of((params_of(config), config)).n_ctx == 20


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda p: p.pop("blocks.1.attn.W_Q"), r"params = without blocks\.1\.attn\.W_Q: must have every parameter"),
        (lambda p: p.pop("embed.W_E"), r"params = without embed\.W_E: must have every parameter"),
        (lambda p: p.update({"blocks.0.mlp.W_gate": p["embed.W_E"]}), r"params = with blocks\.0\.mlp\.W_gate: must be"),
        (
            lambda p: p.update({"ln_final.w": p["embed.W_E"]}),
            r"params\.ln_final\.w = of shape \(6, 8\): must be",
        ),
        (lambda p: p.update({"ln_final.w": p["ln_final.w"][:3]}), r"params\.ln_final\.w = of shape \(3,\): must be"),
        (lambda p: p.update({"ln_final.w": 1.0}), "params = a dict: must be a dictionary of tensors"),
        (lambda p: p.update({"ln_final.w": p["ln_final.w"].double()}), "params dtype = torch.float32 torch.float64: m"),
        (
            lambda p: p.update({"embed.W_E": p["embed.W_E"].to("meta")}),
            r"W_E = on meta: must be a dense",
        ),
        (
            lambda p: p.update({"ln_final.w": p["ln_final.w"].to_sparse()}),
            r"params\.ln_final\.w = torch\.sparse_coo: must be a dense",
        ),
        (lambda p: p.update({"embed.W_E": torch.zeros(0, 8)}), r"params\.embed\.W_E = of shape \(0, 8\): must have at"),
        (lambda p: p.update({"embed.W_E": torch.zeros(())}), r"params\.embed\.W_E = of shape \(\): must have a row"),
        (lambda p: p.update({"pos_embed.W_pos": torch.zeros(())}), r"W_pos = of shape \(\): must have a row"),
        (lambda p: p.update({"pos_embed.W_pos": torch.zeros(0, 8)}), r"W_pos = of shape \(0, 8\): must have at least"),
        (lambda p: p.update({name: x.bfloat16() for name, x in p.items()}), "params dtype = torch.bfloat16: must be"),
    ],
)
def test_parameters_of_another_configuration_are_refused(change, complaint):
    config = ModelConfig(**SMALL)
    params = dict(params_of(config))
    change(params)
    with pytest.raises(ValueError, match=complaint):
        Model.of((params, config))


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (None, "NoneType"),
        (3, "int"),
        ("runs/parity-seed0", "str; Run.open reads"),
        (torch.nn.Linear(2, 2), "Linear"),
        ((1, 2, 3), "tuple"),
        (({}, {}), "tuple"),
        ({"embed.W_E": torch.zeros(2, 2)}, "dict"),
    ],
)
def test_what_is_no_network_is_refused_in_one_line_that_says_what_is(source, kind):
    kind, _, hint = kind.partition("; ")
    with pytest.raises(ValueError, match=f"^model = a {kind}: must be a HookedTransformer, .*{hint}") as refusal:
        Model.of(source)
    assert "\n" not in str(refusal.value)


def test_a_module_of_transformers_is_told_how_to_come_in():
    from transformers import GPT2Config, GPT2LMHeadModel

    module = GPT2LMHeadModel(GPT2Config(n_embd=8, n_head=2, n_layer=1, vocab_size=5))
    with pytest.raises(ValueError, match=r"model = a GPT2LMHeadModel: .*build_bridge_from_module"):
        Model.of(module)


def test_every_site_of_a_hooked_transformer_can_be_edited_but_results_that_are_not_computed():
    model = random_model(ModelConfig(**SMALL), DATA)
    hooked = to_hooked(model)
    for kind in ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", *HEAD_KINDS[:-1]):
        site = Site(kind, 1, 0 if kind in HEAD_KINDS else None)
        assert hook_to_edit(hooked, site) == site.hook_name
    with pytest.raises(ValueError, match=r"site = L1H0\.result: must be computed first"):
        hook_to_edit(hooked, Site("result", 1, 0))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda network: network.to("meta"), r"^model\..* = on meta: must be a dense tensor with values$"),
        (
            lambda network: setattr(network.cfg, "n_ctx", 21),
            r"^model\.cfg\.n_ctx = 21: must be at most 20",
        ),
    ],
)
def test_a_hooked_transformer_without_values_or_with_more_positions_than_its_table_is_refused(change, complaint):
    network = to_hooked(random_model(ModelConfig(**SMALL), DATA))
    Model.of(network)
    change(network)
    with pytest.raises(ValueError, match=complaint):
        Model.of(network)
