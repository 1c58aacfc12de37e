"""MixGrad's bookkeeping: buffers, guards, the trace, state."""

from __future__ import annotations

import math

import pytest
import torch
from torch.optim import SGD, AdamW

from amft.balance.weights import Weights
from amft.errors import CheckpointError, OptimizerError
from amft.meta import MixGrad


def _vector(*values):
    return torch.tensor(values, dtype=torch.float64)


def _setup(lr=0.5, **settings):
    p = _vector(0.0, 0.0).requires_grad_()
    optimizer = SGD([p], lr)
    return p, optimizer, MixGrad([p], optimizer, **settings)


def _step(p, optimizer, mix, sft, rl, weights=None):
    p.grad = rl
    mix.stash("rl")
    assert p.grad is None
    p.grad = sft
    mix.stash("sft")
    mixed = mix.combine(weights or Weights.convex(0.25))
    optimizer.step()
    mix.after_step()
    return mixed


def _observe(p, mix, grad):
    p.grad = grad
    return mix.observe().get("sft")


def test_one_step_by_hand():
    # d = (3, 4) - (0, 4) = (3, 0); mix = .25 (3, 4) + .75 (0, 4) = (.75, 4); buffer = lr d = (1.5, 0)
    p, optimizer, mix = _setup()
    mixed = _step(p, optimizer, mix, _vector(3, 4), _vector(0, 4))
    assert (mixed.norms["sft"], mixed.norms["rl"], mixed.cosines["sft"]) == (5.0, 4.0, pytest.approx(16 / 20))
    torch.testing.assert_close(p.detach(), -0.5 * _vector(0.75, 4))
    # <(2, 7), (1.5, 0)> = 3; cosine = 2 / sqrt(4 + 49)
    seen = _observe(p, mix, _vector(2, 7))
    assert seen.dot == pytest.approx(3.0)
    assert seen.cos == pytest.approx(2 / math.sqrt(53))


@pytest.mark.parametrize(("w_sft", "w_rl"), [(1.0, 0.0), (0.0, 1.0)])
def test_a_pure_branch_is_bit_exact_even_beside_a_huge_one(w_sft, w_rl):
    p = torch.zeros(2, requires_grad=True)
    mix = MixGrad([p], SGD([p], 1.0))
    tiny, huge = torch.tensor([1e-9, 3e-9]), torch.tensor([1e9, -7e9])
    sft, rl = (tiny, huge) if w_sft else (huge, tiny)
    p.grad = rl.clone()
    mix.stash("rl")
    p.grad = sft.clone()
    mix.stash("sft")
    mix.combine(Weights(sft=w_sft, rl=w_rl))
    assert torch.equal(p.grad, tiny)


def test_free_weights():
    p, optimizer, mix = _setup(lr=1.0)
    _step(p, optimizer, mix, _vector(1, 2), _vector(10, 20), Weights(sft=0.3, rl=0.9))
    torch.testing.assert_close(p.detach(), -_vector(9.3, 18.6))


@pytest.mark.parametrize("missing", ["sft", "rl"])
def test_a_missing_branch_counts_as_zeros(missing):
    p, optimizer, mix = _setup(lr=1.0)
    sft, rl = (None, _vector(4, 8)) if missing == "sft" else (_vector(4, 8), None)
    _step(p, optimizer, mix, sft, rl)
    share, sign = (0.75, -1) if missing == "sft" else (0.25, 1)
    torch.testing.assert_close(p.detach(), -share * _vector(4, 8))
    assert _observe(p, mix, _vector(1, 0)).dot == pytest.approx(sign * 4)


def test_a_parameter_without_any_gradient_is_left_alone():
    p, q = _vector(0.0).requires_grad_(), _vector(5.0).requires_grad_()
    optimizer = AdamW([p, q], 0.1)
    mix = MixGrad([p, q], optimizer)
    _step(p, optimizer, mix, _vector(1), _vector(2))
    assert q.grad is None
    assert q.item() == 5.0
    assert set(mix.state_dict()) == {"optimizer_steps", "rejected", "effect0.0"}


def test_rl_gradient_is_moved_not_copied():
    p, _, mix = _setup()
    p.grad = rl = _vector(1, 1)
    mix.stash("rl")
    p.grad = _vector(2, 2)
    mix.stash("sft")
    mix.combine(Weights.convex(0.0))
    assert p.grad.data_ptr() == rl.data_ptr()


def test_nothing_to_observe_before_a_mixed_step_or_after_discard():
    p, optimizer, mix = _setup()
    assert _observe(p, mix, _vector(1, 1)) is None
    _step(p, optimizer, mix, _vector(3, 4), _vector(0, 4))
    mix.discard()
    assert _observe(p, mix, _vector(1, 1)) is None


def test_a_step_without_mixing_ends_the_old_effect():
    p, optimizer, mix = _setup()
    _step(p, optimizer, mix, _vector(3, 4), _vector(0, 4))
    p.grad = _vector(1, 1)
    optimizer.step()
    mix.after_step()
    assert mix.optimizer_steps == 2
    assert _observe(p, mix, _vector(1, 1)) is None


