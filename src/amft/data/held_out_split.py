"""What is held out is held out of every source: by the prompt's words, not by the row. No torch.

Two rows ask the same when their prompts have the same words, or when a column `prompt_id` or `group` says so. What a
held-out row asks is taken out of everything that is trained on: prompts, demonstrations, and with them hints, prefixes
and buffers, which are made of the two.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import DataError
from ..types import Prompt, Row
from .row_set import RowCount, RowSet
from .streams import RowStream

HELD_OUT_SHARE, HELD_OUT_MOST = 10, 64
"""Of the user's prompts one in HELD_OUT_SHARE, at most HELD_OUT_MOST, is kept out of training."""

SAME = ("prompt_id", "group")
"""Columns that say that rows ask the same."""

DRAWN = "the prompt is held out for validation"


@dataclass(frozen=True)
class HeldOutSplit:
    """The sources of a run with nothing held out in what is trained on."""

    train: RowSet
    demonstrations: RowSet
    held_out: RowSet
    """Validation rows, each prompt once; none when there are too few prompts to spare any."""
    counts: list[RowCount] = field(default_factory=list)


def prompt_words(prompt: Prompt) -> str:
    """What a prompt asks: its words in order, with one space between them; system messages left out, pictures hashed.

    A string and a conversation of one message with these words ask the same.
    """
    if isinstance(prompt, str):
        return _plain(prompt)
    return "\n".join(_plain(_content(message)) for message in prompt if message["role"] != "system")


def split_rows(train: RowSet, demonstrations: RowSet, val: RowSet, tests: RowSet, seed: int) -> HeldOutSplit:
    """Take out of training what is validated and tested on.

    Args:
        train: prompts to explore.
        demonstrations: rows to imitate; empty when they are those of `train` that have a completion.
        val: rows to validate on; empty: one prompt in ten of `train`, at most 64, drawn by the seed.
        tests: rows scored before and after.
        seed: of the run.

    Raises:
        DataError: nothing is left to train on, to imitate or to validate on.
    """
    asked = _questions([train, demonstrations, val, tests])
    of_train, of_demonstrations, of_val, of_tests = asked
    tested = set(of_tests)
    counts: list[RowCount] = []

    def without(rows: RowSet, of_rows: Sequence[int], taken: set[int], reason: str) -> tuple[RowSet, list[int]]:
        kept = [place for place, question in enumerate(of_rows) if question not in taken]
        if gone := len(rows.rows) - len(kept):
            counts.append(RowCount(rows.name, reason, gone, len(rows.rows), expected=reason == DRAWN))
        if gone and not kept:
            raise DataError(f"{rows.name}: none of its {gone} rows is left ({reason}); give it prompts of its own")
        return rows.pick(kept), [of_rows[place] for place in kept]

    as_tested = f"the same prompt stands in {tests.name}"
    untested, of_untested = without(train, of_train, tested, as_tested)
    imitated, of_imitated = without(demonstrations, of_demonstrations, tested, as_tested)
    if val.rows:
        held_out, _ = without(val, of_val, tested, as_tested)
        taken, reason = set(of_val), f"the same prompt stands in {val.name}"
    else:
        order = RowStream(len(train.rows), seed, "meta rows").take(len(train.rows))
        held_out, taken = _drawn(train, of_train, [place for place in order if of_train[place] not in tested])
        reason = DRAWN
    train, _ = without(untested, of_untested, taken, reason)
    demonstrations, _ = without(imitated, of_imitated, taken, reason)
    return HeldOutSplit(train, demonstrations, held_out, counts)


def without_prompts_of(scored: RowSet, rows: RowSet) -> tuple[RowSet, list[RowCount]]:
    """Rows that ask nothing that is scored, and how many were taken out.

    Raises:
        DataError: nothing is left.
    """
    split = split_rows(rows, rows.pick(()), scored, scored.pick(()), seed=0) if scored.rows else None
    return (rows, []) if split is None else (split.train, split.counts)


def _drawn(train: RowSet, of_train: Sequence[int], order: Sequence[int]) -> tuple[RowSet, set[int]]:
    """Whole questions in the drawn order until there are enough rows; each wording once."""
    wanted = min(HELD_OUT_MOST, len({prompt_words(train.rows[place]["prompt"]) for place in order}) // HELD_OUT_SHARE)
    of_question: dict[int, list[int]] = {}
    for place in order:
        of_question.setdefault(of_train[place], []).append(place)
    held_out: dict[str, int] = {}
    taken: set[int] = set()
    for question, places in of_question.items():
        if len(held_out) >= wanted:
            break
        taken.add(question)
        for place in places:
            held_out.setdefault(prompt_words(train.rows[place]["prompt"]), place)
    return train.pick(held_out.values()), taken


def _questions(sources: Sequence[RowSet]) -> list[list[int]]:
    """For every row of every source the number of what it asks; rows that share any name share the number."""
    parent: list[int] = []
    named: dict[tuple[str, str], int] = {}

    def root(of: int) -> int:
        while parent[of] != of:
            parent[of] = parent[parent[of]]
            of = parent[of]
        return of

    numbers: list[list[int]] = []
    for source in sources:
        mine = []
        for row in source.rows:
            parent.append(len(parent))
            mine.append(parent[-1])
            for name in _names(row):
                parent[root(mine[-1])] = root(named.setdefault(name, mine[-1]))
        numbers.append(mine)
    return [[root(number) for number in mine] for mine in numbers]


def _names(row: Row) -> Iterator[tuple[str, str]]:
    yield "prompt", prompt_words(row["prompt"])
    for column in SAME:
        if row.get(column) is not None:
            yield column, str(row[column])


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split())


def _content(message: Mapping[str, object]) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    assert isinstance(content, list)
    return " ".join(_part(part) for part in content)


def _part(part: Mapping[str, object]) -> str:
    if part.get("type") != "image":
        return str(part.get("text", ""))
    image = part["image"]
    return hashlib.sha256(image.tobytes()).hexdigest()  # type: ignore[attr-defined]
