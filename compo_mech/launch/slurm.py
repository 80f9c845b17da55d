"""Runs on a Slurm cluster, as arrays of jobs through submitit.

Beside its runs, their folder then keeps

.slurm/jobs.json    which run is in which job, so that a command that is started again finds its jobs
.slurm/             submitit's scripts and pickles, and the jobs' logs; closed to other users
.code/HASH/         the code as it was when jobs that run it were submitted

The pickles are the one place where this package loads any: submitit passes a job the function to call and its settings
as JOB_TASK_submitted.pkl, which the job loads, and what the call returned or raised comes back as JOB_TASK_result.pkl,
which is never asked for here. Runs themselves are JSON, CSV and safetensors, wherever they were trained.
"""

import contextlib
import json
import math
import shlex
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from compo_mech.launch.code_snapshot import snapshot
from compo_mech.launch.settings import Launch
from compo_mech.launch.slurm_commands import COMMAND_S, answer_within, ask
from compo_mech.launch.slurm_jobs import Job
from compo_mech.launch.slurm_settings import SlurmConfig, SlurmError
from compo_mech.runs.files import identity, read_plain, write_whole

PATIENCE_S = 600.0
"""Seconds without an answer, a restart of the controller say, after which waiting is given up."""

POLL_S = (1.0, 10.0)
"""Seconds between looks at the queue: at first, and at most."""


N_TIMEOUTS = 10_000
"""Time limits that a run may reach; what stops one is that it gets no further between two of them."""


def submit(
    launches: Sequence[Launch], train: Callable[[Launch], object], folder: Path, config: SlurmConfig
) -> list[Path]:
    """Submit, as one array, those runs that wait in no earlier submission and are not being trained by one.

    Args:
        launches: runs that are not done.
        train: starts a run or goes on with it, and records by itself what goes wrong. A function of a module,
            which the job imports from the code as it is now. When a job is stopped it leaves by SystemExit.
        folder: of all these runs, seen by every node.
        config: what each run asks for.

    Returns:
        The paths of the runs submitted.

    Raises:
        ValueError: a run has more threads than cores, or the folder cannot stand in a job's script.
        SlurmError: Slurm did not take them.
        OSError: the folder cannot be written.
    """
    for launch in launches:
        if launch.n_threads > config.n_cpus:
            raise ValueError(f"n_cpus = {config.n_cpus}: must be at least n_threads, which is {launch.n_threads}")
    home = _home(folder)
    if not str(home).isprintable():
        raise ValueError(f"runs_dir = {str(folder)!r}: must be printable, for it stands in the script of a job")
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o700)  # whoever can write here decides what the jobs run
    with _locked(home):
        jobs = _jobs(home)
        busy = _in_queue(jobs)
        idle = {_key(launch): launch for launch in launches if _key(launch) not in busy}
        if not idle:
            return []
        code = snapshot(home.parent)
        name = f"compo-{uuid.uuid4().hex[:12]}"
        # Noted under a name of our own before the jobs exist: whoever is killed in between finds them by it.
        new = {run: {"submission": name, "index": i, "job": None} for i, run in enumerate(idle)}
        _keep_jobs(home, jobs | new)
        job = Job(train, code, config)
        ids = answer_within(2 * COMMAND_S, "sbatch", lambda: _sbatch(name, list(idle.values()), job, home, config))
        for entry, job_id in zip(new.values(), ids, strict=True):
            entry["job"] = job_id
        _keep_jobs(home, jobs | new)
    return [launch.path for launch in idle.values()]


def waiting(launches: Sequence[Launch], folder: Path) -> Iterator[set[Path]]:
    """The runs whose jobs are pending or running, time after time until there are none.

    The last set is empty. A run that has left may have ended well or not: its folder tells.

    Raises:
        SlurmError: the cluster has not answered for ten minutes.
    """
    home = _home(folder)
    jobs = _jobs(home)
    paths = {_key(launch): launch.path for launch in launches}
    pause, most = POLL_S
    answered = time.monotonic()
    while True:
        try:
            busy = {paths[run] for run in _in_queue(jobs) & set(paths)}
        except SlurmError:
            if time.monotonic() - answered > PATIENCE_S:
                raise
        else:
            answered = time.monotonic()
            yield busy
            if not busy:
                return
        time.sleep(pause)
        pause = min(most, 1.25 * pause)


def log(launch: Launch, folder: Path) -> Path | None:
    """What the last job of a run wrote to stderr, such as why it died; None: no job of it has written."""
    home = _home(folder)
    file = home / f"{_jobs(home).get(_key(launch), {}).get('job')}_0_log.err"
    return file if file.exists() else None


def _sbatch(name: str, launches: list[Launch], job: Job, home: Path, config: SlurmConfig) -> list[str]:
    """Submit, and give the jobs' ids."""
    import submitit

    executor = submitit.SlurmExecutor(home, max_num_timeout=N_TIMEOUTS)
    executor.update_parameters(
        job_name=name,
        partition=config.partition,
        account=config.account,
        qos=config.qos,
        time=config.timeout_min,
        cpus_per_task=config.n_cpus,
        srun_args=[f"--cpus-per-task={config.n_cpus}"],  # which since Slurm 22.05 it does not take from sbatch
        mem=f"{math.ceil(1024 * config.mem_gb)}M",
        gpus_per_node=config.n_gpus or None,
        signal_delay_s=config.signal_delay_s,
        array_parallelism=config.n_at_once,
        setup=[
            f"export PYTHONPATH={shlex.quote(str(job.code))}${{PYTHONPATH:+:$PYTHONPATH}}",
            "export PYTHONSAFEPATH=1",  # or the folder of submission, with its later code, comes before PYTHONPATH
        ],
    )
    here = [launch.model_copy(update={"runs_dir": launch.runs_dir.absolute()}) for launch in launches]
    return [submitted.job_id for submitted in executor.map_array(job, here)]


def _in_queue(jobs: dict[str, dict[str, Any]]) -> set[str]:
    """Those runs whose jobs are pending, running or being ended."""
    names = sorted({job["submission"] for job in jobs.values()})
    if not names:
        return set()
    lines = ask("squeue", "-h", "-r", "-o", "%j %K", "--name", ",".join(names)).splitlines()
    queued = {(name, 0 if index == "N/A" else int(index)) for name, index in map(str.split, lines)}  # N/A: no array
    return {run for run, job in jobs.items() if (job["submission"], job["index"]) in queued}


def _home(folder: Path) -> Path:
    return identity(folder) / ".slurm"


def _key(launch: Launch) -> str:
    return str(identity(launch.path))


def _jobs(home: Path) -> dict[str, dict[str, Any]]:
    """By run: the name of its last submission, its index in the array, and the job's id once it is known."""
    file = home / "jobs.json"
    try:
        jobs = json.loads(read_plain(file))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise SlurmError(f"{file}: cannot be read ({error})") from None
    if not isinstance(jobs, dict):
        raise SlurmError(f"{file}: cannot be read (it must hold jobs by run)")
    return jobs


def _keep_jobs(home: Path, jobs: dict[str, dict[str, Any]]) -> None:
    write_whole(home / "jobs.json", json.dumps(jobs, indent=1))


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Two commands started at once submit one after the other, and the second finds the jobs of the first."""
    import fcntl  # not on Windows, where the rest of the package runs

    with (home / "lock").open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
