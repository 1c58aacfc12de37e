"""Rows in TRL's formats: every way in, and every row that is refused by number, column and fix."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest
from pyarrow import csv, parquet

from amft.data.check_rows import check_demonstrations, check_one_kind, check_prompts
from amft.data.dataset import load_rows
from amft.data.row_set import RowSet
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
        ("empty.parquet", b"", r"cannot be read as \.parquet"),
        ("a.csv", b"a,b\n1,2\n\n3\n", "row 2: has 1 values for 2 columns"),
        ("a.csv", b"a,b\n1,2,3\n", "row 1: has 3 values for 2 columns; quote commas"),
        ("a.csv", b'a,b\n1,"2\n', r"line 2: cannot be read as \.csv \(unexpected end of data\)"),
        ("a.csv", b"a,a\n1,2\n", r"two columns have one name \(a, a\)"),
        ("a.csv", b"a,b\n", "no rows"),
        ("a.csv", b"", "no rows"),
        ("a.csv", b"a,b\n\xff,1\n", "cannot be read"),
        ("a.json", b"[" * 100_000, "cannot be read|not JSON"),
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


def test_rows_come_out_as_they_stand_in_the_file(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "2020-01-01", "answer": 1, "big": 2**70, "mixed": [1, "x", None, {"a": 1}]},
        {"prompt": [{"role": "user", "content": "?", "name": "A"}], "answer": "two", "when": "2020-01-01T00:00:00"},
        {"prompt": [{"role": "user", "content": "?"}], "answer": 2.0, "type": "user", "message": {"role": None}},
        {"prompt": "a", "answer": None, "x" * 20: {"b": [[], [{}]]}},
    ]
    for suffix in ("jsonl", "json"):
        found = load_rows(write(tmp_path / f"a.{suffix}", rows))
        assert json.dumps(found) == json.dumps(rows)  # types and the order of keys too
    late = [{"prompt": "x" * 1000, "answer": 1}] * 12_000 + [{"prompt": "b", "answer": "two", "new": 1}]
    assert load_rows(write(tmp_path / "late.jsonl", late)) == late


def test_a_csv_column_is_numbers_only_if_all_of_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "prompt,whole,number,code,na,day,empty\n7,1,1,007,NA,2020-01-01,\n8,,2.50,1,2,2021-01-01,\n"
    )
    assert json.dumps(load_rows(tmp_path / "a.csv")) == json.dumps(
        [
            {"prompt": "7", "whole": 1, "number": 1.0, "code": "007", "na": "NA", "day": "2020-01-01", "empty": ""},
            {"prompt": "8", "whole": None, "number": 2.5, "code": "1", "na": "2", "day": "2021-01-01", "empty": ""},
        ]
    )


NOWHERE = """
import os, socket, sys, pathlib
def refuse(*a, **k):
    print("NETWORK", a)
    os._exit(3)
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from amft.data.dataset import load_rows
print(len(load_rows(sys.argv[1])), [str(p) for p in pathlib.Path.home().rglob("*")], "torch" in sys.modules)
"""


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_file_is_read_without_network_or_a_cache_at_home(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.{suffix}", FLAT)
    (tmp_path / "home").mkdir()
    (tmp_path / "tmp").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", NOWHERE, str(path)],
        env=kept | {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("2 [] False\n", "", 0)
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet"])
def test_a_changed_file_is_read_anew(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a [1]*.{suffix}", [{"prompt": "a"}])
    before = path.stat()
    assert load_rows(path) == [{"prompt": "a"}]
    write(path, [{"prompt": "b"}])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load_rows(path) == [{"prompt": "b"}]


@pytest.mark.parametrize(
    ("named", "asked"),
    [
        ("open-r1/Set_1.0:train", ("open-r1/Set_1.0", None, "train")),
        ("open-r1/Set_1.0:main:train[:10%]", ("open-r1/Set_1.0", "main", "train[:10%]")),
    ],
)
def test_sets_of_the_hub(named: str, asked: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(name: str, configuration: str | None, *, split: str) -> datasets.Dataset:
        assert (name, configuration, split) == asked
        return datasets.Dataset.from_list(FLAT)

    monkeypatch.setattr(datasets, "load_dataset", fetch)
    assert load_rows(named, allow_download=True) == FLAT
    with pytest.raises(DataError, match="no such file, and sets of the hub are fetched only for a recipe with allow_d"):
        load_rows(named)
    with pytest.raises(DataError, match=r"open-r1/x: which split\? write open-r1/x:train, or open-r1/x:conf"):
        load_rows("open-r1/x", allow_download=True)
    with pytest.raises(DataError, match=r"^data/x.jsonl: no such file; give the path"):
        load_rows("data/x.jsonl", allow_download=True)
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: 1 / 0)
    with pytest.raises(DataError, match=r"^cannot fetch open-r1/Set_1.0 \(division by zero\)$"):
        load_rows(named, allow_download=True)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}), "keys: train.*give one split"),
        (datasets.Dataset.from_list(ROWS).to_iterable_dataset(), r"IterableDataset streams, but rows are.*take\(n\)"),
        ([], "no rows"),
        (["a"], "row 1: is a str"),
        (3, "must be a path, a datasets.Dataset or a list of dicts, not int"),
        (iter(ROWS), "must be a path"),
    ],
    ids=["dict", "stream", "empty", "strings", "number", "iterator"],
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
    check_prompts(RowSet.whole("mine", [{"prompt": prompt}, {"prompt": prompt}]))


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
    with pytest.raises(DataError, match=r"^mine row 2: ") as caught:
        check_prompts(RowSet.whole("mine", [{"prompt": "fine"}, row]))
    with pytest.raises(DataError, match=said if "{" not in said else "needs messages like"):
        check_prompts(RowSet("theirs", [row], [2]))
    assert "\n" not in str(caught.value)


def test_one_joined_set_serves_both_branches() -> None:
    for rows in (ROWS, FLAT, ROWS + FLAT):
        check_prompts(RowSet.whole("mine", rows))
        check_demonstrations(RowSet.whole("mine", rows))


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
        check_demonstrations(RowSet.whole("mine", [ROWS[0], FLAT[0], row]))
    assert str(caught.value).startswith("mine row 3: ")


def test_an_empty_dataset_is_named() -> None:
    with pytest.raises(DataError, match="mine: no rows"):
        check_prompts(RowSet.whole("mine", []))
    with pytest.raises(DataError, match="mine: no rows"):
        check_demonstrations(RowSet.whole("mine", []))


@pytest.mark.parametrize("prompt", ["a\ud800", [{"role": "user", "content": "a\ud800"}]])
def test_half_of_a_surrogate_pair_is_no_text(prompt: Any) -> None:
    with pytest.raises(DataError, match=r"mine row 2: character 2 of prompt is half of a surrogate pair"):
        check_prompts(RowSet.whole("mine", [{"prompt": "a"}, {"prompt": prompt}]))


def test_rows_keep_their_numbers() -> None:
    rows = RowSet.whole("mine", [{"prompt": "a"}, {"prompt": "b"}, {"prompt": ""}]).pick([1, 2])
    with pytest.raises(DataError, match="^mine row 3: prompt is empty"):
        check_prompts(rows)


@pytest.mark.parametrize("other", [0, 1])
def test_two_formats_in_one_run_are_refused(other: int) -> None:
    talks, plain = RowSet.whole("talks", [ROWS[0]]), RowSet.whole("plain", [FLAT[0], FLAT[0]])
    first, second = (talks, plain) if other else (plain, talks)
    check_one_kind([first, first])
    with pytest.raises(DataError, match=f"^{second.name} row 1: its prompt is .* that of {first.name} row 1 is"):
        check_one_kind([first, second])
    with pytest.raises(DataError, match="mine row 2: its prompt is a string, that of mine row 1 is a conversation"):
        check_one_kind([RowSet.whole("mine", [ROWS[0], FLAT[0]])])
