"""Text stays text: the string of a special token in what people write is read as any other string. No torch.

A tokenizer makes the token out of its string wherever it meets it, so that `hi<|end|><|user|>again` in one message
would become two. Only a chat template may write control tokens. So where a text holds such a string, it is taken out
before the template is rendered, put back afterwards, and all of it is read by a twin of the tokenizer, which knows the
special tokens under names that nobody can write. Other texts take the ordinary way.
"""

from __future__ import annotations

import copy
import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from tokenizers import Tokenizer

from ..errors import DataError

FIX = "take it out, or set trust_special_tokens: true if these are meant"


class Reader(Protocol):
    """Renders and encodes; `render` is given a conversation and a way to render one."""

    def render(self, messages: Sequence[Any], template: Callable[[Sequence[Any]], str]) -> str:
        """The rendered conversation, for `ids` of the same reader."""
        ...

    def ids(self, text: str) -> list[int]:
        """Tokens of a rendered text, nothing added."""
        ...

    def whole_ids(self, text: str) -> list[int]:
        """Tokens of a plain text, with what the tokenizer puts around one, but not closed."""
        ...


@dataclass(frozen=True)
class OrdinaryReader:
    """The tokenizer as it is."""

    tokenizer: Any

    def render(self, messages: Sequence[Any], template: Callable[[Sequence[Any]], str]) -> str:
        return template(messages)

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def whole_ids(self, text: str) -> list[int]:
        ids, end = list(self.tokenizer(text)["input_ids"]), self.tokenizer.eos_token
        return ids if end and text.endswith(end) else _opened(ids, self.tokenizer)


@dataclass(frozen=True)
class PlainReader:
    """The tokenizer with its special tokens under secret names: a text cannot hold any."""

    tokenizer: Any
    backend: Tokenizer
    names: Mapping[str, str]
    """String of a special token -> its secret name."""

    def render(self, messages: Sequence[Any], template: Callable[[Sequence[Any]], str]) -> str:
        mark = "\ue000"
        while any(mark in text for text in _texts(messages)):
            mark += "\ue000"
        written: list[str] = []

        def stand_in(text: str) -> str:
            return special_strings(self.tokenizer).sub(put_away, text)

        def put_away(found: re.Match[str]) -> str:
            written.append(found[0])
            return f"{mark}{written.index(found[0])}\ue001"

        rendered = special_strings(self.tokenizer).sub(
            lambda found: self.names[found[0]], template([_mapped(message, stand_in) for message in messages])
        )
        return re.sub(f"{mark}(\\d+)\ue001", lambda found: written[int(found[1])], rendered)

    def ids(self, text: str) -> list[int]:
        return list(self.backend.encode(text, add_special_tokens=False).ids)

    def whole_ids(self, text: str) -> list[int]:
        return _opened(list(self.backend.encode(text, add_special_tokens=True).ids), self.tokenizer)


@dataclass
class _Known:
    """What was found out about a tokenizer, until it gets more tokens."""

    size: int
    strings: re.Pattern[str]
    twin: tuple[Tokenizer, dict[str, str]] | None = None
    """It must not hold the tokenizer itself, or neither would ever be freed."""


_KNOWN: WeakKeyDictionary[Any, _Known] = WeakKeyDictionary()


def reader(tokenizer: Any, texts: Sequence[Any], trusted: bool = False) -> Reader:
    """What renders and encodes these texts.

    Args:
        tokenizer: a transformers tokenizer.
        texts: strings and conversations of one row.
        trusted: strings of special tokens are those tokens.

    Raises:
        DataError: a text holds one, and this tokenizer has no twin.
    """
    if trusted or special_string(tokenizer, texts) is None:
        return OrdinaryReader(tokenizer)
    known = _known(tokenizer)
    if known.twin is None:
        known.twin = _twin(tokenizer)
    if known.twin is None:
        raise DataError(
            f"the text holds the special token {special_string(tokenizer, texts)!r}, and {type(tokenizer).__name__} "
            f"cannot read it as text; {FIX}"
        )
    return PlainReader(tokenizer, *known.twin)


def special_string(tokenizer: Any, texts: Any) -> str | None:
    """The first string of a special token in texts, however nested; None if there is none."""
    found = (special_strings(tokenizer).search(text) for text in _texts(texts))
    return next((match[0] for match in found if match), None)


def special_strings(tokenizer: Any) -> re.Pattern[str]:
    """Matches the string of any special token."""
    return _known(tokenizer).strings


def _known(tokenizer: Any) -> _Known:
    known = _KNOWN.get(tokenizer)
    if known is None or known.size != len(tokenizer):
        names = sorted(_special(tokenizer), key=len, reverse=True)
        known = _Known(len(tokenizer), re.compile("|".join(map(re.escape, names)) or r"(?!)"))
        _KNOWN[tokenizer] = known
    return known


def _special(tokenizer: Any) -> set[str]:
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return {name for name in added | set(tokenizer.all_special_tokens) if name}


def _twin(tokenizer: Any) -> tuple[Tokenizer, dict[str, str]] | None:
    """The twin and its names; None for a tokenizer that is not one of the tokenizers library, or cannot be renamed."""
    original = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(original, Tokenizer):
        return None
    names = {name: f"\ue002{secrets.token_hex(16)}\ue003" for name in _special(tokenizer)}
    try:
        twin = Tokenizer.from_str(json.dumps(_renamed(json.loads(original.to_str()), names)))
    except Exception:  # the library raises plain Exception where a renamed token is part of a merge
        return None
    twin.no_padding()
    twin.no_truncation()
    same = all(twin.token_to_id(secret) == original.token_to_id(name) for name, secret in names.items())
    return (twin, names) if same else None


def _renamed(tree: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The JSON of a tokenizer with its special tokens renamed, in the vocabulary too."""
    tree = copy.deepcopy(tree)
    for token in tree["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = tree["model"]
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        model["vocab"] = {names.get(piece, piece): number for piece, number in vocab.items()}
    else:
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocab]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    return tree


def _opened(ids: list[int], tokenizer: Any) -> list[int]:
    """Some tokenizers close every text (add_eos_token); a closed prompt has no continuation."""
    while ids and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    return ids


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """The same nested value with every text changed, but for roles and types, which are no text."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: part if key in ("role", "type") else _mapped(part, change) for key, part in value.items()}
    return [_mapped(part, change) for part in value] if isinstance(value, list | tuple) else value


def _texts(value: Any) -> list[str]:
    """All that `_mapped` would change."""
    found: list[str] = []
    _mapped(value, lambda text: found.append(text) or text)  # type: ignore[func-returns-value]
    return found
