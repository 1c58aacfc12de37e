"""What the engine said beside what the trainer says, and the weights that follow, worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from amft.balance.registry import build_method
from amft.batch import pad_batch
from amft.errors import ConfigError
from amft.experience.mismatch import with_engine_logps
from amft.losses.choices import POLICY_LOSSES, clip_range
from amft.losses.mismatch import logp_differences, sampling_weights
from amft.losses.policy import policy_loss
from amft.models.forward import TokenScores
from amft.settings.config import AMFTConfig
from amft.step.objective import Objective
from amft.types import Sample

SAMPLES = [
    Sample((1,), (5, 6, 7), prefix_len=1, logps=(-1.0, -2.0)),
    Sample((1,), (5,), logps=(-0.5,)),
    Sample((1,), (5, 6), prefix_len=2),
]
TRAINER = torch.tensor([[-9.0, -1.5, -2.25], [-0.5, -7.0, -7.0], [-3.0, -3.0, -7.0]])
NAN = math.nan


def batch():
    return pad_batch([sample.prompt_ids for sample in SAMPLES], [sample.completion_ids for sample in SAMPLES], 0)


def test_given_tokens_padding_and_lines_without_log_probs_do_not_count():
    made = with_engine_logps(batch(), SAMPLES)
    expected = torch.tensor([[NAN, -1.0, -2.0], [-0.5, NAN, NAN], [NAN, NAN, NAN]])
    torch.testing.assert_close(made.engine_logps, expected, equal_nan=True)
    # |-1 + 1.5| + |-2 + 2.25| + |-0.5 + 0.5| = 0.75 over 3 tokens
    assert logp_differences(made.engine_logps, TRAINER, made.completion_mask) == {
        "sampling/logp_difference": (0.75, 3.0),
        "sampling/logp_difference_max": (0.5, 1.0),
    }
    # a cut completion carries no loss, so nothing is measured on it
    cut = made.completion_mask * torch.tensor([[0.0], [1.0], [1.0]])
    assert logp_differences(made.engine_logps, TRAINER, cut)["sampling/logp_difference"] == (0.0, 1.0)
    assert logp_differences(made.engine_logps[2:], TRAINER[2:], made.completion_mask[2:]) == {}
    assert with_engine_logps(batch(), SAMPLES[2:] * 3).engine_logps is None


# log ratios ln 2, ln 1/4, ln 8 | ln 2, unknown (a demonstrator's), ln 1/2
ENGINE = torch.tensor([[-2.0, -2.0, -9.0], [-2.0, NAN, -2.0]])
DIFFERENCES = torch.tensor([[2.0, 0.25, 8.0], [2.0, 1.0, 0.5]]).log()
OURS = ENGINE.nan_to_num(-1.0) + DIFFERENCES
BY_HAND = {
    "token_truncate": ([[2, 0.5, 3], [2, 1, 0.5]], (8.0, 5.0), (2.0, 5.0)),
    "token_mask": ([[2, 0, 0], [2, 1, 0.5]], (4.5, 5.0), (2.0, 5.0)),
    # rows: 2 * 1/4 * 8 = 4 and 2 * 1/2 = 1; the demonstrator's token keeps 1
    "sequence_truncate": ([[3, 3, 3], [1, 1, 1]], (4.0, 2.0), (1.0, 2.0)),
    "sequence_mask": ([[0, 0, 0], [1, 1, 1]], (1.0, 2.0), (1.0, 2.0)),
}
"""Weights, sum of the weights and number of clipped ones, for the range [0.5, 3]."""


@pytest.mark.parametrize("mode", BY_HAND)
def test_weights_by_hand(mode):
    weights, total, clipped = BY_HAND[mode]
    found, sums = sampling_weights(OURS, ENGINE, torch.ones(2, 3), mode=mode, clip_min=0.5, clip_max=3.0)
    torch.testing.assert_close(found, torch.tensor(weights).float())
    assert sums["sampling/importance_sampling_ratio/mean"] == pytest.approx(total)
    assert sums["sampling/importance_sampling_ratio/frac_clipped"] == clipped


def test_tokens_without_loss_count_nowhere():
    mask = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    found, sums = sampling_weights(OURS, ENGINE, mask, mode="sequence_truncate", clip_max=None)
    # the first row without its last token: 2 * 1/4
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.5, 1.0], [1.0, 1.0, 1.0]]))
    assert sums["sampling/importance_sampling_ratio/mean"] == pytest.approx((0.5, 1.0))


def test_a_hopeless_difference_stays_finite():
    far = torch.tensor([[0.0, -2e4]])
    for mode in BY_HAND:
        found, sums = sampling_weights(far, far.flip(1), torch.ones(1, 2), mode=mode, clip_max=3.0)
        assert found.isfinite().all()
        assert all(map(math.isfinite, sums["sampling/importance_sampling_ratio/mean"]))


def objective(**changes):
    return Objective(AMFTConfig(importance_sampling=changes), build_method({"rule": "rl"}))


@pytest.mark.parametrize("is_reused", [False, True])
def test_the_weights_are_those_of_the_policy_that_sampled(is_reused):
    given = with_engine_logps(batch(), SAMPLES)
    now = TRAINER
    if is_reused:
        given, now = replace(given, old_logps=TRAINER), TRAINER - 5.0
    found, sums = objective(clip_max=0.7).mismatch(given, TokenScores(now))
    # e^-0.5 = 0.607, e^-0.25 = 0.779 cut to 0.7, e^0 = 1 cut to 0.7; the rest was not sampled
    expected = torch.tensor([[1.0, math.exp(-0.5), 0.7], [0.7, 1.0, 1.0], [1.0, 1.0, 1.0]])
    torch.testing.assert_close(found, expected)
    assert sums["sampling/importance_sampling_ratio/frac_clipped"] == (2.0, 3.0)


def test_switched_off_or_unsaid_there_are_no_weights():
    weights, sums = objective(correction=False).mismatch(with_engine_logps(batch(), SAMPLES), TokenScores(TRAINER))
    assert weights is None
    assert list(sums) == ["sampling/logp_difference", "sampling/logp_difference_max"]
    assert objective().mismatch(batch(), TokenScores(TRAINER)) == (None, {})


@pytest.mark.parametrize("loss_type", POLICY_LOSSES)
def test_each_token_of_the_gradient_is_multiplied(loss_type):
    choice, mask = POLICY_LOSSES[loss_type], torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    weights = torch.tensor([[2.0, 0.5, 0.0], [3.0, 1.0, 1.0]])

    def gradient(logps, **given):
        logps = logps.clone().requires_grad_()
        out = policy_loss(
            logps,
            torch.tensor([1.0, -0.5]),
            mask,
            count=4.0,
            reduction=choice.reduction,
            ratio=choice.ratio,
            clip=clip_range(choice.clip, 0.2, None),
            clipped="ratio" if choice.clip == "ratio" else "objective",
            **given,
        )
        out.loss.backward()
        return logps.grad

    plain, weighed = gradient(OURS), gradient(OURS, weights=weights)
    if choice.ratio in ("sequence", "trajectory"):
        # One ratio a row: its mean weight over the row's loss tokens, 2.5 / 3 and 4 / 2, reaches every token.
        weights = ((weights * mask).sum(1) / mask.sum(1))[:, None]
    torch.testing.assert_close(weighed, plain * weights)


def test_settings_that_make_no_range_are_refused():
    with pytest.raises(ConfigError, match="importance_sampling: clip_min 3.0 must be less than clip_max 3.0"):
        AMFTConfig(importance_sampling={"clip_min": 3.0})
    with pytest.raises(ConfigError, match="importance_sampling: mode token_truncate needs clip_max or clip_min"):
        AMFTConfig(importance_sampling={"clip_max": None})
    AMFTConfig(importance_sampling={"clip_max": None, "mode": "sequence_mask"})
