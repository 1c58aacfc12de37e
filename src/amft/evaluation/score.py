"""From graded answers to a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..stats import Interval, clustered_interval, success_interval
from ..types import ABSTENTIONS

ScoreRows = Sequence[Mapping[str, Any]]


def success(rows: ScoreRows) -> Interval:
    """Mean score with its 95 % interval, clustered by `key`."""
    values = [float(row["correct"]) for row in rows]
    keys = [row["key"] for row in rows]
    inside = all(0.0 <= value <= 1.0 for value in values)
    return (success_interval if inside else clustered_interval)(values, keys)


def summary(rows: ScoreRows) -> list[dict[str, Any]]:
    """One row per split: `rate`, `low`, `high`, `n` answers, `clusters`, in order of appearance.

    What a task measures besides success follows under its own name, and `abstained`, if there are any, counts the
    answers that could not be judged; in `rate` they are not correct.
    """
    out = []
    for split in _splits(rows):
        own = [row for row in rows if row["split"] == split]
        found = success(own)
        lost = sum(row.get("outcome") in ABSTENTIONS for row in own)
        out.append(
            {
                "split": split,
                "rate": found.mean,
                "low": _known(found.low),
                "high": _known(found.high),
                "n": found.n,
                "clusters": found.clusters,
                **mean_scores(own),
                **({"abstained": lost} if lost else {}),
            }
        )
    return out


def mean_scores(rows: ScoreRows) -> dict[str, float]:
    """The mean of every metric in the rows' `metrics`, over the rows that have it."""
    measured: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.get("metrics", {}).items():
            measured.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in sorted(measured.items())}


def before_after_rows(before: ScoreRows, after: ScoreRows) -> list[dict[str, Any]]:
    """One row per split with both measurements side by side."""
    after_by_split = {row["split"]: row for row in summary(after)}
    return [
        {
            "split": row["split"],
            **{f"before{suffix}": row[name] for suffix, name in (("", "rate"), ("_low", "low"), ("_high", "high"))},
            **{
                f"after{suffix}": after_by_split[row["split"]][name]
                for suffix, name in (("", "rate"), ("_low", "low"), ("_high", "high"))
            },
            "n": row["n"],
            "clusters": row["clusters"],
        }
        for row in summary(before)
        if row["split"] in after_by_split
    ]


def _splits(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["split"] for row in rows))


def _known(bound: float) -> float | None:
    return None if bound != bound else bound
