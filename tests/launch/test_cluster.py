"""Jobs on a real Slurm of one node, and what can be tested without one.

The functions that jobs run are here as well: jobs find this file on PYTHONPATH, after the code of the submission.
"""

import contextlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from compo_mech.launch import code_snapshot, slurm_commands, slurm_jobs
from compo_mech.launch import slurm as submission
from compo_mech.launch.how import How
from compo_mech.launch.run import launch
from compo_mech.launch.settings import Launch
from compo_mech.launch.slurm import _keep_jobs, log, submit, waiting
from compo_mech.launch.slurm_commands import answer_within, check, minutes
from compo_mech.launch.slurm_settings import SlurmConfig, SlurmError
from compo_mech.launch.sweep import sweep
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.environment import git_state
from compo_mech.runs.run import Run
from compo_mech.settings import changed
from compo_mech.training import loop

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "tests" / "slurm"
SMALL = SlurmConfig(mem_gb=0.5)


# ------------------------------------------------------------------------------- in the jobs


def start_or_resume(settings):
    resume = settings.path.exists() and bool(Run.open(settings.path).steps)
    launch(settings.model_copy(update={"resume": resume, "overwrite": not resume}), Console(quiet=True))


def slowly(settings):
    """So slow that a run takes 100 seconds. Notes the step that each job went on from."""
    steps = loop.train

    def delayed(*args):
        for step in steps(*args):
            time.sleep(100 / settings.train.n_steps)
            yield step

    loop.train = delayed
    before = Run.open(settings.path).steps if settings.path.exists() else [-1]
    note(settings, before[-1])
    start_or_resume(settings)


def with_threads(settings):
    start_or_resume(settings)
    note(settings, f"{torch.get_num_threads()} threads, {os.environ['SLURM_CPUS_PER_TASK']} cores")


def note(settings, what="ran"):
    settings.runs_dir.mkdir(exist_ok=True)
    with (settings.runs_dir / f"{settings.name}.txt").open("a") as file:
        print(what, file=file)


def fail(settings):
    raise RuntimeError(f"nothing comes of {settings.name}")


