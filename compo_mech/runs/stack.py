"""A stack is one folder of many runs that are trained and measured as one.

stack.json          the first run's settings, and by name of each run those of its own: its seed, and what else differs
environment.json    as of a run
checkpoints/        000128.safetensors: every network, its tensors stacked [run, ...] under HookedTransformer's names;
                    000128.rows.safetensors: what was measured since the snapshot before, values [row, run];
                    000128.resume.safetensors (newest two): optimisers and generators;
                    SHA256SUMS: every file that counts, stack.json among them

STACK/seed7 is the run of that name: see `stacked_run`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.evaluation.table import Row
from compo_mech.model.config import parameter_shapes
from compo_mech.model.params import Params
from compo_mech.runs.checkpoints import N_RESUMABLE, RunError
from compo_mech.runs.config import RunConfig
from compo_mech.runs.environment import environment
from compo_mech.runs.files import identity, write_whole
from compo_mech.runs.folder import building_place
from compo_mech.runs.rules import check_rules, rules_of
from compo_mech.runs.stack_members import check_members, own_settings, with_own
from compo_mech.runs.stack_rows import StackRow, stack_rows
from compo_mech.runs.stored import environment_text, shortened
from compo_mech.runs.sums import Sums, digest, write_sums
from compo_mech.runs.tensor_files import tensors_as_bytes, tensors_from_bytes
from compo_mech.runs.vouched import Vouched, holds, steps_of, whole_list

if TYPE_CHECKING:
    import pandas as pd

SETTINGS = "../stack.json"
_NETWORKS, _RESUME, _ROWS = ".safetensors", ".resume.safetensors", ".rows.safetensors"
Keep = Literal["every", "last"]
"""Which snapshots' networks are kept."""


