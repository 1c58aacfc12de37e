"""The JSON of a checkpoint as the trainer writes it, of a run that has done nothing but count."""

from __future__ import annotations

from typing import Any


def saved_state(step: int, best: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "step": step,
        "best": best,
        "guard": {"bad_in_a_row": 0},
        "lr_schedule": {},
        "streams": {},
        "written": {},
        "buffer": [],
        "window": [],
    }
