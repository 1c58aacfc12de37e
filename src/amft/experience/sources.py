"""Everything a run reads: prompts, demonstrations, rewards and held-out problems, encoded."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..balance.method import Method
from ..batch import Batch, pad_batch
from ..data.check_rows import check_demonstrations
from ..data.encoding import EncodedDemo, EncodedDemos, encode_demonstrations, encode_prompts, pixels_of
from ..data.plain_text import special_string
from ..data.rewards import Scorer
from ..data.row_set import RowCount, RowSet
from ..data.streams import RowStream
from ..errors import ConfigError
from ..guests import call_guest
from ..models.pictures import Pictures
from ..settings.config import AMFTConfig
from ..types import SFT, Row
from .sampling_context import Prompts


@dataclass
class Demonstrations:
    """Encoded demonstrations and the order they are drawn in."""

    encoded: EncodedDemos
    rows: Sequence[Row]
    stream: RowStream
    pad_id: int
    branch_of: Sequence[str]
    """Imitation branch of each encoded row."""
    pictures: Pictures | None = None

    @property
    def branches(self) -> tuple[str, ...]:
        """The imitation branches, in order."""
        return tuple(sorted(set(self.branch_of)))

    def next(self, n: int) -> dict[str, Batch]:
        """The next `n` demonstrations as a batch per branch; a branch without any is absent."""
        chosen: dict[str, list[EncodedDemo]] = {}
        for i in self.stream.take(n):
            chosen.setdefault(self.branch_of[i], []).append(self.encoded.rows[i])
        return {branch: self.of(demos) for branch, demos in chosen.items()}

    def of(self, demos: Sequence[EncodedDemo]) -> Batch:
        batch = pad_batch([d.prompt_ids for d in demos], [d.completion_ids for d in demos], self.pad_id)
        return replace(batch, pixel_values=pixels_of([self.rows[d.row]["prompt"] for d in demos], self.pictures))

    def rewards(self, scorer: Scorer, n: int) -> list[float]:
        """What the scorer gives `n` of them, taken evenly; without those it abstains on or gives no finite number."""
        chosen = self.encoded.rows[:: max(1, len(self.encoded.rows) // n)][:n]
        rows = [self.rows[d.row] for d in chosen]
        scores = scorer.score(rows, [_said(row["completion"]) for row in rows], [d.completion_ids for d in chosen])
        return [reward for reward in scores.rewards if math.isfinite(reward)]


@dataclass(frozen=True)
class HeldOut:
    """Problems that are scored, never trained on."""

    rows: Sequence[Row]
    ids: Sequence[Sequence[int]]
    right: Sequence[EncodedDemo] = ()
    """The right answers whose probability is measured; `row` is the place in `rows`."""


@dataclass
class Sources:
    """Everything a run reads."""

    prompts: Prompts | None
    demonstrations: Demonstrations | None
    meta: Prompts
    """For H* and the utility `heldout`."""
    meta_demonstrations: Demonstrations | None
    """For the utility `likelihood`."""
    scorer: Scorer | None
    val: HeldOut | None
    tests: dict[str, HeldOut]
    not_used: list[RowCount] = field(default_factory=list)
    """Rows that were left out, and why."""
    digests: dict[str, str] = field(default_factory=dict)
    """Source -> SHA-256 of its rows as they were given."""

    @property
    def streams(self) -> dict[str, RowStream]:
        """By name: the orders in which rows are drawn."""
        found = [self.prompts, self.demonstrations, self.meta, self.meta_demonstrations]
        return {source.stream.name: source.stream for source in found if source is not None}


class Encoder:
    """Turns rows into token ids within the config's limits."""

    def __init__(
        self,
        tokenizer: Any,
        config: AMFTConfig,
        stops: Sequence[int],
        method: Method,
        pictures: Pictures | None = None,
    ):
        self.tokenizer, self.config, self.stops, self.pictures = tokenizer, config, stops, pictures
        self.answers = method.demo_mixer.needs_answers
        """Look up the demonstrations of each prompt, for a demo mixer that needs them."""
        self.split = method.requirements.split
        self.not_used: list[RowCount] = []
        """Demonstrations that did not fit so far."""
        self.notes: list[str] = []
        """What a reader of the run should know of its texts."""

    def ids(self, rows: RowSet) -> list[list[int]]:
        limit = self.config.max_prompt_length
        self._note_special(rows, "prompt")
        return encode_prompts(
            self.tokenizer,
            rows,
            max_prompt_length=limit,
            pictures=self.pictures,
            trusted=self.config.trust_special_tokens,
        )

    def prompts(self, rows: RowSet, name: str) -> Prompts:
        return Prompts(rows.rows, self.ids(rows), RowStream(len(rows.rows), self.config.seed, name))

    def answered(self, rows: RowSet, name: str, demonstrations: RowSet) -> Prompts:
        """Prompts with the completions of their own demonstrations, those too long left out."""
        found = self.prompts(rows, name)
        if not self.answers:
            return found
        wanted = {_key(row["prompt"]) for row in rows.rows}
        own = demonstrations.pick(i for i, row in enumerate(demonstrations.rows) if _key(row["prompt"]) in wanted)
        by_prompt: dict[str, list[tuple[int, ...]]] = {}
        for demo in self._encoded(own).rows if own.rows else ():
            by_prompt.setdefault(_key(own.rows[demo.row]["prompt"]), []).append(demo.completion_ids)
        return replace(found, answers=[by_prompt.get(_key(row["prompt"]), []) for row in rows.rows])

    def held_out(self, rows: RowSet) -> HeldOut:
        """Rows that are scored; with `eval.answer_probability` their completions are the right answers.

        Raises:
            ConfigError: no row has one.
        """
        return HeldOut(rows.rows, self.ids(rows), self._right(rows) if self.config.eval.answer_probability else ())

    def _right(self, rows: RowSet) -> list[EncodedDemo]:
        places = [i for i, row in enumerate(rows.rows) if row.get("completion")]
        if not places:
            raise ConfigError(
                f"eval.answer_probability: no row of {rows.name} says its right answer; give held-out rows a column "
                "`completion`, or leave the setting out"
            )
        answered = replace(rows.pick(places), name=f"right answers of {rows.name}")
        check_demonstrations(answered)
        return [replace(found, row=places[found.row]) for found in self._encoded(answered).rows]

    def demonstrations(self, rows: RowSet, name: str) -> Demonstrations:
        """Rows that are imitated, each in the branch that the rule's split gives it."""
        return self._drawn(rows, name, self._branch)

    def measured_demonstrations(self, rows: RowSet, name: str) -> Demonstrations:
        """Rows whose likelihood is only measured: one branch."""
        return self._drawn(rows, name, lambda *_: SFT)

    def _drawn(self, rows: RowSet, name: str, branch: Callable[[Row, int], str]) -> Demonstrations:
        encoded = self._encoded(rows)
        encoded.require_half(rows)
        stream = RowStream(len(encoded.rows), self.config.seed, name)
        branch_of = [branch(rows.rows[demo.row], rows.numbers[demo.row]) for demo in encoded.rows]
        return Demonstrations(encoded, rows.rows, stream, self.tokenizer.pad_token_id, branch_of, self.pictures)

    def _branch(self, row: Row, number: int) -> str:
        split = self.split
        if split is None:
            return SFT
        found = call_guest(split, "balance: split", ConfigError, lambda: split(row))
        if not isinstance(found, str) or not found:
            raise ConfigError(f"balance: the class of demonstration {number} must be a word, got {found!r}")
        return f"{SFT}/{found}"

    def _note_special(self, source: RowSet, column: str) -> None:
        """Strings of special tokens are read as text, and never in silence."""
        found = [string for row in source.rows if (string := special_string(self.tokenizer, row[column]))]
        note = (
            f"{source.name}: {len(found)} of {len(source.rows)} rows hold a special token such as {found[0]!r} in "
            f"their {column}; it is read as text (trust_special_tokens: true makes it the token)"
            if found and not self.config.trust_special_tokens
            else None
        )
        if note is not None and note not in self.notes:
            self.notes.append(note)

    def _encoded(self, rows: RowSet) -> EncodedDemos:
        self._note_special(rows, "completion")
        found = encode_demonstrations(
            self.tokenizer,
            rows,
            max_prompt_length=self.config.max_prompt_length,
            max_completion_length=self.config.max_completion_length,
            stop_ids=self.stops,
            pictures=self.pictures,
            trusted=self.config.trust_special_tokens,
        )
        self.not_used += found.left_out
        return found


def _said(completion: Any) -> str:
    return str(completion if isinstance(completion, str) else completion[0]["content"])


def _key(prompt: Any) -> str:
    return json.dumps(prompt, sort_keys=True, default=lambda picture: hashlib.sha256(picture.tobytes()).hexdigest())
