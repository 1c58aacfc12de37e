"""Everything a run reads: prompts, demonstrations, rewards and held-out problems, encoded."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..balance.method import Method
from ..batch import Batch, pad_batch
from ..data.check_rows import check_demonstrations
from ..data.encoding import EncodedDemo, EncodedDemos, encode_demonstrations, encode_prompts, pixels_of
from ..data.plain_text import special_string
from ..data.rewards import Scorer
from ..data.row_set import RowCount, RowSet
from ..data.streams import RowStream
from ..distributed.rank_partition import SplitScorer
from ..distributed.ranks import Ranks
from ..errors import ConfigError
from ..guests import call_guest
from ..models.pictures import Pictures
from ..settings.config import AMFTConfig
from ..signals.base import Cost
from ..types import DEMO_RIGHT, SFT, Row
from .demo_order import DemoOrder, factor_of, order_of
from .sampling_context import Prompts
from .verdicts import Graded, grade, said

VERDICT = "verdict"
"""Where a rule's split finds what the verifier says of a demonstration, beside the columns of its row."""


@dataclass
class Demonstrations:
    """Encoded demonstrations and the order they are drawn in."""

    encoded: EncodedDemos
    rows: Sequence[Row]
    order: DemoOrder
    pad_id: int
    branches: tuple[str, ...]
    """The imitation branches, in order."""
    pictures: Pictures | None = None
    verdicts: Mapping[str, int] = field(default_factory=dict)
    """Verdict -> demonstrations; empty where nobody asked for verdicts."""
    weights: Sequence[float] | None = None
    """Of each encoded row in the imitation loss; None is 1."""

    def next(self, n: int, ageing: float | None = None, weights: Mapping[str, float] | None = None) -> dict[str, Batch]:
        """The next `n` demonstrations as a batch per branch; a branch without any is absent.

        Args:
            n: how many.
            ageing: a demonstration that was shown k times before counts `1 / (1 + k / ageing)`; None: always 1.
            weights: branch -> what it counts now, for an order that goes by it.
        """
        return {
            branch: self._weighed([(i, factor_of(i, visits, ageing, self.weights)) for i, visits in shown])
            for branch, shown in self.order.take(n, weights or {}).items()
        }

    def _weighed(self, demos: Sequence[tuple[int, float]]) -> Batch:
        batch, weights = self.of([self.encoded.rows[i] for i, _ in demos]), [weight for _, weight in demos]
        return batch if set(weights) == {1.0} else replace(batch, weights=torch.tensor(weights))

    def of(self, demos: Sequence[EncodedDemo]) -> Batch:
        batch = pad_batch([d.prompt_ids for d in demos], [d.completion_ids for d in demos], self.pad_id)
        return replace(batch, pixel_values=pixels_of([self.rows[d.row]["prompt"] for d in demos], self.pictures))

    def rewards(self, scorer: Scorer, n: int) -> list[float]:
        """What the scorer gives `n` of them, taken evenly; without those it abstains on or gives no finite number."""
        chosen = evenly(self.encoded.rows, n)
        rows = [self.rows[d.row] for d in chosen]
        scores = scorer.score(rows, [said(row["completion"]) for row in rows], [d.completion_ids for d in chosen])
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
    verified: Demonstrations | None = None
    """Held-out demonstrations that the verifier calls right; None where the rule does not measure them."""
    all_filtered: bool = False
    """There were demonstrations, and `demonstrations.filter` kept none: imitation has nothing to learn from."""
    digests: dict[str, str] = field(default_factory=dict)
    """Source -> SHA-256 of its rows as they were given."""

    @property
    def streams(self) -> dict[str, RowStream]:
        """By name: the orders in which rows are drawn."""
        asked = [source.stream for source in (self.prompts, self.meta) if source is not None]
        shown = [source.order for source in (self.demonstrations, self.meta_demonstrations) if source is not None]
        return {stream.name: stream for stream in (*asked, *(one for order in shown for one in order.streams))}


