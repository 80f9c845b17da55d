"""The checkpoints of a run's folder: what is vouched for, what can be read, and what is wrong with the rest.

A checkpoint exists once SHA256SUMS lists it, and every file is renamed into place whole, so that a
process killed at any moment leaves the last finished checkpoint intact.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from compo_mech.model.config import parameter_shapes
from compo_mech.model.finite import NotFinite, check_finite
from compo_mech.model.hooked import to_hooked
from compo_mech.model.params import Model, Params, init_params
from compo_mech.runs.config import RunConfig
from compo_mech.runs.files import is_part, write_whole
from compo_mech.runs.leftovers import N_RESUMABLE, is_resume, step_of, was_dropped
from compo_mech.runs.stored import stored_environment
from compo_mech.runs.sums import NAME, Sums, digest, write_sums
from compo_mech.runs.tensor_files import tensors_as_bytes, tensors_from_bytes
from compo_mech.runs.vouched import BESIDE, CHECKPOINT, ROWS, RunError, Vouched, rows_until, steps_of
from compo_mech.training.schedule import is_snapshot

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


class Checkpoints(Vouched):
    """Those of the run in a folder."""

    def __init__(self, path: Path, config: RunConfig) -> None:
        super().__init__(path)
        self.config = config

    @property
    def is_done(self) -> bool:
        """Whether it was trained to its end."""
        return self.config.train.n_steps in self.steps

    @property
    def checksums(self) -> dict[int, str]:
        """Checksum of each step's model, in order."""
        sums = self.sums()
        return {step: sums.known[_model_file(step)] for step in steps_of(sums)}

    def params(self, step: int | None = None) -> Params:
        """Read the model's parameters at a step; None: at the last one.

        Raises:
            RunError: there is no checkpoint at this step, or its file is damaged.
        """
        sums = self.sums()
        steps = steps_of(sums)
        if not steps:
            raise RunError(sums.problem or self._why_none(sums))
        step = steps[-1] if step is None else step
        if step not in steps:
            raise RunError(f"step = {step}: must be one of {' '.join(map(str, steps))}")
        return self._model_params(step, sums)

    def _why_none(self, sums: Sums) -> str:
        """Why no checkpoint counts."""
        if not sums.is_there and self.has_unlisted_work():
            return f"{self.folder / NAME}: is missing, so no checkpoint counts"
        return f"run = {self.path}: has no checkpoint"

    def checkpoints(self) -> Iterator[tuple[int, Params]]:
        """Yield every checkpoint in order, one at a time.

        Raises:
            RunError: a checkpoint is missing or damaged.
        """
        sums = self.sums()
        for step in steps_of(sums):
            yield step, self._model_params(step, sums)

    def model(self, step: int | None = None) -> "HookedTransformer":
        """Read the model at a step as a HookedTransformer; None: at the last one.

        Raises:
            RunError: as `params`.
        """
        return to_hooked(Model(self.params(step), self.config.model))

    def control(self) -> Params:
        """Draw the parameters of the randomly initialised control of this configuration."""
        return control_of(self.config)

    def spread(self, at_most: int) -> list[int]:
        """Return steps that have a checkpoint, the first and the last among them, in order and evenly spaced.

        Args:
            at_most: how many.
        """
        return _spread(self.steps, at_most)

    def readable(self, at_most: int, until: int | None = None) -> dict[int, Params]:
        """Checkpoints as `spread` chooses them, with one beside it for each that cannot be read (see `problems`).

        Args:
            at_most: how many.
            until: the step after which none is wanted; None: all are.
        """
        found: dict[int, Params] = {}
        sums = self.sums()
        steps = [step for step in steps_of(sums) if until is None or step <= until]
        wanted = _spread(steps, at_most)
        for target in wanted:
            place = steps.index(target)
            for i in sorted(range(len(steps)), key=lambda i, place=place: (abs(i - place), -i)):
                step = steps[i]
                if step in found or (step in wanted and step != target):
                    break
                try:
                    found[step] = self._model_params(step, sums)
                    break
                except RunError:
                    continue
        return dict(sorted(found.items()))

    def damage(self) -> list[str]:
        """List what is not as it was written, in a line each: the list of checksums, and whatever it vouches for."""
        sums = self.sums()
        found = [] if sums.problem is None else [sums.problem]
        try:
            if not sums.is_there and self.has_unlisted_work():
                found.append(f"{self.folder / NAME}: is missing, so no checkpoint counts")
        except RunError as error:
            found.append(str(error))
        checks: dict[str, Callable[[], object]] = {}
        for name in (f"../{name}" for name in BESIDE):
            checks[name] = self.rows if name == ROWS else partial(self.content, name, sums)
        checks |= {name: partial(self._tensors, name, sums) for name in sorted(filter(is_resume, sums.known))}
        checks |= {_model_file(step): partial(self._model_params, step, sums) for step in steps_of(sums)}
        listed = [check for name, check in checks.items() if name in sums.known]
        for check in (*listed, partial(stored_environment, self)):
            try:
                check()
            except RunError as error:
                found.append(str(error))
        return found

    def problems(self) -> list[str]:
        """List what is wrong with the run, in a line each: files that are missing, damaged or of another network, files
        that nobody vouches for, and steps of the schedule that have no checkpoint."""
        found, sums = self.damage(), self.sums()
        unlisted = [name for name in BESIDE if f"../{name}" not in sums.known]
        found += [f"{self.path / name}: is missing" for name in unlisted if not (self.path / name).exists()]
        if sums.is_there and unlisted:
            names = ", ".join(sorted({*unlisted, "environment.json"}))
            found.append(f"{self.path}: nothing vouches for {names}, which are taken as they are")
        try:
            names = self._names()
        except RunError as error:
            return [*found, str(error)]
        unlisted = [name for name in names if name not in (*sums.known, NAME) and not is_part(name)]
        found += [f"{self.folder / name}: is not listed in {NAME}, so it is left out" for name in unlisted]
        return found + self._missing_steps()

    def has_unlisted_work(self) -> bool:
        """Tell whether there are files of checkpoints after the first, of a run whose list holds none.

        Raises:
            RunError: that cannot be known.
        """
        return any(step_of(name) > 0 for name in filter(CHECKPOINT.fullmatch, self._names()))

    def _names(self) -> list[str]:
        """Return the names of the files among the checkpoints, in order."""
        try:
            return sorted(os.listdir(self.folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise RunError(f"{self.folder}: cannot be read ({error.strerror})") from None

    def _missing_steps(self) -> list[str]:
        n_steps, steps = self.config.train.n_steps, set(self.steps)
        expected = [s for s in range(n_steps + 1) if is_snapshot(s, n_steps, self.config.train.snapshot_every)]
        absent = [step for step in expected if step not in steps]
        if not steps:
            return [f"{self.path}: has no checkpoint"]
        if not absent:
            return []
        if (last := max(steps)) < n_steps and absent == [step for step in expected if step > last]:
            return [f"{self.path}: training stopped at step {last} of {n_steps}"]
        named = " ".join(map(str, absent[:8])) + (" ..." if len(absent) > 8 else "")
        return [f"{self.path}: has no checkpoint at {len(absent)} steps of its schedule ({named})"]

    def resumable(self, at_most: int | None = None) -> tuple[int, Params, dict[str, Tensor], list[str]]:
        """Find the newest checkpoint that training can resume from, and the damaged files passed over.

        Args:
            at_most: the last step to consider; None: any.

        Raises:
            RunError: no checkpoint is whole, or the list of checksums or the rows are damaged.
        """
        damaged: list[str] = []
        sums = self.sums()
        if sums.problem is not None:
            raise RunError(f"resume = {self.path}: {sums.problem}")
        self.rows()
        for step in reversed(steps_of(sums)):
            if _resume_file(step) not in sums.known or (at_most is not None and step > at_most):
                continue
            try:
                return step, self._model_params(step, sums), self._tensors(_resume_file(step), sums), damaged
            except RunError as error:
                damaged.append(str(error))
        if damaged:
            raise RunError(f"resume = {self.path}: has no checkpoint to resume from ({'; '.join(damaged)})")
        raise RunError(f"resume = {self.path}: has no checkpoint to resume from; start again with --overwrite")

    def save(self, step: int, params: Params, resume: dict[str, Tensor]) -> None:
        """Save a checkpoint. Rows of this step have to be added before it, or a resume would drop them."""
        sums = dict(self.sums().known)
        for name, tensors in ((_resume_file(step), resume), (_model_file(step), params)):
            content = tensors_as_bytes(tensors)
            write_whole(self.folder / name, content)
            sums[name] = digest(content)
        old = sorted(filter(is_resume, sums), key=step_of)[:-N_RESUMABLE]
        kept = {name: checksum for name, checksum in sums.items() if name not in old}
        write_sums(self.folder, kept | {ROWS: self.rows_digest()})
        for name in old:
            (self.folder / name).unlink(missing_ok=True)

    def forget(self, after: int) -> bytes:
        """Drop every checkpoint after this step from the list, and return the rows of metrics.csv up to it.

        Files that are no longer listed stay until training has come to where it replaces them. Removed is what `save`
        did not come to remove, or had only begun to write, when its process was killed.
        """
        content, listed = rows_until(self.rows(), after), self.sums().known
        sums = {name: sum_ for name, sum_ in listed.items() if not CHECKPOINT.fullmatch(name) or step_of(name) <= after}
        write_sums(self.folder, sums | {ROWS: digest(content)})
        for file in list(self.folder.iterdir()):
            if is_part(file.name) or was_dropped(file.name, Sums(sums)):
                file.unlink()
        return content

    def _model_params(self, step: int, sums: Sums) -> Params:
        loaded, file = self._tensors(_model_file(step), sums), self.folder / _model_file(step)
        config = self.config
        shapes = parameter_shapes(config.model, len(config.data.vocabulary), config.n_ctx)
        for name, shape in shapes.items():
            if name not in loaded or tuple(loaded[name].shape) != shape:
                has = f"{name} of shape {tuple(loaded[name].shape)}" if name in loaded else f"no {name}"
                raise RunError(f"{file}: is of another network, it has {has} where the run's settings say {shape}")
            if loaded[name].dtype != torch.float32:
                raise RunError(f"{file}: is of another network, its {name} is {loaded[name].dtype}, not torch.float32")
            try:
                check_finite(f"weight {name}", loaded[name])
            except NotFinite as error:
                raise RunError(f"{file}: {error}") from None
        if more := sorted(set(loaded) - set(shapes)):
            raise RunError(f"{file}: is of another network, it has {more[0]} where the run's settings say none")
        return {name: loaded[name] for name in shapes}  # the file has them in no particular order

    def _tensors(self, name: str, sums: Sums) -> dict[str, Tensor]:
        try:
            return tensors_from_bytes(self.content(name, sums))[0]
        except ValueError as error:
            raise RunError(f"{self.file(name)}: is no safetensors file ({error})") from None


def control_of(config: RunConfig) -> Params:
    """Draw the parameters of the randomly initialised control of a run with these settings."""
    generator = torch.Generator().manual_seed(config.control_seed)
    return init_params(config.model, len(config.data.vocabulary), config.n_ctx, generator)


def _spread(steps: Sequence[int], at_most: int) -> list[int]:
    n = min(at_most, len(steps))
    return [steps[i] for i in sorted({round(i * (len(steps) - 1) / max(1, n - 1)) for i in range(n)})]


def _model_file(step: int) -> str:
    return f"{step:06d}.safetensors"


def _resume_file(step: int) -> str:
    return f"{step:06d}.resume.safetensors"
