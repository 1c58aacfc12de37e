"""Demonstrations under templates that rewrite an answer's thoughts: Qwen3, the R1 distills and their like.

Such a template opens a block `<think>` in the generation prompt, or drops or re-spaces the block of an answer that it
renders. What a rollout would have to write is then not what the template renders, but the answer as it stands.
"""

from __future__ import annotations

from ..errors import DataError

OPENS, CLOSES = "<think>", "</think>"


def thinks(before: str, answer: str) -> bool:
    """Whether an answer or the prompt it follows has a block of thoughts.

    Args:
        before: the rendered prompt with its generation prompt.
        answer: the assistant's content.
    """
    return CLOSES in answer or before.rstrip().endswith((OPENS, CLOSES))


def answer_as_it_stands(before: str, answer: str) -> str:
    """What a rollout that gives this answer writes after the prompt: all of it but a `<think>` that is there already.

    Args:
        before: the rendered prompt with its generation prompt.
        answer: the assistant's content.

    Raises:
        DataError: the prompt leaves a block open that the answer never closes, or has closed one and the answer thinks.
    """
    ends, said = before.rstrip(), answer.lstrip()
    if ends.endswith(OPENS):
        if CLOSES not in said:
            raise DataError(
                f"the prompt ends inside an open {OPENS}, and the completion has no {CLOSES}; write the thoughts "
                "into it, or choose a chat_template that does not open one"
            )
        return said.removeprefix(OPENS).lstrip("\n") if said.startswith(OPENS) else said
    if ends.endswith(CLOSES) and said.startswith(OPENS):
        raise DataError(
            f"the completion begins with {OPENS}, and the prompt ends with a block of thoughts already; take it out of "
            "the completion, or set chat_template_kwargs: {enable_thinking: true}"
        )
    return answer
