"""Schedules: from a step to a number."""

from __future__ import annotations

import math


def linear_ramp(step: float, steps: float, start: float, stop: float) -> float:
    """`start` up to step 0, `stop` from step `steps` on, a straight line between."""
    done = _progress(step, steps)
    return (1.0 - done) * start + done * stop


def cosine_decay(step: float, steps: float, start: float, stop: float) -> float:
    """`start` up to step 0, `stop` from step `steps` on, half a cosine wave between."""
    left = 0.5 * (1.0 + math.cos(math.pi * _progress(step, steps)))
    return left * start + (1.0 - left) * stop


def _progress(step: float, steps: float) -> float:
    return min(1.0, max(0.0, step / steps)) if steps > 0 else 1.0
