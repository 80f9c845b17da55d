"""A run is a folder that a stranger can read. Only this file reads or writes one.

    config.json         the settings, as RunConfig takes them
    environment.json    versions, git commit and changes, command
    metrics.csv         long rows: step, split, task, length, layer, head, metric, value
    checkpoints/        000128.safetensors: the model under HookedTransformer's names;
                        000128.resume.safetensors (newest two): optimiser and generator;
                        SHA256SUMS: every file that counts, as `sha256sum -c` reads it
    analysis/           what analyses found: tables, circuits
    report.html         the page to look at

A checkpoint exists once SHA256SUMS lists it, and every file is renamed into place whole, so that a
process killed at any moment leaves the last finished checkpoint as it was.
"""

import csv
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from compo_mech.config import RunConfig
from compo_mech.evaluate import Row
from compo_mech.model import Params, init_params, parameter_shapes, to_hooked
from compo_mech.tasks import Task

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

COLUMNS = ("step", *Row._fields)
N_RESUMABLE = 2
_SUMS = "SHA256SUMS"
_PACKAGES = ("compo_mech", "torch", "transformer-lens", "numpy", "pandas", "safetensors", "pydantic", "tyro")


class RunError(Exception):
    """Something about a run folder that its user has to know, in one line."""


class Run:
    """A run folder. `Run.open` reads one; `Run.create` starts one."""

    def __init__(self, path: Path, config: RunConfig) -> None:
        self.path, self.config = path, config

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """The run in this folder.

        Raises:
            RunError: there is no run here, or its settings cannot be read.
        """
        path = Path(path)
        try:
            return cls(path, RunConfig(**json.loads((path / "config.json").read_text())))
        except OSError:
            raise RunError(f"run = {path}: must be a folder that holds a config.json") from None
        except ValueError as error:
            raise RunError(f"{path / 'config.json'}: {error}") from None

    @classmethod
    def create(cls, path: Path, config: RunConfig, overwrite: bool = False) -> "Run":
        """A new run in this folder.

        Raises:
            RunError: the folder is taken (by something other than a run, if `overwrite`), or it
                cannot be written.
        """
        taken = path.exists()
        if taken and not (overwrite and (path / "config.json").is_file()):
            hint = "it is not a run, so it is left alone" if overwrite else "add --resume or --overwrite"
            raise RunError(f"run = {path}: exists already; {hint}")
        part = path.with_name(f".{path.name}.part")  # built beside its place, so that it is there whole or not
        try:
            shutil.rmtree(part, ignore_errors=True)
            (part / "checkpoints").mkdir(parents=True)
            run = cls(part, config)
            run._write("config.json", json.dumps(config.model_dump(mode="json"), indent=2).encode())
            run._write("environment.json", json.dumps(_environment(), indent=2).encode())
            run._write("metrics.csv", _as_csv([COLUMNS]).encode())
            if taken:  # by a run, and its replacement was asked for
                shutil.rmtree(path)
            part.rename(path)
        except OSError as error:
            raise RunError(f"run = {path}: cannot be written ({error.strerror})") from None
        return cls(path, config)

    # ------------------------------------------------------------------------------ reading

    @property
    def steps(self) -> list[int]:
        """Steps that have a checkpoint, in order."""
        return sorted(_step(name) for name in self._sums() if not name.endswith(".resume.safetensors"))

    @property
    def metrics(self) -> pd.DataFrame:
        """All long rows. Length, layer and head are nullable integers."""
        dtypes = {"step": "int64", "length": "Int64", "layer": "Int64", "head": "Int64", "value": "float64"}
        return pd.read_csv(self.path / "metrics.csv", dtype=dtypes)  # pyright: ignore[reportArgumentType]

    @property
    def command(self) -> list[str]:
        """The command that started the run."""
        return json.loads((self.path / "environment.json").read_text())["command"]

    def params(self, step: int | None = None) -> Params:
        """The model's parameters at a step; None: at the last one.

        Raises:
            RunError: there is no checkpoint at this step, or its file is damaged.
        """
        steps = self.steps
        if not steps:
            raise RunError(f"run = {self.path}: has no checkpoint")
        step = steps[-1] if step is None else step
        if step not in steps:
            raise RunError(f"step = {step}: must be one of {' '.join(map(str, steps))}")
        return self._model_params(step)

    @property
    def checksums(self) -> dict[int, str]:
        """Checksum of each step's model, in order."""
        sums = self._sums()
        return {step: sums[_model_file(step)] for step in self.steps}

    def checkpoints(self, names: Sequence[str] | None = None) -> Iterator[tuple[int, Params]]:
        """Every checkpoint in order, one at a time.

        Args:
            names: tensors to read, and nothing else of the files, which are then not checked against
                their checksums; None: all, checked.

        Raises:
            RunError: a checkpoint is missing or damaged, or has no tensor of this name.
        """
        for step in self.steps:
            if names is None:
                yield step, self.params(step)
                continue
            file = self.path / "checkpoints" / _model_file(step)
            try:
                with safetensors.safe_open(file, framework="pt") as opened:
                    yield step, {name: opened.get_tensor(name) for name in names}
            except (OSError, safetensors.SafetensorError) as error:
                raise RunError(f"{file}: cannot be read ({error})") from None

    def problems(self) -> list[str]:
        """What is wrong with the checkpoints, in a line each: missing, damaged or of another network, files that
        nobody vouches for, and steps of the schedule that have none."""
        found = []
        for step in self.steps:
            try:
                self._model_params(step)
            except RunError as error:
                found.append(str(error))
        known, folder = {*self._sums(), _SUMS}, self.path / "checkpoints"
        files = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
        for name in files:
            if name not in known:
                found.append(f"{folder / name}: is not listed in {_SUMS}, so it is left out")
        n_steps, steps = self.config.train.n_steps, set(self.steps)
        expected = [step for step in range(n_steps + 1) if self.config.train.is_snapshot(step)]
        absent = [step for step in expected if step not in steps]
        if not steps:
            found.append(f"{self.path}: has no checkpoint")
        elif absent and (last := max(steps)) < n_steps and absent == [step for step in expected if step > last]:
            found.append(f"{self.path}: training stopped at step {last} of {n_steps}")
        elif absent:
            named = " ".join(map(str, absent[:8])) + (" ..." if len(absent) > 8 else "")
            found.append(f"{self.path}: has no checkpoint at {len(absent)} steps of its schedule ({named})")
        return found

    def readable(self, at_most: int) -> dict[int, Params]:
        """Checkpoints that can be read, the first and the last among them, in order and spread evenly.

        Args:
            at_most: how many.
        """
        found: dict[int, Params] = {}
        steps = self.steps
        n = min(at_most, len(steps))
        places = {round(i * (len(steps) - 1) / max(1, n - 1)) for i in range(n)}
        for place in sorted(places):
            nearest = sorted(range(len(steps)), key=lambda i, place=place: (abs(i - place), -i))
            for i in nearest:  # one beside it, where this one cannot be read
                if steps[i] in found or (i in places and i != place):
                    break
                try:
                    found[steps[i]] = self._model_params(steps[i])
                    break
                except RunError:
                    continue
        return dict(sorted(found.items()))

    def control(self) -> Params:
        """The parameters of a freshly initialised network of this configuration, to measure as well."""
        generator = torch.Generator().manual_seed(self.config.control_seed)
        return init_params(self.config.model, len(self.config.data.vocabulary), self.config.n_ctx, generator)

    def tasks(self, named: str | None = None) -> tuple[Task, ...]:
        """Tasks that are measured; of a name, spelled as a setting, that one.

        Raises:
            RunError: the run does not have it.
        """
        known = self.config.data.measured_tasks
        if named is None:
            return known
        found = tuple(task for task in known if str(task) == named)
        if not found:
            raise RunError(f"task = {named}: must be one of {' '.join(map(str, known))}, which the run has")
        return found

    def model(self, step: int | None = None) -> "HookedTransformer":
        """The model at a step as a HookedTransformer; None: at the last one.

        Raises:
            RunError: as `params`.
        """
        return to_hooked(self.params(step), self.config.model)

    def resumable(self) -> tuple[int, Params, dict[str, Tensor], list[str]]:
        """The newest checkpoint that training can go on from, and the damaged files passed over.

        Raises:
            RunError: no checkpoint is whole.
        """
        damaged: list[str] = []
        sums = self._sums()
        for step in reversed(self.steps):
            if _resume_file(step) not in sums:
                continue
            try:
                return step, self._model_params(step), self._load(_resume_file(step)), damaged
            except RunError as error:
                damaged.append(str(error))
        passed = f" ({'; '.join(damaged)})" if damaged else ""
        raise RunError(f"resume = {self.path}: has no checkpoint to resume from{passed}; start again with --overwrite")

    @property
    def sections(self) -> list[str]:
        """What analyses have to show on the run's page, as HTML."""
        return [file.read_text() for file in sorted(self.path.glob("analysis/[!.]*/section.html"))]

    def found(self, what: str, file: str) -> str:
        """A file of the latest analysis of a kind.

        Args:
            what: the kind, such as `dissect` or `watch`.
            file: its name, such as `circuit.json`.

        Raises:
            RunError: there is no such analysis.
        """
        files = sorted(self.path.glob(f"analysis/{what}-[0-9]*/{file}"))
        if not files:
            raise RunError(f"run = {self.path}: must have been analysed by {what} first (no analysis/{what}-*/{file})")
        return files[-1].read_text()

    def remembered(self, name: str) -> pd.DataFrame | None:
        """A table that an analysis keeps for itself; None: there is none, or it is damaged."""
        file = self.path / "analysis" / ".cache" / f"{name}.csv"
        try:
            return pd.read_csv(file, keep_default_na=False, na_values="nan", float_precision="round_trip")
        except (OSError, ValueError):
            return None

    # ------------------------------------------------------------------------------ writing

    def remember(self, name: str, table: pd.DataFrame) -> None:
        """Keep a table for the analysis to go on with.

        Raises:
            RunError: it cannot be written.
        """
        folder = self.path / "analysis" / ".cache"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._write(f"analysis/.cache/{name}.csv", table.to_csv(index=False, na_rep="nan").encode())
        except OSError as error:
            raise RunError(f"analysis = {folder}: cannot be written ({error.strerror})") from None

    def add_rows(self, step: int, rows: Sequence[Row]) -> None:
        """Append measured rows."""
        with (self.path / "metrics.csv").open("a", newline="") as file:
            file.write(_as_csv([(step, *row) for row in rows]))
            file.flush()
            os.fsync(file.fileno())

    def save(self, step: int, params: Params, resume: dict[str, Tensor]) -> None:
        """A checkpoint. Rows of this step have to be added before it, or a resume would drop them."""
        sums = self._sums()
        for name, tensors in ((_resume_file(step), resume), (_model_file(step), params)):
            content = safetensors.torch.save({key: value.detach().cpu().contiguous() for key, value in tensors.items()})
            self._write(f"checkpoints/{name}", content)
            sums[name] = hashlib.sha256(content).hexdigest()
        old = sorted((n for n in sums if n.endswith(".resume.safetensors")), key=_step)[:-N_RESUMABLE]
        self._write_sums({name: digest for name, digest in sums.items() if name not in old})
        for name in old:
            (self.path / "checkpoints" / name).unlink(missing_ok=True)

    def cut(self, step: int) -> None:
        """Forget every row and checkpoint after this step, and a last row that was cut short."""
        sums = {name: digest for name, digest in self._sums().items() if _step(name) <= step}
        self._write_sums(sums)
        for file in (self.path / "checkpoints").iterdir():
            if file.name not in (*sums, _SUMS):
                file.unlink()
        text = (self.path / "metrics.csv").read_text()
        lines = text[: text.rfind("\n") + 1].splitlines(keepends=True)
        kept = [line for i, line in enumerate(lines) if i == 0 or int(line.split(",", 1)[0]) <= step]
        self._write("metrics.csv", "".join(kept).encode())

    def write_report(self, page: str) -> Path:
        """The page to look at."""
        self._write("report.html", page.encode())
        return self.path / "report.html"

    def write_analysis(self, name: str, files: Mapping[str, str]) -> Path:
        """What an analysis found: texts by file name, in a folder of its own that replaces an earlier one.

        Raises:
            RunError: it cannot be written.
        """
        folder = self.path / "analysis" / name
        part = folder.with_name(f".{folder.name}.part")
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            for file, content in files.items():
                self._write(str((part / file).relative_to(self.path)), content.encode())
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)
        except OSError as error:
            raise RunError(f"analysis = {folder}: cannot be written ({error.strerror})") from None
        return folder

    # ----------------------------------------------------------------------------- the disk

    def _sums(self) -> dict[str, str]:
        file = self.path / "checkpoints" / _SUMS
        if not file.exists():
            return {}
        pairs = (line.split("  ", 1) for line in file.read_text().splitlines())
        return {name: digest for digest, name in pairs}

    def _write_sums(self, sums: dict[str, str]) -> None:
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
        self._write(f"checkpoints/{_SUMS}", lines.encode())

    def _model_params(self, step: int) -> Params:
        loaded = self._load(_model_file(step))  # in no particular order
        config = self.config
        shapes = parameter_shapes(config.model, len(config.data.vocabulary), config.n_ctx)
        for name, shape in shapes.items():
            if name not in loaded or tuple(loaded[name].shape) != shape:
                has = f"{name} of shape {tuple(loaded[name].shape)}" if name in loaded else f"no {name}"
                file = self.path / "checkpoints" / _model_file(step)
                raise RunError(f"{file}: is of another network, it has {has} where the run's settings say {shape}")
        return {name: loaded[name] for name in shapes}

    def _load(self, name: str) -> dict[str, Tensor]:
        file = self.path / "checkpoints" / name
        try:
            content = file.read_bytes()
        except OSError:
            raise RunError(f"{file}: is missing") from None
        if hashlib.sha256(content).hexdigest() != self._sums()[name]:
            raise RunError(f"{file}: is damaged, its checksum differs")
        try:
            return safetensors.torch.load(content)
        except safetensors.SafetensorError as error:
            raise RunError(f"{file}: is no safetensors file ({error})") from None

    def _write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all."""
        file = self.path / name
        part = file.with_name(f".{file.name}.part")
        with part.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def analysis_name(what: str, step: int, task: Task) -> str:
    """Folder of an analysis of a task at a step; tasks of many words are told apart by a hash."""
    name = str(task)
    if len(name) > 80:
        name = f"{task.name}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return f"{what}-{step:06d}-{name}"


def _model_file(step: int) -> str:
    return f"{step:06d}.safetensors"


def _resume_file(step: int) -> str:
    return f"{step:06d}.resume.safetensors"


def _step(name: str) -> int:
    return int(name.split(".")[0])


def _as_csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _environment() -> dict[str, object]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None

    def git(*words: str) -> str | None:
        here = Path(__file__).parent
        try:
            done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "git_commit": git("rev-parse", "HEAD"),
        "git_diff": git("diff", "HEAD"),
    }
