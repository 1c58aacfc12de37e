"""Rewards of the long bench. The last number of an answer is what it says; `-` and letters around it are ignored."""

from __future__ import annotations

import re

COST = 0.5
"""What an answer as long as it may be loses, of 1, where length costs."""

LONGEST = 28
"""Characters of the longest answer that is charged more than a shorter one."""


def right(prompts, completions, answer, **columns):  # noqa: ARG001
    """1 where the last number is the sum, else 0."""
    return [float(re.findall(r"\d+", text)[-1:] == [sought]) for text, sought in zip(completions, answer, strict=True)]


def right_and_short(prompts, completions, answer, **columns):
    """As `right`, less a cost that grows with the length: half of the reward at 28 characters."""
    paid = right(prompts, completions, answer, **columns)
    return [one * (1 - COST * min(1.0, len(text) / LONGEST)) for one, text in zip(paid, completions, strict=True)]
