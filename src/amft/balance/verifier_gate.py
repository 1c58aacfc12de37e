"""Imitation gated by the verifier: what it calls right is imitated, what it calls wrong is not, unless it is silent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..signals.base import Signals
from ..signals.paid import PAID
from ..types import DEMO_RIGHT, DEMO_SILENT, DEMO_WRONG, RL
from .base import State, Update
from .checks import require_number
from .requirements import Requirements
from .verdict_classes import by_verdict, verdict_of_branch
from .weights import Weights


def counted(known: Mapping[str, list[float]], paid: Mapping[str, tuple[float, float]] | None) -> dict[str, list[float]]:
    """Rollouts, and those of them that were paid, by verdict: those known and those of one more step."""
    found = {verdict: list(counts) for verdict, counts in known.items()}
    for verdict, (rollouts, earned) in (paid or {}).items():
        before = found.get(verdict, [0.0, 0.0])
        found[verdict] = [before[0] + max(rollouts, 0.0), before[1] + max(earned, 0.0)]
    return found


def is_silent(counts: Mapping[str, list[float]], enough: float) -> bool:
    """Whether the verifier pays nobody where it calls demonstrations wrong, though it pays elsewhere.

    Args:
        counts: verdict -> rollouts, and those paid.
        enough: rollouts on prompts with a wrong demonstration that it takes to say so.
    """
    rollouts, earned = counts.get(DEMO_WRONG, [0.0, 0.0])
    elsewhere = sum(paid for verdict, (_, paid) in counts.items() if verdict != DEMO_WRONG)
    return rollouts >= enough and earned == 0.0 and elsewhere > 0.0


@dataclass(frozen=True)
class VerifierGate:
    """`L = rl L_RL + imitation L_right + imitation L_silent`: demonstrations graded wrong have no weight. House.

    With the parts of `amft-gate` a demonstration i counts `imitation R_i (1 - pi(y_i)) / (1 + k_i / ageing)`: R_i is 1
    for right and silent ones, `pi(y_i)` the policy's probability of the whole of it, k_i how often it was shown.

    A verifier that pays nobody may call right demonstrations wrong. So where at least `enough` rollouts on prompts
    whose own demonstration it calls wrong earned nothing, while it pays elsewhere, its word is not taken: they count as
    silent.

    Args:
        imitation: weight of right and silent demonstrations, not negative.
        rl: weight of exploration, not negative.
        ageing: a demonstration that was shown k times before counts `1 / (1 + k / ageing)`.
        enough: rollouts, see above.
    """

    imitation: float = 0.7
    rl: float = 0.3
    ageing: float = 4.0
    enough: float = 64.0

    def __post_init__(self) -> None:
        for name, value in {"imitation": self.imitation, "rl": self.rl, "enough": self.enough}.items():
            require_number(name, value, 0.0, 1e6)
        _ = self.requirements  # which refuse an ageing out of range

    @property
    def requirements(self) -> Requirements:
        return Requirements((PAID,), split=by_verdict, graded=True, ageing=self.ageing)

    def init(self) -> State:
        return {"counts": {}}

    def update(self, state: State, signals: Signals) -> Update:
        counts = counted(state["counts"], signals[PAID])
        silent = is_silent(counts, self.enough)
        counted_in = {DEMO_RIGHT, DEMO_SILENT, *((DEMO_WRONG,) if silent else ())}
        weights = {b: self.imitation * (verdict_of_branch(b) in counted_in) for b in signals.branches}
        return Weights({**weights, RL: float(self.rl)}), {"counts": counts}, {"mix/verifier_silent": float(silent)}
