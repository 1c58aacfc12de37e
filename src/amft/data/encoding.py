"""From rows to token ids, such that imitation and exploration see the same prompt, token for token.

A demonstration is the rollout one would wish for: exactly the ids of the prompt as it is sampled from, then ids
that end with the token which ends a rollout. The prompt's ids are never changed by what follows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import DataError
from ..models.pictures import Pictures
from ..types import Message, Prompt
from .plain_text import Reader, reader, special_strings
from .row_set import RowCount, RowSet
from .thinking import answer_as_it_stands, thinks

STAND_INS = ("kavolimu", "seritopa")
"""Answers of dummy conversations: words that no template and no system prompt holds."""


@dataclass(frozen=True)
class EncodedDemo:
    """One demonstration as token ids."""

    row: int
    """Index of its row in the dataset, from 0."""
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]


@dataclass(frozen=True)
class EncodedDemos:
    """The demonstrations that fit, and how many did not."""

    rows: list[EncodedDemo]
    left_out: list[RowCount]

    def require_half(self, source: RowSet) -> None:
        """Refuse a set of which less than half would be trained on.

        Raises:
            DataError: with the counts and the reasons.
        """
        if 2 * len(self.rows) < len(source.rows):
            raise DataError(_too_long(source, self))


def encode_prompt(
    tokenizer: Any, prompt: Prompt, pictures: Pictures | None = None, *, trusted: bool = False
) -> list[int]:
    """The token ids the policy continues: a conversation through the chat template, a string as it stands (as in TRL).

    Args:
        tokenizer: a transformers tokenizer.
        prompt: string or conversation.
        pictures: of a model that reads them; a picture takes its place-holder tokens.
        trusted: strings of special tokens in the text are those tokens; see `plain_text`.

    Raises:
        DataError: there is no token, no chat template, or the template refuses the conversation.
    """
    return _prompt_ids(reader(tokenizer, [prompt], trusted), tokenizer, prompt, pictures)


def _prompt_ids(reads: Reader, tokenizer: Any, prompt: Prompt, pictures: Pictures | None) -> list[int]:
    if isinstance(prompt, str):
        ids = reads.whole_ids(prompt)
    else:
        ids = reads.ids(render_conversation(tokenizer, prompt, reads, add_generation_prompt=True, pictures=pictures))
    if not ids:
        raise DataError("prompt has no tokens in this tokenizer; fill it or use another tokenizer")
    return ids


def encode_demonstration(
    tokenizer: Any,
    prompt: Prompt,
    completion: Prompt,
    stop_ids: Collection[int] = (),
    pictures: Pictures | None = None,
    *,
    trusted: bool = False,
) -> tuple[list[int], list[int]]:
    """`(prompt_ids, completion_ids)`, where `prompt_ids == encode_prompt(tokenizer, prompt)`.

    Args:
        tokenizer: a transformers tokenizer.
        prompt: string or conversation.
        completion: of the same kind as the prompt; a conversation is one assistant message. It may end with the
            string of a token that ends a rollout.
        stop_ids: tokens that end a rollout, when the model has more than the tokenizer's `eos_token`.
        pictures, trusted: as in `encode_prompt`.

    Raises:
        DataError: the chat template changes the prompt or the answer, or no token can end the completion.
    """
    stops = set(stop_ids) | ({tokenizer.eos_token_id} - {None})
    if not stops:
        raise DataError("the tokenizer has no eos_token, so no completion could end; set tokenizer.eos_token")
    completion, end = _without_end(tokenizer, completion, stops)
    reads = reader(tokenizer, [prompt, completion], trusted)
    prompt_ids = _prompt_ids(reads, tokenizer, prompt, pictures)
    if isinstance(prompt, str):
        joint, tail = reads.whole_ids(prompt + str(completion)), str(completion)
    else:
        text, tail = _seam(tokenizer, prompt, completion, reads, pictures)
        joint = reads.ids(text)
    # Where tokens merge over the seam the completion is encoded alone: a rollout could not undo the prompt's tokens.
    stable = joint[: len(prompt_ids)] == prompt_ids
    completion_ids = joint[len(prompt_ids) :] if stable else reads.ids(tail)
    return prompt_ids, _ended(tokenizer, completion_ids, stops, end)


def _without_end(tokenizer: Any, completion: Prompt, stops: set[int]) -> tuple[Prompt, int | None]:
    """The completion before the string of a special token that ends it, and that token; None where it has no such."""
    last = completion if isinstance(completion, str) else completion[0]["content"]
    bare = last.rstrip()
    for stop in sorted(stops):
        name = tokenizer.convert_ids_to_tokens(stop) or ""
        if special_strings(tokenizer).fullmatch(name) and bare.endswith(name):
            text = bare.removesuffix(name)
            return (text if isinstance(completion, str) else [{**completion[0], "content": text}]), stop
    return completion, None


def encode_prompts(
    tokenizer: Any,
    source: RowSet,
    *,
    max_prompt_length: int,
    pictures: Pictures | None = None,
    trusted: bool = False,
) -> list[list[int]]:
    """The token ids of every row's prompt.

    Raises:
        DataError: a prompt is longer than `max_prompt_length` tokens, or cannot be encoded; names the row.
    """
    encoded = []
    for where, row in source.placed():
        try:
            ids = encode_prompt(tokenizer, row["prompt"], pictures, trusted=trusted)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        if len(ids) > max_prompt_length:
            raise DataError(
                f"{where}: prompt has {len(ids)} tokens, max_prompt_length is {max_prompt_length}; "
                "raise it or drop the row"
            )
        encoded.append(ids)
    return encoded


def encode_demonstrations(
    tokenizer: Any,
    source: RowSet,
    *,
    max_prompt_length: int,
    max_completion_length: int,
    stop_ids: Collection[int] = (),
    pictures: Pictures | None = None,
    trusted: bool = False,
) -> EncodedDemos:
    """Every demonstration that fits; the longer ones are left out and counted, never cut.

    Raises:
        DataError: none fits, or one cannot be encoded; names the row.
    """
    kept: list[EncodedDemo] = []
    reasons: Counter[str] = Counter()
    for index, (where, row) in enumerate(source.placed()):
        try:
            prompt_ids, completion_ids = encode_demonstration(
                tokenizer, row["prompt"], row["completion"], stop_ids, pictures, trusted=trusted
            )
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        if len(prompt_ids) > max_prompt_length:
            reasons[f"the prompt is longer than max_prompt_length {max_prompt_length}"] += 1
        elif len(completion_ids) > max_completion_length:
            reasons[f"the completion is longer than max_completion_length {max_completion_length}"] += 1
        else:
            kept.append(EncodedDemo(index, tuple(prompt_ids), tuple(completion_ids)))
    left_out = [RowCount(source.name, reason, count, len(source.rows)) for reason, count in reasons.items()]
    if not kept:
        raise DataError(_too_long(source, EncodedDemos([], left_out)))
    return EncodedDemos(kept, left_out)


def _too_long(source: RowSet, found: EncodedDemos) -> str:
    why = "; ".join(f"{count.rows} times {count.reason}" for count in found.left_out) or "there are no rows"
    return (
        f"{source.name}: {len(found.rows)} of {len(source.rows)} demonstrations fit, at least half must ({why}); raise "
        "the limit, or shorten or drop the long ones"
    )


def _seam(
    tokenizer: Any, prompt: list[Message], completion: Any, reads: Reader, pictures: Pictures | None
) -> tuple[str, str]:
    """The rendered conversation, and the part of it that follows the rendered prompt."""
    whole = [*prompt, *completion]
    before = render_conversation(tokenizer, prompt, reads, add_generation_prompt=True, pictures=pictures)
    text = render_conversation(tokenizer, whole, reads, add_generation_prompt=False, pictures=pictures)
    answer, tail = completion[0]["content"], text[len(before) :]
    follows = text.startswith(before)
    if follows and answer.strip() in tail:
        return text, tail
    if thinks(before, answer):
        tail = answer_as_it_stands(before, answer) + _closing(tokenizer, prompt, reads, pictures)
        return before + tail, tail
    what = "leaves out or rewrites part of the assistant's content"
    if not follows:
        what = "renders the prompt differently once an answer follows it"
    raise DataError(
        f"the chat template {what}; use a template that does not, or plain strings for prompt and completion"
    )


def _closing(tokenizer: Any, prompt: list[Message], reads: Reader, pictures: Pictures | None) -> str:
    """What the template puts after an answer."""
    spoken = [*prompt, {"role": "assistant", "content": STAND_INS[0]}]
    text = render_conversation(tokenizer, spoken, reads, add_generation_prompt=False, pictures=pictures)
    return text.rpartition(STAND_INS[0])[2]


def _ended(tokenizer: Any, ids: list[int], stops: set[int], end: int | None) -> list[int]:
    """The ids up to and with their first stop token; where there is none, `end` or the usual one is added."""
    first = next((place for place, token in enumerate(ids) if token in stops), len(ids))
    if first == 0:
        raise DataError("completion has no tokens before the one that ends it; fill it or drop the row")
    if first == len(ids):
        usual = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else min(stops)
        return [*ids, usual if end is None else end]
    if tokenizer.decode(ids[first + 1 :], skip_special_tokens=True).strip():
        word = tokenizer.decode([ids[first]])
        raise DataError(f"completion goes on after {word!r}, the token that ends it; take that token out of it")
    return ids[: first + 1]


def picture_of(prompt: Prompt) -> Any:
    """The picture of a prompt, a tuple where it has several, or None."""
    parts = (
        [] if isinstance(prompt, str) else [p for m in prompt if isinstance(m["content"], list) for p in m["content"]]
    )
    found = tuple(part["image"] for part in parts if part.get("type") == "image")
    return found if len(found) > 1 else next(iter(found), None)


def pixels_of(prompts: Sequence[Prompt], pictures: Pictures | None) -> Tensor | None:
    """[N, ...] or [N, K, ...] of the pictures of N prompts, see `Pictures.pixels`; None when they have none."""
    return None if pictures is None else pictures.pixels([picture_of(prompt) for prompt in prompts])


def in_parts(messages: Sequence[Message]) -> list[Message]:
    """Every content as a list of parts: templates of vision-language models may read nothing else."""
    return [
        {**message, "content": [{"type": "text", "text": message["content"]}]}
        if isinstance(message["content"], str)
        else message
        for message in messages
    ]


def render_conversation(
    tokenizer: Any,
    messages: list[Message],
    reads: Reader,
    *,
    add_generation_prompt: bool,
    pictures: Pictures | None = None,
) -> str:
    """A conversation through the chat template, for `reads.ids`; a picture becomes its place-holders.

    Raises:
        DataError: there is no template, it refuses the conversation, a role is no word, or a picture meets a model of
            text.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise DataError(
            "prompt is a conversation but the tokenizer has no chat template; set chat_template (plain, for a base "
            "model) or use plain strings"
        )
    for message in messages:
        if not message["role"].isidentifier():  # templates write it among the control tokens
            raise DataError(f"the role {message['role'][:40]!r} is not a word; use system, user or assistant")
    picture = picture_of(messages)
    if picture is not None and pictures is None:
        raise DataError("prompt has a picture, and this model reads text only; use a task without pictures")
    if picture is not None:
        messages = in_parts(messages)

    def template(messages: Sequence[Any]) -> str:
        text: str = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=add_generation_prompt, tokenize=False
        )
        return text if picture is None or pictures is None else pictures.expanded(text, picture)

    try:
        return reads.render(messages, template)
    except DataError:
        raise
    except Exception as error:  # Jinja templates raise what they like
        raise DataError(f"the chat template refuses the conversation ({' '.join(str(error).split())})") from error
