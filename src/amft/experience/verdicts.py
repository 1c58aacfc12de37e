"""What the verifier says of demonstrations: each is graded once, and then right, wrong, or not to be judged."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..data.encoding import EncodedDemo
from ..data.rewards import NOT_COLUMNS, RewardBatch, Scorer
from ..data.row_set import RowCount, RowSet
from ..settings.groups import DemonstrationSettings
from ..types import DEMO_RIGHT, DEMO_SILENT, DEMO_WRONG, NO_DEMONSTRATION, Row, Sample

PaidCounts: TypeAlias = Mapping[str, tuple[float, float]]
"""Verdict on the demonstration of a rollout's prompt -> (rollouts, those of them with a reward above 0)."""

KEPT = {"none": {DEMO_RIGHT, DEMO_WRONG, DEMO_SILENT}, "not-wrong": {DEMO_RIGHT, DEMO_SILENT}, "verified": {DEMO_RIGHT}}
"""`demonstrations.filter` -> the verdicts that it keeps."""


@dataclass(frozen=True)
class Graded:
    """Demonstrations and the verdict on each; none where nobody asked for verdicts."""

    rows: RowSet
    verdict_of: Mapping[int, str]
    """Number of a row -> its verdict. A row that is too long for the run is never graded, and absent."""

    @property
    def counts(self) -> dict[str, int]:
        """Verdict -> rows."""
        found = Counter(self.verdict_of.values())
        return {verdict: found[verdict] for verdict in (DEMO_RIGHT, DEMO_WRONG, DEMO_SILENT)}

    def __str__(self) -> str:
        said = ", ".join(f"{n} {verdict}" for verdict, n in self.counts.items())
        return f"{self.rows.name}: {len(self.verdict_of)} graded: {said}"

    def kept(self, wanted: str) -> tuple[Graded, list[RowCount]]:
        """Those that `demonstrations.filter` keeps, all of them graded, and how many verdicts it leaves out."""
        verdicts = [self.verdict_of.get(number) for number in self.rows.numbers]
        left = Counter(verdict for verdict in verdicts if verdict not in {None, *KEPT[wanted]})
        rows = self.rows.pick(i for i, verdict in enumerate(verdicts) if verdict in KEPT[wanted])
        reasons = {DEMO_WRONG: "the verifier calls them wrong", DEMO_SILENT: "the verifier cannot judge them"}
        counts = [
            RowCount(self.rows.name, f"{reasons[verdict]} (demonstrations.filter)", n, len(verdicts))
            for verdict, n in left.items()
            if verdict is not None
        ]
        numbers = set(rows.numbers)
        return Graded(rows, {n: verdict for n, verdict in self.verdict_of.items() if n in numbers}), counts


def grade(
    rows: RowSet,
    encoded: Sequence[EncodedDemo],
    scorer: Scorer,
    asked: DemonstrationSettings,
    columns: Collection[str] | None = None,
    needed: Collection[str] = (),
) -> Graded:
    """Every demonstration that fits, graded once.

    Args:
        rows: where they come from.
        encoded: those that fit.
        scorer: the task's grader or the reward functions.
        asked: what a reward says.
        columns: those that may be handed to reward functions; None: all.
        needed: a row without one of these cannot be graded.
    """
    known = [demo for demo in encoded if all(rows.rows[demo.row].get(name) is not None for name in needed)]
    given = [_with(rows.rows[demo.row], columns) for demo in known]
    verdict_of = {rows.numbers[demo.row]: DEMO_SILENT for demo in encoded}
    if known:
        texts = [said(row["completion"]) for row in given]
        scores = scorer.score(given, texts, [demo.completion_ids for demo in known])
        found = verdicts_of(scores, asked)
        verdict_of |= {rows.numbers[demo.row]: verdict for demo, verdict in zip(known, found, strict=True)}
    return Graded(rows, verdict_of)


def verdicts_of(scores: RewardBatch, asked: DemonstrationSettings) -> list[str]:
    """`right` what the scorer calls correct, or, where it does not say, what has a reward above `right_above`.

    `silent` is what it abstained on, what has a reward that is no number to compute with, and with `zero: silent` what
    is not right and has a reward of exactly 0.
    """
    rewards = scores.rewards
    right = [reward > asked.right_above for reward in rewards] if scores.correct is None else scores.correct
    return [
        DEMO_SILENT if not math.isfinite(reward) or (reward == 0.0 and not is_right and asked.zero == DEMO_SILENT)
        else DEMO_RIGHT if is_right else DEMO_WRONG
        for reward, is_right in zip(rewards, right, strict=True)
    ]  # fmt: skip


def paid_by_verdict(groups: Sequence[Sequence[Sample]], verdicts: Sequence[str | None]) -> PaidCounts:
    """How many rollouts were paid, apart for prompts whose demonstration is right, wrong, silent, or not there.

    Args:
        groups: rollouts of each prompt.
        verdicts: on the prompts' demonstrations.
    """
    found: dict[str, tuple[float, float]] = {}
    for group, verdict in zip(groups, verdicts, strict=True):
        rollouts, paid = found.get(verdict or NO_DEMONSTRATION, (0.0, 0.0))
        more = sum(sample.reward > 0.0 for sample in group)
        found[verdict or NO_DEMONSTRATION] = rollouts + len(group), paid + more
    return found


def said(completion: str | Sequence[Mapping[str, str]]) -> str:
    """The text of a demonstration."""
    return str(completion if isinstance(completion, str) else completion[0]["content"])


def _with(row: Row, columns: Collection[str] | None) -> Row:
    """A row of its own object, so that the ranks can share the rows out."""
    return {name: value for name, value in row.items() if columns is None or name in columns or name in NOT_COLUMNS}