class Stack(Vouched):
    """A stack's folder. `Stack.open` reads one; `Stack.create` starts one.

    Attributes:
        config: settings of the first run.
        members: of each by its name, in the order of the networks.
    """

    def __init__(self, path: Path, config: RunConfig, members: Mapping[str, RunConfig]) -> None:
        super().__init__(path)
        self.config, self.members = config, dict(members)
        self._last_read: tuple[str, Params] | None = None
        self._all_rows: tuple[tuple[str, ...], pd.DataFrame, np.ndarray] | None = None

    @classmethod
    def open(cls, path: str | Path) -> "Stack":
        """Open the stack in this folder.

        Raises:
            RunError: there is none here, or its list of checksums or its settings cannot be read.
        """
        path = Path(path)
        if not is_stack(path):
            raise RunError(f"stack = {path}: must be a folder that holds a stack.json")
        vouched = Vouched(path)
        content = vouched.content(SETTINGS, whole_list(vouched.sums(), vouched.folder, SETTINGS))
        try:
            found = json.loads(content)
            first = RunConfig(**found["config"])
            members = {name: with_own(first, own) for name, own in found["members"].items()}
            stack = cls(path, first, members)
        except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, AttributeError) as error:
            raise RunError(f"{path / 'stack.json'}: {shortened(error)}") from None
        check_rules(stack, stack.config)
        return stack

    @classmethod
    def create(cls, path: Path, members: Mapping[str, RunConfig]) -> "Stack":
        """Create a new stack in a folder that is not there yet.

        Args:
            path: its folder.
            members: settings of each run by its name.

        Raises:
            RunError: it is there or cannot be written, or its runs cannot share a stack.
        """
        check_members(members)
        place, config = identity(path), next(iter(members.values()))
        if place.exists():
            raise RunError(f"stack = {path}: exists already, and is none that can go on")
        part = building_place(place)  # built beside its place, so that it is there whole or not
        own = {name: own_settings(config, one) for name, one in members.items()}
        text = json.dumps({"config": config.model_dump(mode="json"), "members": own}, indent=2)
        try:
            (part / "checkpoints").mkdir(parents=True)
            write_whole(part / "environment.json", environment_text(environment() | rules_of(config)))
            write_whole(part / "stack.json", text)
            write_sums(part / "checkpoints", {SETTINGS: digest(text.encode())})
            part.rename(place)
        except OSError as error:
            raise RunError(f"stack = {path}: cannot be written ({error.strerror})") from None
        return cls(path, config, members)

    def sums(self) -> Sums:
        """Read the list as it is now.

        Raises:
            RunError: it is missing or damaged. It alone says what was measured, so nothing is read without it.
        """
        return whole_list(super().sums(), self.folder, SETTINGS)

    @property
    def is_vouched_for(self) -> bool:
        """As every stack always was."""
        return True

    @property
    def is_done(self) -> bool:
        """Whether it was trained to its end."""
        return self.config.train.n_steps in self.steps

    def params(self, step: int | None = None) -> Params:
        """Read every network at a step, stacked [run, ...]; None: at the last one.

        Raises:
            RunError: there is no checkpoint at this step, or its file is damaged or of other networks.
        """
        sums = self.sums()
        steps = steps_of(sums)
        if not steps or (step is not None and step not in steps):
            raise RunError(
                f"step = {step}: must be one of {' '.join(map(str, steps)) or 'none, there is no checkpoint'}"
            )
        name = f"{steps[-1] if step is None else step:06d}{_NETWORKS}"
        if self._last_read is not None and self._last_read[0] == sums.known[name]:
            return self._last_read[1]  # runs are read one after another
        loaded, config = self._tensors(name, sums), self.config
        shapes = parameter_shapes(config.model, len(config.data.vocabulary), config.n_ctx)
        found = {name: tuple(tensor.shape) for name, tensor in loaded.items()}
        if found != {name: (len(self.members), *shape) for name, shape in shapes.items()}:
            raise RunError(f"{self.folder / name}: is of other networks than stack.json says")
        for weight, tensor in loaded.items():
            if tensor.dtype != torch.float32:
                raise RunError(
                    f"{self.folder / name}: is of other networks, its {weight} is {tensor.dtype}, not float32"
                )
        self._last_read = sums.known[name], {name: loaded[name] for name in shapes}
        return self._last_read[1]

    def measured(self) -> Iterator[tuple[int, list[StackRow]]]:
        """Yield each snapshot's step and what was measured since the one before, in order.

        Raises:
            RunError: a file is damaged.
        """
        sums = self.sums()
        for step in sorted(_step(name) for name in sums.known if name.endswith(_ROWS)):
            yield step, self._rows_of(step, sums)

    def all_rows(self) -> "tuple[pd.DataFrame, Float[np.ndarray, 'row run']]":
        """Read everything measured: the columns of a run's rows but the value, and every network's values.

        Raises:
            RunError: a file is damaged.
        """
        import pandas as pd

        listed = self.sums().known
        key = tuple(own for name, own in sorted(listed.items()) if name.endswith(_ROWS))
        if self._all_rows is None or self._all_rows[0] != key:
            rows = [row for _, found in self.measured() for row in found]
            what = pd.DataFrame([(row.step, *row.what[:-1]) for row in rows], columns=["step", *Row._fields[:-1]])
            what = what.astype({"step": "int64", "length": "Int64", "layer": "Int64", "head": "Int64"})
            values = np.stack([row.value for row in rows]) if rows else np.zeros((0, len(self.members)))
            self._all_rows = key, what, values
        return self._all_rows[1:]

    def diverged(self) -> dict[str, int]:
        """Return the names of the runs whose networks diverged, and the step by which each did.

        Raises:
            RunError: a file is damaged.
        """
        what, values = self.all_rows()
        is_loss = (what["metric"] == "loss").to_numpy()
        steps, lost = what["step"].to_numpy()[is_loss], np.isnan(values[is_loss])
        names = list(self.members)
        return {names[i]: int(steps[lost[:, i]].min()) for i in np.flatnonzero(lost.any(axis=0))}

    def resume_tensors(self) -> dict[int, dict[str, Tensor]]:
        """Read what training goes on from, by the steps that have it.

        Raises:
            RunError: a file is damaged.
        """
        sums = self.sums()
        return {_step(name): self._tensors(name, sums) for name in sorted(sums.known) if name.endswith(_RESUME)}

    def save_rows(self, step: int, rows: Sequence[StackRow]) -> None:
        """Save what was measured since the snapshot before."""
        values = np.stack([row.value for row in rows]) if rows else np.zeros((0, len(self.members)))
        told = json.dumps([[row.step, *row.what[:-1]] for row in rows])
        self._save({f"{step:06d}{_ROWS}": tensors_as_bytes({"value": torch.from_numpy(values)}, {"rows": told})})

    def save_networks(self, step: int, params: Params, resume: Mapping[str, Tensor], keep: Keep) -> None:
        """Save the networks and what training goes on from. The rows of this step have to be saved before it.

        Args:
            step: of the snapshot.
            params: stacked [run, ...].
            resume: optimisers and generators; those of all but the newest two steps are removed.
            keep: whether networks of earlier steps are kept, or removed with these.
        """
        name = f"{step:06d}{_RESUME}"
        files = {name: tensors_as_bytes(dict(resume)), f"{step:06d}{_NETWORKS}": tensors_as_bytes(params)}
        known = self.sums().known
        old = sorted((before for before in known if before.endswith(_RESUME)), key=_step)[: 1 - N_RESUMABLE]
        if keep == "last":
            old += [f"{_step(before):06d}{_NETWORKS}" for before in old]
        self._save(files, old)

    def forget(self, after: int) -> None:
        """Forget every snapshot after a step. Files that are no longer listed stay until others replace them."""
        known = self.sums().known
        write_sums(self.folder, {name: own for name, own in known.items() if name == SETTINGS or _step(name) <= after})

    def _save(self, files: Mapping[str, bytes], old: Sequence[str] = ()) -> None:
        sums = dict(self.sums().known) | {name: digest(content) for name, content in files.items()}
        for name, content in files.items():
            write_whole(self.folder / name, content)
        write_sums(self.folder, {name: own for name, own in sums.items() if name not in old})
        for name in old:
            (self.folder / name).unlink(missing_ok=True)

    def resumable(self) -> tuple[int, Params, dict[str, Tensor]]:
        """Find the newest snapshot that training can go on from, with whole rows up to it.

        Raises:
            RunError: there is none.
        """
        sums, damaged = self.sums(), list[str]()
        measured = sorted(_step(name) for name in sums.known if name.endswith(_ROWS))
        for step in reversed(steps_of(sums)):
            resume = f"{step:06d}{_RESUME}"
            if resume not in sums.known:
                continue
            try:
                for earlier in measured[: measured.index(step) + 1]:
                    self._rows_of(earlier, sums)
                return step, self.params(step), self._tensors(resume, sums)
            except RunError as error:
                damaged.append(str(error))
        told = "; ".join(dict.fromkeys(damaged)) or "there is none"
        raise RunError(f"stack = {self.path}: has no checkpoint to go on from ({told})")

    def _rows_of(self, step: int, sums: Sums) -> list[StackRow]:
        name = f"{step:06d}{_ROWS}"
        try:
            return stack_rows(self.content(name, sums))
        except ValueError as error:
            raise RunError(f"{self.folder / name}: is damaged ({error})") from None

    def _tensors(self, name: str, sums: Sums) -> dict[str, Tensor]:
        try:
            return tensors_from_bytes(self.content(name, sums))[0]
        except ValueError as error:
            raise RunError(f"{self.file(name)}: is no safetensors file ({error})") from None


def is_stack(path: Path) -> bool:
    """Tell whether a folder holds a stack.

    Raises:
        RunError: it cannot be read.
    """
    return holds(path, "stack.json")


def _step(name: str) -> int:
    """Return the step that a file of a snapshot is of."""
    return int(name.split(".")[0])
