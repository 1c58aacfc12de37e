"""The recipe of `make demo-llm`: it parses, its rows are apart, its reward reads answers as people write them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from amft.data.rewards import load_reward
from amft.settings.recipe import load_recipe

ROOT = Path(__file__).parents[2]
SUMS = ROOT / "recipes" / "smollm2" / "sums.py"


def test_rows_are_apart_and_every_demonstration_is_right(tmp_path: Path) -> None:
    subprocess.run([sys.executable, SUMS, tmp_path / "sums"], check=True)
    rows = {
        name: [json.loads(line) for line in (tmp_path / "sums" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("train", "test")
    }
    asked = {name: [row["prompt"][0]["content"] for row in found] for name, found in rows.items()}
    assert (len(asked["train"]), len(asked["test"])) == (400, 128)
    assert len({*asked["train"], *asked["test"]}) == 528
    right = load_reward(f"{SUMS}:right")
    found = [*rows["train"], *rows["test"]]
    answers = [row["answer"] for row in found]
    assert set(right([], [row["completion"] for row in found], answers)) == {1.0}
    for row in found:
        a, b = map(int, re.findall(r"\d+", row["prompt"][0]["content"]))
        assert row["answer"] == str(a + b)


def test_the_reward_reads_the_last_number() -> None:
    right = load_reward(f"{SUMS}:right")
    said = ["82", "47 + 35 = 82.", "47 + 35 = 81", "I do not know", "82, that is 47 + 35", ""]
    completions = [[{"role": "assistant", "content": text}] for text in said]
    assert right([], completions, ["82"] * len(said)) == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]


def test_the_recipe_parses_and_names_what_make_fetches() -> None:
    recipe = load_recipe(ROOT / "recipes" / "smollm2" / "sums.yaml")
    assert recipe.model == "smollm2"
    assert recipe.data is not None
    assert recipe.data.rewards == ["recipes/smollm2/sums.py:right"]
    made = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in ("amft fetch smollm2", "recipes/smollm2/sums.py sums", "amft train recipes/smollm2/sums.yaml"):
        assert command in made
