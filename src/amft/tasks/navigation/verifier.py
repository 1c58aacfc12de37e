"""The verdict on one answer. Model text is hostile: it is parsed as JSON and compared, never run.

The answer is the last complete JSON object that holds an `action` (`tasks/answer_object.py`). One outcome per answer,
in this order: `parse_error`; `correct` when the action is right; else `wrong_landmark`, `wrong_crossing` or
`wrong_action`, the first that holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...types import Grade
from ..answer_object import last_object
from .prompts import instructions
from .state import WalkState

ACTION_OUTCOME_REWARD: Mapping[str, float] = {
    "parse_error": -1.0,
    "wrong_landmark": -1.5,
    "wrong_crossing": -1.5,
    "wrong_action": -1.0,
    "correct": 1.0,
}
"""Rewards of arXiv 2501.17161, one per outcome."""

ACTION_BINARY_REWARD: Mapping[str, float] = {name: float(name == "correct") for name in ACTION_OUTCOME_REWARD}

ACTION_REWARDS = {"outcome": ACTION_OUTCOME_REWARD, "binary": ACTION_BINARY_REWARD}

NO_METRICS = {"landmark": 0.0, "crossing": 0.0, "relation": 0.0, "instruction": 0.0}

_WORDS = re.compile(r"\w+")
_NUMBER = re.compile(r"^\s*\d+\.\s*")


def judge_action(answer: str, state: WalkState) -> tuple[str, dict[str, float]]:
    """Outcome of an answer, and what else of it is right (1) or wrong (0).

    The landmark is right if the observation names it and no other one of the route; where there is none, if nothing
    is said to be `on your` anything. None of the four decides whether the answer is correct: the action alone does.
    """
    parsed = last_object(answer, "action")
    if parsed is None:
        return "parse_error", dict(NO_METRICS)
    observation, instruction = (_words(parsed.get(key)) for key in ("observation", "instruction"))
    gold = state.seen(state.now)
    named = {name for name in state.names if _holds(observation, _words(name))}
    empty = bool(observation) and "your" not in observation and not named
    metrics = {
        "landmark": float(named == {gold.landmark} if gold.landmark else empty),
        "crossing": float(_sees_crossing(observation) == gold.crossing),
        "relation": float(gold.relation is None or _relation(observation) == gold.relation.split()),
        "instruction": float(instruction == _words(instructions(state)[state.instruction(state.now)])),
    }
    return _outcome(parsed["action"], state.action(state.now), metrics), metrics


def _outcome(action: str, gold: str, metrics: Mapping[str, float]) -> str:
    if "".join(action.lower().split()) == "".join(gold.split()):
        return "correct"
    if not metrics["landmark"]:
        return "wrong_landmark"
    return "wrong_action" if metrics["crossing"] else "wrong_crossing"


def _words(value: Any) -> list[str]:
    return _WORDS.findall(_NUMBER.sub("", value).lower()) if isinstance(value, str) else []


def _holds(words: list[str], part: list[str]) -> bool:
    return any(words[i : i + len(part)] == part for i in range(len(words) - len(part) + 1))


def _sees_crossing(words: list[str]) -> bool:
    return _holds(words, ["crossing"]) and not _holds(words, ["no", "crossing"])


def _relation(words: list[str]) -> list[str]:
    """The words after the last `your`, without the crossing."""
    if "your" not in words:
        return []
    after = words[len(words) - words[::-1].index("your") :]
    return after[: after.index("crossing")] if "crossing" in after else after


def grade_action(answer: str, state: WalkState, reward: str) -> Grade:
    """`judge_action` with a reward from the table `outcome` or `binary`."""
    outcome, metrics = judge_action(answer, state)
    return Grade(outcome, ACTION_REWARDS[reward][outcome], outcome == "correct", {"metrics": metrics})
