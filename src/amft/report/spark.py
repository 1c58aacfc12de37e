"""A curve without axes, small enough for a tile."""

from __future__ import annotations

from .load import Floats, Ints

SPARK_WIDTH, SPARK_HEIGHT = 120, 30


def spark(steps: Ints, values: Floats, low: float, high: float) -> str:
    """Inline SVG of one series between two bounds; empty for fewer than two values."""
    if len(values) < 2 or steps[-1] == steps[0]:
        return ""
    across = (steps - steps[0]) / (steps[-1] - steps[0]) * SPARK_WIDTH
    up = SPARK_HEIGHT - 2 - (values - low) / (high - low) * (SPARK_HEIGHT - 4)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, up, strict=True))
    line = f'<polyline points="{points}" fill="none" stroke="var(--purple)" stroke-width="2"/>'
    return f'<svg class="spark" viewBox="0 0 {SPARK_WIDTH} {SPARK_HEIGHT}" aria-hidden="true">{line}</svg>'
