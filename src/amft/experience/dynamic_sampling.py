"""Dynamic sampling: prompts whose completions all earn the same teach a group baseline nothing, so others are drawn."""

from __future__ import annotations

from collections.abc import Callable

from ..batch import MetricSums
from ..demo_mixing.generation import Generation


def replace_flat_groups(
    first: Generation, draw: Callable[[int], Generation], *, rounds: int
) -> tuple[Generation, MetricSums]:
    """Put fresh groups with spread in the places of groups without (arXiv 2503.14476, the constraint of eq 8).

    Each round draws as many prompts as there are flat groups left. What is still flat after the last round stays, so a
    step always has its number of prompts.

    Args:
        first: the groups that were drawn.
        draw: gives that many further groups.
        rounds: how often to draw, at most.

    Returns:
        The groups to train on, and metric sums: prompts drawn beyond the first, the tokens thrown away, and how many
        of all groups drawn were flat.
    """
    pool, slots = first, list(range(len(first.chosen)))
    for _ in range(rounds):
        flat = [slot for slot, at in enumerate(slots) if is_flat(pool, at)]
        if not flat:
            break
        known = len(pool.chosen)
        pool = pool.joined(draw(len(flat)))
        varied = (at for at in range(known, len(pool.chosen)) if not is_flat(pool, at))
        for slot, at in zip(flat, varied, strict=False):
            slots[slot] = at
    drawn, kept = len(pool.chosen), pool.picked(slots)
    sums = {
        "dynamic_sampling/extra_prompts": (float(drawn - len(slots)), 1.0),
        "dynamic_sampling/discarded_tokens": (float(pool.tokens - kept.tokens), 1.0),
        "dynamic_sampling/frac_flat": (float(sum(is_flat(pool, at) for at in range(drawn))), float(drawn)),
    }
    return kept, sums


def is_flat(generation: Generation, at: int) -> bool:
    """Whether the rewards given in one group do not differ; an abstention is no reward.

    A prompt with nothing to explore is not flat: its demonstration is imitated instead.
    """
    rewards = [sample.reward for sample in generation.explore[at]]
    return bool(rewards) and len({reward for reward in rewards if reward == reward}) < 2
