"""A method: one balance rule joined with the parts it needs. The trainer sees parts, never names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..demo_mixing.apart import Apart
from ..demo_mixing.base import DemoMixer
from ..demo_mixing.hard import Hard
from ..demo_mixing.hints import Guided, Hinted
from ..demo_mixing.instead import DeadReward, Injected, Switch
from ..demo_mixing.prefix import Prefix, Staircase
from ..demo_mixing.privileged import Privileged
from ..demo_mixing.rows import DemoRow, DemoRowImitated
from ..demo_mixing.self_taught import DemonstrationTaught, PeerTaught, RoutedPeerTaught
from ..demo_mixing.soft_switch import SoftSwitch
from ..weighting.advantages import Signed, UncertainPrefix
from ..weighting.base import OffPolicy, TokenInput, Weighting
from ..weighting.demo_tokens import Dft, Phi
from ..weighting.mastered import Unmastered
from ..weighting.self_distillation import ConfidentTeacher, TowardsTeacher
from ..weighting.sequences import HighEntropyTokens, ImportanceWeight, LowEntropyRows
from ..weighting.shapes import Floored, Plain, Shaped
from .base import Balance
from .requirements import Requirements


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
    def requirements(self) -> Requirements:
        """Of the rule."""
        return self.rule.requirements

    @property
    def token_inputs(self) -> frozenset[TokenInput]:
        """What the weightings read of every token."""
        weightings = (self.token_weight, self.advantage)
        return frozenset().union(*(weighting.reads for weighting in weightings if weighting is not None))

    def described(self) -> list[str]:
        """What the rule and its parts ask for, in a word or two each."""
        answers = ["answers"] if self.demo_mixer.needs_answers else []
        inputs = sorted(f"token {needed.name.lower()}" for needed in self.token_inputs)
        return sorted([*self.requirements.described(), *answers, *inputs])


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
        "privileged": Privileged,
        "peer-taught": PeerTaught,
        "demonstration-taught": DemonstrationTaught,
        "routed-peer-taught": RoutedPeerTaught,
    },
    "token_weight": {
        "none": None,
        "phi": Phi,
        "dft": Dft,
        "importance": ImportanceWeight,
        "low-entropy-rows": LowEntropyRows,
        "high-entropy-tokens": HighEntropyTokens,
        "unmastered": Unmastered,
        "towards-teacher": TowardsTeacher,
        "confident-teacher": ConfidentTeacher,
    },
    "advantage": {"none": None, "signed": Signed, "uncertain-prefix": UncertainPrefix},
    "off_policy": {"none": None, "shaped": Shaped, "p": Plain, "floored": Floored},
}
"""Slot -> name -> class. A slot is a field of `Method` and a setting of every rule."""
