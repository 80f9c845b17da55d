"""What no machine could train is refused from the settings alone, with a figure and the limit."""

import json
import shutil
import time
from types import SimpleNamespace
from typing import Annotated, ClassVar, get_args

import pytest
import torch
from helpers import control
from pydantic import BaseModel, TypeAdapter, ValidationError
from rich.console import Console

from compo_mech.data.config import DataConfig
from compo_mech.data.stream import N_CANDIDATES
from compo_mech.data.tasks import Polynomial, Task
from compo_mech.launch import machine
from compo_mech.launch.how import How
from compo_mech.launch.run import launch
from compo_mech.launch.settings import Launch
from compo_mech.launch.sweep import sweep
from compo_mech.model.config import ModelConfig
from compo_mech.model.forward import forward
from compo_mech.runs import recipes
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.config import RunConfig
from compo_mech.runs.run import Run
from compo_mech.runs.sizes import memory
from compo_mech.settings import changed


def whole_numbers(settings):
    """Name and type of every setting that is a whole number, of these settings and those within."""
    for name, field in settings.model_fields.items():
        parts = {field.annotation, *get_args(field.annotation)}
        for inner in parts | {part for outer in parts for part in get_args(outer)}:
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from whole_numbers(inner)
        if int in parts:
            yield f"{settings.__name__}.{name}", TypeAdapter(Annotated[field.annotation, *field.metadata])


LIMITS = {"ModelConfig.n_layers": 1000, "RunConfig.n_threads": 1024}
UNLIMITED = {"RunConfig.seed", "Stage.max_length"}  # any seed; what the data's own length limits


def test_every_whole_number_has_a_limit_far_from_overflow():
    found = dict(whole_numbers(RunConfig))
    assert len(found) > 20
    for name, kind in found.items():
        limit = LIMITS.get(name, 10**12)
        assert kind.validate_python(1) == 1
        if name not in UNLIMITED:
            assert kind.validate_python(limit) == limit, name
            with pytest.raises(ValidationError):
                kind.validate_python(limit + 1)


ALONE = {"data.task_weights": None, "data.curriculum": ()}
TOO_MUCH = [
    ({"data.tasks": ("polynomial(modulus=1000000000)",)} | ALONE, "modulus = 1000000000: .* 2048"),
    ({"data.tasks": ("counter(modulus=100000)",)} | ALONE, "modulus = 100000: .* 2048"),
    ({"data.tasks": ("dihedral(n=1000000000000)",)} | ALONE, "n = 1000000000000: .* 1024"),
    ({"data.n_train_strings": 10**9}, "data.n_train_strings = 1000000000: takes about .* GB of memory.* most 275 GB"),
    ({"data.batch_size": 10**8}, "data.batch_size = 100000000: takes about .* GB of memory.* at most 275 GB"),
    ({"data.batch_size": 10**30}, "data.batch_size = 10{30}: "),
    ({"n_test_strings": 10**9, "data.max_length": 60}, "n_test_strings = 1000000000: takes about .* GB"),
    ({"model.n_heads": 10**5, "model.d_head": 1, "data.max_length": 2000}, "n_test_strings = 256: takes about .* GB"),
    ({"data.max_length": 10**30}, "data.max_length = 10{30}: "),
    ({"data.tasks": ("polynomial",), "data.max_length": 4 * 10**6, "model.d_model": 1} | ALONE, "takes about .* GB"),
    ({"n_threads": 10**5}, "n_threads = 100000: .* 1024"),
    ({"optim.lr": 1e300}, r"optim.lr = 1e\+300: "),
    ({"optim.weight_decay": 1e300}, r"optim.weight_decay = 1e\+300: "),
    ({"data.task_weights": (1e300, 0.0)}, r"data.task_weights = \(1e\+300, 0.0\): must sum to more than 1e-30"),
    ({"train.n_steps": 10**12}, "train.n_steps = 1000000000000: takes about .* days or more, must take at most 365"),
    ({"train.n_steps": 10**10, "train.snapshot_every": 1}, "train.snapshot_every = 1: takes about .* days"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "told"), TOO_MUCH, ids=[str(changes)[:50] for changes, _ in TOO_MUCH])
def test_settings_that_no_machine_could_train(changes, told):
    begun = time.perf_counter()
    with pytest.raises(ValueError, match=told):
        changed(recipes.parity(), changes)
    assert time.perf_counter() - begun < 1


def test_a_network_takes_the_memory_of_the_parts_that_it_has():
    def needed(**options):
        config = changed(recipes.parity(), {f"model.{name}": value for name, value in options.items()})
        by_setting = memory(config.data, config.model, config.n_test_strings, n_params=0)
        return by_setting[f"data.batch_size = {config.data.batch_size}"]

    plain, heads = needed(), needed(n_heads=4)
    assert needed(attn_only=True) < plain < needed(gated_mlp=True)
    assert needed(positional_embedding="rotary") > plain  # rotated queries and keys are kept beside themselves
    assert needed(n_heads=4, use_qk_norm=True) > heads


HEADS = {"d_model": 16, "n_heads": 8, "d_head": 32, "attn_only": True}  # that take most of the memory


