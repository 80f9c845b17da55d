"""A language model of llama's architecture, from a GGUF file into a HookedTransformer.

llama.cpp rotates neighbouring dimensions of queries and keys, transformers and we those half a head apart; files are
written for the former, by a permutation of the rows of both weights, which is undone here.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from compo_mech.pretrained.gguf_file import GGUFFile, open_gguf
from compo_mech.pretrained.memory import check_memory
from compo_mech.pretrained.tokenizer import tokenizer_of

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MAX_N_CTX = 2048
"""Positions that a model is given where nothing else is asked for: attention masks grow as their square."""

LIBRARIES = 5e8
"""Bytes that transformer_lens and what it imports take."""

BLOCK = {
    "attn_norm": "ln1.w",
    "attn_q": "attn.W_Q",
    "attn_k": "attn._W_K",
    "attn_v": "attn._W_V",
    "attn_output": "attn.W_O",
    "ffn_norm": "ln2.w",
    "ffn_gate": "mlp.W_gate",
    "ffn_up": "mlp.W_in",
    "ffn_down": "mlp.W_out",
}
"""Weights of a block by their GGUF name, with the name that a HookedTransformer has for them."""


def from_gguf(path: str | Path, n_ctx: int | None = None) -> "HookedTransformer":
    """Read a language model of llama's architecture, with its tokenizer.

    Weights are dequantised to 32 bits. The tokenizer puts no token in front unless it is asked to.

    Args:
        path: a GGUF file.
        n_ctx: positions that it is to know; None: those of its training, at most `MAX_N_CTX`.

    Raises:
        ValueError: the file is no such model's, has parts that a HookedTransformer does not, or is too large for the
            memory that is free.
    """
    file = open_gguf(path)
    settings = llama_settings(file, n_ctx)
    names = _names(file, settings["n_layers"])
    tokenizer = tokenizer_of(file)
    check_memory(f"path = {path}", _bytes_needed(file, settings))

    from transformer_lens import HookedTransformer, HookedTransformerConfig

    model = HookedTransformer(HookedTransformerConfig(**settings, init_weights=False, dtype=torch.float32))
    own = dict(model.named_parameters())
    with torch.no_grad():
        for parameter in own.values():
            parameter.zero_()  # biases, which llama has none of
        for gguf_name, name in names.items():
            try:
                own[name].copy_(_as_ours(name, file.tensor(gguf_name), settings))
            except RuntimeError:
                shape = " x ".join(map(str, file.shape(gguf_name)))
                raise ValueError(f"{path}: {gguf_name} = {shape}: must be of the shape that the fields say") from None
        own["unembed.W_U"].copy_(file.tensor(_unembedding(file)).T)
    model.tokenizer = tokenizer
    model.cfg.tokenizer_prepends_bos = False
    return model.eval()


def llama_settings(file: GGUFFile, n_ctx: int | None = None) -> dict[str, Any]:
    """Return the options of the HookedTransformer that does what the file's model does.

    Raises:
        ValueError: it is of another architecture, has an option that is not known, or does not know as many positions.
    """
    architecture = file.field("general.architecture")
    if architecture != "llama":
        raise ValueError(f"general.architecture = {architecture}: must be llama")
    for name in file.field_names():
        if name.startswith(("llama.rope.scaling", "llama.expert")) and file.field(name) not in ("none", 0):
            raise ValueError(f"{name} = {file.field(name)}: must not be there, or none")
    d_model, n_heads = file.field("llama.embedding_length"), file.field("llama.attention.head_count")
    known = file.field("llama.context_length")
    if n_ctx is not None and not 1 <= n_ctx <= known:
        raise ValueError(f"n_ctx = {n_ctx}: must be 1 .. {known}, what the model knows")
    d_head = file.field("llama.attention.key_length", d_model // n_heads)
    return {
        "model_name": str(file.field("general.name", file.path.stem)),
        "n_layers": file.field("llama.block_count"),
        "n_heads": n_heads,
        "n_key_value_heads": file.field("llama.attention.head_count_kv", n_heads),
        "d_model": d_model,
        "d_head": d_head,
        "d_mlp": file.field("llama.feed_forward_length"),
        "n_ctx": n_ctx or min(known, MAX_N_CTX),
        "d_vocab": file.shape("token_embd.weight")[0],
        "act_fn": "silu",
        "gated_mlp": True,
        "normalization_type": "RMS",
        "final_rms": True,
        "eps": file.field("llama.attention.layer_norm_rms_epsilon"),
        "positional_embedding_type": "rotary",
        "rotary_dim": file.field("llama.rope.dimension_count", d_head),
        "rotary_base": round(file.field("llama.rope.freq_base", 10000.0)),
        "rotary_adjacent_pairs": False,
        "default_prepend_bos": False,
    }


def undo_permutation(weight: Float[Tensor, "row d_model"], n_heads: int) -> Float[Tensor, "row d_model"]:
    """Put the rows of a query or key weight of llama.cpp in the order of transformers.

    Example:
        >>> import torch
        >>> from compo_mech.pretrained.llama import undo_permutation
        >>> undo_permutation(torch.tensor([[0.0], [2.0], [1.0], [3.0]]), n_heads=1).flatten().tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    return rearrange(weight, "(head dim half) d_model -> (head half dim) d_model", head=n_heads, half=2)


def _names(file: GGUFFile, n_layers: int) -> dict[str, str]:
    """Names of all tensors but the unembedding, with those of a HookedTransformer.

    Raises:
        ValueError: a tensor is missing, or there is one more.
    """
    names = {"token_embd.weight": "embed.W_E", "output_norm.weight": "ln_final.w"}
    for layer in range(n_layers):
        names |= {f"blk.{layer}.{gguf}.weight": f"blocks.{layer}.{name}" for gguf, name in BLOCK.items()}
    missing, further = names.keys() - file.shapes.keys(), file.shapes.keys() - names.keys() - {"output.weight"}
    if missing or further:
        name = sorted(missing or further)[0]
        what = "missing" if missing else "there"
        raise ValueError(f"{name} = {what}: must {'be there' if missing else 'not be, in a plain llama'}")
    return names


def _unembedding(file: GGUFFile) -> str:
    """Name of the tensor that logits are made by: the embedding, where they are tied."""
    return "output.weight" if "output.weight" in file.shapes else "token_embd.weight"


def _as_ours(name: str, weight: Tensor, settings: dict[str, Any]) -> Tensor:
    """One weight as a HookedTransformer has it: inputs first, heads apart."""
    last = name.split(".")[-1]
    if last == "W_E" or last == "w":
        return weight
    if last == "W_O":
        return rearrange(weight, "d_model (head d_head) -> head d_head d_model", head=settings["n_heads"])
    if last in ("W_Q", "_W_K", "_W_V"):
        n_heads = settings["n_heads"] if last == "W_Q" else settings["n_key_value_heads"]
        weight = weight if last == "_W_V" else undo_permutation(weight, n_heads)
        return rearrange(weight, "(head d_head) d_model -> head d_model d_head", head=n_heads)
    return weight.T


def _bytes_needed(file: GGUFFile, settings: dict[str, Any]) -> float:
    """Estimate the bytes of the model, its masks, the largest tensor while it is copied, and the libraries."""
    n_each = {name: float(torch.Size(shape).numel()) for name, shape in file.shapes.items()}
    n_weights = sum(n_each.values()) + n_each[_unembedding(file)] * ("output.weight" not in n_each)
    masks = float(settings["n_layers"]) * settings["n_ctx"] ** 2
    return 4 * n_weights + masks + 12 * max(n_each.values()) + LIBRARIES
