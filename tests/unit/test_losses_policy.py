from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from amft.losses.choices import POLICY_LOSSES, clip_range
from amft.losses.policy import policy_loss
from amft.losses.ratio import importance_ratio
from amft.settings.config import AMFTConfig

CLIP = (0.2, 0.28)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        # loss = -min(w A, clamp(w, 0.8, 1.28) A); slope d loss / d log pi = -w A where not clipped, else 0
        (1.5, 1.0, -1.28, 0.0),
        (1.5, -2.0, 3.0, 3.0),
        (0.5, 1.0, -0.5, -0.5),
        (0.5, -2.0, 1.6, 0.0),
        (1.1, 3.0, -3.3, -3.3),
        (1.1, 0.0, 0.0, 0.0),
    ],
)
def test_clipped_token_by_hand(ratio, advantage, loss, slope) -> None:
    logps = torch.tensor([[-1.0]], dtype=torch.float64, requires_grad=True)
    old = torch.tensor([[-1.0 - math.log(ratio)]], dtype=torch.float64)
    out = policy_loss(
        logps,
        torch.tensor([advantage]),
        torch.ones(1, 1),
        count=1.0,
        reduction="token",
        old_logps=old,
        clip=CLIP,
    )
    out.loss.backward()
    assert out.loss.item() == pytest.approx(loss)
    assert logps.grad.item() == pytest.approx(slope)
    unclipped = policy_loss(
        logps, torch.tensor([advantage]), torch.ones(1, 1), count=1.0, reduction="token", old_logps=old
    )
    assert unclipped.loss.item() == pytest.approx(-ratio * advantage)


@pytest.mark.parametrize(("ratio", "advantage"), [(1.5, 1.0), (1.5, -2.0), (0.5, 1.0), (0.5, -2.0)])
def test_cispo_by_hand(ratio, advantage) -> None:
    # loss = -min(w, 1.28) A log pi with w a constant, so the slope is -min(w, 1.28) A: cut, but never 0.
    logps = torch.tensor([[-3.0]], dtype=torch.float64, requires_grad=True)
    old = torch.tensor([[-3.0 - math.log(ratio)]], dtype=torch.float64)
    out = policy_loss(
        logps,
        torch.tensor([advantage]),
        torch.ones(1, 1),
        count=1.0,
        reduction="token",
        old_logps=old,
        clip=clip_range("ratio", 0.2, 1.28),
        clipped="ratio",
    )
    out.loss.backward()
    capped = min(ratio, 1.28)
    assert out.loss.item() == pytest.approx(3.0 * capped * advantage)
    assert logps.grad.item() == pytest.approx(-capped * advantage)
    assert out.sums["clip_ratio/high_mean"] == (float(ratio > 1.28 and advantage > 0), 1.0)


def test_clip_ranges() -> None:
    assert clip_range("objective", 0.2, None) == (0.2, 0.2)
    assert clip_range("objective", 0.2, 0.28) == (0.2, 0.28)
    assert clip_range("ratio", 0.2, None) == (math.inf, 4.0)
    assert clip_range("none", 0.2, 0.28) is None


