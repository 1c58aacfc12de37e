"""How the run's demonstrations are spread over its imitation branches."""

from __future__ import annotations

from collections.abc import Mapping

from .base import Cost, Signal

BRANCH_SHARES: Signal[Mapping[str, float]] = Signal(
    "branch_shares",
    "shares in [0, 1]",
    Cost.PAST,
    "share of the run's demonstrations that is in each imitation branch",
    lambda moment: moment.branch_shares,
)
