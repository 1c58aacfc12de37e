"""One row of a published file as a checked item, or the field that is wrong and why."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...types import Message
from .answers import LETTERS, MAX_BOXED, boxed, same_text
from .sets import Layout

MAX_QUESTION = 50_000
"""Characters of a prompt; longer ones are damage, not mathematics."""

BOX_ANSWER = "Put the final answer in \\boxed{}."
BOX_LETTER = "Put the letter of the right choice in \\boxed{}."

DIGITS = "123456789"

_LISTED = re.compile(r"^\s*\(?([A-J1-9])[).:]", re.MULTILINE)


class RowError(ValueError):
    """A row that cannot be used: the field, and what is wrong with it."""

    def __init__(self, field: str, why: str):
        super().__init__(f"{field}: {why}")
        self.field, self.why = field, why


@dataclass(frozen=True)
class Item:
    """One usable row."""

    key: str
    """Hash of the question's text; equal questions have equal keys."""
    messages: tuple[Message, ...]
    answer: str
    """The right answer; for multiple choice its letter."""
    letters: str = ""
    """Labels to choose from, `ABCD`; empty: a mathematical answer."""
    demonstration: str | None = None


def read_row(row: Any, layout: Layout, choice: bool) -> Item:
    """The item in a row.

    Args:
        row: a mapping of columns.
        layout: which column holds what.
        choice: the set is multiple choice.

    Raises:
        RowError: naming the column.
    """
    if not isinstance(row, Mapping):
        raise RowError("row", f"is {_kind(row)}, not an object")
    messages = _messages(row, layout.question)
    question = messages[-1]["content"]
    if not choice:
        answer, letters, hint = _answer(row, layout.answer), "", BOX_ANSWER
    elif layout.choices or layout.wrong:
        choices, right = _choices(row, layout, question)
        letters = LETTERS[: len(choices)]
        answer, hint = letters[right], BOX_LETTER
        question = "\n".join([question, "", *(f"{a}) {text}" for a, text in zip(letters, choices, strict=True))])
    else:
        answer, letters, hint = *_listed(row, layout, question), ""
    written = isinstance(_column(row, layout.question), str)
    messages[-1] = {"role": "user", "content": f"{question}\n\n{hint}" if written and hint else question}
    shown = _demonstration(row, layout) if layout.demonstration else None
    return Item(question_key(question), tuple(messages), answer, letters, shown)


def question_key(question: str) -> str:
    """Hash of a question, blind to white space and case."""
    return hashlib.sha256(re.sub(r"\s+", " ", question).strip().lower().encode()).hexdigest()[:16]


def has_columns(row: Any, layout: Layout) -> bool:
    """Whether a row has every column that a layout reads."""
    try:
        for name in layout.columns:
            _column(row, name)
    except RowError:
        return False
    return True


def of_source(row: Any, layout: Layout) -> bool:
    """Whether a row belongs to the set, where a file holds several."""
    column, value = layout.source
    return not column or (isinstance(row, Mapping) and row.get(column) == value)


def _column(row: Any, name: str) -> Any:
    value = row
    for step in name.split("."):
        if not isinstance(value, Mapping) or step not in value:
            raise RowError(name, "the column is missing")
        value = value[step]
    return value


def _text(value: Any, name: str, most: int) -> str:
    if not isinstance(value, str):
        raise RowError(name, f"is {_kind(value)}, not text")
    if not value.strip():
        raise RowError(name, "is empty")
    if len(value) > most:
        raise RowError(name, f"has {len(value)} characters, more than {most}")
    return value.strip()


def _kind(value: Any) -> str:
    return "null" if value is None else f"of type {type(value).__name__}"


def _messages(row: Mapping[str, Any], name: str) -> list[Message]:
    value = _column(row, name)
    if isinstance(value, str):
        return [{"role": "user", "content": _text(value, name, MAX_QUESTION)}]
    if not isinstance(value, list) or not value:
        raise RowError(name, f"is {_kind(value)}, not text or a list of messages")
    for message in value:
        if not isinstance(message, Mapping) or message.get("role") not in ("system", "user", "assistant"):
            raise RowError(name, "has a message without a role among system, user, assistant")
        _text(message.get("content"), name, MAX_QUESTION)
    if value[-1]["role"] != "user":
        raise RowError(name, "does not end with the user's question")
    return [{"role": message["role"], "content": message["content"]} for message in value]


