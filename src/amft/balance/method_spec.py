"""What the registry says of one named method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class MethodSpec:
    """One named method."""

    rule: type
    """Balance rule."""
    preset: Mapping[str, Any]
    """Settings of this name, on top of the classes' own defaults."""
    summary: str
    source: str
    equation: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Slot of `Method` -> name in `PARTS`."""
    fixed: frozenset[str] = frozenset()
    """Settings that define the name and cannot be changed."""
    published: str = ""
    """What is known of the published settings, the run's own among them."""
    deviations: str = ""
    """What differs from the publication."""
    experimental: str = ""
    """What could not be verified; empty: the formula was read in the paper, its code or an independent reading."""
