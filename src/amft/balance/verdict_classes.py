"""Classes of demonstrations by what the verifier says of them, and by their source where rows name one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..types import DEMO_RIGHT, DEMO_SILENT, DEMO_WRONG


def by_verdict(row: Mapping[str, Any]) -> str:
    """`right`, `wrong` or `silent`."""
    return str(row["verdict"])


def by_verdict_and_source(row: Mapping[str, Any]) -> str:
    """The verdict; with a column `source` the verdict and the source: `wrong/web`."""
    source = row.get("source")
    return by_verdict(row) if source is None else f"{by_verdict(row)}/{source}"


def verdict_of_branch(branch: str) -> str:
    """The verdict in the name of an imitation branch, `sft/wrong/web` say; silent for a branch without one."""
    parts = branch.split("/")
    return parts[1] if len(parts) > 1 and parts[1] in (DEMO_RIGHT, DEMO_WRONG) else DEMO_SILENT
