import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from compo_mech.evaluation.table import Row
from compo_mech.model.params import init_params
from compo_mech.runs import analysis_folder, checkpoints, files, locks, sums, vouched
from compo_mech.runs import run as run_module
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.folder import drop_replaced
from compo_mech.runs.locks import locked, record_failure, recorded_failure
from compo_mech.runs.run import Run
from compo_mech.training import loop

ROW = Row("test", "polynomial(modulus=5, start='zero')", 3, 1, 0, "iteration", 0.1 + 0.2)


def state_of(config):
    generator = torch.Generator().manual_seed(0)
    return loop.start(
        init_params(config.model, len(config.data.vocabulary), config.n_ctx, generator),
        config.model,
        config.optim,
        generator,
    )


@pytest.fixture
def run(tmp_path, tiny):
    run = Run.create(tmp_path / "runs" / "one", tiny)
    state = state_of(tiny)
    for step in (0, 1, 2, 4):
        run.add_rows(step, [ROW, Row("train", "parity", None, None, None, "loss", float(step))])
        with torch.no_grad():
            state.params["embed.W_E"].fill_(step)
        run.save(step, state.params, state.tensors())
    return run


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_run_is_read_back(run, tiny):
    again = Run.open(run.path)
    assert again.config == tiny
    assert again.steps == [0, 1, 2, 4]
    assert (again.params(2)["embed.W_E"] == 2).all()
    metrics = again.metrics
    assert list(metrics.columns) == ["step", "split", "task", "length", "layer", "head", "metric", "value"]
    assert metrics.iloc[0].tolist() == [0, *ROW]
    assert metrics.value[0] == 0.1 + 0.2
    assert metrics.length.isna()[1]


def test_the_model_at_any_step_is_a_hooked_transformer(run):
    from transformer_lens import HookedTransformer

    model = run.model(1)
    assert isinstance(model, HookedTransformer)
    assert (model.embed.W_E == 1).all()
    assert (run.model().embed.W_E == 4).all()


def test_checksums_are_as_sha256sum_reads_them(run):
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=run.path / "checkpoints", capture_output=True)
    assert done.returncode == 0


def test_only_the_newest_two_can_be_resumed(run):
    names = sorted(f.name for f in (run.path / "checkpoints").glob("*.resume.safetensors"))
    assert names == ["000002.resume.safetensors", "000004.resume.safetensors"]
    step, params, tensors, damaged = run.resumable()
    assert step == 4
    assert (params["embed.W_E"] == 4).all()
    assert "generator" in tensors
    assert not damaged
    assert run.resumable(at_most=3)[0] == 2
    with pytest.raises(RunError, match="no checkpoint to resume from"):
        run.resumable(at_most=1)


