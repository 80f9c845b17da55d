"""Language models read from files: a GGUF file into a HookedTransformer with its tokenizer."""

from compo_mech.pretrained.gguf_file import GGUFFile, open_gguf
from compo_mech.pretrained.llama import from_gguf
from compo_mech.pretrained.smollm2 import find_smollm2, smollm2

__all__ = ["GGUFFile", "find_smollm2", "from_gguf", "open_gguf", "smollm2"]
