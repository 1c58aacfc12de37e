"""Making and scoring reasoning-gym problems. Runs only in grading processes: the package loads much and trusts text."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

NONSENSE = "I do not know"


def warm_up() -> None:
    """Load the package."""
    _dataset("chain_sum", "{}", 0)


def names() -> list[str]:
    """The datasets there are."""
    from reasoning_gym.factory import DATASETS

    return sorted(DATASETS)


def make(dataset: str, options: str, seed: int, start: int, stop: int) -> list[dict[str, Any]]:
    """The usable problems with these indices: `index`, `question`, `answer`.

    A problem without an answer of its own, or whose answer does not get full marks, has no expert and is left out;
    so is one that gives full marks to nonsense.

    Args:
        dataset: name in reasoning-gym.
        options: of the dataset, as a JSON object.
        seed: of the dataset; problem i is a function of name, options, seed and i.
        start, stop: indices.
    """
    made = _dataset(dataset, options, seed)
    rows = []
    for index in range(start, stop):
        entry = made[index]
        answer = entry["answer"].strip() if isinstance(entry.get("answer"), str) else ""
        if answer and made.score_answer(answer, entry) >= 1.0 > made.score_answer(NONSENSE, entry):
            rows.append({"index": index, "question": str(entry["question"]).strip(), "answer": answer})
    return rows


def score_answer(dataset: str, options: str, seed: int, index: int, answer: str) -> float:
    """The dataset's own score of an answer, from 0 to 1."""
    made = _dataset(dataset, options, seed)
    return min(1.0, max(0.0, float(made.score_answer(answer, _entry(dataset, options, seed, index)))))


@lru_cache(maxsize=32)
def _dataset(dataset: str, options: str, seed: int) -> Any:
    import reasoning_gym

    return reasoning_gym.create_dataset(dataset, **{"size": 1_000_000, "seed": seed, **json.loads(options)})


@lru_cache(maxsize=4096)
def _entry(dataset: str, options: str, seed: int, index: int) -> Any:
    return _dataset(dataset, options, seed)[index]
