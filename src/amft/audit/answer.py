"""What one check of the audit found. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Ruling = Literal["ok", "wrong", "none"]
"""`none`: the check does not apply, or cannot tell."""

TOLERANCE = 1e-3
"""Relative distance up to which two gradients count as equal: rounding in float32 stays far below, a lost row above."""


@dataclass(frozen=True)
class AuditAnswer:
    """One check: its name, what it asks, the ruling, and the numbers behind it in plain words."""

    check: str
    question: str
    ruling: Ruling
    evidence: str


def ruled(holds: bool) -> Ruling:
    """`ok` or `wrong`."""
    return "ok" if holds else "wrong"
