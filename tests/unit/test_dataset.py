"""Rows in TRL's formats: every way in, and every row that is refused by number, column and fix."""

import json
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest
from pyarrow import csv, parquet

from amft.data.dataset import check_demonstrations, check_prompts, load_rows
from amft.errors import DataError

USER = [{"role": "user", "content": "2+2?"}]
ROWS: list[dict[str, Any]] = [
    {"prompt": USER, "completion": [{"role": "assistant", "content": "4"}], "answer": 4},
    {"prompt": USER, "completion": [{"role": "assistant", "content": "four"}], "answer": 4},
]
FLAT: list[dict[str, Any]] = [
    {"prompt": "2+2=", "completion": "4", "x": 1.5},
    {"prompt": "ü\u2028=", "completion": "8", "x": 2.0},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    match path.suffix:
        case ".jsonl":
            lines = [json.dumps(row, ensure_ascii=False) for row in rows]
            path.write_text("\n".join([*lines, ""]), encoding="utf-8")
        case ".json":
            path.write_text(json.dumps(rows))
        case ".parquet":
            parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        case ".csv":
            csv.write_csv(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet", "csv"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"data.{suffix}", FLAT)
    assert load_rows(path) == FLAT
    assert load_rows(str(path)) == FLAT


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_conversations_from_files(tmp_path: Path, suffix: str) -> None:
    assert load_rows(write(tmp_path / f"data.{suffix}", ROWS)) == ROWS


def test_csv_keeps_text_as_text_and_lines_within_a_value(tmp_path: Path) -> None:
    rows = [{"prompt": "1", "completion": "007", "answer": 7}, {"prompt": 'a "b",\nc', "completion": "", "answer": 8}]
    (tmp_path / "a.csv").write_text('prompt,completion,answer\n1,007,7\n"a ""b"",\nc",,8\n')
    assert load_rows(tmp_path / "a.csv") == rows
    many = [{"prompt": "line\n" * 500, "completion": str(number)} for number in range(1000)]  # over a block of pyarrow
    assert load_rows(write(tmp_path / "b.csv", many)) == many


def test_datasets_and_lists() -> None:
    assert load_rows(datasets.Dataset.from_list(ROWS)) == ROWS
    assert load_rows(tuple(ROWS)) == ROWS
    given = [dict(ROWS[0])]
    load_rows(given)[0]["prompt"] = "changed"
    assert given[0]["prompt"] == USER


def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "a"}\n', encoding="utf-8-sig")
    assert load_rows(tmp_path / "a.jsonl") == [{"prompt": "a"}]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("none.jsonl", None, "no such file"),
        ("a.jsonl", b'{"prompt": "a"}\n\n{"prompt": \n', "line 3: not JSON"),
        ("a.jsonl", b"\n\n", "no rows"),
        ("a.jsonl", b'{"prompt": "a"}\n[1]\n', "row 2: is a list"),
        ("a.jsonl", b"\xff\xfe", "cannot be read"),
        ("a.json", b'{"prompt": "a"}', "holds one dict; make it a list"),
        ("a.json", b'{"prompt": "a"}\n{"prompt": "b"}', r"name it \.jsonl"),
        ("a.parquet", b"not parquet", r"cannot be read as \.parquet"),
        ("a.csv", b"a,b\n1\n", r"cannot be read as \.csv"),
        ("a.txt", b"hello", "unknown kind of file; convert it to"),
        ("a.pkl", b"hello", "unknown kind of file"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, text: bytes | None, said: str) -> None:
    if text is not None:
        (tmp_path / name).write_bytes(text)
    with pytest.raises(DataError, match=said) as caught:
        load_rows(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_pyarrow_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", FLAT)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"needs pyarrow; pip install pyarrow, or use \.jsonl"):
        load_rows(path)


def test_jsonl_needs_no_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert load_rows(write(tmp_path / "a.jsonl", FLAT)) == FLAT


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}), "keys: train.*give one split"),
        ([], "no rows"),
        (["a"], "row 1: is a str"),
        (3, "must be a path, a datasets.Dataset or a list of dicts, not int"),
        (iter(ROWS), "must be a path"),
    ],
    ids=["dict", "empty", "strings", "number", "iterator"],
)
def test_a_bad_object_is_named(source: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load_rows(source)


@pytest.mark.parametrize(
    "prompt",
    [
        "2+2=",
        " a ",
        USER,
        [{"role": "system", "content": ""}, *USER],
        [*USER, {"role": "assistant", "content": "4"}, *USER],
    ],
    ids=str,
)
def test_good_prompts(prompt: Any) -> None:
    check_prompts([{"prompt": prompt}, {"prompt": prompt}])


EMPTY = {"role": "user", "content": " \n"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "2+2=", "answer": 4}, r"no column 'prompt' \(columns: question, answer\); rename"),
        ({"prompt": None}, "prompt must be a non-empty string or list of messages, not NoneType"),
        ({"prompt": 3}, "not int '3'"),
        ({"prompt": ""}, "prompt is empty; fill it or drop the row"),
        ({"prompt": " \n"}, "prompt is empty"),
        ({"prompt": []}, "prompt must be a non-empty"),
        ({"prompt": ["hello"]}, 'prompt needs messages like {"role": "user", "content": "text"}'),
        ({"prompt": [{"role": "user"}]}, "prompt needs messages like"),
        ({"prompt": [{"role": "user", "content": [{"type": "image"}]}]}, "prompt needs messages like"),
        ({"prompt": [EMPTY]}, "last message of prompt has no content"),
        ({"prompt": [*USER, {"role": "assistant", "content": "4"}]}, "move that message to completion"),
    ],
)
def test_a_bad_prompt_is_named(row: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=r"^rl_dataset row 2: ") as caught:
        check_prompts([{"prompt": "fine"}, row])
    with pytest.raises(DataError, match=said if "{" not in said else "needs messages like"):
        check_prompts([{"prompt": "fine"}, row], "mine")
    assert "\n" not in str(caught.value)


def test_one_joined_set_serves_both_branches() -> None:
    for rows in (ROWS, FLAT, ROWS + FLAT):
        check_prompts(rows)
        check_demonstrations(rows)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "a"}, "no column 'completion'"),
        ({"prompt": "a", "completion": ""}, "completion is empty"),
        ({"prompt": "a", "completion": None}, "completion must be"),
        ({"prompt": "", "completion": "a"}, "prompt is empty"),
        ({"prompt": USER, "completion": "4"}, "differ in kind"),
        ({"prompt": "a", "completion": ROWS[0]["completion"]}, "differ in kind"),
        ({"prompt": USER, "completion": USER}, "must be one assistant message"),
        ({"prompt": USER, "completion": ROWS[0]["completion"] * 2}, "must be one assistant message"),
        ({"prompt": USER, "completion": [{"role": "assistant", "content": ""}]}, "last message of completion"),
    ],
)
def test_a_bad_demonstration_is_named(row: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        check_demonstrations([ROWS[0], FLAT[0], row])
    assert str(caught.value).startswith("sft_dataset row 3: ")


def test_an_empty_dataset_is_named() -> None:
    with pytest.raises(DataError, match="rl_dataset: no rows"):
        check_prompts([])
    with pytest.raises(DataError, match="sft_dataset: no rows"):
        check_demonstrations([])
