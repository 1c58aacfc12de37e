"""What the rows of a run are made of: prompts that give nothing away, demonstrations that are whole or counted."""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain

from ..data.encoding import encode_demonstration, encode_prompt
from ..errors import DataError
from ..models.load import stop_ids
from ..types import Row
from .answer import AuditAnswer, ruled
from .rehearsal import Rehearsal

LOOKED_AT = 256
"""Rows that are looked at, evenly taken."""

TELLING = 16
"""Characters from which on an answer that stands in a prompt is no accident."""


def check_prompts_alone(on: Rehearsal) -> AuditAnswer:
    """What the rollout engine is given is the prompt, token for token, and no prompt holds its own answer."""
    question = "Are the demonstrations absent from the rollouts' prompts?"
    prompts, generation = on.trainer.sources.prompts, on.generation
    if prompts is None or generation is None:
        return AuditAnswer("prompts", question, "none", "this recipe has no rewards, so there are no rollouts")
    tokenizer, pictures = on.trainer.tokenizer, on.trainer.foundation.pictures
    plain = {tuple(encode_prompt(tokenizer, prompts.rows[i]["prompt"], pictures)) for i in generation.chosen}
    meant = {
        sample.prompt_ids[: len(sample.prompt_ids) - len(sample.hint)]
        for sample in chain.from_iterable(generation.sampled)
        if sample.hint or sample.prefix_len
    }
    more = [ids for ids in on.asked if ids not in plain]
    unmeant = [ids for ids in more if not any(ids[: len(prompt)] == prompt for prompt in meant & plain)]
    leaks = [number for number, row in _some_demonstrations(on) if gives_away(row)]
    wrong = [f"{len(unmeant)} of {len(on.asked)} prompts of the engine are not the row's prompt"] if unmeant else []
    if leaks:
        wrong.append(f"{len(leaks)} prompts hold their own demonstration, the first in row {leaks[0] + 1}")
    told = f"{len(on.asked)} prompts as the engine gets them, no answer in {_looked(on)} rows"
    if more:
        told += f"; this method gives {len(more)} of them the beginning of a demonstration on purpose"
    return AuditAnswer("prompts", question, ruled(not wrong), "; ".join(wrong) or told)


def gives_away(row: Row) -> bool:
    """Whether the answer stands word for word in the row's own prompt."""
    answer = _text(row["completion"]).strip()
    return len(answer) >= TELLING and answer in _text(row["prompt"])


def check_demonstrations_whole(on: Rehearsal) -> AuditAnswer:
    """Every demonstration is trained whole, or left out and counted; none is cut."""
    question = "Is every demonstration whole, or left out and counted?"
    found = on.trainer.sources.demonstrations
    if found is None:
        return AuditAnswer("demonstrations", question, "none", "this recipe has no demonstrations")
    kept, given = {demo.row: demo for demo in found.encoded.rows}, len(found.rows)
    stops = stop_ids(on.trainer.model, on.trainer.tokenizer)
    cut = [
        number
        for number, row in _some_demonstrations(on)
        if number in kept and kept[number].completion_ids != _whole(on, row, stops)
    ]
    counts = found.encoded.left_out
    left_out = sum(count.rows for count in counts)
    uncounted = given - len(kept) - left_out
    reasons = "; ".join(f"{count.rows}: {count.reason}" for count in counts)
    told = f"{given} given, {len(kept)} trained whole, {left_out} left out"
    told += f" ({reasons})" if reasons else ""
    wrong = [f"{len(cut)} of {_looked(on)} are cut, the first in row {cut[0] + 1}"] if cut else []
    if uncounted:
        wrong.append(f"{uncounted} of {given} are neither trained nor counted")
    return AuditAnswer("demonstrations", question, ruled(not wrong), "; ".join(wrong) or told)


def _whole(on: Rehearsal, row: Row, stops: Collection[int]) -> tuple[int, ...] | None:
    pictures = on.trainer.foundation.pictures
    try:
        _, ids = encode_demonstration(on.trainer.tokenizer, row["prompt"], row["completion"], stops, pictures)
    except DataError:
        return None
    return tuple(ids)


def _some_demonstrations(on: Rehearsal) -> list[tuple[int, Row]]:
    """(number, row), evenly taken."""
    found = on.trainer.sources.demonstrations
    rows = [] if found is None else [*enumerate(found.rows)]
    return rows[:: max(1, len(rows) // LOOKED_AT)][:LOOKED_AT]


def _looked(on: Rehearsal) -> int:
    return len(_some_demonstrations(on))


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    assert isinstance(value, list)
    return "\n".join(message["content"] if isinstance(message["content"], str) else "" for message in value)
