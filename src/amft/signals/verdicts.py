"""What the verifier says of the run's demonstrations."""

from __future__ import annotations

from collections.abc import Mapping

from .base import Cost, Signal

VERDICTS: Signal[Mapping[str, int]] = Signal(
    "verdicts",
    "demonstrations",
    Cost.PAST,
    "how many demonstrations the verifier calls right, wrong, or cannot judge; for rules that ask for grading",
    lambda moment: moment.verdicts,
)
