"""A training run whose graders sleep, eat memory, fork, die and loop: it goes on, and every loss is counted."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest

from amft.settings.config import AMFTConfig
from amft.tasks.grading import Failure, GradingPool, Limits
from amft.tasks.word_problems import WordProblems
from amft.training.trainer import AMFTTrainer
from amft.types import Grade, Message, Problem, abstain

LIMITS = Limits(workers=2, timeout=1.0, memory_mb=512)
LOSSES = {
    "sleep": "grader_timeout", "spin": "grader_timeout", "eat": "grader_crash", "die": "grader_crash",
    "fork": "grader_crash",
}  # fmt: skip


@cache
def pool() -> GradingPool:
    return GradingPool(LIMITS, ["adversarial_judges"])


@dataclass(frozen=True)
class Hostile:
    """Word problems whose grader does one of `LOSSES` on some answers of every generation."""

    id: ClassVar[str] = "hostile-v1"
    splits: ClassVar[Mapping[str, str]] = WordProblems.splits
    test_splits: ClassVar[tuple[str, ...]] = ()
    calls: ClassVar[list[tuple[list[str], float]]] = []
    inner: ClassVar[WordProblems] = WordProblems(demonstrations="answer")

    def problems(self, split: str, *, seed: int = 0, n: int | None = None) -> list[Problem]:
        return self.inner.problems(split, seed=seed, n=8 if n is None else n)

    def prompt(self, problem: Problem) -> list[Message]:
        return self.inner.prompt(problem)

    def demonstrate(self, problem: Problem) -> str:
        return self.inner.demonstrate(problem)

    def grade(self, problem: Problem, answer: str) -> Grade:
        return self.grade_many([problem], [answer])[0]

    def grade_many(self, problems: Sequence[Problem], answers: Sequence[str]) -> list[Grade]:
        """One answer of the batch meets one kind of loss; the others get the length of the answer."""
        kind = list(LOSSES)[len(self.calls) % len(LOSSES)]
        start = time.monotonic()
        judges = [kind if i == 1 else "length" for i in range(len(answers))]
        results = pool().run("adversarial_judges:either", list(zip(judges, answers, strict=True)))
        graded = [
            abstain(r.outcome, r.why) if isinstance(r, Failure) else Grade("graded", float(r), r > 0) for r in results
        ]
        self.calls.append(([grade.outcome for grade in graded], time.monotonic() - start))
        return graded


def test_training_goes_on(tiny_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = len(LOSSES)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "unit"))
    config = AMFTConfig(
        output_dir=str(tmp_path / "run"), max_steps=steps, num_prompts=2, num_generations=4, num_demos=2,
        max_prompt_length=512, max_completion_length=24, eval={"steps": 0, "test_splits": []}, checkpoint={"steps": 0},
        sample_steps=1, balance={"rule": "amft", "meta_skip": 0},
    )  # fmt: skip
    Hostile.calls.clear()
    pool().run("adversarial_judges:pid", [()])
    AMFTTrainer(str(tiny_directory), config, task=Hostile()).train()
    pool().close()
    assert len(Hostile.calls) >= steps
    expected = [list(LOSSES.values())[i % len(LOSSES)] for i in range(len(Hostile.calls))]
    assert [Counter(outcomes) for outcomes, _ in Hostile.calls] == [
        Counter({"graded": len(outcomes) - 1, outcome: 1})
        for outcome, (outcomes, _) in zip(expected, Hostile.calls, strict=True)
    ]
    # Both processes may still be starting anew after the last batch.
    assert max(seconds for _, seconds in Hostile.calls) < LIMITS.timeout + 1 + 5
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in metrics if "frac_reward_abstained" in row]
    assert len(rows) == steps
    assert {row["frac_reward_abstained"] for row in rows} == {1 / 8}
    counted = ["frac_grader_timeout" if "frac_grader_timeout" in row else "frac_grader_crash" for row in rows]
    assert counted == [f"frac_{outcome}" for outcome in expected[-steps:]]
    samples = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    shown: list[Any] = [c for sample in samples for c in sample["completions"] if c["outcome"] != "graded"]
    assert shown
    assert all(completion["reward"] is None for completion in shown)
