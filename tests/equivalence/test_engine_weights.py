"""An engine that is off the trainer by a known factor: its rollouts' gradient is weighed by it, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_runs import build, parameters

from amft.batch import pad_batch
from amft.models.forward import TokenScores

SETTINGS = {
    "dtype": "float64",
    "max_steps": 1,
    "optim": "sgd",
    "max_grad_norm": None,
    "learning_rate": 0.1,
    "loss_type": "dapo",
}


class Off:
    """The run's own sampler, whose log-probabilities are the trainer's less `apart`."""

    def __init__(self, trainer, apart):
        self.inner, self.learner, self.apart = trainer.organs.collector.backend.sampler, trainer.learner, apart

    def generate(self, prompts, sampling, generator):
        found = self.inner.generate(prompts, sampling, generator)
        batch = pad_batch([t.prompt_ids for t in found], [t.completion_ids for t in found], 1)
        logps = self.learner.logps(self.learner.model, batch) - self.apart
        return [
            replace(t, logps=tuple(row[: len(t.completion_ids)].tolist())) for t, row in zip(found, logps, strict=True)
        ]


def trainer(directory, rule, apart=None, **changes):
    built = build(directory, rule, **(SETTINGS | changes))
    if apart is not None:
        built.organs.collector.backend.sampler = Off(built, apart)
    return built


def moved(built):
    start = parameters(built)
    built.train()
    return parameters(built) - start


def weights_of(built, batch):
    """[B, C] by which the policy gradient is multiplied."""
    scores = TokenScores(built.learner.logps(built.model, batch))
    return built.organs.objective.mismatch(batch, scores)[0].float()


LN2 = 0.6931471805599453


@pytest.mark.parametrize(("apart", "cap", "factor"), [(LN2, 3.0, 2.0), (LN2, 1.5, 1.5), (-LN2, 3.0, 0.5)])
def test_the_policy_gradient_is_weighed_and_the_imitation_is_not(apart, cap, factor, tmp_path):
    """(1 - mu) g_rl becomes (1 - mu) w g_rl: w = min(e^apart, cap) is the same for every token."""
    rule, cap = {"rule": "fixed", "mu": 0.25}, {"importance_sampling": {"clip_max": cap}}
    weighed = trainer(tmp_path / "off", rule, apart, **cap)
    both = moved(trainer(tmp_path / "none", rule))
    explored = 0.75 * moved(trainer(tmp_path / "rl", {"rule": "fixed", "mu": 0.0}, apart, **cap)) / factor
    torch.testing.assert_close(
        moved(weighed), both + (factor - 1.0) * explored, rtol=0, atol=1e-8
    )  # norms are in float32
    assert explored.abs().max() > 1e-4


def test_switched_off_it_is_only_measured(tmp_path):
    plain = moved(trainer(tmp_path / "none", "rl"))
    off = trainer(tmp_path / "off", "rl", LN2, importance_sampling={"correction": False})
    assert torch.equal(moved(off), plain)


def test_demonstrations_among_the_rollouts_are_not_weighed(tmp_path):
    built = trainer(tmp_path / "run", "luffy", LN2)
    batch = built.organs.collector.next(built.sources.prompts).batch
    shown = batch.demo * batch.completion_mask
    drawn = batch.completion_mask - shown
    assert shown.any()
    assert drawn.any()
    torch.testing.assert_close(weights_of(built, batch), (1.0 + drawn).float())


def test_held_out_rollouts_are_weighed_too(tmp_path):
    built = trainer(tmp_path / "run", {"rule": "amft-scalar", "utility": "heldout"}, LN2)
    batch = built.organs.collector.collect(built.sources.meta, 2, torch.Generator().manual_seed(0))
    torch.testing.assert_close(weights_of(built, batch), 1.0 + batch.completion_mask)


def test_weights_are_kept_in_the_window_and_in_its_checkpoint(tmp_path):
    built = trainer(tmp_path / "run", "rl", LN2, num_iterations=2)
    built.organs.collector.next(built.sources.prompts)
    tensors, state = built.organs.collector.state_dict()
    other = trainer(tmp_path / "other", "rl", num_iterations=2)
    other.organs.collector.load_state_dict(tensors, state)
    kept = other.organs.collector.next(other.sources.prompts).batch
    assert weights_of(other, kept).max() == pytest.approx(2.0)