@pytest.mark.parametrize("suffix", [".safetensors", ".resume.safetensors"])
@pytest.mark.parametrize("harm", ["flip first", "flip middle", "flip last", "truncate", "empty", "delete"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(run, harm, suffix):
    file = run.path / "checkpoints" / f"000004{suffix}"
    size = file.stat().st_size
    if harm == "delete":
        file.unlink()
    elif harm in ("truncate", "empty"):
        file.write_bytes(file.read_bytes()[: size // 2 if harm == "truncate" else 0])
    else:
        flip(file, {"flip first": 0, "flip middle": size // 2, "flip last": size - 1}[harm])
    step, params, _, damaged = Run.open(run.path).resumable()
    assert step == 2
    assert (params["embed.W_E"] == 2).all()
    assert len(damaged) == 1
    assert str(file) in damaged[0]
    if suffix == ".safetensors":
        with pytest.raises(RunError, match="000004"):
            run.params(4)


def test_a_run_is_read_while_it_is_trained(run, tiny, monkeypatch):
    """After whatever is read, another process adds rows and a checkpoint."""
    state, trained = state_of(tiny), [4]

    def followed_by_a_step(read):
        def reading(path):
            found = read(path)
            with monkeypatch.context() as patch:
                patch.setattr(vouched, "read_plain", files.read_plain)
                patch.setattr(vouched, "read_sums", sums.read_sums)
                trained.append(trained[-1] + 1)
                other = Run(run.path, tiny)
                other.add_rows(trained[-1], [ROW])
                other.save(trained[-1], state.params, state.tensors())
            return found

        return reading

    monkeypatch.setattr(vouched, "read_plain", followed_by_a_step(files.read_plain))
    monkeypatch.setattr(vouched, "read_sums", followed_by_a_step(sums.read_sums))
    again = Run.open(run.path)
    for _ in range(3):
        known = again.steps[-1]
        assert again.metrics["step"].max() > known
        assert again.params().keys() == state.params.keys()
    assert trained[-1] > 20


def test_no_whole_checkpoint_is_said(run):
    for step in (2, 4):
        flip(run.path / "checkpoints" / f"{step:06d}.safetensors", 100)
    with pytest.raises(RunError, match=r"no checkpoint to resume from.*000004.*000002"):
        run.resumable()


def test_cutting_forgets_what_came_after_and_removes_nothing(run):
    others = {"000008.safetensors": b"not listed, so never finished", "notes.txt": b"the third head is odd"}
    for name, content in others.items():
        (run.path / "checkpoints" / name).write_bytes(content)
    before = {file.name: file.read_bytes() for file in (run.path / "checkpoints").iterdir()}
    with (run.path / "metrics.csv").open("a") as file:
        file.write("5,train,parity,,,,loss,0.5\n5,test,par")  # killed in the middle of a row
    run.cut(2)
    assert run.steps == [0, 1, 2]
    assert run.metrics.step.tolist() == [0, 0, 1, 1, 2, 2]
    assert run.damage() == []
    after = {file.name: file.read_bytes() for file in (run.path / "checkpoints").iterdir()}
    assert before.pop("SHA256SUMS") != after.pop("SHA256SUMS")
    assert after == before


def test_what_a_killed_save_left_is_removed_and_nothing_like_it(run):
    folder = run.path / "checkpoints"
    left = ("000001.resume.safetensors", ".compo-0123456789ab.part")  # dropped from the list, and half written
    kept = ("000003.resume.safetensors", ".compo-notes.part", ".notes.part", "000005.resume.safetensors")
    for name in (*left, *kept):
        (folder / name).write_bytes(b"x")
    run.cut(4)
    names = {file.name for file in folder.iterdir()}
    assert not names & set(left)
    assert names >= set(kept)


@pytest.mark.parametrize("killed_after", range(3))
def test_a_cut_that_is_killed_leaves_rows_that_are_vouched_for(run, monkeypatch, killed_after):
    """The list of checksums is written first, and vouches for the rows up to its own last step."""
    n_written = 0
    write = files.write_whole

    def mortal(path, content):
        nonlocal n_written
        if n_written == killed_after:
            raise Killed
        n_written += 1
        write(path, content)

    with monkeypatch.context() as patch:
        for module in (run_module, checkpoints, sums):
            patch.setattr(module, "write_whole", mortal)
        with contextlib.suppress(Killed):
            run.cut(2)
    assert Run.open(run.path).metrics.step.max() == run.steps[-1] == (4 if killed_after == 0 else 2)


def test_steps_sort_as_numbers(tmp_path, tiny):
    run = Run.create(tmp_path / "long", tiny)
    state = state_of(tiny)
    for step in (999_999, 1_000_000):
        run.save(step, state.params, state.tensors())
    assert run.steps == [999_999, 1_000_000]
    assert run.resumable()[0] == 1_000_000


def test_a_run_is_not_overwritten_unasked(run, tiny):
    with pytest.raises(RunError, match="--resume or --overwrite"):
        Run.create(run.path, tiny)
    assert run.steps == [0, 1, 2, 4]
    Run.create(run.path, tiny, overwrite=True)
    assert Run.open(run.path).steps == []


class Killed(BaseException):
    pass


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_run_that_is_replaced_is_kept_until_the_new_one_is_trained_to_its_end(run, tiny):
    before = contents(run.path)
    for _ in range(2):  # the second replaces a mere beginning
        new = Run.create(run.path, tiny, overwrite=True)
    assert Run.open(run.path).steps == []
    kept = [contents(folder) for folder in run.path.parent.iterdir() if folder != run.path]
    assert before in kept
    drop_replaced(new.path)
    assert [file.name for file in run.path.parent.iterdir()] == ["one"]


def mortal_rename(n_renames):
    """Rename so often, and then be killed."""
    rename, done = Path.rename, []

    def mortal(path, target):
        if len(done) == n_renames:
            raise Killed
        done.append(path)
        return rename(path, target)

    return mortal


@pytest.mark.parametrize("n_renames", [0, 1])
def test_killed_while_it_replaces_a_run_there_is_one_or_the_other(run, tiny, monkeypatch, n_renames):
    before = contents(run.path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", mortal_rename(n_renames))
        with pytest.raises(Killed):
            Run.create(run.path, tiny, overwrite=True)
    with locked(run.path):  # as whoever goes on does
        assert contents(run.path) == before
    drop_replaced(run.path)
    assert {file.name for file in run.path.parent.iterdir()} == {"one", ".locks"}


def test_what_is_not_of_a_run_is_never_replaced(run, tiny, tmp_path):
    """A downloaded model, settings without a run, a run with notes, a damaged run: all stay as they are."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"], "n_layer": 12}')
    (model / "model.safetensors").write_bytes(b"weights")
    bare = tmp_path / "bare"
    (bare / "checkpoints").mkdir(parents=True)
    shutil.copy(run.path / "config.json", bare)
    (bare / "metrics.csv").write_text("x,y\n")
    places = {
        name: shutil.copytree(run.path, tmp_path / name)
        for name in ("noted", "analysed", "listed", "flipped", "linked")
    }
    (places["noted"] / "checkpoints" / "notes.txt").write_text("years of work")
    Run(places["analysed"], tiny).write_analysis("look-000004-parity", {"a.csv": "1"})
    (places["analysed"] / "analysis" / "look-000004-parity" / "mine.csv").write_text("years of work")
    (places["listed"] / "analysis" / "mine").mkdir(parents=True)
    (places["listed"] / "analysis" / "mine" / "thesis.txt").write_text("years of work")
    checksum = hashlib.sha256(b"years of work").hexdigest()
    (places["listed"] / "analysis" / "mine" / "SHA256SUMS").write_text(f"{checksum}  thesis.txt\n")
    flip(places["flipped"] / "checkpoints" / "000002.safetensors", 200)
    (places["linked"] / "more").symlink_to(model)
    for place in (model, bare, *places.values()):
        before = contents(place)
        with pytest.raises(RunError, match=r"exists already; it .*left alone"):
            Run.create(place, tiny, overwrite=True)
        assert contents(place) == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_through_a_link_the_run_behind_it_is_replaced_and_locked(run, tiny, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(run.path)
    new = Run.create(link, tiny, overwrite=True)
    assert link.is_symlink()
    assert Run.open(run.path).steps == []
    drop_replaced(new.path)
    assert [file.name for file in run.path.parent.iterdir()] == ["one"]
    with locked(run.path), pytest.raises(RunError, match="is being trained"), locked(link):
        pass
    with locked(link), pytest.raises(RunError, match="is being trained"), locked(tmp_path / "link" / ".." / "one"):
        pass
    record_failure(link, "Diverged: too fast")
    assert recorded_failure(run.path) == "Diverged: too fast"


def test_an_analysis_replaces_its_own_and_leaves_notes(run):
    folder = run.write_analysis("look-000004-parity", {"a.csv": "1", "b.csv": "2"})
    (folder / "notes.txt").write_text("years of work")
    (folder / "mine").mkdir()
    (folder / "mine" / "a.csv").write_text("years of work")
    run.write_analysis("look-000004-parity", {"a.csv": "3"})
    found = {name: text for name, text in contents(folder).items() if name != "SHA256SUMS"}
    assert found == {"a.csv": b"3", "notes.txt": b"years of work", "mine/a.csv": b"years of work"}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


LOCKING = """
import sys, time
from pathlib import Path
from compo_mech.runs.locks import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


def test_a_lock_is_one_process_s_until_it_ends_however_it_ends(run):
    command = [sys.executable, "-c", LOCKING, str(run.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(RunError, match=r"run = .*one: is being trained by another process"), locked(run.path):
            pass
        with locked(run.path.with_name("two")):
            pass
        other.kill()
    with locked(run.path):
        assert Run.open(run.path).problems() == run.problems()
    with pytest.raises(ValueError, match="inside"), locked(run.path):
        raise ValueError("inside")
    with locked(run.path):
        pass


def test_a_lock_that_cannot_be_written_is_said_and_none_is_no_obstacle(run, monkeypatch):
    with pytest.raises(RunError, match="cannot be written"), locked(run.path / "config.json" / "x"):
        pass

    def unknown(*args):
        raise OSError("no locks here")

    monkeypatch.setattr(locks.fcntl, "flock", unknown)
    with locked(run.path), locked(run.path):
        pass
    monkeypatch.setattr(locks.sys, "platform", "win32")
    with locked(run.path / "config.json" / "x"):
        pass


def test_the_most_that_were_trained_at_once_stays_noted(run):
    def noted():
        found = json.loads((run.path / "environment.json").read_text())
        assert run.damage() == []
        return {name: value for name, value in found.items() if name != "checksum"}

    before = noted()
    run.note_at_once(4)
    run.note_at_once(2)
    assert noted() == before | {"trained_at_once": 4}
    (run.path / "environment.json").write_text("{")
    with pytest.raises(RunError, match=r"environment\.json: "):
        run.note_at_once(4)


def test_a_folder_that_is_no_run_is_left_alone(tmp_path, tiny):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="not a run"):
        Run.create(tmp_path / "precious", tiny, overwrite=True)
    assert (tmp_path / "precious" / "thesis.txt").exists()


def test_environment_tells_where_numbers_come_from(run):
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert {"git_commit", "git_diff", "command", "python"} <= set(environment)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{}}", "config.json"),
        ('{"colour": 1}', "there is no such setting"),
        ('{"model": {"d_model": -1}}', "d_model = -1"),
    ],
)
def test_a_bad_config_file_is_one_line(run, text, complaint):
    (run.path / "config.json").write_text(text)
    with pytest.raises(RunError) as caught:
        Run.open(run.path)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_run_and_no_such_step_are_said(run, tmp_path):
    with pytest.raises(RunError, match="must be a folder"):
        Run.open(tmp_path)
    with pytest.raises(RunError, match="step = 3: must be one of 0 1 2 4"):
        run.params(3)


def test_checkpoints_hold_no_pickle(run):
    for file in (run.path / "checkpoints").glob("*.safetensors"):
        n_header = int.from_bytes(file.read_bytes()[:8], "little")
        json.loads(file.read_bytes()[8 : 8 + n_header])
        assert hashlib.sha256(file.read_bytes()).hexdigest() in (run.path / "checkpoints" / "SHA256SUMS").read_text()


def test_creating_a_run_never_deletes_what_is_not_a_run(tmp_path, tiny):
    """Not even where its place comes to be only while it is made."""
    (tmp_path / "keep.txt").write_text("years of work")
    with pytest.raises(RunError):
        Run.create(tmp_path / "not yet there" / "..", tiny)
    assert (tmp_path / "keep.txt").exists()


def analysis_of(run, text="3"):
    return run.write_analysis("look-000004-parity", {"a.csv": text})


@pytest.mark.parametrize("n_renames", [0, 1, 2])
@pytest.mark.parametrize("reads", [False, True])
def test_an_analysis_whose_replacement_is_killed_comes_back_with_its_notes(run, monkeypatch, n_renames, reads):
    """Killed before the first rename, between the two, and before the notes have come over."""
    folder = analysis_of(run, "1")
    (folder / "notes.txt").write_text("years of work")
    (folder / "a.csv.txt").write_text("more")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", mortal_rename(n_renames))
        patch.setattr(analysis_folder, "remove", lambda *given: None)  # as a killed process does not
        patch.setattr(analysis_folder, "put_back", lambda *given: None)
        with pytest.raises(Killed):
            analysis_of(run, "2")
    assert len(list(folder.parent.iterdir())) == 2
    if reads:
        assert run.found("look", "a.csv") == ("2" if n_renames == 2 else "1")
    else:
        analysis_of(run)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert (folder / "notes.txt").read_text() == "years of work"
    assert analysis_folder.damage(folder) == []


def test_a_file_of_ones_own_whose_name_an_analysis_takes_stays_beside_it(run):
    folder = analysis_of(run, "1")
    (folder / "b.csv").write_text("years of work")
    (folder / "deep.csv").mkdir()
    (folder / "deep.csv" / "x").write_text("more")
    run.write_analysis("look-000004-parity", {"b.csv": "2"})
    assert run.found("look", "b.csv") == "2"
    kept = {path.name.split(".")[0]: path.read_text() for path in folder.iterdir() if path.suffix == ".earlier"}
    assert kept == {"b": "years of work"}
    assert (folder / "deep.csv" / "x").read_text() == "more"


def test_places_that_no_analysis_may_replace(run, tmp_path):
    behind = tmp_path / "behind"
    behind.mkdir()
    (behind / "thesis.txt").write_text("years of work")
    place = run.path / "analysis" / "look-000004-parity"
    place.parent.mkdir()

    def refused(told):
        before = contents(tmp_path)
        with pytest.raises(RunError, match=told) as error:
            analysis_of(run)
        assert "\n" not in str(error.value)
        assert contents(tmp_path) == before
        assert [path.name for path in place.parent.iterdir()] == [place.name]

    for target in (behind, tmp_path / "nowhere"):
        place.symlink_to(target)
        refused("must be no link")
        place.unlink()
    place.write_text("mine")
    refused("must be a folder")
    place.unlink()
    for name in ("SHA256SUMS", "a.csv"):
        (place / name).mkdir(parents=True)
        (place / name / "mine.txt").write_text("years of work")
        refused(f"{name}: must be a file")
        shutil.rmtree(place)
    shutil.copytree(run.path / "checkpoints", place / "checkpoints")
    shutil.copy(run.path / "config.json", place)
    refused("must be no run")


def test_a_full_disk_leaves_the_earlier_analysis_and_nothing_half_written(run, monkeypatch):
    folder = analysis_of(run, "1")

    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    for n in range(3):
        with monkeypatch.context() as patch:
            calls = iter([files.write_whole] * n)
            patch.setattr(analysis_folder, "write_whole", lambda *given, calls=calls: next(calls, full)(*given))
            with pytest.raises(RunError, match="No space left") if n < 2 else contextlib.nullcontext():
                run.write_analysis("look-000004-parity", {"a.csv": "2", "b.csv": "3"})
        assert run.found("look", "a.csv") == ("2" if n == 2 else "1")
        assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_only_analyses_of_ours_are_found(run):
    analysis_of(run, "1")
    for name in ("look-1more-notes", "look-999999-parity", "look-000009x", "look-00004"):
        (run.path / "analysis" / name).mkdir()
    assert run.analysed("look").step == 4
    run.write_analysis("look-000004", {"a.csv": "2"})
    run.write_analysis("look-1000000-parity", {"a.csv": "3"})
    assert run.found("look", "a.csv") == "3"


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, torch.float16, torch.float64])
def test_weights_of_another_kind_are_refused(run, dtype):
    params = run.params(4)
    run.save(8, params | {"embed.W_E": params["embed.W_E"].to(dtype)}, state_of(run.config).tensors())
    assert run.damage()[0] == (
        f"{run.path}/checkpoints/000008.safetensors: is of another network, its embed.W_E is {dtype}, not torch.float32"
    )
    with pytest.raises(RunError, match=r"its embed\.W_E is"):
        run.params(8)
