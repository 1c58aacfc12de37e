"""The template of a run, and templates that rewrite thoughts: small ones that do as Qwen3's and the R1 distills' do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from amft.data.conversation import UserTurns
from amft.data.encoding import encode_demonstration, encode_prompt
from amft.errors import ConfigError, DataError
from amft.models.chat_template import choose_template
from amft.models.load import load_tokenizer

RENDERS_THOUGHTS = """{%- set last = namespace(user=0) %}
{%- for m in messages %}{% if m.role == 'user' %}{% set last.user = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages %}
{%- if m.role != 'assistant' %}{{ '<|' + m.role + '|>' + m.content }}
{%- else %}
{%- set parts = m.content.split('</think>') %}
{%- set answer = parts[-1].lstrip('\\n') %}
{%- set thoughts = parts[0].split('<think>')[-1].strip('\\n') if parts | length > 1 else '' %}
{{- '<|assistant|>' }}
{%- if loop.index0 > last.user %}{{ '<think>\\n' + thoughts + '\\n</think>\\n\\n' }}{% endif %}
{{- answer + '<|end|>' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}"""
"""Qwen3: thoughts of earlier turns go, the last answer's are spaced anew, and a switch closes an empty block."""

DROPS_THOUGHTS = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' }}"
    "{{ m.content.split('</think>')[-1] if m.role == 'assistant' else m.content }}"
    "{{ '<|end|>' if m.role == 'assistant' else '' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|><think>\n' }}{% endif %}"
)
"""The R1 distills: the generation prompt opens the block, and no answer that is rendered has one."""

ASK = [{"role": "user", "content": "6*7"}]


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def with_template(template: str | None, **arguments: Any) -> Any:
    tokenizer = load_tokenizer("nano")
    tokenizer.chat_template = template
    choose_template(tokenizer, None, arguments)
    return tokenizer


def encoded(tokenizer: Any, answer: str, prompt: list[dict[str, str]] = ASK) -> tuple[str, str]:
    prompt_ids, completion_ids = encode_demonstration(tokenizer, prompt, say(answer))
    assert prompt_ids == encode_prompt(tokenizer, prompt)
    return tokenizer.decode(prompt_ids), tokenizer.decode(completion_ids)


def test_an_answer_without_thoughts_is_what_the_template_renders() -> None:
    found = encoded(with_template(RENDERS_THOUGHTS), "42")
    assert found == ("<|user|>6*7<|assistant|>", "<think>\n\n</think>\n\n42<|end|>")


def test_thoughts_stay_as_the_demonstration_spaces_them() -> None:
    found = encoded(with_template(RENDERS_THOUGHTS), "<think>six sevens</think>42")
    assert found == ("<|user|>6*7<|assistant|>", "<think>six sevens</think>42<|end|>")


def test_thinking_is_switched_off_in_prompt_and_answer() -> None:
    tokenizer = with_template(RENDERS_THOUGHTS, enable_thinking=False)
    assert encoded(tokenizer, "42") == ("<|user|>6*7<|assistant|><think>\n\n</think>\n\n", "42<|end|>")
    with pytest.raises(DataError, match="enable_thinking: true"):
        encoded(tokenizer, "<think>\nsix sevens\n</think>\n\n42")


@pytest.mark.parametrize("template", [RENDERS_THOUGHTS, DROPS_THOUGHTS], ids=["renders", "drops"])
def test_thoughts_of_earlier_turns_are_in_no_prompt(template: str) -> None:
    history = [*ASK, *say("<think>\nhm\n</think>\n\n41"), {"role": "user", "content": "no"}]
    prompt, completion = encoded(with_template(template), "<think>\nsix\n</think>\n\n42", history)
    assert "hm" not in prompt
    assert prompt.startswith("<|user|>6*7<|assistant|>")
    assert prompt.count("41<|end|><|user|>no<|assistant|>") == 1
    assert completion.endswith("six\n</think>\n\n42<|end|>")


