import contextlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from compo_mech.launch import main
from compo_mech.runs import recipes
from compo_mech.runs.differences import differences
from compo_mech.runs.locks import locked
from compo_mech.runs.run import Run
from compo_mech.settings import changed

ROOT = Path(__file__).parents[2]
TINY = ["--data.max-length", "4", "--data.batch-size", "16", "--model.d-model", "16", "--n-test-strings", "16"]


def train(tmp_path, *argv, n_steps=10, name="one", recipe=recipes.polynomial):
    words = ["--runs-dir", str(tmp_path / "runs"), "--name", name, *TINY, "--train.n-steps", str(n_steps)]
    main.main(recipe(), [*words, "--train.snapshot-every", "5", *argv])
    return Run.open(tmp_path / "runs" / name)


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """A run of ten steps, left in peace, and what was said of it; tests look at it or change a copy."""
    torch.set_num_threads(1)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        run = train(tmp_path_factory.mktemp("long"))
    return run, said.getvalue()


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A run of two steps."""
    torch.set_num_threads(1)
    return train(tmp_path_factory.mktemp("short"), n_steps=2)


def copied(run, tmp_path, name="one"):
    """A run as if it had been trained in this folder."""
    return Run.open(shutil.copytree(run.path, tmp_path / "runs" / name))


def same(one, two):
    """Weights at every step and metrics, to the bit."""
    assert one.steps == two.steps
    for step in one.steps:
        a, b = one.params(step), two.params(step)
        assert list(a) == list(b)
        assert all(torch.equal(a[name], b[name]) for name in a), step
    for name in ("metrics.csv", "checkpoints/SHA256SUMS"):
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes()


# ---------------------------------------------------------------------------------- a run


def test_a_run_leaves_all_it_should(long):
    run, shown = long
    assert {f.name for f in run.path.iterdir()} == {
        "config.json", "environment.json", "metrics.csv", "checkpoints", "report.html",
    }  # fmt: skip
    assert run.steps == [0, 1, 2, 4, 5, 10]
    metrics = run.metrics
    assert set(metrics[metrics.metric == "generated_accuracy"].step) == {*run.steps}
    assert metrics[metrics.split == "control"].step.unique().tolist() == [0]
    assert not metrics.value.isna().any()
    assert "L1H0 iteration" in shown.replace("\n", " ") or "iteration" in shown
    assert "accuracy" in shown
    assert "report.html" in shown


def test_the_same_seed_gives_the_same_bits_and_another_does_not(long, short, tmp_path):
    same(long[0], train(tmp_path, name="two"))
    other = train(tmp_path, "--seed", "1", n_steps=2, name="other")
    assert not torch.equal(short.params()["unembed.W_U"], other.params()["unembed.W_U"])


def test_resuming_a_finished_run_changes_nothing_and_says_so(long, tmp_path, capsys):
    one = copied(long[0], tmp_path)
    before = (one.path / "metrics.csv").read_bytes(), one.params()
    assert "already" not in long[1]
    train(tmp_path, "--resume")
    step = one.steps[-1]
    said = f"{one.path} was trained to its end already, step {step}; nothing is left to train"
    assert said in capsys.readouterr().out.splitlines()
    assert (one.path / "metrics.csv").read_bytes() == before[0]
    assert all(torch.equal(one.params()[name], before[1][name]) for name in before[1])


def test_resume_goes_on_to_the_bit_even_from_the_checkpoint_before(long, tmp_path, capsys):
    whole = long[0]
    for lost in ("000010.safetensors", "000010.resume.safetensors"):
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        cut = copied(whole, tmp_path, "cut")
        file = cut.path / "checkpoints" / lost
        file.write_bytes(file.read_bytes()[:-1])
        train(tmp_path, "--resume", name="cut")
        assert lost in capsys.readouterr().out.replace("\n", "")
        same(whole, cut)


@pytest.mark.parametrize("extra", [
    ["--data.no-chain-of-thought"],
    ["--data.tasks", "copy", "symmetric(n=3)", "--data.task-weights", "1", "2", "--data.no-task-token"],
    ["--model.n-heads", "2", "--model.n-layers", "3", "--model.biases", "--train.embed-dropout", "0.1"],
    ["--model.n-layers", "1", "--optim.optimizer", "adamw", "--data.max-length", "3"],
    ["--data.n-train-strings", "20", "--data.order", "shortest_first", "--model.normalization", "none"],
    ["--data.curriculum", "stage(n_steps=10, max_length=2)", "--model.freeze", "pos_embed"],
    ["--model.positional-embedding", "rotary", "--model.normalization", "RMS", "--model.gated-mlp",
     "--model.n-heads", "4", "--model.n-key-value-heads", "2", "--model.tie-word-embeddings"],
    ["--model.attn-only", "--model.positional-embedding", "none", "--model.use-qk-norm"],
])  # fmt: skip
def test_every_kind_of_run_reaches_its_report(tmp_path, extra):
    run = train(tmp_path, *extra, n_steps=12)
    assert "</html>" in (run.path / "report.html").read_text()


def test_divergence_stops_with_one_line_and_keeps_what_was_saved(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        train(tmp_path, "--optim.optimizer", "sgd", "--optim.lr", "1e9", "--optim.momentum", "0", n_steps=100)
    assert stop.value.code == 1
    complaint = capsys.readouterr().err
    assert "diverged" in complaint
    assert complaint.count("\n") == 1
    run = Run.open(tmp_path / "runs" / "one")
    assert run.steps
    assert all(tensor.isfinite().all() for tensor in run.params().values())


def test_wandb_offline_tracks_beside_the_csv(tmp_path):
    pytest.importorskip("wandb")
    run = train(tmp_path, "--wandb", "offline", n_steps=4)
    assert list((run.path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(run.metrics)


# ---------------------------------------------------------------------------------- bad input

BAD = [
    (["--data.length-weights", "a"], ["data.length_weights = 'a': must be numbers"]),
    (["--data.tasks", "walk"], ["task", "'walk'", "parity"]),
    (["--data.tasks"], ["tasks", "at least one"]),
    (["--data.tasks", "parity", "parity"], ["tasks", "once"]),
    (["--data.tasks", "polynomial(modulus=1)"], ["modulus = 1", "greater than or equal to 2"]),
    (["--data.tasks", "polynomial(modulus='x')"], ["modulus = 'x'", "integer"]),
    (["--data.tasks", "counter(modulus=0)"], ["modulus = 0"]),
    (["--data.tasks", "symmetric(n=9)"], ["n = 9", "less than or equal to 6"]),
    (["--data.tasks", "automaton(transitions=((0,1),(1,)))"], ["transitions", "one next state per input"]),
    (["--data.tasks", "automaton(transitions=((0,5),(1,0)))"], ["transitions", "0 .. 1"]),
    (["--data.tasks", "parity(bits=2)"], ["bits = 2", "no such setting"]),
    (["--model.depth", "2"], ["--model.depth", "no such setting"]),
    (["--model.d-model", "wide"], ["model.d_model = 'wide'", "integer"]),
    (["--model.d-model", "-4"], ["model.d_model = -4", "greater than 0"]),
    (["--model.d-model", "0"], ["model.d_model = 0", "greater than 0"]),
    (["--model.n-heads", "3"], ["model.d_model = 16", "divisible", "n_heads = 3"]),
    (["--model.n-layers", "0"], ["model.n_layers = 0"]),
    (["--model.act-fn", "tanh"], ["model.act_fn = 'tanh'", "gelu"]),
    (["--model.n-ctx", "9"], ["data.max_length = 4", "n_ctx", "11"]),
    (["--model.n-pos-dims", "17"], ["n_pos_dims = 17", "d_model = 16"]),
    (["--model.freeze", "blocks.7"], ["freeze = blocks.7", "blocks.1.attn"]),
    (["--model.freeze", "embed", "pos_embed", "blocks.0", "blocks.1", "ln_final", "unembed"], ["nothing to train"]),
    (["--data.batch-size", "0"], ["data.batch_size = 0"]),
    (["--data.max-length", "-1"], ["data.max_length = -1"]),
    (["--data.min-length", "9"], ["min_length = 9", "max_length = 4"]),
    (["--data.task-weights", "0"], ["task_weights = (0.0,)", "more than 1e-30"]),
    (["--data.task-weights", "1", "1"], ["task_weights", "each of 1"]),
    (["--data.task-weights", "-1"], ["task_weights.0 = -1.0", "greater than or equal to 0"]),
    (["--data.length-weights", "0", "0", "0", "0"], ["length_weights", "more than 1e-30"]),
    (["--data.order", "shortest_first"], ["order", "n_train_strings"]),
    (["--data.curriculum", "stage(n_steps=0)"], ["n_steps = 0"]),
    (["--data.curriculum", "stage(n_steps=5, max_length=9)"], ["max_length = 9", "1 .. 4"]),
    (["--optim.lr", "0"], ["optim.lr = 0"]),
    (["--optim.lr", "fast"], ["optim.lr = 'fast'", "number"]),
    (["--optim.lr", "nan"], ["optim.lr = nan"]),
    (["--optim.optimizer", "lion"], ["optim.optimizer = 'lion'", "muon"]),
    (["--optim.betas", "0.9", "1.5"], ["betas = (0.9, 1.5)", "[0, 1)"]),
    (["--train.n-steps", "0"], ["train.n_steps = 0"]),
    (["--train.n-steps", "2.5"], ["train.n_steps = '2.5'", "integer"]),
    (["--train.embed-dropout", "1"], ["train.embed_dropout = 1", "less than 1"]),
    (["--train.max-position-shift", "-1"], ["train.max_position_shift = -1"]),
    (["--seed", "-1"], ["seed = -1"]),
    (["--device", "abacus"], ["device = 'abacus'", "cpu"]),
    (["--name", "a/b"], ["name = 'a/b'", "one folder"]),
    (["--name", ".."], ["name = '..'", "one folder"]),
    (["--name", "."], ["name = '.'", "one folder"]),
    (["--name", ""], ["name = ''", "must not be empty"]),
    (["--model.d-model", "100000000"], ["model = ", "parameters", "at most"]),
    (["--data.max-length", "100000000000"], ["model = ", "parameters", "at most"]),
    (["--model.n-layers", "1000000000"], ["model.n_layers = 1000000000", "1000"]),
    (["--data.length-weights", "1e308", "1e308", "1e308", "1e308"], ["length_weights", "and less than 1e30"]),
    (["--seed", "1" * 5000], ["seed = a number of 5000 digits: must be an integer of fewer digits"]),
    (["--optim.betas", "0", "0", "0", "0"], ["no place for one more word"]),
    (["--", "--seed"], ["--seed: must stand before --"]),
    (["--data.curriculum", "stage()"], ["n_steps = missing: must be given"]),
    (["--data.curriculum", "x"], ["data.stage = 'x': must be stage\n"]),
    (["--data.batch-size", "100000000"], [" GB of memory, must take at most 275 GB\n"]),
    (["--name", "x" * 237], ["name = ", "at most 236 bytes"]),
    (["--name", "x\x1b[31m"], [r"name = 'x\x1b[31m'", "printable"]),
    (["--resume"], ["resume", "no such run"]),
    (["--resume", "--overwrite"], ["resume", "overwrite"]),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "parts"), BAD, ids=[" ".join(argv)[:60] for argv, _ in BAD])
def test_bad_input_is_one_line_and_nothing_is_written(tmp_path, capsys, argv, parts):
    words = ["--runs-dir", str(tmp_path / "runs"), "--name", "one", *TINY, *argv]
    with pytest.raises(SystemExit) as stop:
        main.main(recipes.polynomial(), words)
    assert stop.value.code == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: ")
    assert complaint.count("\n") == 1
    for part in parts:
        assert part in complaint
    assert not list(tmp_path.iterdir())


def refused(tmp_path, capsys, *argv, **settings):
    with pytest.raises(SystemExit) as stop:
        train(tmp_path, *argv, **settings)
    assert stop.value.code == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    return complaint


def test_an_existing_run_is_refused(short, tmp_path, capsys):
    run = copied(short, tmp_path)
    before = {f: f.read_bytes() for f in run.path.rglob("*") if f.is_file()}
    assert "--resume or --overwrite" in refused(tmp_path, capsys, n_steps=2)
    assert before == {f: f.read_bytes() for f in run.path.rglob("*") if f.is_file()}
    train(tmp_path, "--overwrite", n_steps=2)


def test_resuming_with_other_settings_is_refused(short, tmp_path, capsys):
    copied(short, tmp_path)
    complaint = refused(tmp_path, capsys, "--resume", n_steps=3)
    assert "train.n_steps = 3" in complaint
    assert "has 2" in complaint


def test_a_folder_to_start_from_may_be_spelled_in_two_ways(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, same, other = (
        changed(recipes.polynomial(), {"start_from": path}) for path in (Path("runs/a"), tmp_path / "runs" / "a", None)
    )
    assert list(differences(one, same)) == []
    assert [name for name, *_ in differences(one, other)] == ["start_from"]
    assert [name for name, *_ in differences(one, changed(one, {"start_from": "runs/b"}))] == ["start_from"]


@pytest.mark.parametrize("how", ["--resume", "--overwrite"])
def test_a_run_that_another_process_trains_is_refused(short, tmp_path, capsys, how):
    run = copied(short, tmp_path)
    before = {f: f.read_bytes() for f in run.path.rglob("*") if f.is_file()}
    with locked(run.path):
        assert "is being trained by another process" in refused(tmp_path, capsys, how, n_steps=2)
    assert before == {f: f.read_bytes() for f in run.path.rglob("*") if f.is_file()}
    train(tmp_path, how, n_steps=2)


def test_resuming_without_a_checkpoint_is_refused(short, tmp_path, capsys):
    run = copied(short, tmp_path)
    for file in (run.path / "checkpoints").iterdir():
        file.unlink()
    assert "no checkpoint" in refused(tmp_path, capsys, "--resume", n_steps=2)


def test_a_folder_that_cannot_be_written_is_said(tmp_path, capsys):
    (tmp_path / "runs").write_text("a file, not a folder")
    assert f"runs_dir = {tmp_path / 'runs'}: cannot be made a folder" in refused(tmp_path, capsys, n_steps=2)
    assert (tmp_path / "runs").read_text() == "a file, not a folder"


def test_help_and_bad_input_do_not_wait_for_transformer_lens():
    script = (
        "import runpy, sys\n"
        "parity, probe = 'experiments/train_parity.py', 'probes/position_subtraction.py'\n"
        "for argv in ([parity, '--help'], [parity, '--model.d-model', '-1'], [probe, '--help']):\n"
        "    sys.argv = argv\n"
        "    try: runpy.run_path(argv[0], run_name='__main__')\n"
        "    except SystemExit as stop: print('code', stop.code)\n"
        "    assert 'transformer_lens' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("code")] == ["code 0", "code 2", "code 0"]
    assert "--all-steps" in done.stdout
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------------------------- kill -9

ZYGOTE = """
import os, sys
from compo_mech.launch import main
from compo_mech.runs import recipes
for line in sys.stdin:  # one child an order, forked before any tensor is made here
    child = os.fork()
    if child == 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")
        main.main(recipes.polynomial(), eval(line))
        os._exit(0)
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(status, flush=True)
"""


class Zygote:
    """Trains runs in children that are forked from a process of its own, ready to be killed."""

    def __init__(self, runs, n_steps):
        self.words = ["--runs-dir", str(runs), *TINY, "--train.n-steps", str(n_steps),
                      "--train.snapshot-every", "10"]  # fmt: skip
        command = [sys.executable, "-c", ZYGOTE]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def train(self, name, *how, kill_after=None):
        """The exit status of a run, killed after so many seconds if it is still there."""
        assert self.process.stdin
        assert self.process.stdout
        print([*self.words, "--name", name, *how], file=self.process.stdin, flush=True)
        child = int(self.process.stdout.readline())
        if kill_after is not None:
            time.sleep(kill_after)
            with contextlib.suppress(ProcessLookupError):  # it may have come to its end
                os.kill(child, signal.SIGKILL)
        return int(self.process.stdout.readline())


def has_checkpoint(path):
    return path.exists() and bool(Run.open(path).steps)


def check_kills(tmp_path, n_kills, n_steps):
    """A run killed at random moments and resumed each time ends as one that was left in peace."""
    runs, draw = tmp_path / "runs", random.Random(0)
    zygote = Zygote(runs, n_steps)
    begun = time.perf_counter()
    assert zygote.train("peaceful") == 0
    longest = 1.6 * (time.perf_counter() - begun) / n_kills  # on average 0.8 of the whole time is spent in killed runs
    path, n_killed, finished = runs / "killed", 0, False
    for _ in range(4 * n_kills):
        started = has_checkpoint(path) and not finished  # a run that got away begins anew
        how = ["--resume"] if started else ["--overwrite"] if path.exists() else []
        status = zygote.train("killed", *how, kill_after=draw.uniform(0, longest))
        n_killed, finished = n_killed + (status == signal.SIGKILL), status == 0
        if n_killed == n_kills:
            break
    assert n_killed == n_kills
    started = has_checkpoint(path)
    assert zygote.train("killed", "--resume" if started else "--overwrite") == 0
    assert Run.open(path).steps[-1] == n_steps
    same(Run.open(runs / "peaceful"), Run.open(path))


@pytest.mark.slow
def test_a_killed_run_ends_as_an_undisturbed_one(tmp_path):
    check_kills(tmp_path, n_kills=4, n_steps=200)


@pytest.mark.slow
def test_a_run_killed_thirty_times_ends_as_an_undisturbed_one(tmp_path):
    check_kills(tmp_path, n_kills=30, n_steps=800)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--optim.n-warmup-steps", "10"), ()),
        (("--optim.n-warmup-steps", "11"), ("train.n_steps = 10: training ends within the 11 steps of warm-up",)),
        (("--data.curriculum", "stage(n_steps=9)", "--optim.n-warmup-steps", "0"), ()),
        (("--data.curriculum", "stage(n_steps=4)", "stage(n_steps=6)", "--optim.n-warmup-steps", "0"),
         ("train.n_steps = 10: none are left after the 10 steps of data.curriculum",)),
    ],
)  # fmt: skip
def test_what_training_is_too_short_for_is_said(tmp_path, capsys, argv, said):
    train(tmp_path, *argv)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("train.n_steps")]
    assert told == list(said)
