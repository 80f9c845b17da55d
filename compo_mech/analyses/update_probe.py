"""How an MLP updates the state: the verdict, the sentences and the tables of its probe."""

from typing import TYPE_CHECKING

from compo_mech.analyses import examine, state_update
from compo_mech.analyses.examine import Answer, Probe, ProbeVerdict, Seen
from compo_mech.analyses.state_update import UpdateFindings

if TYPE_CHECKING:
    import pandas as pd


def update_sentences(seen: Seen[UpdateFindings]) -> list[str]:
    """Say the verdict on the update and what it rests on."""
    trained, control = seen.trained, seen.control
    said = [f"MLP {trained.layer} updates the state: {update_verdict(trained)}.", _used(trained, control)]
    said += [_read(trained, control, row) for row in trained.reads.to_dict("records")]
    if (x := trained.interchanges_of("x", "independent")) is not None:
        said.append(
            f"x_t comes through layer {trained.layer}'s attention: {examine.with_interval(x, 'iia')} of the answers "
            "follow it."
        )
    said += _subspaces(trained)
    said.append(_decodable(trained, control))
    if trained.left_out is not None:
        pairs = ", ".join(f"({r['s']}, {r['x']}): {r['MLP output']:.0%}" for r in trained.left_out.to_dict("records"))
        said.append(f"Each pair left out in turn, from MLP {trained.layer}'s output: {pairs}.")
    if "separable" in trained.probes:
        before, after = (trained.probe(site)["separable"] for site in ("MLP input", "MLP output"))
        said.append(
            f"A line separates the states of {before:.0%} of rows before MLP {trained.layer} and of {after:.0%} of "
            "them after it."
        )
    if trained.computed:
        cut = examine.needed_text(trained.additive)
        said.append(f"Needed: with its output made a sum of a function of s and one of x {cut}.")
        said.append(_neuron_sentence(trained))
    return said


def _used(trained: UpdateFindings, control: UpdateFindings) -> str:
    out = trained.answer
    return (
        f"Used: with MLP {trained.layer}'s output of another string put in, {examine.iia_text(out)} of the answers are "
        f"that string's ({examine.beside_text(out, control.answer)})."
    )


NAMES = {"s": "s_{t-1}", "x": "x_t"}


def _read(trained: UpdateFindings, control: UpdateFindings, row: dict) -> str:
    name, untrained = NAMES[row["variable"]], control.reads[control.reads["variable"] == row["variable"]].iloc[0]
    return (
        f"Reads {name}: with its output of a row put in that differs in {name} alone, "
        f"{examine.iia_text(row)} of the answers follow that ({examine.beside_text(row, untrained)})."
    )


def _subspaces(trained: UpdateFindings) -> list[str]:
    said = []
    for row in trained.subspaces.to_dict("records"):
        name = NAMES[str(row["variable"])]
        said.append(
            f"In MLP {trained.layer}'s input {row['n_dims']} direction{'s' * (row['n_dims'] > 1)} spanned by class "
            f"means hold {name}: {row['iia']:.0%} of the answers follow what is swapped there (random directions "
            f"{row['random']:.0%}); they have {row['share']:.0%} of the variance."
        )
    if trained.overlap is not None:
        said.append(
            f"The two subspaces overlap by {trained.overlap:.2f} (mean squared cosine; 1: one within the other)."
        )
    return said


def _decodable(trained: UpdateFindings, control: UpdateFindings) -> str:
    probe, after = trained.probe("MLP output"), trained.probe("stream after")
    levels = [trained.decodable_from(site) for site in ("MLP output", "stream after")]
    before, embedded = (trained.probe(site)["linear"] for site in ("MLP input", "raw embeddings"))
    return (
        f"Decodable: on pairs (s, x) left out, a probe decodes s_t from MLP {trained.layer}'s output in "
        f"{examine.with_interval(probe, 'linear')} of cases (an interval above {levels[0]:.0%} needed), from the "
        f"stream after it in {examine.with_interval(after, 'linear')} (above {levels[1]:.0%}). These are half of the "
        f"way to all from the best of: its input {before:.0%}, the embeddings {embedded:.0%}, s alone "
        f"{trained.guess_from_s:.0%}, x alone {trained.guess_from_x:.0%}"
        f"{'' if trained.left_out is not None else ', and chance'}. Permuted labels: {probe['permuted']:.0%}, control: "
        f"{control.probe('MLP output')['linear']:.0%}."
    )


def update_verdict(found: UpdateFindings) -> ProbeVerdict:
    """Answer whether the MLP updates the state, and why."""
    if not found.computed:
        reason = "the new state is a sum of a function of s and one of x, which takes no MLP"
        return ProbeVerdict(Answer.NOTHING, (reason,))
    reads = not found.unread
    if found.holds and found.decodable and found.additive.needed and reads:
        reason = (
            "its output holds s_t, also of pairs left out, it reads s_{t-1} and x_t, and answers need what it has "
            "beyond sums over s and x"
        )
        return ProbeVerdict(Answer.YES, (reason,))
    if found.followed and found.decodable and found.additive.needed and reads:
        reason = (
            "its output holds s_t for most answers, also of pairs left out, it reads s_{t-1} and x_t, and answers need "
            "what it has beyond sums over s and x"
        )
        return ProbeVerdict(Answer.IN_PART, (reason,))
    return ProbeVerdict.no(
        {
            "answers do not follow its output": not found.followed,
            **{f"answers do not follow {NAMES[v]} alone through its output": v in found.unread for v in NAMES},
            "s_t is not decodable from it better than before it": not found.decodable,
            "answers do not need what it has beyond sums over s and x": not found.additive.needed,
        }
    )


def _neuron_sentence(trained: UpdateFindings) -> str:
    """Say how many neurons make what is beyond sums."""
    shares = trained.neurons["share"].cumsum()
    half, most = (int((shares < level).sum()) + 1 for level in (0.5, 0.9))
    exclusive = len(trained.neurons) > 0 and trained.left_out is not None and trained.guess_from_s <= 0.5
    return (
        f"Neurons: of the right answer's lead by what is beyond sums, {half} of {len(trained.neurons)} neurons make "
        f"half and {most} make 90%{'; that is the exclusive or' if exclusive else ''}."
    )


def _update_tables(found: UpdateFindings) -> "dict[str, pd.DataFrame]":
    import pandas as pd

    cut = found.additive
    cuts = {"as it is": cut.whole.mean, "additive": cut.additive.mean, "placebo": cut.placebo.mean}
    tables = {
        "probes": found.probes,
        "interchange": found.interchanges,
        "reads": found.reads,
        "subspaces": found.subspaces,
        "neurons": found.neurons,
        "activations": found.activations,
        "additive": pd.DataFrame([cuts]),
    }
    if found.left_out is not None:
        tables["left-out"] = found.left_out
    return tables if found.curve is None else tables | {"without-neurons": found.curve}


UPDATE = Probe(
    code=state_update.__name__,
    name="state-update",
    layers_before=0,
    examine=lambda model, config, task, seed, layer, full: state_update.examine_update(
        model, config.data, task, seed, layer, full
    ),
    measures=lambda found: list(found.measures()),
    sentences=update_sentences,
    tables=_update_tables,
)
