"""A module imports only modules that stand above it in this list, which is the README's map in import order."""

import ast
from pathlib import Path

import compo_mech

FLOORS = [
    "settings", "tasks", "layout", "vocabulary",
    "data", "counterfactuals", "variables", "metrics", "attention", "emergence",
    "model", "hooks", "forward",
    "optim", "train", "ensemble", "evaluate", "graph", "edges", "traces", "interventions", "twins",
    "learning_coefficient",
    "route_patching", "routes", "heads", "causal", "alignment", "weights", "sketch", "constructed",
    "circuits", "faithfulness", "completeness", "discovery", "dissection", "task_token", "sharing",
    "config", "recipes", "checkpoints", "runs", "trajectory", "watching",
    "plotting", "charts", "views", "report", "sections", "sharing_section",
    "progress", "command_line", "launch", "together", "telling", "processes", "cluster", "sweeps",
    "studies.grading", "studies.seeds", "studies.dissecting", "studies.aligning",
    "studies.comparing", "studies.watching", "studies.emerging", "studies.measures", "studies.study", "studies.scaling",
    "studies.baselines", "studies.transfer", "studies.mix", "studies.curriculum", "studies.ablations",
    "studies.positions", "studies.state_rule", "studies.capacity", "studies.odd_spot", "studies.groups",
    "studies.grokking", "studies.hooked_loops", "studies.watching_speed",
]  # fmt: skip
PROBE_FLOORS = [
    "fit", "variance", "tables", "readings", "rule_or_table", "position_subtraction", "state_update",
    "running", "pieces", "subtraction_page", "update_page", "over_runs", "told", "studied",
]  # fmt: skip
ROOT = Path(compo_mech.__file__).parent
OWNERS = {
    "transformer_lens": {"model"},
    "plotly": {"plotting", "charts", "report", "sections", "sharing_section"},
    "circuitsvis": {"views"},
    "tyro": {"command_line", "launch"},
    "safetensors": {"checkpoints"},
    "wandb": {"launch"},
    "devinterp": {"learning_coefficient"},
    "submitit": {"cluster"},
}


def imports(path):
    tree = ast.parse(path.read_text())
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules():
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in ROOT.rglob("*.py")
        if path.name != "__init__.py"
    }


def test_every_module_has_its_floor():
    assert set(modules()) == set(FLOORS)


def test_imports_go_downwards():
    for name, path in modules().items():
        for imported in imports(path):
            below = imported.removeprefix("compo_mech.")
            if imported.startswith("compo_mech.") and below in FLOORS:
                assert FLOORS.index(below) < FLOORS.index(name), f"{name} imports {below}"


def test_probes_stand_on_the_package_and_it_not_on_them():
    probes = {path.stem: path for path in (ROOT.parent / "probes").glob("*.py") if path.name != "__init__.py"}
    assert set(probes) == set(PROBE_FLOORS)
    for name, path in probes.items():
        own = [node for node in ast.parse(path.read_text()).body if not isinstance(node, ast.If)]  # not the script's
        imported = [
            f"{node.module}.{alias.name}" for node in own if isinstance(node, ast.ImportFrom) for alias in node.names
        ]
        for module in (i.removeprefix("probes.").split(".")[0] for i in imported if i.startswith("probes.")):
            assert PROBE_FLOORS.index(module) < PROBE_FLOORS.index(name), f"{name} imports {module}"
    for name, path in modules().items():
        assert not any(imported.split(".")[0] == "probes" for imported in imports(path)), name


def test_each_resource_has_one_owner():
    for name, path in modules().items():
        for imported in imports(path):
            library = imported.split(".")[0]
            assert name in OWNERS.get(library, {name}), f"{name} imports {library}"


def test_no_postponed_annotations():
    for path in modules().values():
        assert "__future__" not in set(imports(path)), path


def test_scripts_import_no_scripts():
    root = ROOT.parent
    scripts = {path.stem for path in (root / "experiments").glob("*.py")}
    for path in (root / "experiments").glob("*.py"):
        assert not {name.split(".")[0] for name in imports(path)} & (scripts | {"experiments", "tests"}), path
