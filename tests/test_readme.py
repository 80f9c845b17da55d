"""What the README says is run here, as far as minutes allow."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformers import PreTrainedTokenizerFast

from compo_mech.launch import main, settings
from compo_mech.runs import recipes

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^python experiments/(train_\w+)\.py ?([^#\n]*)", README, flags=re.M)
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.S)


def words(text):
    return [word.strip("'") for word in text.split()]


def test_the_readme_has_training_commands():
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize(("script", "arguments"), COMMANDS, ids=[f"{s} {a}".strip() for s, a in COMMANDS])
def test_the_settings_in_the_readme_exist(script, arguments, capsys):
    recipe = getattr(recipes, script.removeprefix("train_"))()
    if "--help" in arguments:
        with pytest.raises(SystemExit) as stop:
            settings.parse(recipe, words(arguments))
        assert stop.value.code == 0
        assert "residual stream" in capsys.readouterr().out
    else:
        settings.parse(recipe, words(arguments))


def test_the_two_commands_set_everything_up():
    commands = re.findall(r"^python3 -m venv .*$", README, flags=re.M)
    assert [c.split(" && ")[-1] for c in commands] == ["python experiments/train_parity.py", "pytest"]
    assert all("pip install -c constraints.txt -e" in c for c in commands)
    assert "&& pytest$" in (ROOT / ".ci" / "run").read_text()


def test_the_map_names_every_module():
    for path in (*(ROOT / "compo_mech").glob("*.py"), *(ROOT / "probes").glob("*.py")):
        assert path.name == "__init__.py" or path.name in README


def test_the_scripts_and_notebooks_that_it_names_are_there():
    named = set(re.findall(r"(?:experiments|figures|probes)/[\w/]+\.(?:py|ipynb|csv|png)", README))
    assert {"experiments/watch.py", "experiments/compare.py", "figures/notebooks/tutorial.ipynb"} <= named
    made = {"figures/results/mechanism.html"}
    assert {name for name in named - made if not (ROOT / name).exists()} == set()


def test_the_python_example_runs(tmp_path):
    main.main(recipes.parity(), ["--runs-dir", str(tmp_path), "--name", "one", "--train.n-steps", "2",
                                   "--data.max-length", "4", "--n-test-strings", "8"])  # fmt: skip
    assert len(EXAMPLES) == 3
    exec(EXAMPLES[0].replace("runs/parity-seed0", str(tmp_path / "one")).replace("step=600", "step=2"), {})


def words_of_names():
    """A tokenizer with a token for each word of the README's prompts, as those of language models have them."""
    behind = [f" {word}" for word in ["and", "met", "gave", "a", "drink", "to", "Mary", "John", "Anna", "Paul"]]
    words = ["<s>", "When", *behind, ","]
    pieces = {word.replace(" ", "Ġ"): i for i, word in enumerate(words)}
    built = tokenizers.Tokenizer(tokenizers.models.WordLevel(pieces, unk_token="<s>"))
    built.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = tokenizers.decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=built, unk_token="<s>", pad_token="<s>", eos_token="<s>")


def test_the_example_of_prompts_of_ones_own_runs_elsewhere(tmp_path, monkeypatch, capsys):
    """On a network of none of our kinds, from texts to the picture of the circuit."""
    monkeypatch.chdir(tmp_path)
    cfg = HookedTransformerConfig(
        n_layers=2, n_heads=4, n_key_value_heads=2, d_model=32, d_head=8, d_mlp=48, n_ctx=16, act_fn="silu", seed=0,
        normalization_type="RMS", final_rms=True, gated_mlp=True, positional_embedding_type="rotary", rotary_dim=8,
        default_prepend_bos=False, device="cpu",
    )  # fmt: skip
    model = HookedTransformer(cfg, words_of_names())
    assert EXAMPLES[1].strip().count("\n") < 12
    exec(EXAMPLES[1], {"model": model})
    assert "L0H1 → L1H0.v @ giver, mlp0 → logits: logit difference" in capsys.readouterr().out
    page = (tmp_path / "names.html").read_text()
    for shown in ("Mary and John met, John gave a drink to", "&#x27; Mary&#x27;", "L1H3.z", "of largest score"):
        assert shown in page, shown
    assert "6 giver" in page


@pytest.mark.slow
def test_a_task_of_ones_own_goes_from_its_rule_to_its_pages(tmp_path):
    (source,) = re.findall(r"```py\n(.*?)```", README, flags=re.S)
    (tmp_path / "my_tasks.py").write_text(source)
    commands = re.findall(r"^compo-mech (.*--import my_tasks[^#\n]*)", README, flags=re.M)
    tiny = "--train.n-steps 2 --data.max-length 3 --model.d-model 8 --n-test-strings 16 --runs-dir runs"
    rows = [{"clean": f"[clipped] {x} 1 [EoI]", "corrupt": f"[clipped] {1 - x} 1 [EoI]", "answer": str(x),
             "foil": str(1 - x)} for x in (0, 1)]  # fmt: skip
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for command, more in zip(commands, (tiny, "", ""), strict=True):
        done = subprocess.run([sys.executable, "-m", "compo_mech", *command.split(), *more.split()], cwd=tmp_path,
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert "Taken apart: clipped" in (tmp_path / "runs" / "clipped" / "report.html").read_text()
    assert "[clipped] 1 1 [EoI]" in (tmp_path / "prompts" / "report.html").read_text()


def test_the_grading_example_says_what_the_readme_says(capsys):
    exec(EXAMPLES[2], {})
    shown = capsys.readouterr().out
    assert "auc_all=1.0" in shown
    assert "top_is_truth=True" in shown


def test_a_figure_is_drawn_by_the_command_that_it_says(tmp_path):
    """From a shell, once; tests/test_figures.py calls all of them."""
    table, out = tmp_path / "mechanism.csv", tmp_path / "mechanism.html"
    shutil.copy(ROOT / "figures" / "results" / "mechanism.csv", table)
    command = [sys.executable, "figures/mechanism.py", str(table), "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "decoded from its output" in out.read_text()


def test_the_task_of_ones_own_is_trained_as_it_says(tmp_path, monkeypatch):
    (command,) = re.findall(r"`python experiments/train_parity\.py (--import [^`]*)`", README)
    (source,) = re.findall(r"with this in `my_tasks\.py`:\n\n```py\n(.*?)```", README, flags=re.S)
    (tmp_path / "my_tasks.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    asked = settings.parse(recipes.parity(), words(command))
    assert asked.data.tasks[0].table[1].tolist() == [1, 2, 3, 3]
