"""Files that are whole or not there, and whose they are."""

import errno
import os

import pytest
import torch

from compo_mech.runs.files import write_whole
from compo_mech.runs.folder import of_run
from compo_mech.runs.run import Run
from compo_mech.runs.tensor_files import read_tensors, write_tensors


def test_tensors_come_back_as_they_were_written(tmp_path):
    tensors = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(7)}
    write_tensors(tmp_path / "some.safetensors", tensors, {"step": "8"})
    read, said = read_tensors(tmp_path / "some.safetensors")
    assert said == {"step": "8"}
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())
    (tmp_path / "some.safetensors").write_bytes((tmp_path / "some.safetensors").read_bytes()[:-3])
    with pytest.raises(ValueError, match="incomplete metadata"):
        read_tensors(tmp_path / "some.safetensors")


def test_only_a_plain_file_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "behind.txt")
    for name, code, said in (("folder", errno.EISDIR, "Is a directory"), ("pipe", errno.EINVAL, "no plain file")):
        with pytest.raises(OSError, match=said) as refused:
            write_whole(tmp_path / name, "x")
        assert refused.value.errno == code
    write_whole(tmp_path / "link", "é")
    assert (tmp_path / "behind.txt").read_bytes() == "é".encode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["behind.txt", "folder", "link", "pipe"]


def test_whose_a_file_in_a_run_is(tmp_path, tiny):
    run = Run.create(tmp_path / "one", tiny)
    run.write_analysis("look-000008-parity", {"a.csv": "x\n1\n"})
    mine = ("config.json", "metrics.csv", "checkpoints/SHA256SUMS", "checkpoints/000008.safetensors",
            "analysis/look-000008-parity/a.csv", "analysis/look-000008-parity/SHA256SUMS", "analysis/.cache/b.csv",
            "wandb/any/thing")  # fmt: skip
    others = ("notes.txt", "checkpoints/notes.txt", "checkpoints/deep/000008.safetensors", "analysis/notes.csv",
              "analysis/look-000008-parity/notes.txt", "analysis/look-000008-parity/deep/a.csv", "else/config.json",
              "analysis/.cache/b.txt")  # fmt: skip
    assert {name: of_run(run.path / name, run.path) for name in (*mine, *others)} == (
        dict.fromkeys(mine, True) | dict.fromkeys(others, False)
    )
