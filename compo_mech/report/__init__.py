"""Pages. `of` makes that of a network on pairs of prompts; the others belong to runs and analyses."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compo_mech.analyses.own_prompts import PromptFindings, PromptSettings
    from compo_mech.interventions.pairs import Pairs
    from compo_mech.model.params import Model


def of(
    model: "Model", pairs: "Pairs", out: str | Path, settings: "PromptSettings | None" = None, title: str = "Prompts"
) -> "PromptFindings":
    """Take a network apart on pairs of prompts, and write the page: answers, patching, edges, circuit, faithfulness.

    Args:
        model: the network.
        pairs: clean and corrupt prompts.
        out: the page, an .html file.
        settings: what is asked; None: all as by default.
        title: of the page.

    Returns:
        What the page shows.

    Raises:
        ValueError: the model cannot read the pairs, or the page cannot be written.
    """
    from compo_mech.analyses.own_prompts import on_prompts  # so that importing reports stays light
    from compo_mech.report.document import write_page
    from compo_mech.report.own_prompts import page

    if Path(out).suffix != ".html" or not Path(out).parent.is_dir():
        raise ValueError(f"out = {out}: must be an .html file in a folder that exists")
    found = on_prompts(model, pairs, settings)
    write_page(page(found, title), Path(out))
    return found
