"""The long bench: rows as its page describes them, a reward by hand, every run of its studies a valid recipe."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from transformers import AutoTokenizer

from amft.data.rewards import load_reward
from amft.study.file import read_study
from amft.study.plan import plan_runs

ROOT = Path(__file__).parents[2]
LONG = ROOT / "benchmarks" / "balance" / "long"
RIGHT = load_reward(f"{LONG / 'reward.py'}:right")


@pytest.fixture(scope="module")
def world() -> Iterator[ModuleType]:
    sys.path.insert(0, str(LONG))
    import world

    yield world
    sys.path.remove(str(LONG))


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (LONG / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def share_right(found: list[dict[str, Any]]) -> float:
    scores = RIGHT([], [row["completion"] for row in found], [row["answer"] for row in found])
    return sum(scores) / len(scores)


def test_demonstrations_are_as_good_as_their_regime_says() -> None:
    for name in ("expert", "easy", "verbose", "style", "few"):
        assert share_right(rows(name)) == 1, name
    assert share_right(rows("weak")) == pytest.approx(0.5, abs=0.1)
    sources = rows("two-sources")
    by_source = {name: [row for row in sources if row["source"] == name] for name in ("book", "web")}
    assert [share_right(by_source[name]) for name in ("book", "web")] == [1, 0]
    assert len(by_source["book"]) == len(by_source["web"])
    hidden = [{name: value for name, value in row.items() if name != "source"} for row in sources]
    assert rows("hidden-sources") == hidden
    assert len(rows("few")) == 32
    assert all(max(numbers(row)) < 50 for row in rows("easy"))


def numbers(row: dict[str, Any]) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", row["prompt"])]


def test_nothing_that_is_scored_is_trained_on(world: ModuleType) -> None:
    for name in ("train", "expert", "weak", "easy", "verbose", "style", "two-sources", "few", "val", "test"):
        wanted = name if name in ("val", "test") else "train"
        assert {world.side(tuple(numbers(row))) for row in rows(name)} == {wanted}, name


def test_filler_is_three_tenths_and_leaves_the_end_whole(world: ModuleType) -> None:
    said = world.with_filler("7+5=12;4+3+1=8;82", 0.3, random.Random(0))
    assert re.sub("[a-h]", "", said) == "7+5=12;4+3+1=8;82"
    assert said.endswith(";82")
    assert len(re.findall("[a-h]", said)) / len(said) == pytest.approx(0.3, abs=0.02)
    assert world.in_steps((47, 35)) == "7+5=12;4+3+1=8;82"


def test_rewards_by_hand() -> None:
    short = load_reward(f"{LONG / 'reward.py'}:right_and_short")
    said = ["82", "7+5=12;4+3+1=8;82", "82a", "81", "", "28"]
    assert RIGHT([], said, ["82"] * 6) == [1, 1, 1, 0, 0, 0]
    # 2 and 17 of 28 characters: 1 - .5 * 2/28 and 1 - .5 * 17/28.
    assert short([], said[:2], ["82"] * 2) == pytest.approx([1 - 1 / 28, 1 - 17 / 56])
    assert short([], ["0" * 40 + ";82"], ["82"]) == [0.5]


def test_the_tokenizer_has_a_token_for_every_character() -> None:
    reads = AutoTokenizer.from_pretrained(LONG / "base")
    for name in ("style", "verbose", "test"):
        for row in rows(name)[:50]:
            ids = reads.encode(row["prompt"] + row["completion"])
            assert reads.decode(ids) == row["prompt"] + row["completion"]
            assert len(ids) == len(row["prompt"] + row["completion"])
            assert reads.pad_token_id not in ids


@pytest.mark.parametrize("name", ["long", "long_screen"])
def test_every_run_is_a_valid_recipe(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    study = read_study(f"benchmarks/balance/{name}.yaml")
    runs = plan_runs(study, tmp_path)
    assert len(runs) == len(study.cases) * len(study.arms) * len(study.seeds)


def test_the_screen_uses_other_seeds_than_the_report_and_has_the_schedules_it_claims() -> None:
    report, screen = (read_study(ROOT / "benchmarks" / "balance" / f"{name}.yaml") for name in ("long", "long_screen"))
    assert not set(report.seeds) & set(screen.seeds)
    assert (len(screen.grid), len(screen.rules)) == (7, 12)
    assert screen.cases.items() <= report.cases.items()
