"""Packages import only those above them, no file imports its own package's `__init__`, no files go in circles."""

import ast
import graphlib
from pathlib import Path

import pytest

import compo_mech

ROOT = Path(compo_mech.__file__).parent
PACKAGES = (
    *("interrupts", "settings", "products", "parallel", "data", "model", "training", "evaluation", "stats", "runs"),
    *("interventions", "circuits"),
    *(
        "routes",
        "causal",
        "weights",
        "ground_truth",
        "probing",
        "pretrained",
        "analyses",
        "plots",
        "report",
        "cli",
        "launch",
    ),
    *("studies", "reference"),
)


def imports(file: Path) -> set[str]:
    """Modules and packages of this project that a file imports, wherever in it, as `package` or `package.file`."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "compo_mech":
            base = node.module.removeprefix("compo_mech").removeprefix(".")
            for alias in node.names:
                name = f"{base}.{alias.name}".removeprefix(".")
                found.add(name if (ROOT / name.replace(".", "/")).with_suffix(".py").exists() else base)
    return found


@pytest.fixture(scope="module")
def files() -> dict[str, set[str]]:
    """What each file imports."""
    return {
        file.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): imports(file)
        for file in sorted(ROOT.rglob("*.py"))
        if file.name not in ("__init__.py", "__main__.py")
    }


def test_packages_are_those_of_the_map(files):
    assert {name.split(".")[0] for name in files} == set(PACKAGES)


def test_a_package_imports_only_packages_above_it_and_nobody_its_own_init(files):
    for name, imported in files.items():
        package = name.split(".")[0]
        for other in imported:
            assert PACKAGES.index(other.split(".")[0]) <= PACKAGES.index(package), f"{name} imports {other}"
            assert other != package, f"{name} imports its own package's __init__"


def test_no_files_go_in_circles(files):
    graphlib.TopologicalSorter(files).prepare()


OWNERS = {
    "transformer_lens": {"model.hooked", "model.bridge_modules", "reference", "pretrained"},
    "gguf": {"pretrained.gguf_file"},
    "plotly": {"plots", "report"},
    "circuitsvis": {"plots.circuitsvis"},
    "safetensors": {"runs.tensor_files", "ground_truth.tracr"},
    "submitit": {"launch.slurm", "launch.slurm_jobs"},
    "tyro": {"cli", "launch.settings"},
    "wandb": {"launch.tracker"},
    "devinterp": {"training.learning_coefficient"},
}


def libraries(file: Path) -> set[str]:
    """Top-level names of all that a file imports where it runs, wherever in it."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    for_types = {id(inner) for block in blocks for inner in ast.walk(block)}
    found = set()
    for node in ast.walk(tree):
        if id(node) not in for_types and isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif id(node) not in for_types and isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add(str(node.module).split(".")[0])
    return found


def test_each_resource_has_its_owner(files):
    for name in files:
        found = libraries((ROOT / name.replace(".", "/")).with_suffix(".py"))
        assert "__future__" not in found, name
        for library in found & OWNERS.keys():
            assert {name, name.split(".")[0]} & OWNERS[library], f"{name} imports {library}"


def test_scripts_import_no_scripts():
    for folder in ("experiments", "probes", "figures"):
        scripts = {path.stem for path in (ROOT.parent / folder).glob("*.py")}
        for path in (ROOT.parent / folder).glob("*.py"):
            assert not libraries(path) & {"experiments", "probes", "figures", "tests", *scripts}, path


FILLED = {"Neuron", "_Count", "_Member", "Reached", "Compared", "Ensemble", "TrainState"}
"""Data classes that are filled, or go on, while they are used. All others keep what they were made with."""


def test_what_is_made_stays_as_it_was_made():
    found = set()
    for file in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                made = [ast.unparse(decorator) for decorator in node.decorator_list]
                if any(text.startswith("dataclass") and "frozen=True" not in text for text in made):
                    found.add(node.name)
    assert found == FILLED


MAX_LINES, MAX_LINES_OF_FUNCTION = 300, 60


def test_files_and_functions_can_be_read_at_once():
    for file in sorted(ROOT.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= MAX_LINES, file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                n_lines = (node.end_lineno or 0) - node.lineno + 1
                assert n_lines <= MAX_LINES_OF_FUNCTION, f"{file}: {node.name} has {n_lines} lines"
