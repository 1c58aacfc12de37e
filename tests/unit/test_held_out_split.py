"""What is held out is held out of every source, by what it asks."""

from __future__ import annotations

import random
from typing import Any

import pytest

from amft.data.held_out_split import prompt_words, split_rows
from amft.data.row_set import RowSet
from amft.data.streams import RowStream
from amft.errors import DataError

NONE = RowSet.whole("none", [])


def rows(name: str, prompts: Any, **columns: Any) -> RowSet:
    return RowSet.whole(name, [{"prompt": prompt, **columns} for prompt in prompts])


def asked(source: RowSet) -> set[str]:
    return {prompt_words(row["prompt"]) for row in source.rows}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What is  2+2?\n", " What is 2+2?", True),
        ("ﬁve", "five", True),
        ("What", "what", False),
        ("2 + 2", "2+2", False),
        ("hi there", [{"role": "user", "content": "hi\tthere"}], True),
        ("hi", [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}], True),
        ("hi", [{"role": "user", "content": "hi"}, {"role": "user", "content": "again"}], False),
        ("hi", [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], True),
    ],
)
def test_prompts_ask_the_same_when_their_words_are_the_same(one: Any, other: Any, same: bool) -> None:
    assert (prompt_words(one) == prompt_words(other)) is same


def test_distinct_rows_are_held_out_as_they_are_drawn() -> None:
    train = rows("train", map(str, range(40)))
    split = split_rows(train, NONE, NONE, NONE, seed=3)
    order = RowStream(40, 3, "meta rows").take(40)
    assert [row["prompt"] for row in split.held_out.rows] == [str(i) for i in order[:4]]
    assert list(split.train.numbers) == [i + 1 for i in sorted(order[4:])]
    assert split.counts[0].rows == 4


@pytest.mark.parametrize("seed", range(20))
def test_no_prompt_is_on_both_sides(seed: int) -> None:
    draw = random.Random(seed)
    prompts = [f"q{draw.randrange(60)}" for _ in range(200)]
    spaced = [draw.choice(["", " "]) + prompt + draw.choice(["", "\n"]) for prompt in prompts]
    train, demos = rows("train", spaced), rows("demos", [f"q{i}" for i in range(60)] * 2)
    tests = rows("tests", [f"q{i}" for i in range(0, 60, 9)])
    split = split_rows(train, demos, NONE, tests, seed)
    held_out = asked(split.held_out)
    assert 3 <= len(held_out) == len(split.held_out.rows) <= 5
    for source in (split.train, split.demonstrations):
        assert not asked(source) & (held_out | asked(tests))
    assert asked(split.train) | held_out | asked(tests) >= asked(train)
    dropped = sum(count.rows for count in split.counts)
    assert dropped == 200 + 120 - len(split.train.rows) - len(split.demonstrations.rows)


@pytest.mark.parametrize("column", ["prompt_id", "group"])
def test_columns_that_say_that_rows_ask_the_same(column: str) -> None:
    train = RowSet.whole("train", [{"prompt": f"wording {i}", column: i // 4} for i in range(80)])
    demos = RowSet.whole("demos", [{"prompt": f"another {i}", column: i} for i in range(20)])
    split = split_rows(train, demos, NONE, NONE, seed=0)
    groups = {row[column] for row in split.held_out.rows}
    assert len(split.held_out.rows) == 8
    assert len(groups) == 2
    assert not groups & {row[column] for source in (split.train, split.demonstrations) for row in source.rows}


def test_what_is_given_for_validation_is_taken_out_and_nothing_else() -> None:
    train, val = rows("train", map(str, range(50))), rows("val", ["3", "x", "4", "9"])
    split = split_rows(train, train, val, rows("tests", ["9", "10"]), seed=0)
    assert asked(split.held_out) == {"3", "x", "4"}
    for source in (split.train, split.demonstrations):
        assert asked(source) == set(map(str, range(50))) - {"3", "4", "9", "10"}
    assert {str(count) for count in split.counts} == {
        "train: 2 of 50 rows are not used: the same prompt stands in tests",
        "train: 2 of 48 rows are not used: the same prompt stands in val",
        "val: 1 of 4 rows are not used: the same prompt stands in tests",
    }


def test_too_few_prompts_to_spare_any() -> None:
    split = split_rows(rows("train", ["a", "b"] * 30), NONE, NONE, NONE, seed=0)
    assert (len(split.train.rows), len(split.held_out.rows), split.counts) == (60, 0, [])


@pytest.mark.parametrize(
    ("train", "demos", "val", "tests", "said"),
    [
        ("ab", "", "", "ab", "train: none of its 2 rows is left .the same prompt stands in tests"),
        ("ab", "c", "ab", "", "train: none of its 2 rows is left .the same prompt stands in val"),
        ("ab", "c", "d", "c", "demos: none of its 1 rows is left .the same prompt stands in tests"),
        ("ab", "", "c", "c", "val: none of its 1 rows is left .the same prompt stands in tests"),
    ],
)
def test_nothing_left_is_refused(train: str, demos: str, val: str, tests: str, said: str) -> None:
    sources = [
        rows(name, letters) for name, letters in zip(("train", "demos", "val", "tests"), (train, demos, val, tests))
    ]
    with pytest.raises(DataError, match=said):
        split_rows(*sources, seed=0)


def test_one_group_of_everything_is_refused() -> None:
    train = RowSet.whole("train", [{"prompt": str(i), "group": "one"} for i in range(40)])
    with pytest.raises(DataError, match="none of its 40 rows is left .the prompt is held out for validation"):
        split_rows(train, NONE, NONE, NONE, seed=0)
