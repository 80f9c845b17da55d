"""The checkpoints of a run's folder: what is vouched for, what can be read, and what is wrong with the rest.

A checkpoint exists once SHA256SUMS lists it, and every file is renamed into place whole, so that a
process killed at any moment leaves the last finished checkpoint intact.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from compo_mech.model.config import parameter_shapes
from compo_mech.model.hooked import to_hooked
from compo_mech.model.params import Params, init_params
from compo_mech.runs.config import RunConfig
from compo_mech.training.schedule import is_snapshot

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

N_RESUMABLE = 2
_SUMS = "SHA256SUMS"


class RunError(Exception):
    """Something about a run folder that its user has to know, in one line."""


class Checkpoints:
    """Those of the run in a folder."""

    def __init__(self, path: Path, config: RunConfig) -> None:
        self.path, self.config, self.folder = path, config, path / "checkpoints"

    @property
    def steps(self) -> list[int]:
        """Steps that have a checkpoint, in order."""
        return sorted(_step(name) for name in self._sums() if not name.endswith(".resume.safetensors"))

    @property
    def is_done(self) -> bool:
        """Whether it was trained to its end."""
        return self.config.train.n_steps in self.steps

    @property
    def checksums(self) -> dict[int, str]:
        """Checksum of each step's model, in order."""
        sums = self._sums()
        return {step: sums[_model_file(step)] for step in self.steps}

    def params(self, step: int | None = None) -> Params:
        """Read the model's parameters at a step; None: at the last one.

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

    def checkpoints(self, names: Sequence[str] | None = None) -> Iterator[tuple[int, Params]]:
        """Yield every checkpoint in order, one at a time.

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
            file = self.folder / _model_file(step)
            try:
                with safetensors.safe_open(file, framework="pt") as opened:
                    yield step, {name: opened.get_tensor(name) for name in names}
            except (OSError, safetensors.SafetensorError) as error:
                raise RunError(f"{file}: cannot be read ({error})") from None

    def model(self, step: int | None = None) -> "HookedTransformer":
        """Read the model at a step as a HookedTransformer; None: at the last one.

        Raises:
            RunError: as `params`.
        """
        return to_hooked(self.params(step), self.config.model)

    def control(self) -> Params:
        """Draw the parameters of the randomly initialised control of this configuration."""
        generator = torch.Generator().manual_seed(self.config.control_seed)
        return init_params(self.config.model, len(self.config.data.vocabulary), self.config.n_ctx, generator)

    def readable(self, at_most: int) -> dict[int, Params]:
        """Checkpoints that can be read, the first and the last among them, in order and evenly spaced.

        Args:
            at_most: how many.
        """
        found: dict[int, Params] = {}
        steps = self.steps
        n = min(at_most, len(steps))
        wanted = {round(i * (len(steps) - 1) / max(1, n - 1)) for i in range(n)}
        for target in sorted(wanted):
            nearest = sorted(range(len(steps)), key=lambda i, target=target: (abs(i - target), -i))
            for i in nearest:  # one beside it, where this one cannot be read
                if steps[i] in found or (i in wanted and i != target):
                    break
                try:
                    found[steps[i]] = self._model_params(steps[i])
                    break
                except RunError:
                    continue
        return dict(sorted(found.items()))

    def problems(self) -> list[str]:
        """List what is wrong with the checkpoints, in a line each: missing, damaged or of another network, files that
        nobody vouches for, and steps of the schedule that have none."""
        found = []
        for step in self.steps:
            try:
                self._model_params(step)
            except RunError as error:
                found.append(str(error))
        known = {*self._sums(), _SUMS}
        files = sorted(file.name for file in self.folder.iterdir()) if self.folder.is_dir() else []
        for name in files:
            if name not in known:
                found.append(f"{self.folder / name}: is not listed in {_SUMS}, so it is left out")
        n_steps, steps = self.config.train.n_steps, set(self.steps)
        expected = [s for s in range(n_steps + 1) if is_snapshot(s, n_steps, self.config.train.snapshot_every)]
        absent = [step for step in expected if step not in steps]
        if not steps:
            found.append(f"{self.path}: has no checkpoint")
        elif absent and (last := max(steps)) < n_steps and absent == [step for step in expected if step > last]:
            found.append(f"{self.path}: training stopped at step {last} of {n_steps}")
        elif absent:
            named = " ".join(map(str, absent[:8])) + (" ..." if len(absent) > 8 else "")
            found.append(f"{self.path}: has no checkpoint at {len(absent)} steps of its schedule ({named})")
        return found

    def resumable(self, at_most: int | None = None) -> tuple[int, Params, dict[str, Tensor], list[str]]:
        """Find the newest checkpoint that training can resume from, and the damaged files passed over.

        Args:
            at_most: the last step to consider; None: any.

        Raises:
            RunError: no checkpoint is whole.
        """
        damaged: list[str] = []
        sums = self._sums()
        for step in reversed(self.steps):
            if _resume_file(step) not in sums or (at_most is not None and step > at_most):
                continue
            try:
                return step, self._model_params(step), self._load(_resume_file(step)), damaged
            except RunError as error:
                damaged.append(str(error))
        passed = f" ({'; '.join(damaged)})" if damaged else ""
        raise RunError(f"resume = {self.path}: has no checkpoint to resume from{passed}; start again with --overwrite")

    def save(self, step: int, params: Params, resume: dict[str, Tensor]) -> None:
        """Save a checkpoint. Rows of this step have to be added before it, or a resume would drop them."""
        sums = self._sums()
        for name, tensors in ((_resume_file(step), resume), (_model_file(step), params)):
            content = safetensors.torch.save({key: value.detach().cpu().contiguous() for key, value in tensors.items()})
            self._write(f"checkpoints/{name}", content)
            sums[name] = hashlib.sha256(content).hexdigest()
        old = sorted((n for n in sums if n.endswith(".resume.safetensors")), key=_step)[:-N_RESUMABLE]
        self._write_sums({name: digest for name, digest in sums.items() if name not in old})
        for name in old:
            (self.folder / name).unlink(missing_ok=True)

    def forget(self, after: int) -> None:
        """Drop every checkpoint after this step, and every file that nobody vouches for."""
        sums = {name: digest for name, digest in self._sums().items() if _step(name) <= after}
        self._write_sums(sums)
        for file in self.folder.iterdir():
            if file.name not in (*sums, _SUMS):
                file.unlink()

    # ----------------------------------------------------------------------------- the disk

    def _sums(self) -> dict[str, str]:
        file = self.folder / _SUMS
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
                file = self.folder / _model_file(step)
                raise RunError(f"{file}: is of another network, it has {has} where the run's settings say {shape}")
        return {name: loaded[name] for name in shapes}

    def _load(self, name: str) -> dict[str, Tensor]:
        file = self.folder / name
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


def _model_file(step: int) -> str:
    return f"{step:06d}.safetensors"


def _resume_file(step: int) -> str:
    return f"{step:06d}.resume.safetensors"


def _step(name: str) -> int:
    return int(name.split(".")[0])
