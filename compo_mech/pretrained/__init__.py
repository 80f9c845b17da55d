"""Language models read from files: a GGUF file into a HookedTransformer with its tokenizer."""

from compo_mech.pretrained.few_shot import FORMS, TASKS, FewShot, Form, drawn_lines, few_shot
from compo_mech.pretrained.gguf_file import GGUFFile, open_gguf
from compo_mech.pretrained.llama import from_gguf
from compo_mech.pretrained.smollm2 import find_smollm2, smollm2

__all__ = [
    "FORMS",
    "TASKS",
    "FewShot",
    "Form",
    "drawn_lines",
    "few_shot",
    "GGUFFile",
    "open_gguf",
    "from_gguf",
    "find_smollm2",
    "smollm2",
]
