"""What the doctor says: one observation, the numbers behind it, the next thing to try."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "warn", "bad"]


@dataclass(frozen=True)
class Finding:
    """One observation about a run."""

    level: Level
    """`bad`: the result is not usable as it is; `warn`: likely a problem; `note`: worth knowing; `ok`."""
    title: str
    evidence: str
    """The numbers behind it."""
    action: str
    """The next thing to try, naming a config field; empty when there is nothing to do."""
