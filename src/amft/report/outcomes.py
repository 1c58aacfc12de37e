"""Success (or score) before and after training, split by split, with intervals over independent problems."""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..stats import Interval, clustered_interval, paired_difference, success_difference, success_interval
from .load import JsonRows, Run

MIN_CLUSTERS = 10
"""Below this many independent problems no change is called clear: bootstrap intervals are too narrow there."""
SELECTION = "val"
"""The split that training may look at."""


@dataclass(frozen=True)
class SplitOutcome:
    """One split, scored with the model as it came (`before`) and as training left it (`after`); None: not scored."""

    split: str
    before: Interval | None
    after: Interval | None
    difference: Interval | None
    """After minus before on the problems scored both times."""
    share: bool = True
    """Scores lie in [0, 1]: a share of success. Rewards of the user's own may not."""

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `unclear`, `few` (too few problems to tell) or `unmeasured`."""
        if self.difference is None:
            return "unmeasured"
        if self.difference.clusters < MIN_CLUSTERS:
            return "few"
        if not self.difference.excludes_zero:
            return "unclear"
        return "better" if self.difference.mean > 0 else "worse"


@lru_cache(maxsize=8)
def split_outcomes(run: Run) -> tuple[SplitOutcome, ...]:
    """Every scored split: in the order of `eval.test_splits`, then as they were scored, the selection split last."""
    named = run.setting("eval.test_splits") or []
    found = dict.fromkeys(str(row.get("split")) for row in run.scores)
    order = [split for split in named if split in found] + [split for split in found if split not in named]
    order.sort(key=lambda split: split == SELECTION)
    return tuple(_outcome(run, split) for split in order)


def turned(run: Run) -> list[tuple[str, int, int, int]]:
    """Per test split: problems scored both times, how many became right and how many wrong; splits with scores of
    their own kind are left out."""
    found = []
    for outcome in split_outcomes(run):
        rows = [row for row in run.scores if str(row.get("split")) == outcome.split and row.get("correct") is not None]
        old, new = _by_problem(latest_rows(rows, "base")), _by_problem(latest_rows(rows, "policy"))
        both = [problem for problem in new if problem in old]
        if outcome.share and both:
            gained, lost = (sum(sign * (new[p] - old[p]) > 0 for p in both) for sign in (1, -1))
            found.append((outcome.split, len(both), gained, lost))
    return found


def _outcome(run: Run, split: str) -> SplitOutcome:
    rows = [row for row in run.scores if str(row.get("split")) == split and row.get("correct") is not None]
    before, after = latest_rows(rows, "base"), latest_rows(rows, "policy")
    share = all(0 <= float(row["correct"]) <= 1 for row in [*before, *after])
    return SplitOutcome(
        split, _interval(before, share), _interval(after, share), _difference(before, after, share), share
    )


def latest_rows(rows: JsonRows, model: str) -> JsonRows:
    """The score rows of the latest evaluation of `base` or `policy`."""
    mine = [row for row in rows if row.get("model") == model]
    latest = max((row["step"] for row in mine), default=None)
    return [row for row in mine if row["step"] == latest]


def _interval(rows: JsonRows, share: bool) -> Interval | None:
    if not rows:
        return None
    scores, clusters = [float(row["correct"]) for row in rows], [_word(row.get("key")) for row in rows]
    return success_interval(scores, clusters) if share else clustered_interval(scores, clusters)


def _difference(before: JsonRows, after: JsonRows, share: bool) -> Interval | None:
    old, new = _by_problem(before), _by_problem(after)
    shared = [problem for problem in new if problem in old]
    if not shared:
        return None
    clusters = [problem[0] for problem in shared]
    measure = success_difference if share else paired_difference
    return measure([old[problem] for problem in shared], [new[problem] for problem in shared], clusters)


def _by_problem(rows: JsonRows) -> dict[tuple[Hashable, Hashable], float]:
    """(key, problem) -> mean score of its samples."""
    found: dict[tuple[Hashable, Hashable], list[float]] = {}
    for row in rows:
        found.setdefault((_word(row.get("key")), _word(row.get("problem"))), []).append(float(row["correct"]))
    return {problem: float(np.mean(right)) for problem, right in found.items()}


def _word(value: Any) -> Hashable:
    return value if isinstance(value, (str, int)) else json.dumps(value, sort_keys=True)
