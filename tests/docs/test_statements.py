"""Tables and lists in README and docs say what the code says, and what they name is there."""

import importlib
import importlib.util
import re
import tomllib

import pandas as pd
import pytest
from pages import DOCS, PAGES, ROOT, blocks, commands, name_of

from compo_mech import _HOME
from compo_mech.__main__ import VERBS
from compo_mech.interventions.switches import Switch
from compo_mech.runs.recipes import RECIPES

README = (ROOT / "README.md").read_text(encoding="utf-8")
ALL = {name_of(page): page.read_text(encoding="utf-8") for page in PAGES}
LANGUAGES = {"bash", "python", "json", "text"}
SECTIONS = {
    "own-task": None,
    "own-model": "A HookedTransformer or a bridge",
    "patching": "One patch, row by row",
    "compare-seeds": "As tables, at one step",
    "elsewhere": None,
}
"""The five jobs of a newcomer: the section of each how-to that does one; None: all before the first heading."""
MOST_LINES = 15


def rows_of(page: str, heading: str = "") -> list[list[str]]:
    """The cells of the tables of a page, below a heading, without their first two lines."""
    text = ALL[page].partition(heading)[2] if heading else ALL[page]
    lines = [line for line in text.splitlines() if line.startswith("|") and not re.match(r"^[|\-: ]+$", line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_readme_fits_a_screen_and_sets_everything_up_with_two_commands():
    assert len(README.splitlines()) <= 80
    found = re.findall(r"^python3 -m venv .*$", README, flags=re.M)
    assert [one.split(" && ")[-1] for one in found] == ["python experiments/train_parity.py", "pytest"]
    assert all("pip install -c constraints.txt -e" in one for one in found)
    assert '"^python3 -m venv .* && pytest$" README.md' in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_are_of_known_languages_and_lines_are_short(page):
    found = blocks(page)
    assert ALL[name_of(page)].count("\n```") == 2 * len(found)  # none is missed
    for block in found:
        assert block.language in LANGUAGES
        if block.language == "python":
            compile(block.text, name_of(page), "exec")
            assert max(map(len, block.text.splitlines())) <= 120
        if block.language == "text" and page.name != "map.md":
            assert max(map(len, block.text.splitlines())) <= 80


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_what_a_page_links_to_and_names_is_there(page):
    text = ALL[name_of(page)]
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)[^)]*\)", text):
        assert (page.parent / link).exists(), link
    for name in re.findall(r"(?:experiments|figures|probes)/[\w/]+\.(?:py|ipynb|csv|png)", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`(compo_mech(?:\.\w+)+)`", text):
        module, _, last = name.rpartition(".")
        assert hasattr(importlib.import_module(module), last) or importlib.util.find_spec(name), name


@pytest.mark.parametrize("name", SECTIONS)
def test_a_job_takes_few_lines(name):
    text = (DOCS / "how-to" / f"{name}.md").read_text(encoding="utf-8")
    before, *sections = re.split(r"^## ", text, flags=re.M)
    wanted = SECTIONS[name]
    section = before if wanted is None else next(one for one in sections if one.startswith(wanted))
    code = re.findall(r"^```(?:python|bash)[^\n]*\n(.*?)^```$", section, flags=re.M | re.S)
    lines = [line for block in code for line in block.splitlines() if line.strip()]
    assert 1 <= len(lines) <= MOST_LINES


def test_the_map_names_every_package_and_is_short():
    (tree,) = (block.text for block in blocks(DOCS / "map.md"))
    assert len(tree.splitlines()) <= 30
    for path in (ROOT / "compo_mech").iterdir():
        if path.name not in ("__init__.py", "__pycache__", "py.typed"):
            assert re.search(rf"\b{path.name}\b", tree), path.name
    for script in (ROOT / "probes").glob("*.py"):
        assert script.name in tree


def test_every_verb_and_recipe_has_its_row():
    verbs = [row[0].strip("`") for row in rows_of("docs/commands.md")[1:] if row[0].startswith("`")]
    assert verbs == list(VERBS)
    assert all(f"`{name}`" in ALL["docs/commands.md"] for name in RECIPES)


def test_every_counterfactual_has_its_row():
    rows = rows_of("docs/concepts/counterfactuals.md")[1:]
    assert [row[0].strip("`") for row in rows] == [switch.name for switch in Switch]


def test_thresholds_are_those_of_the_code():
    rows = [row[-1] for row in rows_of("docs/concepts/verdicts.md")[1:]]
    assert len(rows) >= 19
    for row in rows:
        module, name, value = re.fullmatch(r"`(compo_mech[\w.]+)\.([A-Z_]+)` = ([\d.]+)", row).groups()
        assert getattr(importlib.import_module(module), name) == float(value), row


def test_the_card_in_the_docs_is_that_of_the_package():
    card = pd.read_csv(ROOT / "compo_mech" / "ground_truth" / "method_card.csv")
    card = card[card["family"] == "hand-built"]
    shown = {row[0]: row[1:] for row in rows_of("docs/methods.md", "## The card") if len(row) == 5}
    for name in card["counterfactual"].unique():
        for method, cell in zip(("exact", "EAP", "IG 5", "IG 20"), shown[name], strict=True):
            own = card[(card["counterfactual"] == name) & (card["method"] == method)]
            best = f"{own['top_is_truth'].sum()} of {len(own)}"
            assert cell == f"{own['auc_all'].mean():.2f} ({own['auc_all'].min():.2f}), {best}", (name, method)
    n_builds = card.groupby(["task", "build"]).ngroups
    assert f"{n_builds} transformers built by hand" in ALL["docs/methods.md"]


def test_questions_are_those_of_the_findings():
    numbers = [int(row[0].partition(".")[0]) for row in rows_of("docs/questions.md")[1:] if row[0][:1].isdigit()]
    answered = re.findall(r"^## (\d+)\. ", (ROOT / "FINDINGS.md").read_text(encoding="utf-8"), flags=re.M)
    assert numbers == list(range(1, 20)) == list(map(int, answered))
    assert "Nineteen questions." in ALL["docs/questions.md"]
    assert f"what was found in {len(numbers)} studies" in README


def test_every_figure_is_in_the_gallery():
    drawn = re.findall(r"\(figures/results/(\w+)\.png\)", ALL["docs/gallery.md"])
    assert sorted(drawn) == sorted(path.stem for path in (ROOT / "figures" / "results").glob("*.png"))


def test_every_package_and_every_name_that_is_needed_most_has_its_page():
    pages = {page.stem for page in (DOCS / "api").glob("*.md")} - {"index"}
    packages = {path.parent.name for path in (ROOT / "compo_mech").glob("*/__init__.py")}
    assert pages <= packages
    assert {home.split(".")[0] for home in _HOME.values()} - pages == {"launch", "analyses"}
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in DOCS.rglob("*.md"):
        assert page.relative_to(DOCS).as_posix() in navigation


def test_commands_that_train_or_measure_say_how_long_they_take():
    for page in PAGES:
        if page.name not in ("README.md", "gallery.md"):
            for block in blocks(page):
                for command in commands(block) if block.language == "bash" else ():
                    words = command.parts[-1]
                    if words[0] in ("compo-mech", "pip") or (words[0] == "python" and "figures/" not in words[1]):
                        assert command.seconds or {"--help", "--resume"} & set(words), command.text


def test_extras_that_are_named_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra for text in ALL.values() for extra in re.findall(r"-e '\.\[(\w+)\]'", text)}
    assert {"dev", "docs"} <= named <= set(extras)
