import functools
import math

import pandas as pd
import pytest
import torch

from compo_mech.runs.trajectory import Measured, Quantity, follow

CODE = __name__
MEAN = Quantity("mean", "value", "x", "matched", "mlp_out", 1, 0)


@pytest.fixture
def run(tiny_run):
    return tiny_run


class Counting:
    """The mean of one matrix, and how often it was asked for."""

    def __init__(self, stop_after=math.inf):
        self.n, self.stop_after = 0, stop_after

    def __call__(self, model):
        if self.n == self.stop_after:
            raise KeyboardInterrupt
        self.n += 1
        value = float(model.params["embed.W_E"].double().mean())
        return [Measured(MEAN, value, value - 0.1), Measured(Quantity("third"), value / 3, 0.0, 1.0)]


def mean_of(name, model):
    return [Measured(Quantity("mean", site=name), float(model.params[name].double().mean()), 0.0, 1.0)]


def test_several_workers_find_the_same(run):
    measure = functools.partial(mean_of, "embed.W_E")
    alone = followed(run, measure, "alone")
    (run.path / "checkpoints" / f"{run.steps[3]:06d}.safetensors").unlink()
    told = {}
    table = followed(run, measure, "several", advance=lambda s, p: told.update({s: p}), n_workers=2)
    pd.testing.assert_frame_equal(
        table, alone[alone["step"].ne(run.steps[3]).fillna(True).astype(bool)].reset_index(drop=True)
    )
    assert "is missing" in told[run.steps[3]]
    assert set(told) == {None, *run.steps}


def test_some_checkpoints_alone(run):
    measure = Counting()
    table = followed(run, measure, steps=run.steps[::2])
    assert steps_of(table) == [None, *run.steps[::2]]
    rest = Counting()
    assert steps_of(followed(run, rest)) == [None, *run.steps]
    assert rest.n == len(run.steps[1::2])
    with pytest.raises(ValueError, match="step = 3: must be one of 0 1 2 4"):
        followed(run, Counting(), steps=[3])


def steps_of(table):
    """Return the steps of a table, once each; None stands for the control."""
    trained = table["network"].eq("trained").tolist()
    assert [not missing for missing in table["step"].isna()] == trained
    return [None if pd.isna(step) else step for step in table["step"].unique()]


def followed(run, measure, name="mean", settings=None, **more):
    return follow(run, name, settings or {}, measure, CODE, **more)


def test_every_checkpoint_and_the_control_are_measured(run):
    measure = Counting()
    table = followed(run, measure)
    assert steps_of(table) == [None, *run.steps]
    assert measure.n == len(run.steps) + 1
    for step in run.steps:
        rows = MEAN.rows(table[table["step"].eq(step).fillna(False)])
        assert rows["value"].iloc[0] == float(run.params(step)["embed.W_E"].double().mean())
    control = MEAN.rows(table[table["network"] == "control"])
    assert control["value"].iloc[0] == float(run.control()["embed.W_E"].double().mean())


def test_what_was_measured_is_not_measured_again(run):
    first = followed(run, Counting())
    again = Counting()
    pd.testing.assert_frame_equal(followed(run, again), first)
    assert again.n == 0
    for name, settings in (("other", {}), ("mean", {"seed": 1})):
        other = Counting()
        followed(run, other, name, settings)
        assert other.n == len(run.steps) + 1


def test_a_killed_measure_goes_on_where_it_was(run):
    whole = followed(run, Counting(), "whole")
    with pytest.raises(KeyboardInterrupt):
        followed(run, Counting(stop_after=4))
    rest = Counting()
    pd.testing.assert_frame_equal(followed(run, rest), whole)
    assert rest.n == len(run.steps) + 1 - 4


def test_another_checkpoint_at_the_same_step_is_measured_anew(run):
    followed(run, Counting())
    step = run.steps[2]
    params = {name: value + 1 for name, value in run.params(step).items()}
    run.save(step, params, {"generator": torch.zeros(1)})
    again = Counting()
    table = followed(run, again)
    assert again.n == 1
    rows = MEAN.rows(table[table["step"].eq(step).fillna(False)])
    assert len(rows) == 1
    assert rows["value"].iloc[0] == float(params["embed.W_E"].double().mean())


def test_checkpoints_that_cannot_be_read_are_told_and_left_out(run):
    files = {step: run.path / "checkpoints" / f"{step:06d}.safetensors" for step in run.steps}
    files[2].unlink()
    files[4].write_bytes(files[4].read_bytes()[:-1] + b"x")
    told = {}
    table = followed(run, Counting(), advance=lambda step, problem: told.update({step: problem}))
    assert steps_of(table) == [None, *(step for step in run.steps if step not in (2, 4))]
    assert "is missing" in told.pop(2)
    assert "is damaged" in told.pop(4)
    assert set(told) == {None, *run.steps} - {2, 4}
    assert set(told.values()) == {None}


def test_a_damaged_memory_is_measured_anew(run):
    followed(run, Counting())
    (file,) = (run.path / "analysis" / ".cache").iterdir()
    whole = file.read_bytes()
    for harmed in (
        b"\x00\xff",
        b"",
        whole[: len(whole) // 2],
        whole[:-5] + b"9" + whole[-4:],
        whole.partition(b"\n")[2],
    ):
        file.write_bytes(harmed)
        again = Counting()
        followed(run, again)
        assert again.n == len(run.steps) + 1
