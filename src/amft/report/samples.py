"""Sample rollouts beside the demonstration: what the policy wrote early, midway and late."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .load import JsonRows, Run
from .text import shorten

PER_STEP, PER_PROMPT, MAX_CHARACTERS = 2, 4, 1500


@dataclass(frozen=True)
class Completion:
    """One rollout, ready to be shown."""

    text: str
    reward: str
    outcome: str
    tone: str
    """`good`, `poor` or `none` (not scored): a colour and a sign."""


@dataclass(frozen=True)
class LoggedSample:
    """One prompt with its demonstration and rollouts."""

    prompt: str
    demonstration: str
    completions: list[Completion]
    more: int
    """Rollouts of the group that are not shown."""


def pick_samples(run: Run) -> list[tuple[str, int, LoggedSample]]:
    """(stage, step, sample) of up to three steps, the first, the middle and the last with samples; newest first."""
    steps = sorted({row["step"] for row in run.samples})
    if not steps:
        return []
    chosen = list(dict.fromkeys([steps[0], steps[len(steps) // 2], steps[-1]]))
    stages = {1: ["the only step"], 2: ["early", "late"], 3: ["early", "middle", "late"]}[len(chosen)]
    found = zip(reversed(stages), reversed(chosen), strict=True)
    return [(stage, step, sample) for stage, step in found for sample in _samples(run.samples, step)]


def _samples(rows: JsonRows, step: int) -> Iterator[LoggedSample]:
    for row in [row for row in rows if row["step"] == step][:PER_STEP]:
        done = row.get("completions") or []
        yield LoggedSample(
            prompt=shorten(_said(row.get("prompt")), MAX_CHARACTERS),
            demonstration=shorten(_said(row.get("demonstration")), MAX_CHARACTERS),
            completions=[_completion(item) for item in done[:PER_PROMPT]],
            more=max(0, len(done) - PER_PROMPT),
        )


def _completion(item: dict[str, Any]) -> Completion:
    reward, outcome = item.get("reward"), item.get("outcome")
    right = outcome == "correct" or (outcome is None and reward is not None and reward > 0)
    return Completion(
        text=shorten(_said(item.get("text")), MAX_CHARACTERS),
        reward="not scored" if reward is None else f"{reward:g}",
        outcome=str(outcome or "").replace("_", " "),
        tone="none" if reward is None else "good" if right else "poor",
    )


def _said(value: Any) -> str:
    """A text, or a conversation as text."""
    if isinstance(value, list):
        turns = [turn for turn in value if isinstance(turn, dict)]
        alone = len(turns) == 1
        return "\n\n".join(
            f"{'' if alone else str(turn.get('role')) + ': '}{_said(turn.get('content'))}" for turn in turns
        )
    return "" if value is None else str(value)
