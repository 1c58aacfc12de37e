"""Plain words shared by every floor. No torch here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

RL, SFT = "rl", "sft"
"""Branches of a step: the one that explores, and the one that imitates; `sft/CLASS` where a rule splits it."""

Message: TypeAlias = dict[str, Any]
"""One chat turn: `{"role": "user", "content": C}` with C a string or, as in transformers, a list of parts,
`{"type": "text", "text": "..."}` or `{"type": "image", "image": a PIL image}`.

A conversation has at most one image, in its first message.
"""

Prompt: TypeAlias = "str | list[Message]"
"""A plain prompt or a conversation, as in TRL's dataset formats."""

Row: TypeAlias = dict[str, Any]
"""One dataset row: `prompt`, optionally `completion`, and columns handed to the reward functions."""

Answer: TypeAlias = "str | list[str]"
"""A model's text; of a task with several tries the texts of all of them."""

RewardFunction: TypeAlias = Callable[..., Sequence["float | None"]]
"""TRL's signature: `f(prompts, completions, completion_ids, **columns) -> one float or None per completion`."""


@dataclass(frozen=True)
class Problem:
    """One question of a task; fully determines its prompt and its grading."""

    task: str
    """Versioned id of the task, for example `general_points-v1`."""
    split: str
    key: str
    """Cluster key: problems that share it (the same hand in another order) are not independent."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """JSON values only."""


DEMO_RIGHT, DEMO_WRONG, DEMO_SILENT = "right", "wrong", "silent"
"""What the verifier says of a demonstration; silent: it cannot say."""
NO_DEMONSTRATION = "none"
"""In the place of a verdict: the prompt has no demonstration of its own."""

ABSTENTIONS = ("grader_timeout", "grader_crash")
"""Outcomes of a grader that could not judge: it ran past its time, or it died or failed."""


@dataclass(frozen=True)
class Grade:
    """The verdict on one answer."""

    outcome: str
    """One word from the task's outcome list, for example `correct` or `wrong_value`; or one of `ABSTENTIONS`."""
    reward: float
    """Finite; not read where the outcome is one of `ABSTENTIONS`."""
    correct: bool
    info: Mapping[str, Any] = field(default_factory=dict)
    """Details for people; `metrics` (name -> number, recognition apart from success, say) is averaged by evaluation."""


def abstain(outcome: str, why: str) -> Grade:
    """The grade of an answer that could not be judged: no reward, counted apart, neither right nor wrong."""
    assert outcome in ABSTENTIONS, outcome
    return Grade(outcome, math.nan, False, {"why": why})


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn. `temperature=0` is greedy."""

    n: int = 1
    """Completions per prompt."""
    max_new_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps the whole vocabulary."""
    max_transcript: int = 0
    """Tokens of a conversation after its prompt; where another answer might not fit, it ends. 0: no limit."""


@dataclass(frozen=True)
class Sample:
    """One sequence: a rollout, a demonstration, or the beginning of one with the policy's own end.

    A rollout engine fills in the first five fields. Scoring adds the text, the reward and what it is made of.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    """Tokens after the prompt, the end-of-sequence token included when it was reached."""
    finished: bool = True
    """False when the token limit cut the completion."""
    mask: tuple[int, ...] | None = None
    """Of a conversation: 1 on the model's tokens, 0 on the user's, which carry no loss. None: there are no others."""
    logps: tuple[float, ...] = ()
    """Log-probabilities (nats) of the tokens after the prefix, as the engine computed them; empty: it does not say."""
    prompt_index: int = 0
    """Which prompt of its generation, from 0."""
    prefix_len: int = 0
    """The first tokens of the completion, written by the demonstrator; all of them for a demonstration."""
    hint: tuple[int, ...] = ()
    """The end of `prompt_ids`: what the completion continues. It is graded with it."""
    text: str = ""
    reward: float = math.nan
    """NaN: not scored, or the scorer abstained."""
    correct: bool = False
    outcome: str | None = None
    reward_parts: Mapping[str, float] = field(default_factory=dict)
    """Reward function -> its value."""
    weight: float = 1.0
    """Of its loss: of the advantage where it is explored, of the likelihood where it is imitated."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What the task measures besides success."""
    teacher_ids: tuple[int, ...] = ()
    """The prompt once more with a solution in it, for the policy as its own teacher; empty: it teaches nothing here."""
    picture: Any = field(default=None, repr=False, compare=False)
    """Of the prompt; None: it has none."""

    def __eq__(self, other: object) -> bool:
        """Every field but the picture; two unscored samples are equal, which Python 3.13 would otherwise deny."""
        if not isinstance(other, Sample):
            return NotImplemented
        return vars(self) | {"picture": None} == vars(other) | {"picture": None}

    @property
    def is_rollout(self) -> bool:
        """The policy's own from its first token."""
        return self.prefix_len == 0

    @property
    def tokens(self) -> int:
        """Completion tokens of model and demonstrator."""
        return len(self.completion_ids) if self.mask is None else sum(self.mask)
