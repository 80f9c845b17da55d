"""Files that are whole or not there, and whose they are."""

import errno
import os
import shutil

import pandas as pd
import pytest
import torch

from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.files import write_whole
from compo_mech.runs.folder import drop_replaced, of_run
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


TRACKED = "wandb/offline-run-20260101_120000-ab12cd34"


def test_whose_a_file_in_a_run_is(trained_tiny, tmp_path, tiny):
    """Lists and checksums tell, and names only where there are none."""
    run = Run.open(shutil.copytree(trained_tiny, tmp_path / "one"))
    run.write_analysis("look-000008-parity", {"a.csv": "x\n1\n"})
    run.remember("norm-0123456789abcdef", pd.DataFrame({"x": [1]}))
    mine = ("config.json", "metrics.csv", "checkpoints/SHA256SUMS", "checkpoints/000008.safetensors",
            "checkpoints/000040.resume.safetensors", "analysis/look-000008-parity/a.csv",
            "analysis/look-000008-parity/SHA256SUMS", "analysis/.cache/norm-0123456789abcdef.csv",
            f"{TRACKED}/run-ab12cd34.wandb", f"{TRACKED}/files/output.log", f"{TRACKED}/logs/debug-internal.log",
            "wandb/debug.log", "checkpoints/.compo-0123456789ab.part")  # fmt: skip
    others = ("notes.txt", "checkpoints/notes.txt", "checkpoints/deep/000008.safetensors", "analysis/notes.csv",
              "analysis/look-000008-parity/notes.txt", "analysis/look-000008-parity/deep/a.csv", "else/config.json",
              "analysis/.cache/b.txt", "analysis/.cache/mine.csv", "analysis/patching-000008/a.csv",
              "checkpoints/000017.safetensors", "checkpoints/000050.safetensors", "checkpoints/999999.safetensors",
              "checkpoints/000010.resume.safetensors", "wandb/notes.txt", f"{TRACKED}/notes.txt",
              f"{TRACKED}/run-other.wandb", f"{TRACKED}/files/notes.txt")  # fmt: skip
    for path in (run.path / name for name in (*mine, *others)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.exists() or path.write_text("mine,1\n")
    assert {name: of_run(run.path / name, run.path) for name in (*mine, *others)} == (
        dict.fromkeys(mine, True) | dict.fromkeys(others, False)
    )
    for name in ("metrics.csv", "checkpoints/000008.safetensors"):
        (run.path / name).rename(tmp_path / "behind")
        (run.path / name).symlink_to(tmp_path / "behind")
        assert not of_run(run.path / name, run.path), "a link"


def test_whose_a_checkpoint_is_that_no_list_holds(trained_tiny, tmp_path):
    """What a kill left of a save, or what was gone back from: as long as the list vouches for what came before."""
    run = Run.open(shutil.copytree(trained_tiny, tmp_path / "one"))
    folder = run.path / "checkpoints"
    run.cut(10)  # its list ends there, and nothing is resumed from
    ours = {"000020.safetensors", "000030.safetensors", "000030.resume.safetensors", "000040.safetensors"}
    theirs = {"000011.safetensors", "000009.safetensors", "000050.safetensors", "000005.resume.safetensors"}
    for name in theirs:
        shutil.copy(folder / "000010.safetensors", folder / name)
    found = {name: of_run(folder / name, run.path) for name in (*ours, *theirs)}
    assert found == dict.fromkeys(ours, True) | dict.fromkeys(theirs, False)
    (folder / "SHA256SUMS").write_text("x")
    assert not any(of_run(folder / name, run.path) for name in ours), "with a list that is damaged nothing is known"


def test_what_a_kill_left_is_replaced_and_what_somebody_put_there_is_not(trained_tiny, tmp_path, tiny, modes_bind):
    run = Run.open(shutil.copytree(trained_tiny, tmp_path / "one"))
    before = run.sums().known["000010.safetensors"]
    for place in ("checkpoints/000017.safetensors", "wandb/notes.txt", "analysis/.cache/mine.csv",
                  "analysis/patching-000040/by_hand.csv"):  # fmt: skip
        (run.path / place).parent.mkdir(parents=True, exist_ok=True)
        (run.path / place).write_text("mine,1\n")
        with pytest.raises(RunError, match=f"it is left alone, for {place} is not of a run"):
            Run.create(run.path, tiny, overwrite=True)
        (run.path / place).unlink()
    (run.path / "locked").mkdir(mode=0)
    with pytest.raises(RunError, match="not all of it can be read"):
        Run.create(run.path, tiny, overwrite=True)
    (run.path / "locked").rmdir()
    assert Run.open(run.path).sums().known["000010.safetensors"] == before
    run.cut(20)
    new = Run.create(run.path, tiny, overwrite=True)
    drop_replaced(new.path)
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