# ---------------------------------------------------------------------------------- fixtures


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A Slurm of one node. Without one the tests are skipped, or fail where CI is set."""
    sbin = f"{os.environ['PATH']}:/usr/sbin"
    missing = [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if not shutil.which(name, path=sbin)]
    reason = f"no {missing[0]}: apt-get install slurm-wlm munge" if missing else ""
    if not missing and os.geteuid() != 0:
        reason = "a Slurm of one's own has to be started as root"
    if reason:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", sbin)
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        try:
            with (folder / "start.txt").open("w") as said:  # a pipe would be held open by the daemons
                subprocess.run([SCRIPTS / "start.sh", folder], stdout=said, stderr=said, check=True, timeout=60)
            yield
        finally:
            subprocess.run([SCRIPTS / "stop.sh", folder], check=False, timeout=60)


@pytest.fixture
def queue(slurm, monkeypatch):
    """The queue, empty before and after."""
    folders = ROOT / "tests" / "launch", ROOT / "tests"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, folders)))
    yield
    slurm_does("scancel", "-u", "root")
    slurm_does("scontrol", "update", "PartitionName=main", "State=UP")
    while queued():
        time.sleep(0.2)


@contextlib.contextmanager
def closed():
    """Inside, jobs are taken but not started."""
    slurm_does("scontrol", "update", "PartitionName=main", "State=DOWN")
    yield
    slurm_does("scontrol", "update", "PartitionName=main", "State=UP")


def slurm_does(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def queued():
    return slurm_does("squeue", "-h", "-r", "-o", "%i").split()


def of(config, folder, name, **changes):
    settings = {field: getattr(config, field) for field in type(config).model_fields}
    return Launch(**settings | changes, name=name, runs_dir=folder)


def wait(launches, folder):
    """What is waited for, time after time; a job that never starts is not waited for for ever."""
    seen, begun = [], time.monotonic()
    for busy in waiting(launches, folder):
        assert time.monotonic() - begun < 500, slurm_does("squeue")
        seen.append(busy)
    assert seen[-1] == set()
    return seen


def in_this_process(launches, folder):
    for one in launches:
        yield one, launch(one.model_copy(update={"runs_dir": folder}), Console(quiet=True))


def same(one, two):
    assert one.steps == two.steps
    for name in ("metrics.csv", "checkpoints/SHA256SUMS", "config.json"):
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes(), name


# --------------------------------------------------------------------------------- on Slurm


@pytest.mark.slow
def test_an_array_of_runs_is_equal_to_the_same_runs_here(queue, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sweep.py", "--n", "8"])
    commit = "git init -q && git -c user.name=a -c user.email=b commit -q --allow-empty -m later"
    subprocess.run(commit, shell=True, check=True, cwd=tmp_path)
    launches = [of(tiny, tmp_path / "runs", f"run{seed}", seed=seed) for seed in range(8)]
    check(SMALL)
    submitted = submit(launches, start_or_resume, tmp_path / "runs", SMALL)
    assert submitted == [one.path for one in launches]
    assert len({job.split("_")[0] for job in queued()}) == 1
    seen = wait(launches, tmp_path / "runs")
    assert seen[0] == set(submitted)
    for one, here in in_this_process(launches, tmp_path / "here"):
        run = Run.open(one.path)
        same(run, here)
        assert run.command == ["sweep.py", "--n", "8"]
        environment = json.loads((run.path / "environment.json").read_text())
        assert environment["git_commit"] == git_state()["git_commit"], "of the code, not of where the run lies"
        assert run.problems() == []


@pytest.mark.slow
def test_a_sweep_on_slurm_comes_to_what_processes_come_to(queue, tiny, tmp_path):
    wild = {"optim.optimizer": "sgd", "optim.lr": 1e12, "optim.n_warmup_steps": 0}
    runs = {f"run{seed}": changed(tiny, {"seed": seed}) for seed in range(3)} | {"wild": changed(tiny, wild)}
    tables = {}
    for on in ("slurm", "processes"):
        how = How(on=on, runs_dir=tmp_path / on, slurm=SMALL)
        tables[on] = sweep(runs, how, Console(quiet=True)).drop(columns="path")
    assert tables["slurm"]["state"].tolist() == ["done", "done", "done", "failed"]
    errors = [table["error"].iloc[-1].replace(f"/{on}/", "/") for on, table in tables.items()]
    assert errors[0] == errors[1]
    assert "Diverged" in errors[0]
    for name in ("run0", "run1", "run2"):
        same(*(Run.open(tmp_path / on / name) for on in tables))


@pytest.mark.slow
def test_a_run_has_the_threads_and_cores_that_it_asks_for(queue, tiny, tmp_path):
    if len(os.sched_getaffinity(0)) == 1:
        pytest.skip("one core")
    one = of(tiny, tmp_path, "one", n_threads=2)
    submit([one], with_threads, tmp_path, SMALL.model_copy(update={"n_cpus": 2}))
    assert wait([one], tmp_path)[0] == {one.path}  # a single run is no array for Slurm
    assert (tmp_path / "one.txt").read_text() == "2 threads, 2 cores\n"


@pytest.mark.slow
def test_a_run_goes_on_after_its_time_limit(queue, tiny, tmp_path):
    one = of(tiny, tmp_path / "runs", "one")
    config = SlurmConfig(mem_gb=0.5, timeout_min=2, signal_delay_s=30)
    submit([one], slowly, tmp_path / "runs", config)
    wait([one], tmp_path / "runs")
    starts = [int(step) for step in (tmp_path / "runs" / "one.txt").read_text().split()]
    assert len(starts) >= 2
    assert starts == sorted(set(starts)), "each job goes on from a later checkpoint"
    for _, here in in_this_process([one], tmp_path / "here"):
        same(Run.open(one.path), here)


@pytest.mark.slow
def test_code_edited_after_submission_does_not_reach_the_job(queue, tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "compo_mech", copy / "compo_mech", ignore=shutil.ignore_patterns("__pycache__"))
    told = copy / "compo_mech" / "told.py"
    told.write_text("def tell(settings):\n    settings.path.write_text(f'before, {__file__}')\n")
    (tmp_path / "submit.py").write_text(
        "import sys\nfrom pathlib import Path\nfrom compo_mech.launch.slurm import submit\n"
        "from compo_mech.launch.slurm_settings import SlurmConfig\n"
        "from compo_mech.launch.settings import Launch\nfrom compo_mech.told import tell\nfolder = Path(sys.argv[1])\n"
        "submit([Launch(name='said', runs_dir=folder)], tell, folder, SlurmConfig(mem_gb=0.5))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(copy))
    folder = tmp_path / "runs"
    with closed():
        # from the folder of the code, which Python would look in first
        subprocess.run([sys.executable, tmp_path / "submit.py", folder], check=True, cwd=copy, timeout=120)
        told.write_text("def tell(settings):\n    settings.path.write_text('after')\n")
    wait([Launch(name="said", runs_dir=folder)], folder)
    [code] = (folder / ".code").iterdir()
    assert (folder / "said").read_text() == f"before, {code / 'compo_mech' / 'told.py'}"


@pytest.mark.slow
def test_a_command_started_again_waits_for_the_jobs_of_the_one_that_was_killed(queue, tmp_path):
    script = (
        "import sys, test_cluster\nfrom pathlib import Path\nfrom compo_mech.launch import slurm\n"
        "from compo_mech.launch.settings import Launch\nfolder = Path(sys.argv[1])\n"
        "launches = [Launch(name=name, runs_dir=folder) for name in ('one', 'two', 'three')]\n"
        "slurm.submit(launches, test_cluster.note, folder, test_cluster.SMALL)\n"
        "for _ in slurm.waiting(launches, folder):\n    print('waits', flush=True)\n"
    )
    folder = tmp_path / "runs"
    launches = [Launch(name=name, runs_dir=folder) for name in ("one", "two", "three")]
    with closed():
        with subprocess.Popen([sys.executable, "-c", script, folder], stdout=subprocess.PIPE) as first:
            assert first.stdout is not None
            assert first.stdout.readline() == b"waits\n"
            first.send_signal(signal.SIGKILL)
        jobs = queued()
        assert len(jobs) == 3
        assert submit(launches, note, folder, SMALL) == []
        # killed before it came to know the jobs' ids
        known = json.loads((folder / ".slurm" / "jobs.json").read_text())
        forgotten = {run: job | {"job": None} for run, job in known.items()}
        (folder / ".slurm" / "jobs.json").write_text(json.dumps(forgotten))
        assert submit(launches, note, folder, SMALL) == []
        assert queued() == jobs
        # a job that died is submitted again, and it alone
        slurm_does("scancel", known[str(launches[1].path)]["job"])
        assert next(waiting(launches, folder)) == {launches[0].path, launches[2].path}
        assert submit(launches, note, folder, SMALL) == [launches[1].path]
        assert len(queued()) == 3
    wait(launches, folder)
    assert [(folder / f"{one.name}.txt").read_text() for one in launches] == ["ran\n"] * 3


@pytest.mark.slow
def test_two_commands_at_once_submit_once(queue, tmp_path):
    script = (
        "import sys, test_cluster\nfrom pathlib import Path\nfrom compo_mech.launch import slurm\n"
        "from compo_mech.launch.settings import Launch\nfolder = Path(sys.argv[1])\n"
        "input()\n"
        "launches = [Launch(name='one', runs_dir=folder)]\n"
        "print(len(slurm.submit(launches, test_cluster.note, folder, test_cluster.SMALL)))"
    )
    with closed():
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        both = [subprocess.Popen([sys.executable, "-c", script, tmp_path / "runs"], **pipes) for _ in range(2)]
        time.sleep(10)  # until both have imported what they need
        for command in both:
            command.stdin.write("\n")
            command.stdin.flush()
        assert sorted(command.communicate(timeout=120)[0] for command in both) == ["0\n", "1\n"]
        assert len(queued()) == 1


@pytest.mark.slow
def test_what_a_job_died_of_is_in_its_log(queue, tmp_path):
    one = Launch(name="one", runs_dir=tmp_path)
    assert log(one, tmp_path) is None
    submit([one], fail, tmp_path, SMALL)
    wait([one], tmp_path)
    file = log(one, tmp_path)
    assert file is not None
    assert "RuntimeError: nothing comes of one" in file.read_text()


@pytest.mark.slow
def test_what_slurm_refuses_is_one_line(queue, tmp_path, monkeypatch, capfd):
    with pytest.raises(ValueError, match=r"^partition = 'moon': must be one of main on this cluster$"):
        check(SlurmConfig(partition="moon"))
    check(SlurmConfig(partition="main"))
    for partition in ("main", None):
        with pytest.raises(ValueError, match=r"^timeout_min = 61: must be at most 60, the partition's limit$"):
            check(SlurmConfig(timeout_min=61, partition=partition))
    one = Launch(name="one", runs_dir=tmp_path)
    with pytest.raises(SlurmError, match=r"^sbatch: .*[Mm]emory specification can not be satisfied.*$"):
        submit([one], note, tmp_path, SlurmConfig(mem_gb=10**6))
    with pytest.raises(SlurmError, match=r"^sbatch: .*invalid partition specified: moon.*$"):
        submit([one], note, tmp_path, SlurmConfig(partition="moon"))
    assert list(waiting([one], tmp_path)) == [set()]
    lost = re.sub(r"(?m)^SlurmctldPort=.*$", "SlurmctldPort=1", Path(os.environ["SLURM_CONF"]).read_text())
    (tmp_path / "lost.conf").write_text(lost)
    with monkeypatch.context() as patch:
        patch.setenv("SLURM_CONF", str(tmp_path / "lost.conf"))
        with pytest.raises(
            ValueError, match=r"^slurm = unreachable: .*\(sinfo: .*Unable to contact slurm controller.*\)$"
        ):
            check(SlurmConfig())
    assert capfd.readouterr() == ("", "")


# ------------------------------------------------------------------------------ without Slurm


def test_without_slurm_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"^slurm = missing: there is no sbatch .*$"):
        check(SlurmConfig())
    monkeypatch.setattr(slurm_commands.shutil, "which", lambda name: name)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ValueError, match=r"^submitit = missing: .*$"):
        check(SlurmConfig())


def test_a_command_without_an_answer_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(slurm_commands, "COMMAND_S", 0.1)
    (tmp_path / "sinfo").write_text("#!/bin/sh\nexec sleep 5\n")
    (tmp_path / "sinfo").chmod(0o755)
    for name in ("sbatch", "srun"):
        (tmp_path / name).symlink_to("sinfo")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ValueError, match=r"^slurm = unreachable: .*\(sinfo: no answer within 0.1 s\)$"):
        check(SlurmConfig())
    with pytest.raises(SlurmError, match=r"^sbatch: no answer within 0.1 s$"):
        answer_within(0.1, "sbatch", lambda: time.sleep(1) or [])


def test_a_silent_controller_is_waited_for_and_then_given_up(tmp_path, monkeypatch):
    one = Launch(name="one", runs_dir=tmp_path)
    (tmp_path / ".slurm").mkdir()
    _keep_jobs(tmp_path / ".slurm", {str(one.path): {"submission": "compo-1", "index": 0, "job": "1"}})
    answers = iter(["compo-1 N/A\n", SlurmError("squeue: down"), "compo-1 N/A\ncompo-2 0\n", "", ""])

    def ask(*command):
        answer = next(answers, SlurmError("squeue: down"))
        if isinstance(answer, SlurmError):
            raise answer
        return answer

    monkeypatch.setattr(submission, "ask", ask)
    monkeypatch.setattr(submission, "POLL_S", (0.0, 0.0))
    assert list(waiting([one], tmp_path)) == [{one.path}, {one.path}, set()]
    list(waiting([one], tmp_path))
    monkeypatch.setattr(submission, "PATIENCE_S", 0.05)
    with pytest.raises(SlurmError, match="down"):
        list(waiting([one], tmp_path))


@pytest.mark.parametrize(
    ("limit", "n_minutes"),
    [("infinite", math.inf), ("30:00", 30), ("1:00:00", 60), ("2-00:00:30", 2880.5), ("n/a", math.inf)],
)
def test_time_limits_are_read_as_slurm_writes_them(limit, n_minutes):
    assert minutes(limit) == n_minutes


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"timeout_min": 0}, "timeout_min = 0: "),
        ({"timeout_min": 2}, "timeout_min = 2: must be more than signal_delay_s = 90 "),
        ({"n_cpus": 0}, "n_cpus = 0: "),
        ({"mem_gb": -1}, "mem_gb = -1: "),
        ({"nodes": 2}, "nodes = 2: there is no such setting"),
    ],
)
def test_bad_settings_are_one_line(settings, complaint):
    with pytest.raises(ValueError, match=f"^{complaint}.*$"):
        SlurmConfig(**settings)


def test_threads_need_cores(tmp_path):
    with pytest.raises(ValueError, match=r"^n_cpus = 1: must be at least n_threads, which is 2$"):
        submit([Launch(n_threads=2)], note, tmp_path, SlurmConfig())


def test_jobs_that_cannot_be_read_are_one_line(tmp_path):
    (tmp_path / ".slurm").mkdir()
    for content in ("{", "[]", "[" * 100_000):
        (tmp_path / ".slurm" / "jobs.json").write_text(content)
        with pytest.raises(SlurmError, match=r"^.*jobs.json: cannot be read .*$"):
            next(waiting([], tmp_path))


def test_the_copy_of_the_code_is_whole_and_made_once(tmp_path, monkeypatch):
    root = tmp_path / "root"
    sources = {"compo_mech/__init__.py", "compo_mech/studies/one.py", "compo_mech/probing/split.py"}
    for name in (*sources, "compo_mech/__pycache__/x.pyc"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}")
    monkeypatch.setattr(code_snapshot, "__file__", str(root / "compo_mech" / "launch" / "code_snapshot.py"))
    first = code_snapshot.snapshot(tmp_path)
    files = {str(file.relative_to(first)) for file in first.rglob("*") if file.is_file()}
    assert files == sources | {"git.json"}
    assert (first / "compo_mech/probing/split.py").read_text() == "# compo_mech/probing/split.py"
    (root / "compo_mech/__pycache__/y.pyc").write_text("")
    assert code_snapshot.snapshot(tmp_path) == first
    (root / "compo_mech/probing/split.py").write_text("# edited")
    second = code_snapshot.snapshot(tmp_path)
    assert second != first
    assert (first / "compo_mech/probing/split.py").read_text() == "# compo_mech/probing/split.py"
    assert sorted((tmp_path / ".code").iterdir()) == sorted([first, second])


def test_a_job_refuses_other_code_than_that_of_its_submission(tmp_path):
    job = slurm_jobs.Job(note, tmp_path / ".code" / "0123", SlurmConfig())
    with pytest.raises(SlurmError, match=r"^code = .*: must be that of the submission, in .*0123$"):
        job(Launch(name="one", runs_dir=tmp_path))
    assert not (tmp_path / "one.txt").exists()


def test_a_run_that_gets_no_further_within_its_time_limit_is_not_queued_again(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv[:])
    one = of(tiny, tmp_path, "one")
    job = slurm_jobs.Job(start_or_resume, ROOT, SlurmConfig(timeout_min=60))
    assert job.checkpoint(one).args == (one,)  # warned before it began
    job(one)
    job.begun = -math.inf
    assert job.checkpoint(one).function is job  # it has made checkpoints
    job(one)
    assert job.checkpoint(one).function is job  # warned early on: it has to make room
    job.begun = -math.inf
    with pytest.raises(RunError, match=r"^timeout_min = 60: .*one has no checkpoint after step 40 by then; .*$"):
        job.checkpoint(one)
