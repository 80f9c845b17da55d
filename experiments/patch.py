"""Take a network apart on prompts of your own: answers, activation patching, edges, circuit, faithfulness.

python experiments/patch.py runs/parity-seed0 prompts.jsonl
python experiments/patch.py runs/parity-seed0 prompts.jsonl --edges "L0H0 → L1H0.q"

Each line of PROMPTS is one pair: {"clean": "[parity] 1 0 [EoI]", "corrupt": "[parity] 0 0 [EoI]", "answer": "1",
"foil": "0"}. Writes a page and tables beside the prompts. What was computed before Ctrl-C is kept.
"""

from compo_mech.cli.command import call
from compo_mech.cli.commands import patch_command

if __name__ == "__main__":
    call(patch_command, description=__doc__)
