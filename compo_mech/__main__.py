"""The command `compo-mech`, and `python -m compo_mech`: a verb, then what a script of that name takes."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from compo_mech.interrupts import INTERRUPTED, watch_imports

NAME = "compo-mech"


class Verb(NamedTuple):
    """What a verb does, and the function that does it, which is loaded when it is asked for.

    Attributes:
        module, function: of this package.
        summary: a line of the help.
    """

    module: str
    function: str
    summary: str


VERBS = {
    "train": Verb("launch.main", "train_command", "train one network with a recipe: train parity --seed 1"),
    "seeds": Verb("studies.seeds", "seeds_command", "train a recipe with many seeds: seeds parity --n-seeds 10"),
    "sweep": Verb("launch.sweep_command", "sweep_command", "train a grid: sweep parity model.d_model=32,64"),
    "dissect": Verb("cli.commands", "dissect_command", "take runs apart: heads, edges, circuit, routes"),
    "watch": Verb("cli.commands", "watch_command", "follow every measure over a run's checkpoints"),
    "align": Verb("cli.commands", "align_command", "ask where a run holds the algorithm's variables"),
    "probe": Verb("cli.commands", "PROBES", "ask what a run's MLPs do: probe position-subtraction RUN"),
    "patch": Verb("cli.commands", "patch_command", "take a network apart on your prompts: patch MODEL PROMPTS.jsonl"),
    "explore": Verb("cli.commands", "explore_command", "make an offline page to play with: explore RUN"),
    "compare": Verb("cli.compare", "compare_command", "set several runs beside each other on one page"),
}
"""In the order in which one needs them."""


def main(argv: Sequence[str] | None = None) -> None:
    """Do what the first word says. Exits with code 2 and one line on bad input, with 130 after Ctrl-C."""
    try:
        if argv is None:
            watch_imports()
        _main(argv)
    except KeyboardInterrupt:  # while libraries are imported; a command that has begun says itself what to do next
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _main(argv: Sequence[str] | None) -> None:
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        from compo_mech.cli.stdout import print_help

        print_help(usage())
        return
    verb, *rest = words
    if verb not in VERBS:
        print(
            f"error: verb = {verb if verb.isprintable() else ascii(verb)}: must be one of {', '.join(VERBS)}",
            file=sys.stderr,
        )
        sys.exit(2)
    sys.argv = ["-m", "compo_mech", *words]  # what a run notes as its command, to be typed after `python`
    found = getattr(import_module(f"compo_mech.{VERBS[verb].module}"), VERBS[verb].function)
    if verb == "train":
        found(rest, f"{NAME} {verb}")
        return
    command = import_module("compo_mech.cli.command")
    ask = command.call_one if verb == "probe" else command.call
    ask(found, rest, prog=f"{NAME} {verb}")


def usage() -> str:
    """The verbs, a line each."""
    lines = [f"  {verb:<9}{what.summary}" for verb, what in VERBS.items()]
    more = f"{NAME} VERB --help tells what a verb takes; --import MODULE brings tasks of your own to any of them."
    return "\n".join([f"usage: {NAME} VERB ...", "", *lines, "", more])


if __name__ == "__main__":
    main()
