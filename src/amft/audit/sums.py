"""How our own trainer adds up: branch on branch, rank on rank."""

from __future__ import annotations

from .answer import TOLERANCE, AuditAnswer, ruled
from .gradients import MICRO, relative_distance, sampled_gradient
from .rehearsal import Rehearsal, ShareOf, word

WEIGHTS = (0.3, 0.7)


def check_accumulation(on: Rehearsal) -> AuditAnswer:
    """One loss after the other into the same gradient, as eq 3 mixes them; without a second branch, rows after rows."""
    first, second = (on.branches * 2)[:2]
    rows = [range(len(branch.batch or ())) for branch in (first, second)]
    if first is second:
        rows = [rows[0][:MICRO], rows[0][MICRO:]]
    expected, other = (
        weight * on.gradient(branch, numbers, MICRO)
        for branch, numbers, weight in zip((first, second), rows, WEIGHTS, strict=True)
    )
    for branch, numbers, weight in zip((first, second), rows, WEIGHTS, strict=True):
        on.add(branch, numbers, MICRO, scale=weight)
    found = sampled_gradient(on.learner.model)
    on.learner.clear()
    off = relative_distance(found, expected + other)
    names = [word(branch) for branch in (first, second)]
    return AuditAnswer(
        "accumulation",
        "Do gradients add up when one loss is differentiated after the other?",
        ruled(off < TOLERANCE),
        f"{WEIGHTS[0]} of {names[0]}, then {WEIGHTS[1]} of {names[1]}: {off:.1e} from the sum of the two",
    )


def check_ranks(on: Rehearsal) -> AuditAnswer:
    """The shares of 2 and of 3 processes, made one after the other, against one process."""
    worst, told = 0.0, []
    for branch in on.branches:
        numbers = range(len(branch.batch or ()))
        whole = on.gradient(branch, numbers, MICRO)
        for size in (2, 3):
            shares = [on.gradient(branch, numbers, MICRO, ShareOf(rank, size)) for rank in range(size)]
            off = relative_distance(sum(shares[1:], shares[0]), whole)
            worst = max(worst, off)
            told.append(f"{word(branch)} on {size}: {off:.1e} apart")
    return AuditAnswer(
        "ranks",
        "Is the gradient the same on any number of processes?",
        ruled(worst < TOLERANCE),
        f"{'; '.join(told)} (their shares added up here, not sent between processes)",
    )
