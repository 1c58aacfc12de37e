"""The gradients of the imitation branches, one after the other: what a step says of them."""

from types import SimpleNamespace

import pytest

from amft.balance.weights import Weights
from amft.step.branch import Branch, StepResult
from amft.step.imitate import imitate

SHOWN = {"sft/right": 30.0, "sft/wrong": 10.0, "sft/silent": 0.0}
WEIGHTS = Weights({"rl": 0.5, "sft/right": 0.8, "sft/wrong": 0.2, "sft/silent": 0.9})


def imitated(branches: dict[str, float], weights: Weights = WEIGHTS) -> dict[str, float]:
    """Metrics of a step whose branches have so many tokens; one without rows says nothing of its tokens."""

    def gradient(branch: Branch, scale: float) -> tuple[float, dict[str, tuple[float, float]]]:
        tokens = branches[branch.name]
        return 2.0 * scale, {"tokens/demo": (tokens, 1.0)} if tokens else {}

    result = StepResult(weights, {}, {}, {})
    rows = [Branch(name, None, lambda *_: None, 40.0) for name in branches]
    imitate(SimpleNamespace(gradient=gradient), rows, result)  # type: ignore[arg-type]
    return result.metrics


def test_mu_is_the_mean_weight_of_the_tokens_shown() -> None:
    found = imitated(SHOWN)
    assert found["mix/mu"] == pytest.approx((30 * 0.8 + 10 * 0.2) / 40)
    assert found["tokens/demo"] == 40
    assert {"sft/right/loss", "sft/wrong/loss", "sft/silent/loss", "sft/loss"} <= found.keys()


def test_a_step_without_rows_has_no_mean_weight() -> None:
    assert "mix/mu" not in imitated({"sft/silent": 0.0})


def test_one_branch_leaves_mu_to_the_rule() -> None:
    assert "mix/mu" not in imitated({"sft": 40.0}, Weights.convex(0.4))
