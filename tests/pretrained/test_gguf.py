"""A GGUF file of a tiny llama, written as llama.cpp would, against transformers' own model of the same weights."""

from pathlib import Path

import pytest
import torch

from compo_mech.pretrained import from_gguf, memory, open_gguf
from compo_mech.pretrained.llama import llama_settings

N_HEADS, N_KEY_VALUE_HEADS, D_MODEL, N_LAYERS = 4, 2, 32, 2
TOKENS = ["<|endoftext|>", "<|im_start|>", *"0123456789=abc", "Ġ", "ab", "12"]


def llama(tied: bool = True):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=D_MODEL,
        intermediate_size=48,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=N_HEADS,
        num_key_value_heads=N_KEY_VALUE_HEADS,
        max_position_embeddings=24,
        rms_norm_eps=1e-3,
        rope_theta=500.0,
        tie_word_embeddings=tied,
        initializer_range=0.4,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    for name, param in model.named_parameters():
        if "norm" in name:
            param.data += 0.3 * torch.randn(param.shape)
    return model


def permuted(weight: torch.Tensor, n_heads: int) -> torch.Tensor:
    """As llama.cpp's converter does: dimensions i and i + half of a head become neighbours."""
    heads = weight.view(n_heads, 2, -1, weight.shape[1])
    return torch.stack([heads[:, 0], heads[:, 1]], dim=2).reshape(weight.shape)


