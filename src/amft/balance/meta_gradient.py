"""What a rule asks of the meta-gradient: how it is measured, and along which direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from .checks import require_choice, require_number

Utility = Literal["lookahead", "heldout", "likelihood"]
Measured = Literal[Utility, "gram"]
JacobianKind = Literal["exact", "identity"]
Direction = Literal["convex", "free"]
EffectType = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class MetaGradient:
    """dU/dw for the weight w of each imitation branch (eq 5 of arXiv 2508.06944).

    Args:
        utility: what estimates grad U: "lookahead" (the next step's RL gradient), "heldout" (policy gradient on
            held-out prompts), "likelihood" (held-out demonstrations). "gram" measures products of gradients instead
            (`amft.meta.GramPair`) and reads nothing here but `skip`.
        horizon: decay in [0, 1) of the trace of past effects; 0 looks one step ahead.
        jacobian: of the optimizer, "exact" or the paper's "identity".
        direction: "convex", what an imitation branch gains the RL branch loses; "free", nothing else changes.
        every: steps between two measurements of the utilities heldout and likelihood.
        skip: first optimizer steps whose effect is not observed: Adam's are ill-conditioned.
        effect_dtype: in which effects are kept between steps, "float32" (as the gradients) or "bfloat16" (half of it).
        entropy: measure dH/dw too, through the same Jacobian; one more backward pass.

    Raises:
        ConfigError: a field is out of range.
    """

    utility: Measured = "lookahead"
    horizon: float = 0.0
    jacobian: JacobianKind = "exact"
    direction: Direction = "convex"
    every: int = 10
    skip: int = 5
    entropy: bool = False
    effect_dtype: EffectType = "float32"

    def __post_init__(self) -> None:
        require_choice("utility", self.utility, get_args(Measured))
        require_number("horizon", self.horizon, 0.0, 1.0, below=True)
        require_choice("jacobian", self.jacobian, get_args(JacobianKind))
        require_choice("direction", self.direction, get_args(Direction))
        require_number("meta_every", self.every, 1, 1e9)
        require_number("meta_skip", self.skip, 0, 1e9)
        require_choice("entropy", self.entropy, (True, False))
        require_choice("effect_dtype", self.effect_dtype, get_args(EffectType))

    @property
    def buffers(self) -> float:
        """Buffers as large as the trained parameters that each imitation branch costs while a step is made."""
        kept = {"float32": 1.0, "bfloat16": 0.5}[self.effect_dtype]
        return 2.0 if self.utility == "gram" else 1.0 + kept if self.horizon else 1.0