def test_ratios_by_hand() -> None:
    # Token ratios 2 and 8; the padding's 1000 must not enter. Geometric mean 4, product 16.
    logps = torch.tensor([[math.log(2.0), math.log(8.0), math.log(1000.0)], [0.5, 0.5, 0.5]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    old = torch.zeros(2, 3)
    torch.testing.assert_close(importance_ratio(logps, old, mask), torch.tensor([[2.0, 8, 1], [1, 1, 1]]))
    torch.testing.assert_close(importance_ratio(logps, old, mask, "sequence"), torch.tensor([[4.0], [1]]))
    torch.testing.assert_close(importance_ratio(logps, old, mask, "trajectory"), torch.tensor([[16.0], [1]]))


def test_losses_by_hand() -> None:
    # Row 1: ratios 2, 0.5, advantage 1. Row 2: ratio 1, advantage -3. No clipping.
    logps = torch.tensor([[math.log(2.0), math.log(0.5)], [0.0, -7.0]])
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    given = {"old_logps": torch.zeros(2, 2)}
    advantages = torch.tensor([1.0, -3.0])
    # token mean: -(2 + 0.5 - 3) / 3;  constant, length 4: the same sum / 8
    token = policy_loss(logps, advantages, mask, count=3.0, reduction="token", **given)
    assert token.loss.item() == pytest.approx(0.5 / 3)
    constant = policy_loss(logps, advantages, mask, count=8.0, reduction="constant", **given)
    assert constant.loss.item() == pytest.approx(0.5 / 8)
    # sequence mean: -((2 + 0.5) / 2 - 3) / 2
    sequence = policy_loss(logps, advantages, mask, count=2.0, reduction="sequence", **given)
    assert sequence.loss.item() == pytest.approx(1.75 / 2)
    # ratio of the sequence: sqrt(2 * 0.5) = 1, so -(1 - 3) / 2
    gspo = policy_loss(logps, advantages, mask, count=2.0, reduction="sequence", ratio="sequence", **given)
    assert gspo.loss.item() == pytest.approx(1.0)
    # no ratio: -(ln 2 + ln 0.5 - 3 * 0) / 3 = 0, and with advantages (1, 2) per token -(ln 2 + 2 ln 0.5) / 3
    per_token = torch.tensor([[1.0, 2.0], [5.0, 5.0]])
    none = policy_loss(logps, per_token, mask, count=3.0, reduction="token", ratio="none")
    assert none.loss.item() == pytest.approx(math.log(2) / 3)
    assert none.sums == {}


@pytest.mark.parametrize("clip", [None, CLIP])
def test_on_policy_every_token_has_the_gradient_of_minus_a_log_pi(clip) -> None:
    mask = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    advantages = torch.tensor([0.7, -1.1])

    def gradient(ratio):
        logps = torch.full((2, 3), -2.0, requires_grad=True)
        out = policy_loss(logps, advantages, mask, count=4.0, reduction="token", ratio=ratio, clip=clip)
        return torch.autograd.grad(out.loss, logps)[0]

    torch.testing.assert_close(gradient("token"), gradient("none"))
    # the ratio of the row spreads the row's sum over its tokens: the same here, where a row has one advantage
    torch.testing.assert_close(gradient("sequence"), gradient("none"))


def test_metrics_by_hand() -> None:
    # Ratios 1.5, 0.5, 1, 1.5 (padding) for A = 1; 0.5, 1.5, 1, 0.7 for A = -1.
    # Cut: the 1.5 of the first row; the 0.5 and 0.7 of the second.
    ratio = torch.tensor([[1.5, 0.5, 1.0, 1.5], [0.5, 1.5, 1.0, 0.7]])
    mask = torch.tensor([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    given = {"old_logps": torch.zeros(2, 4), "clip": CLIP, "reduction": "token", "count": 7.0}
    out = policy_loss(ratio.log(), torch.tensor([1.0, -1.0]), mask, **given)
    assert out.sums["clip_ratio/high_mean"] == (1.0, 7.0)
    assert out.sums["clip_ratio/low_mean"] == (2.0, 7.0)
    assert out.sums["clip_ratio/region_mean"] == (3.0, 7.0)
    assert out.sums["ratio/mean"] == (pytest.approx(6.7), 7.0)  # 1.5 + 0.5 + 1 + 0.5 + 1.5 + 1 + 0.7
    # Per row: geometric means 0.75^(1/3) = 0.909 and 0.525^(1/4) = 0.851; none is cut.
    per_row = policy_loss(ratio.log(), torch.tensor([1.0, -1.0]), mask, ratio="sequence", **given)
    assert per_row.sums["clip_ratio/region_mean"] == (0.0, 2.0)
    assert per_row.sums["ratio/mean"] == (pytest.approx(0.75 ** (1 / 3) + 0.525 ** (1 / 4)), 2.0)


@pytest.mark.parametrize("ratio", ["token", "sequence", "trajectory"])
@pytest.mark.parametrize("advantage", [-1.0, 0.0, 1.0])
def test_a_huge_ratio_and_garbage_in_the_padding_stay_finite(ratio, advantage) -> None:
    logps = torch.tensor([[-1.0, -1.0, torch.nan]], requires_grad=True)
    old = torch.tensor([[-500.0, -500.0, torch.inf]])
    out = policy_loss(
        logps,
        torch.tensor([advantage]),
        torch.tensor([[1.0, 1.0, 0.0]]),
        count=2.0,
        reduction="token",
        old_logps=old,
        ratio=ratio,
        clip=CLIP,
    )
    out.loss.backward()
    assert out.loss.isfinite()
    assert logps.grad.isfinite().all()


@pytest.mark.parametrize("ratio", ["token", "sequence", "trajectory", "none"])
@pytest.mark.parametrize("rows", [0, 2])
def test_nothing_to_learn(ratio, rows) -> None:
    logps = torch.zeros(rows, 3, requires_grad=True)
    mask = torch.zeros(rows, 3)
    out = policy_loss(logps, torch.ones(rows), mask, count=0.0, reduction="token", ratio=ratio, clip=CLIP)
    out.loss.backward()
    assert out.loss.item() == 0.0
    assert logps.grad.shape == (rows, 3)
    assert not logps.grad.any()


def test_advantages_and_old_log_probabilities_are_constants() -> None:
    logps, advantages, old = (torch.zeros(1, 2, requires_grad=True) for _ in range(3))
    out = policy_loss(logps, advantages + 1.0, torch.ones(1, 2), count=2.0, reduction="token", old_logps=old)
    out.loss.backward()
    assert advantages.grad is None
    assert old.grad is None
    assert logps.grad.any()


def test_the_config_offers_what_the_table_has() -> None:
    assert set(get_args(AMFTConfig.model_fields["loss_type"].annotation)) == set(POLICY_LOSSES)
