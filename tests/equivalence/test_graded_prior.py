"""Where mu begins under `prior: graded`: the demonstrations graded beside the policy's own answers, then compared."""

import json
import random

import pytest
from given_signals import given_signals
from scipy.stats import mannwhitneyu

from amft.balance.amft_scalar import AMFTScalar
from amft.settings.config import AMFTConfig
from amft.signals.demo_gain import DEMO_GAIN, cliffs_delta
from amft.training.trainer import AMFTTrainer


@pytest.mark.parametrize("seed", range(5))
def test_cliffs_delta_is_the_rank_statistic_of_scipy(seed):
    rng = random.Random(seed)
    ours, theirs = ([rng.randrange(5) for _ in range(n)] for n in (13, 29))
    delta = cliffs_delta(ours, theirs)
    assert delta == pytest.approx(2 * mannwhitneyu(ours, theirs).statistic / (13 * 29) - 1, abs=1e-12)
    assert cliffs_delta([3 * x - 7 for x in ours], [3 * x - 7 for x in theirs]) == delta


def test_cliffs_delta_by_hand():
    # 6 pairs: 1 > 0, 1 = 1, 1 < 2; 2 > 0, 2 > 1, 2 = 2.
    assert cliffs_delta([1, 2], [0, 1, 2]) == pytest.approx((3 - 1) / 6)
    assert cliffs_delta([], [1.0]) is None


@pytest.mark.parametrize(
    ("gain", "begins"), [(0.6, 0.6), (0.04, 0.1), (-1.0, 0.1), (1.0, 0.9), (None, 0.1), (float("nan"), 0.1)]
)
def test_mu_begins_at_the_gain_within_its_bounds(gain, begins):
    rule = AMFTScalar(prior="graded", mu_init=0.1, mu_max=0.9)
    assert DEMO_GAIN in rule.requirements.signals
    weights, state, _ = rule.update(rule.init(), given_signals(0, 10, demo_gain=gain))
    assert weights["sft"] == pytest.approx(begins)
    weights, _, _ = rule.update(state, given_signals(1, 10, demo_gain=0.3))
    assert weights["sft"] == pytest.approx(begins)  # later steps belong to the meta-gradient


def test_without_the_prior_nothing_is_graded():
    rule = AMFTScalar(mu_init=0.1)
    assert DEMO_GAIN not in rule.requirements.signals
    assert rule.update(rule.init(), given_signals(0, 10, demo_gain=0.6))[0]["sft"] == pytest.approx(0.1)


ROWS = [{"prompt": f"say {i}", "completion": f"{i}", "answer": f"{i}"} for i in range(30)]


def graded_first(base, directory, demonstrations=None, **changes):
    """Metrics of the first step, and what the reward function was asked."""
    asked = []

    def reward(prompts, completions, answer, **columns):
        asked.append(list(zip(completions, answer, strict=True)))
        return [float(text.strip() == right) for text, right in zip(completions, answer, strict=True)]

    settings = {"max_steps": 1, "num_prompts": 2, "num_generations": 3, "num_demos": 4, "max_completion_length": 4}
    settings |= {
        "eval": {"steps": 0},
        "checkpoint": {"steps": 0},
        "balance": {"rule": "amft-scalar", "prior": "graded", "mu_init": 0.1},
    }
    config = AMFTConfig(output_dir=str(directory), **(settings | changes))
    AMFTTrainer(str(base), config, train_dataset=ROWS, reward_funcs=[reward], demonstrations=demonstrations).train()
    return json.loads((directory / "metrics.jsonl").read_text().splitlines()[0]), asked


def test_right_demonstrations_of_a_random_model_begin_high(tiny_base, tmp_path):
    row, asked = graded_first(tiny_base, tmp_path / "run")
    rollouts, demos = asked[:2]
    assert len(rollouts) == 6
    assert all(text == right for text, right in demos)
    # Every demonstration is paid, so only ties with paid rollouts are missing from a gain of 1.
    paid = sum(text.strip() == right for text, right in rollouts) / 6
    assert row["mix/demo_gain"] == pytest.approx(1 - paid)
    assert row["mix/mu"] == pytest.approx(min(0.95, 1 - paid), abs=1e-3)  # the entropy term moves it a little


def test_a_rule_that_does_not_ask_has_nothing_graded(tiny_base, tmp_path):
    row, asked = graded_first(tiny_base, tmp_path / "run", balance={"rule": "amft-scalar"})
    assert [len(one) for one in asked] == [6, 6]  # rollouts only
    assert "mix/demo_gain" not in row


def test_wrong_demonstrations_do_not(tiny_base, tmp_path):
    wrong = [{**row, "completion": "no"} for row in ROWS]
    row, _ = graded_first(tiny_base, tmp_path / "run", demonstrations=wrong)
    assert row["mix/demo_gain"] <= 0.0
    assert row["mix/mu"] == pytest.approx(0.1, abs=1e-3)


def test_a_target_entropy_of_ones_own_stays(tiny_base, tmp_path):
    row, _ = graded_first(tiny_base, tmp_path / "run", entropy_target=1.25)
    assert row["entropy_target"] == 1.25
    assert "mix/demo_gain" in row


def test_demonstrations_without_the_columns_of_the_reward_are_not_graded(tiny_base, tmp_path):
    bare = [{"prompt": row["prompt"], "completion": row["completion"]} for row in ROWS]
    row, asked = graded_first(tiny_base, tmp_path / "run", demonstrations=bare)
    assert "mix/demo_gain" not in row
    assert row["mix/mu"] == pytest.approx(0.1, abs=1e-3)
    assert [len(one) for one in asked] == [6, 6]  # rollouts only
    assert "columns" in (tmp_path / "run" / "events.jsonl").read_text()
