"""A method: one balance rule joined with the parts it needs. The trainer sees parts, never names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..demo_mixing.apart import Apart
from ..demo_mixing.base import DemoMixer
from ..demo_mixing.hard import Hard
from ..demo_mixing.hints import Guided, Hinted
from ..demo_mixing.instead import DeadReward, Injected, SoftSwitch, Switch
from ..demo_mixing.prefix import Prefix, Staircase
from ..demo_mixing.rows import DemoRow, DemoRowImitated
from ..weighting.advantages import Signed, UncertainPrefix
from ..weighting.base import OffPolicy, Weighting
from ..weighting.demo_tokens import Dft, Phi
from ..weighting.sequences import HighEntropyTokens, ImportanceWeight, LowEntropyRows
from ..weighting.shapes import Floored, Plain, Shaped
from .base import Balance


@dataclass(frozen=True)
class Method:
    """What a named method is: how the weights move, how demonstrations enter, what each token counts."""

    rule: Balance
    demo_mixer: DemoMixer = field(default_factory=Apart)
    token_weight: Weighting | None = None
    """Of demonstration tokens in the imitation loss; None is 1."""
    advantage: Weighting | None = None
    """Advantages of the RL loss seen with the policy's own scores; None leaves them as the pool gives them."""
    off_policy: OffPolicy | None = None
    """Surrogate of the ratio on demonstration tokens in the RL loss; None: they are taken for the policy's own."""

    @property
    def needs(self) -> frozenset[str]:
        """Everything that any part asks for."""
        parts = (self.rule, self.demo_mixer, self.token_weight, self.advantage)
        return frozenset().union(*(part.needs for part in parts if part is not None))

    def needs_of(self, part: str) -> frozenset[str]:
        """What one part asks for; nothing when it is not there."""
        found = getattr(self, part)
        return found.needs if found is not None else frozenset()

    @property
    def warmup(self) -> bool:
        """False: the run's warm-up is left out."""
        return getattr(self.rule, "warmup", True)

    @property
    def every(self) -> int:
        """Steps between two measurements of `balance.base.DEMONSTRATIONS`."""
        return getattr(self.rule, "every", 1)

    @property
    def freeze(self) -> float:
        """Share of the entries of each tensor that a step of imitation leaves alone."""
        return getattr(self.rule, "freeze", 0.0)

    @property
    def own_optimizer(self) -> bool:
        """Steps that only imitate have an optimizer, so moments, of their own."""
        return getattr(self.rule, "sft_optimizer", "shared") == "own"


PARTS: dict[str, dict[str, Any]] = {
    "demo_mixer": {
        "apart": Apart,
        "row": DemoRow,
        "row-imitated": DemoRowImitated,
        "switch": Switch,
        "soft-switch": SoftSwitch,
        "dead-reward": DeadReward,
        "injected": Injected,
        "hard": Hard,
        "prefix": Prefix,
        "staircase": Staircase,
        "hinted": Hinted,
        "guided": Guided,
    },
    "token_weight": {
        "none": None,
        "phi": Phi,
        "dft": Dft,
        "importance": ImportanceWeight,
        "low-entropy-rows": LowEntropyRows,
        "high-entropy-tokens": HighEntropyTokens,
    },
    "advantage": {"none": None, "signed": Signed, "uncertain-prefix": UncertainPrefix},
    "off_policy": {"none": None, "shaped": Shaped, "p": Plain, "floored": Floored},
}
"""Slot -> name -> class. A slot is a field of `Method` and a setting of every rule."""
