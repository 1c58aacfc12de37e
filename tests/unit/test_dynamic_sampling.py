"""Dynamic sampling with invented rollouts: which groups stay, which come, and what is counted."""

from __future__ import annotations

import math

import pytest

from amft.demo_mixing.generation import Generation
from amft.errors import ConfigError
from amft.experience.dynamic_sampling import is_flat, replace_flat_groups
from amft.settings.config import AMFTConfig
from amft.types import Sample

NAN = math.nan


def rollouts(names: str, rewards: list[list[float]]) -> Generation:
    """One group of two per letter; the completion of letter x has as many tokens as its place in the alphabet."""
    groups = [
        [
            Sample((1,), (2,) * (ord(name) - ord("a") + 1), prompt_index=ord(name), text=name, reward=reward)
            for reward in given
        ]
        for name, given in zip(names, rewards, strict=True)
    ]
    return Generation([ord(name) for name in names], groups, None, groups, [False] * len(names))


class Draws:
    def __init__(self, *answers: Generation):
        self.answers, self.asked = list(answers), []

    def __call__(self, n: int) -> Generation:
        self.asked.append(n)
        answer = self.answers.pop(0)
        assert len(answer.chosen) == n
        return answer


def test_flat() -> None:
    found = rollouts("abcde", [[1, 0], [1, 1], [NAN, 1], [NAN, NAN], [0.1, 0.2]])
    assert [is_flat(found, at) for at in range(5)] == [False, True, True, True, False]


def test_nothing_is_drawn_when_every_group_varies() -> None:
    first, draws = rollouts("ab", [[1, 0], [0, 1]]), Draws()
    found, sums = replace_flat_groups(first, draws, rounds=3)
    assert found == first
    assert draws.asked == []
    assert sums == {
        "dynamic_sampling/extra_prompts": (0.0, 1.0),
        "dynamic_sampling/discarded_tokens": (0.0, 1.0),
        "dynamic_sampling/frac_flat": (0.0, 2.0),
    }


def test_flat_groups_make_room_in_place() -> None:
    # b and d are flat. The first draw brings e (flat) and f, which takes b's prompt_index; the second brings g for d's.
    first = rollouts("abcd", [[1, 0], [1, 1], [0, 1], [0, 0]])
    draws = Draws(rollouts("ef", [[0, 0], [1, 0]]), rollouts("g", [[0, 1]]))
    found, sums = replace_flat_groups(first, draws, rounds=3)
    assert draws.asked == [2, 1]
    assert found == rollouts("afcg", [[1, 0], [1, 0], [0, 1], [0, 1]])
    # Thrown away: b, d and e, two completions of 2, 4 and 5 tokens each.
    assert sums == {
        "dynamic_sampling/extra_prompts": (3.0, 1.0),
        "dynamic_sampling/discarded_tokens": (22.0, 1.0),
        "dynamic_sampling/frac_flat": (3.0, 7.0),
    }


def test_the_rounds_are_bounded_and_the_batch_stays_whole() -> None:
    first = rollouts("ab", [[0, 0], [1, 0]])
    draws = Draws(rollouts("c", [[0, 0]]), rollouts("d", [[0, 0]]))
    found, sums = replace_flat_groups(first, draws, rounds=2)
    assert draws.asked == [1, 1]
    assert found == first
    assert sums["dynamic_sampling/frac_flat"] == (3.0, 4.0)


@pytest.mark.parametrize("loss_type", ["reinforce", "reinforce_plus_plus"])
def test_a_loss_without_group_baseline_refuses_it(loss_type) -> None:
    with pytest.raises(ConfigError, match=f"dynamic_sampling_rounds: {loss_type} learns from equal rewards too"):
        AMFTConfig(loss_type=loss_type, dynamic_sampling_rounds=1)


def test_the_penalty_is_within_the_completion() -> None:
    with pytest.raises(ConfigError, match="soft_punish_cache must not exceed max_completion_length"):
        AMFTConfig(max_completion_length=8, soft_punish_cache=9)
