"""Conversations as token ids, grown by appending. No torch.

What the model sampled is kept as it was sampled and is never decoded and encoded again; the user's turns between its
answers come from the chat template. Every token carries a mask: 1 where the model chose it, 0 where it was given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import DataError
from ..types import Message, Sample
from .encoding import STAND_INS, in_parts, render_conversation
from .plain_text import Reader, reader


@dataclass
class UserTurns:
    """The tokens from the end of one answer to the beginning of the next.

    They are the difference of two renderings: a dummy conversation with a user's message after the answer, less all
    of it up to the answer's last word.

    Args:
        tokenizer: with a chat template.
    """

    tokenizer: Any
    known: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def reply(self, content: str, last: int) -> tuple[int, ...]:
        """Token ids of a user's message, with what the template puts around it up to the next answer.

        Args:
            content: the message.
            last: last token of the answer before it. If it is the end token with which the template begins here, that
                one is left out; an answer that was cut gets it.

        The message is text, never a control token, whatever it quotes.

        Raises:
            DataError: the template renders the message differently for different answers.
        """
        if content not in self.known:
            reads = reader(self.tokenizer, [content])
            self.known[content] = tuple(reads.ids(self._after_answer(content, reads)))
        ids = self.known[content]
        return ids[1:] if ids[:1] == (last,) else ids

    def _after_answer(self, content: str, reads: Reader) -> str:
        for spelled in (list, in_parts):
            tails = [self._tail(spelled(_dummy(answer, content)), answer, reads) for answer in STAND_INS]
            if tails[0] == tails[1] and content.strip() in tails[0]:
                return tails[0]
        raise DataError("the chat template leaves out or rewrites turns after an answer; use another template")

    def _tail(self, dummy: list[Message], answer: str, reads: Reader) -> str:
        try:
            return render_conversation(self.tokenizer, dummy, reads, add_generation_prompt=True).partition(answer)[2]
        except DataError:  # a template of text may refuse parts
            return ""


def _dummy(answer: str, content: str) -> list[Message]:
    turns = (("user", "?"), ("assistant", answer), ("user", content))
    return [{"role": role, "content": text} for role, text in turns]


@dataclass
class Transcript:
    """One conversation as it grows."""

    prompt_ids: tuple[int, ...]
    ids: list[int] = field(default_factory=list)
    """Everything after the prompt."""
    mask: list[int] = field(default_factory=list)
    """1 on sampled tokens, 0 on the user's."""
    logps: list[float] = field(default_factory=list)
    """What the engine said of everything after the prompt and the prefix of the first answer; NaN where it did not."""
    answers: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    """The user's messages between the answers."""
    finished: bool = False
    """Whether the last answer ended by itself."""

    def answer(self, ids: Sequence[int], text: str, finished: bool, logps: Sequence[float] = ()) -> None:
        """Append what the model sampled, as it sampled it; `logps` are in nats, of the tokens after a prefix."""
        self.ids += ids
        self.mask += [1] * len(ids)
        self.logps += logps
        self.answers.append(text)
        self.finished = finished

    def reply(self, ids: Sequence[int], text: str) -> None:
        """Append a user's turn."""
        self.ids += ids
        self.mask += [0] * len(ids)
        self.logps += [math.nan] * len(ids)
        self.said.append(text)

    @property
    def so_far(self) -> list[int]:
        """What the next answer is sampled from."""
        return [*self.prompt_ids, *self.ids]

    @property
    def text(self) -> str:
        """Answers and messages, for people to read."""
        turns = [turn for pair in zip(self.answers, [f"\n[user] {said}\n" for said in self.said]) for turn in pair]
        return "".join([*turns, *self.answers[len(self.said) :]])

    def trajectory(self) -> Sample:
        return Sample(self.prompt_ids, tuple(self.ids), self.finished, tuple(self.mask))
