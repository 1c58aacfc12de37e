"""What stays on this machine: the home directory, secrets, the names of the user and of the machine. No torch."""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HIDDEN = "[hidden]"

SECRET_NAME = re.compile(
    r"(^|[._-])(token|secret|password|passwd|credentials?|(api|access|private|secret)[_-]?key|key[_-]?id)$",
    re.IGNORECASE,
)
SECRET_VALUE = re.compile(
    r"\b(hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{12,}"
    r"|xox[abp]-[A-Za-z0-9-]{10,}|eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_.-]+)"
)
"""Keys of the Hugging Face hub, OpenAI, GitHub, Amazon and Slack, and signed web tokens."""

SHORTEST_SECRET = 6
"""Shorter values of the environment are words that stand everywhere."""


def without_home(text: str) -> str:
    """The home directory as `~`, wherever it stands; keys of known kinds hidden."""
    home = str(Path.home())
    shown = re.sub(rf"{re.escape(home)}(?=$|[/\s:;,'\"\])}}])", "~", text) if len(home) > 1 else text
    return SECRET_VALUE.sub(HIDDEN, shown)


def private(value: Any, name: str = "") -> Any:
    """A JSON value without home paths, and without the values of names that say they are secret."""
    if isinstance(value, Mapping):
        return {key: private(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [private(inner, name) for inner in value]
    if not isinstance(value, str):
        return value
    return HIDDEN if value and SECRET_NAME.search(name) else without_home(value)


def private_command(words: Sequence[str]) -> str:
    """A command line without home paths and secrets: neither `--token X` nor `--set hub.token=X` shows X."""
    return " ".join(_private_words(words))


def anonymous(text: str) -> str:
    """`without_home`, and without the secrets of this process's environment, its user and its machine."""
    shown = without_home(text)
    secrets = {
        value for name, value in os.environ.items() if SECRET_NAME.search(name) and len(value) >= SHORTEST_SECRET
    }
    for secret in sorted(secrets, key=len, reverse=True):
        shown = shown.replace(secret, HIDDEN)
    for name, word in ((socket.gethostname(), "[machine]"), (_user(), "[user]")):
        if len(name) > 1:
            shown = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", word, shown)
    return shown


def _private_words(words: Sequence[str]) -> Iterator[str]:
    hides = False
    for word in words:
        name, equals, value = word.partition("=")
        if hides or (equals and SECRET_NAME.search(name.lstrip("-")) and value):
            yield HIDDEN if hides else f"{name}={HIDDEN}"
        else:
            yield without_home(word)
        hides = not hides and word.startswith("--") and not equals and SECRET_NAME.search(word.lstrip("-")) is not None


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a process whose user has no name
        return ""