def test_a_block_the_prompt_opens_is_not_opened_twice() -> None:
    prompt = "<|user|>6*7<|assistant|><think>\n"
    for spelled in ("<think>\nsix sevens\n</think>\n\n42", "six sevens\n</think>\n\n42"):
        assert encoded(with_template(DROPS_THOUGHTS), spelled) == (prompt, "six sevens\n</think>\n\n42<|end|>")
    with pytest.raises(DataError, match="no </think>"):
        encoded(with_template(DROPS_THOUGHTS), "42")


def test_other_templates_that_rewrite_answers_are_still_refused() -> None:
    shouting = "{% for m in messages %}{{ m.role + ':' + m.content | upper }}{% endfor %}assistant:"
    with pytest.raises(DataError, match="template"):
        encoded(with_template(shouting), "forty-two")


@pytest.mark.parametrize("template", [RENDERS_THOUGHTS, DROPS_THOUGHTS], ids=["renders", "drops"])
def test_turns_after_an_answer_are_those_of_the_template(template: str) -> None:
    tokenizer = with_template(template)
    ids = UserTurns(tokenizer).reply("again", last=0)
    opened = "<think>\n" if template == DROPS_THOUGHTS else ""
    assert tokenizer.decode(ids) == f"<|end|><|user|>again<|assistant|>{opened}"


@pytest.mark.parametrize("start", ["", "\n", " \n", "  {% if true %}", "{%- if true %}"])
def test_what_stands_before_a_template_leaves_it_as_it_is(start: str) -> None:
    template = f"{start}{{% for m in messages %}}[{{{{ m.content }}}}]\n{{% endfor %}}" + "{% endif %}" * (
        "if" in start
    )
    plain, told = with_template(template), with_template(template, unread="it's", other={"a": [1, None, True]})
    choose_template(told, None, {}, system_prompt='say "yes"\n%} {{ no }} é')
    talk = [{"role": "system", "content": "s"}, *ASK]
    assert told.apply_chat_template(talk, tokenize=False) == plain.apply_chat_template(talk, tokenize=False)
    spoken = told.apply_chat_template(ASK, tokenize=False)
    prompted = [{"role": "system", "content": 'say "yes"\n%} {{ no }} é'}, *ASK]
    assert spoken == plain.apply_chat_template(prompted, tokenize=False)


def test_what_a_run_sets_is_saved_and_a_caller_may_say_otherwise(tmp_path: Path) -> None:
    with_template(RENDERS_THOUGHTS, enable_thinking=False).save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    off = loaded.apply_chat_template(ASK, add_generation_prompt=True, tokenize=False)
    on = loaded.apply_chat_template(ASK, add_generation_prompt=True, tokenize=False, enable_thinking=True)
    assert (off.endswith("</think>\n\n"), on.endswith("<|assistant|>")) == (True, True)


def test_a_base_model_gets_the_plain_template() -> None:
    tokenizer = with_template(None)
    with pytest.raises(DataError, match="set chat_template"):
        encode_prompt(tokenizer, ASK)
    choose_template(tokenizer, "plain", {}, system_prompt="Add.")
    assert encoded(tokenizer, "42") == ("System: Add.\n\nUser: 6*7\n\nAssistant:", " 42<|end|>")


def test_a_template_is_read_from_a_file(tmp_path: Path) -> None:
    tokenizer = with_template(None)
    (tmp_path / "own.jinja").write_text(DROPS_THOUGHTS, encoding="utf-8")
    choose_template(tokenizer, str(tmp_path / "own.jinja"), {})
    assert tokenizer.chat_template == DROPS_THOUGHTS


@pytest.mark.parametrize(
    ("chosen", "arguments", "message"),
    [
        ("no/such.jinja", {}, "chat_template: no/such.jinja is no template and no file"),
        ("{% for m in %}", {}, "chat_template: not a Jinja template"),
        (None, {"enable_thinking": False}, "chat_template_kwargs: the tokenizer has no chat template"),
        ("plain", {"not a name": 1}, "chat_template_kwargs: 'not a name'"),
    ],
)
def test_mistakes_are_one_line(chosen: str | None, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_template(with_template(None), chosen, arguments)
