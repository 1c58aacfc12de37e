"""The README as somebody reads it who has never seen this: short, soon at a command, no word before it is explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")

EXPLAINED = {
    "RL": "reinforcement learning (RL)",
    "SFT": "supervised fine-tuning (SFT)",
    "TRL": "TRL\n\n[TRL](https://github.com/huggingface/trl) is the usual library",
}
"""Symbol -> the words that explain it; it does not stand before them."""

NOT_HERE = (
    "AMFT-", "CHORD", "GAE", "GRPO ", "H*", "KL", "LUFFY", "OOD", "PPO", "dU/dmu", "entropy", "lookahead",
    "meta-gradient", "policy", "rollout", "verifier",
)  # fmt: skip
"""Words of the trade that are explained in the docs only."""


def before(mark: str) -> int:
    """Words in front of the first place where `mark` stands."""
    return len(TEXT[: TEXT.index(mark)].split())


def test_it_is_short() -> None:
    assert len(TEXT.split()) < 900


def test_a_command_and_python_come_soon() -> None:
    assert before("```sh") < 150
    assert before("```python") < 250


@pytest.mark.parametrize("symbol", EXPLAINED)
def test_a_symbol_is_explained_where_it_stands_first(symbol: str) -> None:
    prose = re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    first = re.search(rf"(?<![\w`]){re.escape(symbol)}(?!\w)", prose)
    assert first is not None
    explained = prose.index(EXPLAINED[symbol])
    assert explained <= first.start() < explained + len(EXPLAINED[symbol])


@pytest.mark.parametrize("word", NOT_HERE)
def test_words_of_the_trade_are_left_to_the_docs(word: str) -> None:
    prose = re.sub(r"^```.*?^```$|\]\([^)]*\)", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert word not in prose


def test_no_release_is_promised() -> None:
    assert "pip install amft" not in TEXT


def test_it_says_at_once_that_no_gpu_has_run_it() -> None:
    assert before("No GPU has run this yet") < 70


def test_the_picture_is_small_and_follows_light_and_dark() -> None:
    (name,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TEXT)
    picture = (ROOT / name).read_text(encoding="utf-8")
    assert len(picture) < 60_000
    assert "prefers-color-scheme:dark" in picture
    assert "<script" not in picture
