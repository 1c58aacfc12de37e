from __future__ import annotations

import pytest
import torch

from amft.losses.sft import sft_loss

LOGPS = torch.tensor([[-1.0, -2.0], [-4.0, -50.0]])
MASK = torch.tensor([[1.0, 1.0], [1.0, 0.0]])


def test_token_mean_by_hand() -> None:
    # (1 + 2 + 4) / 3 tokens
    out = sft_loss(LOGPS, MASK, count=3.0)
    assert out.loss.item() == pytest.approx(7 / 3)
    assert out.sums == {"sft/loss": (7.0, 3.0)}


def test_the_count_is_global() -> None:
    # Another micro-batch holds 4 more tokens: this part is 7 / 7.
    assert sft_loss(LOGPS, MASK, count=7.0).loss.item() == pytest.approx(1.0)


def test_weights_per_token_and_per_row() -> None:
    # (1 * 3 + 2 * 0 + 4 * 0.5) / 3
    per_token = torch.tensor([[3.0, 0.0], [0.5, 9.0]])
    assert sft_loss(LOGPS, MASK, count=3.0, weights=per_token).loss.item() == pytest.approx(5 / 3)
    # ((1 + 2) * 2 + 4 * 0.25) / 3
    per_row = torch.tensor([[2.0], [0.25]])
    assert sft_loss(LOGPS, MASK, count=3.0, weights=per_row).loss.item() == pytest.approx(7 / 3)


def test_weights_are_constants() -> None:
    # As in DFT, where the weight is the token's own probability: d/dlogp of -w logp is -w, not -w (1 + logp).
    logps = torch.tensor([[-0.5]], requires_grad=True)
    sft_loss(logps, torch.ones(1, 1), count=1.0, weights=logps.exp()).loss.backward()
    assert logps.grad.item() == pytest.approx(-torch.tensor(-0.5).exp().item())


def test_label_smoothing_by_hand() -> None:
    # 0.9 * 7/3 + 0.1 * (2 + 3 + 5)/3
    mean_logps = torch.tensor([[-2.0, -3.0], [-5.0, -60.0]])
    out = sft_loss(LOGPS, MASK, count=3.0, label_smoothing=0.1, mean_logps=mean_logps)
    assert out.loss.item() == pytest.approx((0.9 * 7 + 0.1 * 10) / 3)
    assert out.sums["sft/loss"] == (7.0, 3.0)


def test_label_smoothing_needs_its_mean() -> None:
    with pytest.raises(ValueError, match="mean_logps"):
        sft_loss(LOGPS, MASK, count=3.0, label_smoothing=0.1)


def test_nothing_to_imitate() -> None:
    logps = LOGPS.clone().requires_grad_()
    out = sft_loss(logps, torch.zeros_like(MASK), count=0.0)
    out.loss.backward()
    assert out.loss.item() == 0.0
    assert not logps.grad.any()
    assert out.sums == {"sft/loss": (0.0, 0.0)}
