"""What earlier steps left behind."""

from __future__ import annotations

from .base import Cost, Signal

POLICY_LOSS: Signal[float] = Signal(
    "policy_loss",
    "loss",
    Cost.PAST,
    "unweighted RL loss of the last step that explored",
    lambda moment: moment.past.get("policy_loss"),
)

SFT_LOSS: Signal[float] = Signal(
    "sft_loss",
    "nats per token",
    Cost.PAST,
    "unweighted imitation loss of the last step that imitated",
    lambda moment: moment.past.get("sft_loss"),
)

SFT_GRAD_NORM: Signal[float] = Signal(
    "sft_grad_norm",
    "norm",
    Cost.PAST,
    "norm of the imitation gradient of the last step that imitated alone, or kept the gradients apart",
    lambda moment: moment.past.get("sft_grad_norm"),
)

BUFFERED: Signal[int] = Signal(
    "buffered",
    "demonstrations",
    Cost.PAST,
    "demonstrations of failed prompts waiting in the buffer",
    lambda moment: moment.buffered,
)
