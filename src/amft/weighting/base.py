"""What a weighting sees and gives back. Three kinds, each a frozen dataclass of its own settings.

token_weight   detached weight of each demonstration token in the imitation loss
advantage      the advantages of the RL loss, seen again with the policy's own scores
off_policy     differentiable surrogate f(log pi) of the ratio on demonstration tokens in the RL loss
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class TokenInput(Enum):
    """What a weighting may read beyond the log-probabilities; the value says what it costs."""

    ENTROPY = "entropies of the forward pass that is made anyway"
    REFERENCE = "a frozen copy of the starting model, and one forward pass over the demonstrations"
    TEACHER = "two forward passes over the rollouts that are imitated, behind prompts that show a solution"


class Tokens(NamedTuple):
    """One micro-batch, everything detached. [B, C] unless said otherwise; arbitrary where `mask` is 0."""

    logps: Tensor
    mask: Tensor
    entropy: Tensor | None = None
    """Nats; asked for with `TokenInput.ENTROPY`."""
    ref_logps: Tensor | None = None
    """Asked for with `TokenInput.REFERENCE`."""
    teacher_logps: Tensor | None = None
    """Asked for with `TokenInput.TEACHER`; None where no row has a teacher."""
    teacher_entropy: Tensor | None = None
    """Nats; asked for with `TokenInput.TEACHER`."""
    advantages: Tensor | None = None
    """[B] or [B, C]; in the RL loss."""
    rewards: Tensor | None = None
    """[B]; in the RL loss."""
    demo: Tensor | None = None
    """1 on tokens written by the demonstrator; None when there are none."""

    def row_entropy(self) -> Tensor:
        """[B, 1] mean token entropy of each row, nats."""
        assert self.entropy is not None
        total = self.entropy.masked_fill(self.mask == 0, 0.0).sum(-1, keepdim=True)
        return total / self.mask.sum(-1, keepdim=True).clamp(min=1.0)


class Weighting(Protocol):
    """A `token_weight` or an `advantage`."""

    reads: ClassVar[frozenset[TokenInput]]

    def __call__(self, tokens: Tokens) -> Tensor:
        """[B, C] or [B, 1]; weights for a `token_weight`, advantages for an `advantage`. Without graph."""
        ...


class OffPolicy(Protocol):
    """A differentiable surrogate of the ratio on tokens whose author's probabilities are unknown."""

    def __call__(self, logps: Tensor) -> Tensor:
        """[B, C] log-probabilities with their graph -> f, same shape."""
        ...
