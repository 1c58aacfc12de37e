"""Which chat template a run uses, and what it is told: written into the tokenizer, so that the saved model has it too.

A template's own switches (`enable_thinking` of Qwen3) and a system prompt become lines of Jinja before the template,
which set what the caller leaves open. Whoever loads the trained model renders as it was trained, and may say otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, TemplateError

from ..errors import ConfigError

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize + ': ' + message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '' }}{{ '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""`chat_template: plain`, for base models, which have none: `User: ...`, then `Assistant:`."""


def choose_template(
    tokenizer: Any, chosen: str | None, arguments: Mapping[str, Any], system_prompt: str | None = None
) -> None:
    """Give a tokenizer the template of a run, in place.

    Args:
        tokenizer: a transformers tokenizer.
        chosen: a template, the path of a file with one, `plain`, or None for the tokenizer's own.
        arguments: values for names that the template reads (`chat_template_kwargs`).
        system_prompt: for conversations that begin without one.

    Raises:
        ConfigError: there is no such file, it is not Jinja, or there is no template to set anything in.
    """
    if chosen is not None:
        tokenizer.chat_template = _read_template(chosen)
    if not arguments and system_prompt is None:
        return
    if not tokenizer.chat_template:
        key = "chat_template_kwargs" if arguments else "system_prompt"
        raise ConfigError(
            f"{key}: the tokenizer has no chat template to use it; set chat_template, to plain for example"
        )
    before = "".join(_default(name, value) for name, value in arguments.items())
    if system_prompt is not None:
        message = {"role": "system", "content": system_prompt}
        before += (
            "{% if messages[0]['role'] != 'system' %}{% set messages = "
            + f"[{message!r}] + messages"
            + " %}{% endif %}\n"
        )
    own = tokenizer.chat_template
    tokenizer.chat_template = (
        {name: before + text for name, text in own.items()} if isinstance(own, dict) else before + own
    )


def _default(name: str, value: Any) -> str:
    if not name.isidentifier():
        raise ConfigError(f"chat_template_kwargs: {name!r} cannot be a name in a template")
    # Jinja reads Python's literals; the line end after a block is dropped, so the template behind it is untouched.
    return "{% set " + f"{name} = {name} if {name} is defined else {value!r}" + " %}\n"


def _read_template(chosen: str) -> str:
    if chosen == "plain":
        return PLAIN_TEMPLATE
    text = chosen
    if "{" not in chosen:
        try:
            text = Path(chosen).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"chat_template: {chosen} is no template and no file of one ({error})") from None
    try:
        Environment(extensions=["jinja2.ext.loopcontrols"]).parse(text)
    except TemplateError as error:
        if "generation" not in str(error):  # a block of transformers' own, which it teaches Jinja itself
            raise ConfigError(f"chat_template: not a Jinja template ({error})") from None
    return text
