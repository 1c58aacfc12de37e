"""The gradient of every loss against finite differences, and against exact sums over a small vocabulary, in float64."""

from __future__ import annotations

import pytest
import torch
from plain_scores import mean_logps, selected_logps, token_entropy
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from amft import tensors
from amft.losses.choices import POLICY_LOSSES, clip_range
from amft.losses.entropy import entropy_loss
from amft.losses.kl import kl_loss
from amft.losses.policy import policy_loss
from amft.losses.ratio import importance_ratio
from amft.losses.sft import sft_loss
from amft.losses.value import value_loss
from amft.tensors import reduction_count

MASK = torch.tensor([[1.0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.float64)
IDS = torch.tensor([[0, 1, 2, 0], [3, 3, 0, 0], [1, 2, 3, 4], [4, 2, 0, 1]])


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LOGITS = draw(4, 4, 5, seed=0)
WITHOUT = selected_logps(LOGITS, IDS)
# Off-policy far enough for the clipping to cut, and no ratio near a corner of the clipped objective (checked below).
OLD = WITHOUT + draw(4, 4, seed=1) * 0.6
REF = WITHOUT + draw(4, 4, seed=2)
ADVANTAGES = torch.tensor([1.2, -0.7, 0.5, -1.1], dtype=torch.float64)
CLIP = (0.2, 0.28)


def leaf() -> Tensor:
    return LOGITS.clone().requires_grad_()


def policy(name: str, logits: Tensor) -> Tensor:
    choice = POLICY_LOSSES[name]
    return policy_loss(
        selected_logps(logits, IDS),
        ADVANTAGES,
        MASK,
        count=reduction_count(MASK, choice.reduction, 4),
        reduction=choice.reduction,
        old_logps=OLD,
        ratio=choice.ratio,
        clip=clip_range(choice.clip, CLIP[0], 1 + CLIP[1] if choice.clip == "ratio" else CLIP[1]),
        clipped="ratio" if choice.clip == "ratio" else "objective",
    ).loss


@pytest.mark.parametrize("name", [name for name, choice in POLICY_LOSSES.items() if choice.clip != "ratio"])
def test_policy_losses(name) -> None:
    choice = POLICY_LOSSES[name]
    if choice.ratio != "none":
        ratio = importance_ratio(WITHOUT, OLD, MASK, choice.ratio)
        corners = torch.tensor([1 - CLIP[0], 1 + CLIP[1]])
        assert (ratio[..., None] - corners).abs().min() > 1e-3
        assert ((ratio > corners[1]) | (ratio < corners[0])).any()
    assert gradcheck(lambda at: policy(name, at), leaf())


def test_cispo_whose_ratio_is_a_constant() -> None:
    # The loss is not the function that it descends: with the capped ratio held at its value it is, to rounding.
    weight = importance_ratio(WITHOUT, OLD, MASK).clamp(max=1 + CLIP[1])
    assert ((weight == 1 + CLIP[1]) & (MASK > 0)).any()
    assert (weight < 1 - CLIP[0]).any()

    def held(at: Tensor) -> Tensor:
        return -(weight * ADVANTAGES[:, None] * selected_logps(at, IDS) * MASK).sum() / MASK.sum()

    assert gradcheck(held, leaf())
    ours, theirs = leaf(), leaf()
    policy("cispo", ours).backward()
    held(theirs).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_imitation_loss(smoothing) -> None:
    weights = draw(4, 1, seed=3).exp()

    def loss(at: Tensor) -> Tensor:
        return sft_loss(
            selected_logps(at, IDS),
            MASK,
            count=8.0,
            weights=weights,
            label_smoothing=smoothing,
            mean_logps=mean_logps(at),
        ).loss

    assert gradcheck(loss, leaf())
    assert gradgradcheck(loss, leaf())


@pytest.mark.parametrize("reduction", ["token", "sequence", "constant"])
@pytest.mark.parametrize("corrected", [False, True])
def test_kl_loss(reduction, corrected) -> None:
    def loss(at: Tensor) -> Tensor:
        logps = selected_logps(at, IDS)
        weights = importance_ratio(logps, OLD, MASK) if corrected else None
        return kl_loss(logps, REF, MASK, count=5.0, reduction=reduction, weights=weights).loss

    assert gradcheck(loss, leaf())


@pytest.mark.parametrize("reduction", ["token", "sequence", "constant"])
@pytest.mark.parametrize("clip", [None, 0.3])
def test_value_loss(reduction, clip) -> None:
    old, returns = draw(4, 4, seed=8), draw(4, 4, seed=9)
    values = old + 0.5 * draw(4, 4, seed=10)

    def loss(at: Tensor) -> Tensor:
        return value_loss(at, returns, MASK, count=5.0, reduction=reduction, old_values=old, clip=clip).loss

    # No value near the corners: the edge of the clip range, and where the two errors are equal.
    moved = (values - old).abs()[MASK > 0]
    assert (moved - 0.3).abs().min() > 1e-3
    assert (moved > 0.3).any()
    assert gradcheck(loss, values.requires_grad_())


def test_k2_loss() -> None:
    assert gradcheck(
        lambda at: kl_loss(selected_logps(at, IDS), REF, MASK, count=5.0, reduction="token", estimate="k2").loss, leaf()
    )


@pytest.mark.parametrize("reduction", ["token", "sequence", "constant"])
def test_entropy_loss(reduction) -> None:
    assert gradcheck(lambda at: entropy_loss(token_entropy(at), MASK, count=5.0, reduction=reduction).loss, leaf())


@pytest.mark.parametrize("chunk", [2**24, 8])
def test_scores(chunk, monkeypatch) -> None:
    monkeypatch.setattr(tensors, "CHUNK_ELEMENTS", chunk)
    ids = torch.tensor([[0, 3, 1]])
    for score in (lambda at: selected_logps(at, ids, temperature=0.7), token_entropy, mean_logps):
        logits = draw(1, 3, 4, seed=0).requires_grad_()
        assert gradcheck(score, logits)
        assert gradgradcheck(score, logits)
    together = lambda at: tensors.logit_scores(at, ids, temperature=0.7, entropy=True, mean=True)[:3]  # noqa: E731
    assert gradcheck(together, logits)
    assert gradgradcheck(together, logits)


# One token over a vocabulary of V = 6: expectations are sums, no sampling. Row v of the batch is token v, weighted by
# pi(v), so a token mean with count 1 of `pi(v) x_v` is E_pi[x].
VOCABULARY = 6
TOKEN = torch.arange(VOCABULARY)[:, None]
ONES = torch.ones(VOCABULARY, 1, dtype=torch.float64)


def every_token(theta: Tensor) -> Tensor:
    return selected_logps(theta.expand(VOCABULARY, 1, VOCABULARY), TOKEN)


def theta_and_reference() -> tuple[Tensor, Tensor]:
    return draw(VOCABULARY, seed=5).requires_grad_(), every_token(draw(VOCABULARY, seed=6))


@pytest.mark.parametrize("ratio", ["token", "none"])
def test_the_policy_gradient_is_that_of_the_expected_reward(ratio) -> None:
    theta, _ = theta_and_reference()
    reward = draw(VOCABULARY, 1, seed=7)
    expected = torch.autograd.grad((every_token(theta).exp() * reward).sum(), theta)[0]
    probability = every_token(theta).detach().exp()
    out = policy_loss(
        every_token(theta), probability * reward, ONES, count=1.0, reduction="token", ratio=ratio, clip=None
    )
    found = torch.autograd.grad(out.loss, theta)[0]
    torch.testing.assert_close(found, -expected, rtol=1e-12, atol=1e-14)


def test_off_policy_the_ratio_corrects_the_sampling() -> None:
    theta, other = theta_and_reference()
    reward = draw(VOCABULARY, 1, seed=7)
    expected = torch.autograd.grad((every_token(theta).exp() * reward).sum(), theta)[0]
    out = policy_loss(
        every_token(theta), other.exp() * reward, ONES, count=1.0, reduction="token", old_logps=other, clip=None
    )
    torch.testing.assert_close(torch.autograd.grad(out.loss, theta)[0], -expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("corrected", [False, True])
def test_which_divergence_the_kl_loss_descends(corrected) -> None:
    theta, ref = theta_and_reference()
    logps = every_token(theta)
    reverse = (logps.exp() * (logps - ref)).sum()  # KL(pi || ref)
    forward = (ref.exp() * (ref - logps)).sum()  # KL(ref || pi)
    expected = torch.autograd.grad(reverse if corrected else forward, theta)[0]

    now = every_token(theta)
    probability = now.detach().exp()
    weights = probability * (importance_ratio(now, None, ONES) if corrected else 1.0)
    out = kl_loss(now, ref, ONES, count=1.0, reduction="token", weights=weights)
    assert out.loss.item() == pytest.approx(reverse.item(), rel=1e-12)
    torch.testing.assert_close(torch.autograd.grad(out.loss, theta)[0], expected, rtol=1e-12, atol=1e-14)


def test_k2_descends_the_reverse_divergence() -> None:
    theta, ref = theta_and_reference()
    logps = every_token(theta)
    expected = torch.autograd.grad((logps.exp() * (logps - ref)).sum(), theta)[0]
    now = every_token(theta)
    out = kl_loss(now, ref, ONES, count=1.0, reduction="token", weights=now.detach().exp(), estimate="k2")
    torch.testing.assert_close(torch.autograd.grad(out.loss, theta)[0], expected, rtol=1e-12, atol=1e-14)
