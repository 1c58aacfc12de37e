"""What a run was made of, as digests: a resumed run must be made of the same, not only have the same settings."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from ..balance.method import Method
from ..data.isolated_reward import IsolatedReward
from ..guests import Hosted

Content = dict[str, dict[str, str]]
"""Group -> part -> digest."""

PARTS_OF_A_RUN = ("data", "rewards", "rule", "model", "tokenizer")

FROM_FILES = ("amft_reward_", "amft_rule_", "amft_task_")
"""Modules made from a file that a recipe names; the whole file counts, for what is named may call the rest of it."""


def changed_content(saved: Mapping[str, Mapping[str, str]], ours: Content) -> dict[str, list[str]]:
    """Group -> the parts of it that are no longer what they were; parts that one side does not know are changed."""
    found = {}
    for group in ours:
        before, now = saved.get(group, {}), ours[group]
        parts = [part for part in sorted({*before, *now}) if before.get(part) != now.get(part)]
        if parts:
            found[group] = parts
    return found


def sources_of(things: Iterable[Any]) -> dict[str, str]:
    """Name of each function or object that is not ours -> digest of its code, where Python knows that."""
    found = {}
    for number, thing in enumerate(things, 1):
        code, name = _code(thing)
        if code is not None:
            found[f"{number} {name}"] = hashlib.sha256(code).hexdigest()
    return found


def method_parts(method: Method) -> list[Any]:
    """The rule and whatever else a method is joined from."""
    return [getattr(method, field.name) for field in dataclasses.fields(method)]


def weights_digest(model: PreTrainedModel) -> str:
    """Of every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tokenizer_digests(tokenizer: Any) -> dict[str, str]:
    """Of the vocabulary with its added tokens, and of the chat template."""
    words = json.dumps([sorted(tokenizer.get_vocab().items()), sorted(map(str, tokenizer.all_special_tokens))])
    template = json.dumps(tokenizer.chat_template, sort_keys=True)
    return {
        name: hashlib.sha256(text.encode()).hexdigest()
        for name, text in (("vocabulary", words), ("chat_template", template))
    }


def _code(thing: Any) -> tuple[bytes | None, str]:
    while isinstance(thing, functools.partial | Hosted):
        thing = thing.func if isinstance(thing, functools.partial) else thing.wrapped
    if isinstance(thing, IsolatedReward):
        return thing.path.read_bytes(), thing.__name__
    kind = thing if inspect.isroutine(thing) or isinstance(thing, type) else type(thing)
    module, name = kind.__module__ or "", kind.__qualname__
    if module.partition(".")[0] in ("amft", "builtins"):
        return None, name
    if module.startswith(FROM_FILES):
        file = sys.modules[module].__file__
        return (None if file is None else Path(file).read_bytes()), name
    try:
        return inspect.getsource(kind).encode(), name
    except (OSError, TypeError):  # made in a shell, or not written in Python
        return None, name
