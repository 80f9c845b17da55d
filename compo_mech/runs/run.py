"""A run is a folder that a stranger can read.

config.json         the settings, as RunConfig takes them
environment.json    versions, git commit and changes, command; rules: checksum of each task's;
                    trained_at_once: how many runs were trained as one, if so; checksum: of all that
metrics.csv         long rows: step, split, task, length, layer, head, metric, value
checkpoints/        000128.safetensors: the model under HookedTransformer's names;
                    000128.resume.safetensors (newest two): optimiser and generator;
                    SHA256SUMS: every file that counts, config.json and metrics.csv among them, as `sha256sum -c` reads
                    it (metrics.csv as it was at the last checkpoint, so while training goes on it is longer)
analysis/           results of analyses: tables, circuits, each folder with a SHA256SUMS of its own
report.html         the page to look at, made of all that; nothing reads it

Beside it: failures/ has what went wrong, .locks/ a file for each run that was trained, held while it is, and
.NAME.*.old is a run that is being replaced, until the new one is trained to its end.
"""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compo_mech.data.tasks import Task
from compo_mech.evaluation.table import Row
from compo_mech.runs import analysis_folder
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.config import RunConfig
from compo_mech.runs.environment import environment
from compo_mech.runs.files import identity, shown, write_whole
from compo_mech.runs.findings import Findings
from compo_mech.runs.folder import building_place, of_run, put_back, remove, set_aside, strangers
from compo_mech.runs.rules import check_rules, rules_of
from compo_mech.runs.stored import environment_text, shortened, stored_config, stored_environment
from compo_mech.runs.sums import digest, write_sums
from compo_mech.runs.vouched import BESIDE, Vouched, holds, rows_until

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("step", *Row._fields)


class Run(Findings):
    """A run folder. `Run.open` reads one; `Run.create` starts one."""

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Open the run in this folder.

        Raises:
            RunError: there is no run here, or its settings cannot be read or are not those it was made with.
        """
        path = Path(path)
        if not holds(path, "config.json"):
            raise RunError(f"run = {path}: must be a folder that holds a config.json")
        run = cls(path, stored_config(Vouched(path)))
        check_rules(run, run.config)
        return run

    @classmethod
    def create(cls, path: Path, config: RunConfig, overwrite: bool = False) -> "Run":
        """Create a new run in this folder. One that is replaced is set aside until the new one is trained to its end.

        Raises:
            RunError: the folder is taken (by something other than a whole run, if `overwrite`), or it cannot be
                written.
        """
        place = identity(path)
        taken = place.exists()
        if taken:
            _check_replaceable(path, overwrite)
        part = building_place(place)  # built beside its place, so that it is there whole or not
        contents = {
            "config.json": json.dumps(config.model_dump(mode="json"), indent=2),
            "environment.json": environment_text(environment() | rules_of(config)),
            "metrics.csv": _as_csv([COLUMNS]),
        }
        try:
            (part / "checkpoints").mkdir(parents=True)
            for name, content in contents.items():
                write_whole(part / name, content)
            write_sums(part / "checkpoints", {f"../{name}": digest(contents[name].encode()) for name in BESIDE})
            if taken:
                set_aside(place)
            part.rename(place)
        except OSError as error:
            put_back(place)
            if part.exists():
                remove(part, of_run)
            raise RunError(f"run = {path}: cannot be written ({error.strerror})") from None
        return cls(path, config)

    def __repr__(self) -> str:
        tasks = ", ".join(map(str, self.config.data.measured_tasks))
        steps = self.steps
        at = f"step {steps[-1]} of {self.config.train.n_steps}" if steps else "no checkpoint yet"
        return f"Run({str(self.path)!r}: {tasks}, {at})"

    @property
    def name(self) -> str:
        """The name of its folder, as it can be written."""
        return shown(identity(self.path).name)

    # ------------------------------------------------------------------------------ reading

    @property
    def metrics(self) -> "pd.DataFrame":
        """All long rows up to the last checkpoint. Length, layer and head are nullable integers.

        Raises:
            RunError: they are missing or damaged.
        """
        import pandas as pd

        dtypes = {"step": "int64", "length": "Int64", "layer": "Int64", "head": "Int64", "value": "float64"}
        content = self.rows()
        try:
            table = pd.read_csv(io.BytesIO(content), dtype=dtypes)  # pyright: ignore[reportArgumentType]
        except (ValueError, OverflowError) as error:
            raise RunError(f"{self.path / 'metrics.csv'}: is damaged ({shortened(error)})") from None
        if tuple(table.columns) != COLUMNS:
            raise RunError(f"{self.path / 'metrics.csv'}: is damaged, its columns must be {', '.join(COLUMNS)}")
        return table

    @property
    def command(self) -> list[str]:
        """The command that started the run.

        Raises:
            RunError: environment.json is missing or damaged.
        """
        found = stored_environment(self).get("command")
        if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
            raise RunError(f"{self.path / 'environment.json'}: is damaged, it has no command")
        return found

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

    # ------------------------------------------------------------------------------ writing

    def add_rows(self, step: int, rows: Sequence[Row]) -> None:
        """Append measured rows."""
        with (self.path / "metrics.csv").open("a", newline="", encoding="utf-8") as file:
            file.write(_as_csv([(step, *row) for row in rows]))
            file.flush()
            os.fsync(file.fileno())

    def note_at_once(self, n: int) -> None:
        """Say in environment.json that n runs, this one among them, are trained at once; the largest n stays there.

        Raises:
            RunError: what is there cannot be read.
            OSError: it cannot be written.
        """
        known = stored_environment(self)
        before = known.get("trained_at_once", 1)
        known["trained_at_once"] = max(n, before)
        write_whole(self.path / "environment.json", environment_text(known))

    def cut(self, step: int) -> None:
        """Forget every row and checkpoint after this step, and a last row that was cut short."""
        write_whole(self.path / "metrics.csv", self.forget(step))

    def write_report(self, page: str) -> Path:
        """Write the run's page."""
        write_whole(self.path / "report.html", page)
        return self.path / "report.html"

    def write_analysis(self, name: str, files: Mapping[str, str]) -> Path:
        """Write the results of an analysis: texts by file name, in a folder of its own that replaces an earlier one.

        Raises:
            RunError: it cannot be written.
        """
        folder = self.path / "analysis" / name
        try:
            analysis_folder.write_folder(folder, files)
        except OSError as error:
            raise RunError(f"analysis = {folder}: cannot be written ({error.strerror})") from None
        return folder


def _check_replaceable(path: Path, overwrite: bool) -> None:
    """Let only a whole run, and nothing that the project did not write, be replaced.

    Raises:
        RunError: one line that says what there is.
    """
    what = f"run = {path}: exists already"
    if not overwrite:
        raise RunError(f"{what}; add --resume or --overwrite")
    try:
        run = Run.open(path)
        heading = rows_until(run.unchecked("../metrics.csv"), -1)
        damage = run.damage()
    except RunError as error:
        raise RunError(f"{what}; it is not a run that can be read, so it is left alone ({error})") from None
    if damage:
        raise RunError(f"{what}; it is damaged, so it is left alone ({damage[0]})")
    if heading != _as_csv([COLUMNS]).encode() or not run.folder.is_dir():
        raise RunError(f"{what}; it is not a run, so it is left alone")
    try:
        others = strangers(identity(path), of_run)
    except OSError as error:
        raise RunError(f"{what}; it is left alone, for not all of it can be read ({error.strerror})") from None
    if others:
        raise RunError(f"{what}; it is left alone, for {others[0].relative_to(identity(path))} is not of a run")


def _as_csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