def written(
    path: Path,
    model,
    without: str = "",
    further: str = "",
    architecture: str = "llama",
    pre: str = "smollm",
    **fields: str,
) -> Path:
    from gguf import GGUFWriter

    writer = GGUFWriter(path, architecture)
    config = model.config
    counts = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
    }
    for name, value in counts.items():
        writer.add_uint32(f"llama.{name}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", config.rms_norm_eps)
    writer.add_float32("llama.rope.freq_base", 500.0)
    writer.add_string("tokenizer.ggml.model", "gpt2")
    writer.add_string("tokenizer.ggml.pre", pre)
    writer.add_array("tokenizer.ggml.tokens", TOKENS)
    writer.add_array("tokenizer.ggml.token_type", [3, 3] + [1] * (len(TOKENS) - 2))
    writer.add_array("tokenizer.ggml.merges", ["a b", "1 2"])
    writer.add_uint32("tokenizer.ggml.bos_token_id", 1)
    for name, value in fields.items():
        writer.add_string(name, value)
    state = model.state_dict()
    tensors = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
    for i in range(config.num_hidden_layers):
        parts = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
        parts |= {f"attn_{x}": f"self_attn.{x}_proj" for x in "qkv"} | {"attn_output": "self_attn.o_proj"}
        parts |= {f"ffn_{x}": f"mlp.{x}_proj" for x in ("gate", "up", "down")}
        tensors |= {f"blk.{i}.{ours}": f"model.layers.{i}.{theirs}" for ours, theirs in parts.items()}
    if not config.tie_word_embeddings:
        tensors["output"] = "lm_head"
    for ours, theirs in tensors.items():
        weight = state[f"{theirs}.weight"]
        if ours.endswith(("attn_q", "attn_k")):
            weight = permuted(weight, N_HEADS if ours.endswith("q") else N_KEY_VALUE_HEADS)
        if f"{ours}.weight" != without:
            writer.add_tensor(f"{ours}.weight", weight.numpy())
    if further:
        writer.add_tensor(further, state["model.norm.weight"].numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("gguf") / "tiny.gguf", llama())


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_those_of_transformers(tmp_path: Path, tied: bool):
    theirs = llama(tied)
    ours = from_gguf(written(tmp_path / "tiny.gguf", theirs))
    tokens = torch.randint(len(TOKENS), (3, 24), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(tokens).logits
        torch.testing.assert_close(ours(tokens), expected, rtol=0, atol=2e-5 * float(expected.abs().max()))
    assert torch.equal(ours.W_U, ours.W_E.T) == tied


def test_a_digit_is_a_token_and_nothing_is_put_in_front(tiny: Path):
    model = from_gguf(tiny)
    assert model.to_str_tokens("ab12=<|im_start|>") == ["ab", "1", "2", "=", "<|im_start|>"]
    assert model.to_tokens("a")[0].tolist() == [TOKENS.index("a")]
    assert model.to_tokens("a", prepend_bos=True)[0].tolist() == [1, TOKENS.index("a")]
    assert model.tokenizer.decode([TOKENS.index(t) for t in ("ab", "Ġ", "3")]) == "ab 3"


def test_fewer_positions_are_the_same_model(tiny: Path):
    short, whole = from_gguf(tiny, n_ctx=5), from_gguf(tiny)
    assert (short.cfg.n_ctx, whole.cfg.n_ctx) == (5, 24)
    tokens = torch.tensor([[3, 4, 5, 6, 7]])
    torch.testing.assert_close(short(tokens), whole(tokens))
    with pytest.raises(ValueError, match=r"^n_ctx = 25: must be 1 .. 24, what the model knows$"):
        from_gguf(tiny, n_ctx=25)


def test_a_file_that_is_no_whole_one_is_refused_in_one_line(tiny: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"^path = .*none.gguf: must be a GGUF file$"):
        from_gguf(tmp_path / "none.gguf")
    content = tiny.read_bytes()
    for n in (0, 3, 12, 200, len(content) // 2, len(content) - 100):
        part = tmp_path / "part.gguf"
        part.write_bytes(content[:n])
        with pytest.raises(ValueError, match=r"^path = .*part.gguf: must be a whole GGUF file \(.*\)$"):
            from_gguf(part)


def test_what_a_plain_llama_does_not_have_is_refused_by_name(tmp_path: Path):
    path, model = tmp_path / "odd.gguf", llama()
    for field, value in (("llama.rope.scaling.type", "yarn"), ("llama.expert_used", "two")):
        with pytest.raises(ValueError, match=f"^{field} = {value}: must not be there, or none$"):
            from_gguf(written(path, model, **{field: value}))
    assert (
        llama_settings(open_gguf(written(path, model, **{"llama.rope.scaling.type": "none"})))["n_layers"] == N_LAYERS
    )
    name = "blk.1.attn_k.weight"
    with pytest.raises(ValueError, match=f"^{name} = missing: must be there$"):
        from_gguf(written(path, model, without=name))
    with pytest.raises(ValueError, match=r"^.*odd.gguf = without the tensor token_embd.weight: must be the file of a"):
        from_gguf(written(path, model, without="token_embd.weight"))
    with pytest.raises(ValueError, match=r"^rope_freqs.weight = there: must not be, in a plain llama$"):
        from_gguf(written(path, model, further="rope_freqs.weight"))


def test_damaged_weights_and_tokenizers_are_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, model = tmp_path / "odd.gguf", llama()
    weight = model.model.layers[1].mlp.up_proj.weight.data
    weight[3, 2] = float("nan")
    with pytest.raises(ValueError, match=r"^.*odd.gguf: blk.1.ffn_up.weight = nan: must be finite, 1 of 1536 are not$"):
        from_gguf(written(path, model))
    model.model.layers[1].mlp.up_proj.weight.data = torch.zeros(46, D_MODEL)
    with pytest.raises(ValueError, match=r"^.*odd.gguf: blk.1.ffn_up.weight = 46 x 32: must be of the shape that the"):
        from_gguf(written(path, model))
    monkeypatch.setitem(globals(), "TOKENS", [token for token in TOKENS if token != "ab"])
    with pytest.raises(ValueError, match=r"^.*odd.gguf: must have a whole tokenizer \(.*`ab` out of vocabulary\)$"):
        from_gguf(written(path, llama()))


def test_another_architecture_or_tokenizer_is_refused_by_name(tmp_path: Path):
    with pytest.raises(ValueError, match=r"^general.architecture = qwen2: must be llama$"):
        from_gguf(written(tmp_path / "other.gguf", llama(), architecture="qwen2"))
    with pytest.raises(ValueError, match=r"^tokenizer.ggml.pre = qwen2: must be smollm or gpt-2$"):
        from_gguf(written(tmp_path / "other.gguf", llama(), pre="qwen2"))


def test_a_model_that_does_not_fit_is_refused_before_it_is_read(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 1e8)
    with pytest.raises(ValueError, match=r"^path = .*tiny.gguf: needs about 0.5 GB of memory, 0.1 GB are free$"):
        from_gguf(tiny)
