"""What `patch` does: it takes a network apart on anybody's prompts."""

import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text

from compo_mech.analyses import own_prompt_tables as texts
from compo_mech.analyses.own_prompts import PromptSettings, on_prompts
from compo_mech.cli.errors import one_line_errors
from compo_mech.cli.kept_pieces import KeptPieces, key_of
from compo_mech.cli.models import load_model
from compo_mech.cli.output import check_writable, csv_files, say
from compo_mech.cli.progress import counting
from compo_mech.cli.prompts_file import pairs_in
from compo_mech.cli.tables import print_table
from compo_mech.interventions.patch_by_text import patch
from compo_mech.report.own_prompts import page
from compo_mech.runs.analysis_folder import place_problem, write_folder
from compo_mech.runs.files import identity
from compo_mech.runs.sums import NAME


def patch_on_prompts(
    model: str, prompts: Path, out: Path | None, edges: str | None, settings: PromptSettings, n_threads: int
) -> None:
    """Take a network apart on pairs of prompts; all but `settings` as `patch_command` in `cli.commands` has it.

    Args:
        settings: of what is asked where no edges are given.
    """
    torch.set_num_threads(n_threads)
    console, place = Console(), out or prompts.parent / prompts.stem
    kept = place.parent / f"{place.name}.kept"
    with one_line_errors(lambda: f"the same command goes on from what is kept in {kept}" if kept.is_dir() else ""):
        if prompts.is_dir():
            raise ValueError(f"prompts = {prompts}: must be a file of JSON lines, and is a folder")
        if (problem := place_problem(place, (NAME, "findings.txt", "report.html"))) is not None:
            raise ValueError(f"out = {problem}")
        if Path.cwd().is_relative_to(identity(place)):
            raise ValueError(f"out = {place}: must not hold the working directory, since it is replaced")
        network = load_model(model)
        pairs = pairs_in(prompts, network)
        if edges is not None:
            found = patch(network, pairs, edges)
            print_table(console, found.frame())
            say(console, str(found))
            return
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            check_writable(place.parent)
        except OSError as error:
            raise ValueError(f"out = {place}: must be in a folder that can be written ({error.strerror})") from None
        key = key_of(network, pairs, settings, "compo_mech.analyses.own_prompts")
        with counting(console) as bar:
            findings = on_prompts(network, pairs, settings, KeptPieces(kept / key, bar))
        said = texts.sentences(findings)
        files = csv_files(texts.tables(findings)) | {"findings.txt": "\n".join(said) + "\n"}
        write_folder(place, files | {"report.html": page(findings, f"{Path(model).name} on {prompts.stem}", sys.argv)})
        for sentence in said:
            console.print(Text(f"• {sentence}"), highlight=False)  # which folds it, as it does those of other analyses
        say(console, f"Look at {place / 'report.html'}")
