import ast
import subprocess
import sys
from pathlib import Path

import pytest

import compo_mech

DOOR = Path(compo_mech.__file__)


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=DOOR.parents[1])
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_alone_imports_nothing_heavy():
    told = python("import sys, compo_mech; dir(compo_mech); print('torch' in sys.modules, 'pydantic' in sys.modules)")
    assert told.split() == ["False", "False"]


def test_training_waits_for_no_library_of_the_analyses():
    heavy = {"sklearn", "scipy.stats", "scipy.optimize", "transformer_lens", "plotly"}
    assert python(f"import sys, compo_mech.launch.main; print({heavy} & set(sys.modules))").strip() == "set()"


def test_a_run_is_trained_and_measured_without_torchs_compiler_or_scipy(tmp_path):
    heavy = {"torch._dynamo", "scipy", "sklearn"}
    imports = "import sys; from compo_mech import RunConfig, TrainConfig, train; from compo_mech.stats import wilson"
    config = "RunConfig(n_test_strings=4, train=TrainConfig(n_steps=2, snapshot_every=1))"
    told = python(
        f"{imports}; train({config}, 'one', {str(tmp_path)!r}); wilson(1, 2); print({heavy} & set(sys.modules))"
    )
    assert told.split()[-1] == "set()"


def test_every_name_is_there_and_in_the_table_of_contents():
    contents = {
        word for line in DOOR.read_text().split('"""')[1].splitlines() for word in line.replace(",", "").split()
    }
    for name in compo_mech.__all__:
        assert getattr(compo_mech, name) is not None
        assert name in contents
    assert set(compo_mech.__all__) <= set(dir(compo_mech))


def test_type_checkers_see_the_same_names_in_the_same_modules():
    conditions = [node for node in ast.parse(DOOR.read_text()).body if isinstance(node, ast.If)]
    (body,) = (node.body for node in conditions if ast.unparse(node.test) == "TYPE_CHECKING")
    seen = {}
    for node in body:
        assert isinstance(node, ast.ImportFrom)
        (alias,) = node.names
        assert alias.asname == alias.name
        home = (node.module or "").removeprefix("compo_mech").removeprefix(".")
        is_module = alias.name in compo_mech._MODULES
        seen[alias.name] = f"{home}.{alias.name}".removeprefix(".") if is_module else home
    assert seen == compo_mech._HOME


def test_no_name_hides_a_module():
    modules = {path.stem for path in DOOR.parent.iterdir()}
    assert not modules & set(compo_mech.__all__)


def test_an_unknown_name_gets_the_usual_error():
    with pytest.raises(AttributeError, match="module 'compo_mech' has no attribute 'nothing'"):
        _ = compo_mech.nothing


def test_a_run_is_trained_from_a_notebook(tiny, tmp_path):
    run = compo_mech.train(tiny, "one", tmp_path)
    assert run.path == tmp_path / "one"
    assert run.steps[-1] == 40
    with pytest.raises(compo_mech.RunError):
        compo_mech.train(tiny, "one", tmp_path)
    assert compo_mech.train(tiny, "one", tmp_path, overwrite=True).is_done
    with pytest.raises(ValueError, match="device = 'abacus': must be one of"):
        compo_mech.train(tiny, "other", tmp_path, device="abacus")
