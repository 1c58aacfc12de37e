"""Seventy data files that a user might bring: one line that says what is wrong, or a run that uses what it says."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny_runs import ROWS, parity, tiny_model, tiny_tokenizer

from amft.errors import AMFTError
from amft.settings.config import AMFTConfig
from amft.training.trainer import AMFTTrainer

CELLS = "".join(f"{row['prompt']},{row['completion']}\n" for row in ROWS)
GOOD = [json.dumps(row) for row in ROWS]
TALK = {"prompt": [{"role": "user", "content": "a g"}], "completion": [{"role": "assistant", "content": "b ."}]}


def line(*values: Any) -> str:
    """Good rows with these in their midst; a str stands as it is."""
    texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return "\n".join([*GOOD[:20], *texts, *GOOD[20:]]) + "\n"


def row(**changes: Any) -> dict[str, Any]:
    return {"prompt": "a g", "completion": " b .", **changes}


REFUSED: dict[str, tuple[str, str | bytes]] = {
    "empty": ("x.jsonl", ""),
    "blank lines": ("x.jsonl", "\n\n \n"),
    "not JSON": ("x.jsonl", line("{prompt: a}")),
    "torn": ("x.jsonl", line()[:-40]),
    "a list of lists": ("x.jsonl", line([1, 2])),
    "a number": ("x.jsonl", line(5)),
    "null": ("x.jsonl", line(None)),
    "two on a line": ("x.jsonl", line(GOOD[0] + GOOD[1])),
    "no prompt": ("x.jsonl", line({"question": "a"})),
    "prompt null": ("x.jsonl", line(row(prompt=None))),
    "prompt number": ("x.jsonl", line(row(prompt=3))),
    "prompt empty": ("x.jsonl", line(row(prompt=""))),
    "prompt spaces": ("x.jsonl", line(row(prompt="  \t"))),
    "prompt list of text": ("x.jsonl", line(row(prompt=["a"]))),
    "prompt object": ("x.jsonl", line(row(prompt={"role": "user"}))),
    "prompt empty list": ("x.jsonl", line(row(prompt=[]))),
    "message without content": ("x.jsonl", line(row(prompt=[{"role": "user"}]))),
    "message content null": ("x.jsonl", line(row(prompt=[{"role": "user", "content": None}]))),
    "message content number": ("x.jsonl", line(row(prompt=[{"role": "user", "content": 5}]))),
    "role number": ("x.jsonl", line(row(prompt=[{"role": 5, "content": "a"}]))),
    "ends with assistant": ("x.jsonl", line({"prompt": [*TALK["prompt"], *TALK["completion"]]})),
    "two formats": ("x.jsonl", line(TALK)),
    "completion of another kind": ("x.jsonl", line(row(completion=TALK["completion"]))),
    "completion number": ("x.jsonl", line(row(completion=5))),
    "completion spaces": ("x.jsonl", line(row(completion="   "))),
    "completion object": ("x.jsonl", line(row(completion={"a": 1}))),
    "surrogate": ("x.jsonl", line('{"prompt": "a \\ud800 g", "completion": " b ."}')),
    "surrogate in the completion": ("x.jsonl", line('{"prompt": "a g", "completion": " \\udfff ."}')),
    "deep": ("x.jsonl", line("[" * 100_000)),
    "deep object": ("x.jsonl", line('{"a":' * 100_000)),
    "utf-16": ("x.jsonl", line().encode("utf-16")),
    "latin-1": ("x.jsonl", line('{"prompt": "é g"}').encode("latin-1")),
    "zeros": ("x.jsonl", b"\0" * 5000),
    "random bytes": ("x.jsonl", bytes(range(256)) * 20),
    "gzip by another name": ("x.jsonl", b"\x1f\x8b\x08\x00" + bytes(50)),
    "pickle by another name": ("x.jsonl", b"\x80\x04\x95\x10\x00\x00\x00cposix\nsystem\n(S'touch owned'\ntR."),
    "every prompt too long": ("x.jsonl", "\n".join(json.dumps(row(prompt="a " * 900)) for _ in range(30))),
    "one prompt too long": ("x.jsonl", line(row(prompt="a " * 900))),
    "completions too long": ("x.jsonl", "\n".join(json.dumps({**each, "completion": " b" * 90}) for each in ROWS)),
    "one group only": ("x.jsonl", "\n".join(json.dumps({**each, "group": "one"}) for each in ROWS)),
    "json object": ("x.json", json.dumps({"rows": ROWS})),
    "json string": ("x.json", '"rows"'),
    "json torn": ("x.json", json.dumps(ROWS)[:-3]),
    "json empty list": ("x.json", "[]"),
    "json lines in json": ("x.json", line()),
    "json deep": ("x.json", "[" * 100_000),
    "csv without rows": ("x.csv", "prompt,completion\n"),
    "csv empty": ("x.csv", ""),
    "csv two columns of one name": ("x.csv", "prompt,prompt\na g,b\n" * 12),
    "csv ragged": ("x.csv", "prompt,completion\na g,b\na g,b,c\n"),
    "csv open quote": ("x.csv", 'prompt,completion\n"a g,b\n'),
    "csv without the column": ("x.csv", "question,completion\na g,b\n"),
    "csv of zeros": ("x.csv", "prompt\n\0\0\n"),
    "parquet of text": ("x.parquet", line()),
    "parquet head only": ("x.parquet", b"PAR1" + bytes(40) + b"PAR1"),
    "parquet empty": ("x.parquet", b""),
    "another kind": ("x.txt", line()),
    "no kind": ("x", line()),
    "numpy": ("x.npy", b"\x93NUMPY"),
}  # fmt: skip
TRAINED: dict[str, tuple[str, str | bytes]] = {
    "as it should be": ("x.jsonl", line()),
    "byte order mark": ("x.jsonl", "\ufeff" + line()),
    "windows lines": ("x.jsonl", line().replace("\n", "\r\n")),
    "blank lines between": ("x.jsonl", line("", "  ", "")),
    "empty completions": ("x.jsonl", line(row(prompt="k l", completion=""), row(prompt="k m", completion=None))),
    "every row twice": ("x.jsonl", line(*ROWS)),
    "columns that come and go": ("x.jsonl", line(row(prompt="m n", answer=[1, {"b": None}]))),
    "huge numbers": ("x.jsonl", line(row(prompt="m n", answer=10**300, other=1e308))),
    "infinite number": ("x.jsonl", line('{"prompt": "m n", "completion": " b .", "answer": Infinity}')),
    "controls in a prompt": ("x.jsonl", line(row(prompt="m \u0000\u202e\u0007 n"))),
    "pictures of text": ("x.jsonl", line(row(prompt="m n 😀 Ⅷ"))),
    "a long other column": ("x.jsonl", line(row(prompt="m n", notes="x" * 2_000_000))),
    "json list": ("x.json", json.dumps(ROWS)),
    "csv": ("x.csv", f"prompt,completion\n{CELLS}"),
    "csv with empty cells": ("x.csv", f"prompt,completion\nm n,\n{CELLS}"),
}  # fmt: skip
PLACES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "link to itself": lambda path: path.symlink_to(path),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "a long name": lambda path: None,
}


def trainer(file: Path, directory: Path) -> AMFTTrainer:
    config = AMFTConfig(
        output_dir=str(directory), balance={"rule": "amft", "meta_skip": 0}, max_steps=2, num_prompts=2,
        num_generations=2, num_demos=4, max_completion_length=5, eval={"steps": 0}, sample_steps=0,
    )  # fmt: skip
    return AMFTTrainer(
        tiny_model(), config, train_dataset=str(file), reward_funcs=parity, processing_class=tiny_tokenizer()
    )


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def check_refusal(caught: pytest.ExceptionInfo[AMFTError], folder: Path) -> None:
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 500
    assert any(word in said for word in (" row ", " line ", "/x", "train_dataset", "demonstrations"))
    assert not (folder / "run").exists()
    assert not Path("owned").exists()


def test_there_are_seventy() -> None:
    assert len(REFUSED) + len(TRAINED) + len(PLACES) >= 70


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_cannot_be_used_is_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(AMFTError) as caught:
        trainer(write(tmp_path, *REFUSED[name]), tmp_path / "run").train()
    check_refusal(caught, tmp_path)


@pytest.mark.parametrize("name", PLACES)
def test_a_place_that_is_no_file_is_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300 if name == "a long name" else "x.jsonl")
    PLACES[name](path)
    with pytest.raises(AMFTError) as caught:
        trainer(path, tmp_path / "run")
    check_refusal(caught, tmp_path)


@pytest.mark.parametrize("name", TRAINED)
def test_a_file_that_can_be_used_is_used_and_what_is_not_is_said(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = trainer(write(tmp_path, *TRAINED[name]), tmp_path / "run")
    result = made.train()
    used = len(made.sources.prompts.rows)
    held_out = next(count for count in made.sources.not_used if count.expected)
    assert used + held_out.rows == held_out.of
    said = capsys.readouterr().err
    assert all(str(count) in said for count in made.sources.not_used)
    assert len((result.run / "metrics.jsonl").read_text().splitlines()) == 2
