"""Prompts and answers as text for people. No torch."""

from __future__ import annotations

from typing import Any

from ..types import Prompt


def prompt_text(value: Any) -> str | None:
    """A string as it is, a conversation as its messages one under another, pictures named; None stays None."""
    if value is None or isinstance(value, str):
        return value
    return "\n".join(_spoken(message["content"]) for message in value)


def _spoken(content: Any) -> str:
    """A message's text, with its picture named."""
    return content if isinstance(content, str) else "".join(part.get("text", "[picture]\n") for part in content)


def informed_prompt(prompt: Prompt, solution: str, template: str) -> Prompt:
    """A prompt that shows a solution: the string, or the text of the last message, put into `template`.

    Args:
        prompt: string or conversation; pictures stay where they are.
        solution: text.
        template: with the fields {prompt} and {solution}.
    """

    def filled(text: str) -> str:
        before, _, after = template.partition("{prompt}")
        return before.replace("{solution}", solution) + text + after.replace("{solution}", solution)

    if isinstance(prompt, str):
        return filled(prompt)
    content = prompt[-1]["content"]
    if isinstance(content, str):
        return [*prompt[:-1], {**prompt[-1], "content": filled(content)}]
    said = "".join(part["text"] for part in content if part.get("type") == "text")
    shown = [part for part in content if part.get("type") != "text"]
    return [*prompt[:-1], {**prompt[-1], "content": [*shown, {"type": "text", "text": filled(said)}]}]