def test_first_steps_of_the_optimizer_are_not_observed():
    p, optimizer, mix = _setup(skip=2, horizon=0.5)
    for steps in (1, 2, 3):
        _step(p, optimizer, mix, _vector(3, 4), _vector(0, 4))
        assert (_observe(p, mix, _vector(1, 0)) is not None) == (steps > 2)
    assert _observe(p, mix, _vector(1, 0)).dot == pytest.approx(1.5)  # the third step alone: no trace of the others


def test_trace_by_hand():
    # buffers 1.5 then .5 (d = 3 then 1, lr .5) on the first coordinate; trace .9 * 1.5 + .5 = 1.85
    p, optimizer, mix = _setup(horizon=0.9)
    _step(p, optimizer, mix, _vector(3, 0), _vector(0, 0))
    _step(p, optimizer, mix, _vector(1, 0), _vector(0, 0))
    assert _observe(p, mix, _vector(1, 0)).dot == pytest.approx(1.85)
    p.grad = _vector(1, 1)
    optimizer.step()
    mix.after_step()
    assert _observe(p, mix, _vector(1, 0)).dot == pytest.approx(1.85 * 0.9)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_non_finite_gradient_is_rejected_and_counted(bad):
    p, optimizer, mix = _setup()
    _step(p, optimizer, mix, _vector(3, 4), _vector(0, 4))
    assert _observe(p, mix, _vector(bad, 0)) is None
    assert mix.rejected == 1
    assert _observe(p, mix, _vector(1, 0)).dot == pytest.approx(1.5)


def test_non_finite_effect_is_dropped_for_good():
    p, optimizer, mix = _setup(horizon=0.9)
    _step(p, optimizer, mix, _vector(math.inf, 4), _vector(0, 4))
    assert _observe(p, mix, _vector(1, 0)) is None
    assert mix.rejected == 1
    _step(p, optimizer, mix, _vector(3, 4), _vector(0, 4))
    assert _observe(p, mix, _vector(1, 0)).dot == pytest.approx(1.5)


def test_zero_gradient_observes_zero():
    p, optimizer, mix = _setup()
    _step(p, optimizer, mix, _vector(3, 4), _vector(0, 4))
    seen = _observe(p, mix, _vector(0, 0))
    assert (seen.dot, seen.cos) == (0.0, 0.0)
    seen = _observe(p, mix, None)
    assert (seen.dot, seen.cos) == (0.0, 0.0)


def test_clip_without_a_buffer_and_without_a_limit():
    p, _, mix = _setup()
    p.grad = _vector(3, 4)
    assert mix.clip_(None) == 5.0
    assert torch.equal(p.grad, _vector(3, 4))
    assert mix.clip_(1.0) == 5.0
    assert float(p.grad.norm()) == pytest.approx(1.0, rel=1e-6)


def test_clip_reports_a_non_finite_norm():
    p, _, mix = _setup()
    p.grad = _vector(math.nan, 4)
    assert math.isnan(mix.clip_(1.0))


def test_zero_grad_too_early_is_an_error():
    p, optimizer, mix = _setup()
    p.grad = _vector(1, 1)
    mix.stash("rl")
    p.grad = _vector(2, 2)
    mix.stash("sft")
    mix.combine(Weights.convex(0.5))
    optimizer.step()
    optimizer.zero_grad()
    with pytest.raises(RuntimeError, match="zero_grad"):
        mix.after_step()


@pytest.mark.parametrize("horizon", [0.0, 0.9])
def test_state_survives_a_round_trip(horizon):
    p, optimizer, mix = _setup(horizon=horizon)
    _step(p, optimizer, mix, _vector(3, 4), _vector(0, 4))
    _observe(p, mix, _vector(math.nan, 0))
    state = {key: value.clone() for key, value in mix.state_dict().items()}
    other = MixGrad([p], optimizer, horizon=horizon)
    other.load_state_dict(state)
    assert (other.optimizer_steps, other.rejected) == (1, 1)
    # As texts, since Python 3.13 compares field by field, and no NaN is equal to one.
    assert repr(_observe(p, other, _vector(2, 7))) == repr(_observe(p, mix, _vector(2, 7)))
    _step(p, optimizer, other, _vector(1, 0), _vector(0, 1))
    assert torch.equal(state["effect0.0"], _vector(1.5, 0))  # loading copied


def test_state_of_another_model_is_refused():
    named = [("layer.weight", _vector(0, 0).requires_grad_())]
    mix = MixGrad(named, SGD([named[0][1]], 0.5))
    counters = {"optimizer_steps": torch.tensor(1), "rejected": torch.tensor(0)}
    with pytest.raises(CheckpointError, match="other"):
        mix.load_state_dict({**counters, "effect0.other": _vector(1, 2)})
    with pytest.raises(CheckpointError, match=r"layer\.weight.*shape"):
        mix.load_state_dict({**counters, "effect0.layer.weight": _vector(1)})


def test_frozen_parameters_are_ignored_and_strangers_refused():
    p, frozen = _vector(0.0).requires_grad_(), _vector(0.0)
    MixGrad([p, frozen], SGD([p], 0.1))
    with pytest.raises(OptimizerError, match="stranger"):
        MixGrad([("mine", p), ("stranger", _vector(0.0).requires_grad_())], SGD([p], 0.1))