class Encoder:
    """Turns rows into token ids within the config's limits."""

    def __init__(
        self,
        tokenizer: Any,
        config: AMFTConfig,
        stops: Sequence[int],
        method: Method,
        pictures: Pictures | None = None,
        ranks: Ranks | None = None,
        tried: int | None = None,
    ):
        self.tokenizer, self.config, self.stops, self.pictures = tokenizer, config, stops, pictures
        self.ranks = ranks or Ranks()
        self.tried = tried
        """Demonstrations of a source that are graded, for a dry run, which filters none; None: all that fit."""
        self.answers = method.demo_mixer.needs_answers
        """Look up the demonstrations of each prompt, for a demo mixer that needs them."""
        self.split = method.requirements.split
        self.order = order_of(method.requirements)
        self.grades = method.requirements.graded or config.demonstrations.grades
        """Demonstrations are graded, each once."""
        self.measures_held_out = bool(method.requirements.costs(Cost.HELD_OUT))
        """The rule measures the likelihood of held-out demonstrations that are right."""
        self.not_used: list[RowCount] = []
        """Demonstrations that did not fit so far."""
        self.notes: list[str] = []
        """What a reader of the run should know of its texts."""
        self.verdicts: list[Graded] = []
        """Demonstrations that were graded, as they were before any were left out."""
        self.not_graded = 0
        """Demonstrations that fit and should have been graded, but were not `tried`."""

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

    def graded(
        self, rows: RowSet, scorer: Scorer | None, columns: Collection[str] | None = None, needed: Collection[str] = ()
    ) -> Graded:
        """Demonstrations with their verdicts, those left out that `demonstrations.filter` does not keep.

        The arguments are those of `experience.verdicts.grade`; nothing is graded where nobody asks for it.

        Raises:
            ConfigError: there is nothing to grade them with.
        """
        asked = self.config.demonstrations
        if not self.grades or not rows.rows:
            return Graded(rows, {})
        if scorer is None:
            raise ConfigError("demonstrations: they shall be graded, but there is no reward function; give one")
        if self.tried is not None:
            return self._graded_some(rows, scorer, self.tried, columns, needed)
        fitting = self._fitting(rows)
        found = grade(rows, fitting.rows, SplitScorer(scorer, self.ranks), asked, columns, needed)
        self.verdicts.append(found)
        if asked.filter == "none":
            return found
        # Asked of all rows: what the filter takes out is no fault of the lengths.
        fitting.require_half(rows)
        kept, left_out = found.kept(asked.filter)
        self.not_used += [*fitting.left_out, *left_out]
        return kept

    def _graded_some(
        self, rows: RowSet, scorer: Scorer, n: int, columns: Collection[str] | None, needed: Collection[str]
    ) -> Graded:
        """All rows, `n` of them graded and the others taken to be as most of these."""
        fitting = self._fitting(rows).rows
        found = grade(rows, evenly(fitting, n), scorer, self.config.demonstrations, columns, needed)
        self.verdicts.append(found)
        self.not_graded += len(fitting) - len(found.verdict_of)
        usual = max(found.counts, key=found.counts.__getitem__)
        return Graded(rows, {rows.numbers[demo.row]: usual for demo in fitting} | dict(found.verdict_of))

    def demonstrations(self, graded: Graded, name: str) -> Demonstrations:
        """Rows that are imitated, each in the branch that the rule's split gives it."""
        asked, verdict_of, numbers = self.config.demonstrations, graded.verdict_of, graded.rows.numbers
        found = self._drawn(graded.rows, name, lambda row, n: self._branch(row, n, verdict_of.get(n)))
        if verdict_of and asked.weighs:
            found.weights = [asked.weight(verdict_of[numbers[demo.row]]) for demo in found.encoded.rows]
        found.verdicts = graded.counts if verdict_of else {}
        return found

    def measured_demonstrations(self, rows: RowSet, name: str) -> Demonstrations:
        """Rows whose likelihood is only measured: one branch."""
        return self._drawn(rows, name, lambda *_: SFT)

    def verified_demonstrations(
        self, rows: RowSet, scorer: Scorer | None, columns: Collection[str] | None = None, needed: Collection[str] = ()
    ) -> Demonstrations | None:
        """Held-out demonstrations that are right, where the rule measures them; the arguments are those of `graded`."""
        if not self.measures_held_out or not rows.rows or scorer is None:
            return None
        scored, fitting = SplitScorer(scorer, self.ranks), self._fitting(rows).rows
        chosen = fitting if self.tried is None else evenly(fitting, self.tried)
        found = grade(rows, chosen, scored, self.config.demonstrations, columns, needed)
        right = rows.pick(i for i, number in enumerate(rows.numbers) if found.verdict_of.get(number) == DEMO_RIGHT)
        return self.measured_demonstrations(right, "verified demonstrations") if right.rows else None

    def with_verdicts(self, prompts: Prompts, graded: Graded) -> Prompts:
        """Prompts with the verdict on the first of their own demonstrations, where these were graded."""
        if not graded.verdict_of:
            return prompts
        by_prompt: dict[str, str] = {}
        for number, row in zip(graded.rows.numbers, graded.rows.rows, strict=True):
            if number in graded.verdict_of:
                by_prompt.setdefault(_key(row["prompt"]), graded.verdict_of[number])
        return replace(prompts, verdicts=[by_prompt.get(_key(row["prompt"])) for row in prompts.rows])

    def _drawn(self, rows: RowSet, name: str, branch: Callable[[Row, int], str]) -> Demonstrations:
        encoded = self._encoded(rows)
        encoded.require_half(rows)
        branch_of = [branch(rows.rows[demo.row], rows.numbers[demo.row]) for demo in encoded.rows]
        order = self.order(branch_of, self.config.seed, name)
        pad_id, branches = self.tokenizer.pad_token_id, tuple(sorted(set(branch_of)))
        return Demonstrations(encoded, rows.rows, order, pad_id, branches, self.pictures)

    def _branch(self, row: Row, number: int, verdict: str | None) -> str:
        split = self.split
        if split is None:
            return SFT
        seen = row if verdict is None else {**row, VERDICT: verdict}
        found = call_guest(split, "balance: split", ConfigError, lambda: split(seen))
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
        found = self._fitting(rows)
        self.not_used += found.left_out
        return found

    def _fitting(self, rows: RowSet) -> EncodedDemos:
        return encode_demonstrations(
            self.tokenizer,
            rows,
            max_prompt_length=self.config.max_prompt_length,
            max_completion_length=self.config.max_completion_length,
            stop_ids=self.stops,
            pictures=self.pictures,
            trusted=self.config.trust_special_tokens,
        )


def evenly(demos: Sequence[EncodedDemo], n: int) -> Sequence[EncodedDemo]:
    """At most `n` of them, from beginning to end, the first included."""
    return demos[:: max(1, len(demos) // n)][:n]


def _key(prompt: Any) -> str:
    return json.dumps(prompt, sort_keys=True, default=lambda picture: hashlib.sha256(picture.tobytes()).hexdigest())
