"""Whether rows can be trained on; a message names the source, the row's own number, the column, the fix. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import DataError
from ..types import Row
from .row_set import RowSet


def check_prompts(source: RowSet) -> None:
    """Every row has a `prompt` to answer.

    Raises:
        DataError: naming the row, the column and the fix.
    """
    if not source.rows:
        raise DataError(f"{source.name}: no rows; give at least one")
    for where, row in source.placed():
        prompt = _text_or_messages(row, "prompt", where)
        if isinstance(prompt, list) and prompt[-1]["role"] == "assistant":
            raise DataError(f"{where}: prompt ends with an assistant message; move that message to completion")


def check_demonstrations(source: RowSet) -> None:
    """Every row has a `prompt` and the `completion` to imitate, both plain or both conversational.

    Extra columns are fine, so one joined set serves both branches.

    Raises:
        DataError: naming the row, the column and the fix.
    """
    check_prompts(source)
    for where, row in source.placed():
        completion = _text_or_messages(row, "completion", where)
        if type(completion) is not type(row["prompt"]):
            raise DataError(f"{where}: prompt and completion differ in kind; make both strings or both conversations")
        if isinstance(completion, list) and (len(completion) != 1 or completion[0]["role"] != "assistant"):
            raise DataError(f"{where}: completion must be one assistant message; move earlier turns to prompt")


def _text_or_messages(row: Row, column: str, where: str) -> Any:
    value = row.get(column)
    if column not in row:
        raise DataError(f"{where}: no column {column!r} (columns: {', '.join(row)}); rename the one that holds it")
    if isinstance(value, str):
        _check_unicode(value, column, where)
        if not value.strip():
            raise DataError(f"{where}: {column} is empty; fill it or drop the row")
        return value
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: {column} must be a non-empty string or list of messages, not {_shown(value)}")
    for message in value:
        if not isinstance(message, Mapping) or not all(
            isinstance(message.get(key), str) for key in ("role", "content")
        ):
            raise DataError(f'{where}: {column} needs messages like {{"role": "user", "content": "text"}}')
        _check_unicode(message["content"], column, where)
    if not value[-1]["content"].strip():
        raise DataError(f"{where}: the last message of {column} has no content; fill it or drop the row")
    return value


def _check_unicode(text: str, column: str, where: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        place = f"{where}: character {error.start + 1} of {column}"
        raise DataError(f"{place} is half of a surrogate pair, which is no text; mend or drop the row") from None


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"


def check_one_kind(sources: Sequence[RowSet]) -> None:
    """All prompts are strings, or all are conversations.

    Raises:
        DataError: names the first row of another kind.
    """
    first: tuple[str, bool] | None = None
    for source in sources:
        for where, row in source.placed():
            is_plain = isinstance(row["prompt"], str)
            first = first or (where, is_plain)
            if is_plain != first[1]:
                kinds = ("a string", "a conversation") if is_plain else ("a conversation", "a string")
                raise DataError(
                    f"{where}: its prompt is {kinds[0]}, that of {first[0]} is {kinds[1]}; a run has one format, so "
                    "make all prompts strings or all conversations"
                )