def _answer(row: Mapping[str, Any], name: str) -> str:
    value = _column(row, name)
    if isinstance(value, list) and value:
        value = ", ".join(_text(part, name, MAX_BOXED) for part in value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value != value or value in (float("inf"), float("-inf")):
            raise RowError(name, f"is {value}, not a finite number")
        value = str(int(value)) if value == int(value) else repr(value)
    text = _text(value, name, MAX_BOXED)
    if not same_text(boxed(f"\\boxed{{{text}}}") or "", text):
        raise RowError(name, "has braces that do not match")
    return text


def _choices(row: Mapping[str, Any], layout: Layout, question: str) -> tuple[list[str], int]:
    """The choices in the order they are shown, and the place of the right one."""
    if layout.wrong:
        choices = [_text(_column(row, name), name, MAX_QUESTION) for name in (layout.answer, *layout.wrong)]
        order = random.Random(f"choices:{question}").sample(range(len(choices)), len(choices))
        return [choices[i] for i in order], order.index(0)
    value = _column(row, layout.choices)
    if not isinstance(value, list) or not 2 <= len(value) <= len(LETTERS):
        raise RowError(layout.choices, f"is {_kind(value)}, not a list of 2 to {len(LETTERS)} texts")
    choices = [_text(choice, layout.choices, MAX_QUESTION) for choice in value]
    labels: Sequence[Any] = _column(row, layout.labels) if layout.labels else list(LETTERS[: len(choices)])
    answer = _column(row, layout.answer)
    if not isinstance(labels, list) or len(labels) != len(choices) or answer not in labels:
        raise RowError(layout.answer, f"{str(answer)[:20]!r} is not one label of the {len(choices)} choices")
    right = labels.index(answer)
    if layout.place and row.get(layout.place, right) != right:
        raise RowError(
            layout.place, f"is {str(row[layout.place])[:20]}, and {layout.answer} {answer!r} is choice {right}"
        )
    return choices, right


def _listed(row: Mapping[str, Any], layout: Layout, question: str) -> tuple[str, str]:
    """The right letter, and all letters, of choices that stand in the question (some of ARC's have numbers)."""
    answer = _answer(row, layout.answer)
    family = DIGITS if answer.isdecimal() else LETTERS
    listed = [label for label in _LISTED.findall(question) if label in family]
    letters = family[: family.index(max(listed)) + 1] if listed else ""
    if len(answer) != 1 or answer not in letters:
        raise RowError(layout.answer, f"{answer[:20]!r} is not the letter of a choice in the question")
    return answer, letters


def _demonstration(row: Mapping[str, Any], layout: Layout) -> str:
    name = layout.demonstration
    value = _column(row, name) if not layout.verified else _first_verified(row, layout)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], Mapping):
        if value[0].get("role") != "assistant":
            raise RowError(name, "is not one message of the assistant")
        value = value[0].get("content")
    text = _text(value, name, 10 * MAX_QUESTION)
    if boxed(text) is None:
        raise RowError(name, "has no final answer in \\boxed{}")
    return text


def _first_verified(row: Mapping[str, Any], layout: Layout) -> Any:
    texts, flags = _column(row, layout.demonstration), _column(row, layout.verified)
    if not isinstance(texts, list):
        raise RowError(layout.demonstration, f"is {_kind(texts)}, not a list of texts")
    if not isinstance(flags, list) or len(flags) != len(texts) or not all(isinstance(flag, bool) for flag in flags):
        raise RowError(layout.verified, f"is not a list of {len(texts)} true or false, one for each demonstration")
    if not any(flags):
        raise RowError(layout.verified, "is true for none of the demonstrations")
    return texts[flags.index(True)]
