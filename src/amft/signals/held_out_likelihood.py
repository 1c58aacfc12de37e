"""Whether imitation still makes unseen right answers likelier."""

from __future__ import annotations

from .base import Cost, Signal

HELD_OUT_LIKELIHOOD: Signal[float] = Signal(
    "held_out_likelihood",
    "nats per token",
    Cost.HELD_OUT,
    "mean log-probability of held-out demonstrations that the verifier calls right",
    lambda moment: moment.held_out_likelihood(),
)
