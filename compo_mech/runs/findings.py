"""What analyses found of a run, as they keep it in its folder."""

import io
import os
import re
from typing import TYPE_CHECKING

from compo_mech.runs import analysis_folder
from compo_mech.runs.analysis_folder import analysis_name
from compo_mech.runs.checkpoints import Checkpoints, RunError
from compo_mech.runs.sums import read_sums

if TYPE_CHECKING:
    import pandas as pd


class Findings(Checkpoints):
    """Those of the run in a folder."""

    @property
    def sections(self) -> dict[str, str]:
        """What analyses have to show on the run's page, as HTML by the name of their folder; those that are damaged
        are among the problems."""
        analysis_folder.tidy_all(self.path / "analysis")
        files = sorted(self.path.glob("analysis/[!.]*/section.html"))
        found = {file.parent.name: analysis_folder.read_or_error(file) for file in files}
        return {name: section for name, section in found.items() if isinstance(section, str)}

    def problems(self) -> list[str]:
        """List what is wrong with the run, in a line each: as of checkpoints, and damaged results of analyses."""
        analysis_folder.tidy_all(self.path / "analysis")
        folders = sorted(self.path.glob("analysis/[!.]*/"))
        return super().problems() + [line for folder in folders for line in analysis_folder.damage(folder)]

    def analysed(self, what: str) -> analysis_folder.Analysed:
        """Find the latest analysis of a kind, of the first task that has one of that step.

        Args:
            what: the kind, such as `dissect` or `watch`.

        Raises:
            RunError: there is none.
        """
        analysis_folder.tidy_all(self.path / "analysis")
        named = re.compile(rf"{re.escape(what)}-([0-9]{{6}}|[1-9][0-9]{{6,}})(-.+)?")
        found = [
            (int(match[1]), path)
            for path in sorted(self.path.glob(f"analysis/{what}-[0-9]*"))
            if (match := named.fullmatch(path.name)) is not None and read_sums(path).is_there  # else it is not ours
        ]
        if not found:
            raise RunError(f"run = {self.path}: must have been analysed by {what} first (no analysis/{what}-*)")
        step = max(step for step, _ in found)
        tasks = self.config.data.measured_tasks
        names = {str(task): analysis_name(what, step, task) for task in tasks}
        latest = {path.name: path for at, path in found if at == step}
        shown = next((task for task, name in names.items() if name in latest), None)
        folder = next(iter(latest.values())) if shown is None else latest[names[shown]]
        others = [task for task in names if task != shown]
        return analysis_folder.Analysed(folder, step, self.steps[-1] if self.steps else step, others)

    def found(self, what: str, file: str) -> str:
        """Read a file of the latest analysis of a kind (see `analysed`).

        Args:
            what: the kind.
            file: its name, such as `circuit.json`.

        Raises:
            RunError: there is no such analysis, or the latest has no such file, or it is damaged.
        """
        latest = self.analysed(what)
        text = analysis_folder.read_or_error(latest.folder / file)
        if not os.path.lexists(latest.folder / file) and os.access(latest.folder, os.X_OK):
            files = " ".join(sorted(path.name for path in latest.folder.glob("*.*")))
            where = f"{latest.folder.name}, its latest of {what}"
            raise RunError(f"run = {self.path}: must have a {file} in {where} (there are {files})")
        if isinstance(text, RunError):
            raise text
        return text

    def table(self, what: str, name: str) -> "pd.DataFrame":
        """Read a table of the latest analysis of a kind (see `analysed`), such as `run.table("dissect", "patching")`.

        Args:
            what: the kind.
            name: of the table, without its ending.

        Raises:
            RunError: there is no such analysis, or the latest has no such table, or it is damaged.
        """
        import pandas as pd

        return pd.read_csv(io.StringIO(self.found(what, f"{name}.csv")))

    def remembered(self, name: str) -> "pd.DataFrame | None":
        """Read a table that an analysis keeps for itself; None: there is none, or it is damaged."""
        return analysis_folder.read_table(self.path / "analysis" / ".cache" / f"{name}.csv")

    def remember(self, name: str, table: "pd.DataFrame") -> None:
        """Keep a table for the analysis to go on with.

        Raises:
            RunError: it cannot be written.
        """
        file = self.path / "analysis" / ".cache" / f"{name}.csv"
        try:
            analysis_folder.write_table(file, table)
        except OSError as error:
            raise RunError(f"analysis = {file.parent}: cannot be written ({error.strerror})") from None
