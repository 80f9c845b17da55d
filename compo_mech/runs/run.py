"""A run is a folder that a stranger can read. Only this file and checkpoints.py read or write one.

config.json         the settings, as RunConfig takes them
environment.json    versions, git commit and changes, command; rules: checksum of each task's;
                    trained_at_once: how many runs were trained as one, if so
metrics.csv         long rows: step, split, task, length, layer, head, metric, value
checkpoints/        000128.safetensors: the model under HookedTransformer's names;
                    000128.resume.safetensors (newest two): optimiser and generator;
                    SHA256SUMS: every file that counts, as `sha256sum -c` reads it
analysis/           results of analyses: tables, circuits
report.html         the page to look at

Beside it: failures/ has what went wrong, .locks/ a file for each run that was trained, held while it is.
"""

import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from compo_mech.data.tasks import Task
from compo_mech.evaluation.table import Row
from compo_mech.model.config import parameter_shapes
from compo_mech.model.params import Params
from compo_mech.runs.checkpoints import Checkpoints, RunError
from compo_mech.runs.config import RunConfig
from compo_mech.runs.environment import environment
from compo_mech.runs.rules import rule_changed, rules_of

COLUMNS = ("step", *Row._fields)


class Run(Checkpoints):
    """A run folder. `Run.open` reads one; `Run.create` starts one."""

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Open the run in this folder.

        Raises:
            RunError: there is no run here, or its settings cannot be read.
        """
        path = Path(path)
        try:
            run = cls(path, RunConfig(**json.loads((path / "config.json").read_text())))
        except OSError:
            raise RunError(f"run = {path}: must be a folder that holds a config.json") from None
        except ValueError as error:
            raise RunError(f"{path / 'config.json'}: {error}") from None
        if (changed := rule_changed(run.config, path)) is not None:
            raise RunError(f"data.tasks = {changed}: must have the rule that {path} was trained on, and has another")
        return run

    @classmethod
    def create(cls, path: Path, config: RunConfig, overwrite: bool = False) -> "Run":
        """Create a new run in this folder.

        Raises:
            RunError: the folder is taken (by something other than a run, if `overwrite`), or it
                cannot be written.
        """
        taken = path.exists()
        if taken and not (overwrite and (path / "config.json").is_file()):
            hint = "it is not a run, so it is left alone" if overwrite else "add --resume or --overwrite"
            raise RunError(f"run = {path}: exists already; {hint}")
        part = path.with_name(f".{path.name}.part")  # built beside its place, so that it is there whole or not
        old = path.with_name(f".{path.name}.old")  # and removed beside it, or a kill would leave half a run
        try:
            for left in (part, old):
                shutil.rmtree(left, ignore_errors=True)
            (part / "checkpoints").mkdir(parents=True)
            run = cls(part, config)
            run._write("config.json", json.dumps(config.model_dump(mode="json"), indent=2).encode())
            run._write("environment.json", json.dumps(environment() | rules_of(config), indent=2).encode())
            run._write("metrics.csv", _as_csv([COLUMNS]).encode())
            if taken:  # by a run, and its replacement was asked for
                path.rename(old)
            part.rename(path)
        except OSError as error:
            raise RunError(f"run = {path}: cannot be written ({error.strerror})") from None
        shutil.rmtree(old, ignore_errors=True)
        return cls(path, config)

    # ------------------------------------------------------------------------------ reading

    @property
    def metrics(self) -> pd.DataFrame:
        """All long rows. Length, layer and head are nullable integers."""
        dtypes = {"step": "int64", "length": "Int64", "layer": "Int64", "head": "Int64", "value": "float64"}
        return pd.read_csv(self.path / "metrics.csv", dtype=dtypes)  # pyright: ignore[reportArgumentType]

    @property
    def command(self) -> list[str]:
        """The command that started the run."""
        return json.loads((self.path / "environment.json").read_text())["command"]

    def tasks(self, named: str | None = None) -> tuple[Task, ...]:
        """Return the tasks that are measured; given a name, spelled as a setting, that one alone.

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

    @property
    def sections(self) -> list[str]:
        """What analyses have to show on the run's page, as HTML."""
        return [file.read_text() for file in sorted(self.path.glob("analysis/[!.]*/section.html"))]

    def found(self, what: str, file: str) -> str:
        """Read a file of the latest analysis of a kind.

        Args:
            what: the kind, such as `dissect` or `watch`.
            file: its name, such as `circuit.json`.

        Raises:
            RunError: there is no such analysis.
        """
        files = list(self.path.glob(f"analysis/{what}-[0-9]*/{file}"))
        if not files:
            raise RunError(f"run = {self.path}: must have been analysed by {what} first (no analysis/{what}-*/{file})")
        steps = [int(found.parent.name.removeprefix(f"{what}-").split("-")[0]) for found in files]
        return files[steps.index(max(steps))].read_text()

    def remembered(self, name: str) -> pd.DataFrame | None:
        """Read a table that an analysis keeps for itself; None: there is none, or it is damaged."""
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

    def note_at_once(self, n: int) -> None:
        """Say in environment.json that n runs, this one among them, are trained at once; the largest n stays there.

        Raises:
            RunError: what is there cannot be read.
            OSError: it cannot be written.
        """
        file = self.path / "environment.json"
        try:
            known = json.loads(file.read_text())
        except ValueError as error:
            raise RunError(f"{file}: {error}") from None
        known["trained_at_once"] = max(n, known.get("trained_at_once", 1))
        self._write(file.name, json.dumps(known, indent=2).encode())

    def cut(self, step: int) -> None:
        """Forget every row and checkpoint after this step, and a last row that was cut short."""
        self.forget(step)
        text = (self.path / "metrics.csv").read_text()
        lines = text[: text.rfind("\n") + 1].splitlines(keepends=True)
        kept = [line for i, line in enumerate(lines) if i == 0 or int(line.split(",", 1)[0]) <= step]
        self._write("metrics.csv", "".join(kept).encode())

    def write_report(self, page: str) -> Path:
        """Write the run's page."""
        self._write("report.html", page.encode())
        return self.path / "report.html"

    def write_analysis(self, name: str, files: Mapping[str, str]) -> Path:
        """Write the results of an analysis: texts by file name, in a folder of its own that replaces an earlier one.

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


def starting_params(config: RunConfig) -> Params | None:
    """Read the weights that a run starts from, of the last checkpoint of `start_from`; None: random ones.

    Raises:
        RunError: there is no such run, it was not trained to its end, or its network or vocabulary is another.
    """
    if config.start_from is None:
        return None
    source = Run.open(config.start_from)
    what = f"start_from = {config.start_from}"
    for name, ours, theirs in (
        ("data.tasks", config.data.tasks, source.config.data.tasks),
        ("data.task_token", config.data.task_token, source.config.data.task_token),
    ):
        if ours != theirs:
            shown = (" ".join(map(str, value)) if isinstance(value, tuple) else str(value) for value in (ours, theirs))
            own, other = shown
            raise RunError(f"{what}: its vocabulary is another, {name} must be {other}, and is {own}")
    shapes = [parameter_shapes(c.model, len(c.data.vocabulary), c.n_ctx) for c in (config, source.config)]
    for name in dict.fromkeys((*shapes[0], *shapes[1])):
        own, other = (shape.get(name) for shape in shapes)
        if own != other:
            hint = f"; set model.n_ctx = {source.config.n_ctx}" if name == "pos_embed.W_pos" else ""
            own, other = own or "missing", other or "missing"
            raise RunError(f"{what}: its network is another, {name} is {other} there and {own} here{hint}")
    if not source.is_done:
        raise RunError(f"{what}: must be trained to its end, step {source.config.train.n_steps}")
    return source.params()


def analysis_name(what: str, step: int, task: Task) -> str:
    """Return the name of the folder of an analysis of a task at a step; tasks whose names are long, or no name of a
    folder, are distinguished by a hash."""
    name = str(task)
    if len(name) > 80 or not name.isprintable() or set(name) & set('/\\<>:"|?*'):
        name = f"{task.name}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return f"{what}-{step:06d}-{name}"


def _as_csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