@pytest.mark.parametrize(
    ("options", "length"),
    [
        ({}, 8),
        ({"n_layers": 6}, 8),
        ({"gated_mlp": True}, 8),
        (HEADS, 8),
        (HEADS | {"n_key_value_heads": 4}, 8),
        ({"n_heads": 8, "use_qk_norm": True}, 8),
        (HEADS | {"positional_embedding": "rotary"}, 8),
        ({"d_model": 16, "n_heads": 16, "d_head": 1}, 60),  # mostly patterns
    ],
    ids=str,
)
def test_the_estimate_is_about_what_is_kept_for_the_gradients(options, length):
    config, data = ModelConfig(**options), DataConfig(min_length=length, max_length=length, batch_size=4)
    model, kept = control(config, data, n_ctx=140), {}
    for param in model.params.values():
        param.requires_grad_()

    def keep(tensor):
        if tensor.is_floating_point():
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    tokens = torch.zeros((4, data.layout.n_read(length)), dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = forward(model, tokens).logsumexp(-1).sum()
    for param in model.params.values():
        kept.pop(param.untyped_storage().data_ptr(), None)
    assert loss.requires_grad
    n_bytes = sum(storage.nbytes() for storage in kept.values())
    drawn = 4 * 24 * N_CANDIDATES * length
    estimate = memory(data, config, n_test_strings=16, n_params=0)["data.batch_size = 4"] - drawn
    assert 1 < estimate / n_bytes < 2


def test_a_stored_run_of_such_settings_is_refused_as_well(tmp_path, tiny):
    run = Run.create(tmp_path / "one", tiny)
    stored = json.loads((run.path / "config.json").read_text(encoding="utf-8"))
    stored["train"]["n_steps"] = 10**12
    (run.path / "config.json").write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(RunError):
        Run.open(run.path)


def test_a_rule_of_ones_own_that_cannot_be_written_out():
    class Huge(Task):
        name: ClassVar[str] = "huge"

        @property
        def n_states(self):
            return 10**9

        def step(self, state, x):
            return (state + x) % 10**9

    with pytest.raises(ValueError, match=f"tasks = huge: its rule has {10**18} entries, must have at most 4194304"):
        DataConfig(tasks=(Huge(),))


def test_what_this_machine_cannot_hold_is_refused_before_there_is_a_folder(tmp_path, tiny, monkeypatch):
    settings = {name: getattr(tiny, name) for name in type(tiny).model_fields}
    asked = Launch(**settings, runs_dir=tmp_path / "runs")
    monkeypatch.setattr(machine, "available_memory", lambda device: 1e4)
    with pytest.raises(
        RunError,
        match=r" = 16: takes about .*, and all together .*, must take at most 1e-05 GB, which this machine has",
    ):
        launch(asked, Console(quiet=True))
    monkeypatch.setattr(machine, "available_memory", lambda device: 1e12)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=10))
    with pytest.raises(RunError, match=r"train.snapshot_every = 10: checkpoints take .* GB, must be at most 1e-08"):
        launch(asked, Console(quiet=True))
    assert not (tmp_path / "runs").exists()


def test_a_resumed_run_is_not_charged_for_what_it_has(tiny_run, monkeypatch):
    written = sum(file.stat().st_size for file in tiny_run.path.glob("checkpoints/*.safetensors"))
    asked = Launch(
        **{name: getattr(tiny_run.config, name) for name in type(tiny_run.config).model_fields},
        runs_dir=tiny_run.path.parent,
        name="one",
    )
    needed = 4 * asked.n_params * (4 + machine.N_FIRST_SNAPSHOTS)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=needed - written))
    with pytest.raises(RunError, match="checkpoints take"):
        machine.check_machine(asked)
    machine.check_machine(asked.model_copy(update={"resume": True}))
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=needed - written - 1))
    with pytest.raises(RunError, match="checkpoints take"):
        machine.check_machine(asked.model_copy(update={"resume": True}))


def test_runs_that_are_done_need_no_room(tiny_run, monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda device: 1e4)
    asked = {"one": tiny_run.config, "two": changed(tiny_run.config, {"seed": 1})}
    how = How(runs_dir=tiny_run.path.parent, on="here")
    assert sweep({"one": asked["one"]}, how, Console(quiet=True))["state"].tolist() == ["done"]
    with pytest.raises(RunError, match="which this machine has"):
        sweep(asked, how, Console(quiet=True))


def test_the_machine_has_memory():
    assert 2**28 < machine.available_memory("cpu") < 2**50


@pytest.mark.parametrize("coefficients", [(2**63 - 1, 2**62, -(2**63), 2**64 + 3), (10**30, -1, 7, 10**40)])
def test_coefficients_of_any_size_are_taken_modulo_p(coefficients):
    task = Polynomial(modulus=11, coefficients=coefficients, zero_inputs=True, start="zero")
    a, b, c, d = coefficients
    by_hand = [[(a * s * x + b * s + c * x + d) % 11 for x in range(11)] for s in range(11)]  # of unbounded integers
    assert task.table[:-1].tolist() == by_hand
    assert task.step(3, 4) == by_hand[3][4]
    states, inputs = torch.tensor([3, 10]), torch.tensor([4, 9])
    assert task.step(states, inputs).tolist() == [by_hand[3][4], by_hand[10][9]]
