"""Prompts and answers as text for people. No torch."""

from __future__ import annotations

from typing import Any


def prompt_text(value: Any) -> str | None:
    """A string as it is, a conversation as its messages one under another, pictures named; None stays None."""
    if value is None or isinstance(value, str):
        return value
    return "\n".join(_spoken(message["content"]) for message in value)


def _spoken(content: Any) -> str:
    """A message's text, with its picture named."""
    return content if isinstance(content, str) else "".join(part.get("text", "[picture]\n") for part in content)
