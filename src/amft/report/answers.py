"""The same test problems answered before and after training, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .load import JsonRows, Run
from .outcomes import latest_rows
from .text import shorten

MOST_CHARACTERS = 1500


@dataclass(frozen=True)
class AnswerPair:
    """One test problem and its answers."""

    split: str
    prompt: str
    before: str
    before_tone: str
    """`good`, `poor` or `none` (not scored)."""
    after: str
    after_tone: str


def answer_pairs(run: Run, most: int) -> list[AnswerPair]:
    """The first answers to some test problems: those whose verdict changed for the better, the worse, and not, in turn.

    Empty where the run wrote no answers (runs before November 2026), or was not scored both times.

    Args:
        run: as loaded.
        most: how many.
    """
    before, after = (_first(latest_rows(run.scores, model)) for model in ("base", "policy"))
    shared = [problem for problem in before if problem in after]
    kinds: dict[int, list[AnswerPair]] = {1: [], -1: [], 0: []}
    for problem in shared:
        old, new = before[problem], after[problem]
        change = float(new["correct"]) - float(old["correct"])
        kinds[(change > 0) - (change < 0)].append(_pair(old, new))
    longest = max(map(len, kinds.values()))
    mixed = [pairs[i] for i in range(longest) for pairs in kinds.values() if i < len(pairs)]
    return mixed[:most]


def _first(rows: JsonRows) -> dict[tuple[str, Any], dict[str, Any]]:
    return {
        (str(row.get("split")), row.get("problem")): row
        for row in rows
        if row.get("sample") == 0 and row.get("answer") is not None and row.get("correct") is not None
    }


def _pair(old: dict[str, Any], new: dict[str, Any]) -> AnswerPair:
    prompt, before, after = (
        shorten(str(text), MOST_CHARACTERS) for text in (old.get("prompt") or "", old["answer"], new["answer"])
    )
    return AnswerPair(str(old["split"]), prompt, before, _tone(old), after, _tone(new))


def _tone(row: dict[str, Any]) -> str:
    return "none" if row.get("reward") is None else "good" if float(row["correct"]) > 0 else "poor"
