"""Where a run's prompts, demonstrations, rewards and held-out problems come from: a task, or the user's own data."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..balance.method import Method
from ..batch import Batch, pad_batch
from ..data.dataset import check_demonstrations, check_prompts, load_rows
from ..data.encoding import EncodedDemo, EncodedDemos, encode_demonstrations, encode_prompts, pixels_of
from ..data.rewards import FunctionReward, Scorer, TaskReward
from ..data.streams import RowStream, derive_seed
from ..errors import ConfigError, DataError
from ..models.pictures import Pictures
from ..settings.config import AMFTConfig
from ..tasks.base import Demonstrator, Task, demonstrated, demonstration, tries
from ..types import SFT, Problem, RewardFunction, Row
from .sampling_context import Prompts

TASK_PROBLEMS = 8192
"""Problems drawn from a task for each branch: several card orders of every hand."""

META_SHARE, META_MOST = 10, 64
"""Of the user's prompts, one in META_SHARE, at most META_MOST, is kept for H*, the held-out utility and validation."""


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
        """What the scorer gives `n` of them, taken evenly; without those it abstains on."""
        chosen = self.encoded.rows[:: max(1, len(self.encoded.rows) // n)][:n]
        rows = [self.rows[d.row] for d in chosen]
        scores = scorer.score(rows, [_said(row["completion"]) for row in rows], [d.completion_ids for d in chosen])
        return [reward for reward in scores.rewards if not math.isnan(reward)]


@dataclass(frozen=True)
class HeldOut:
    """Problems that are scored, never trained on."""

    rows: Sequence[Row]
    ids: Sequence[Sequence[int]]


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

    def ids(self, rows: Sequence[Row], name: str) -> list[list[int]]:
        limit = self.config.max_prompt_length
        return encode_prompts(self.tokenizer, rows, max_prompt_length=limit, name=name, pictures=self.pictures)

    def prompts(self, rows: Sequence[Row], name: str) -> Prompts:
        return Prompts(rows, self.ids(rows, name), RowStream(len(rows), self.config.seed, name))

    def answered(self, rows: Sequence[Row], name: str, demonstrations: Sequence[Row]) -> Prompts:
        """Prompts with the completions of their own demonstrations, those too long left out."""
        found = self.prompts(rows, name)
        if not self.answers:
            return found
        wanted = {_key(row["prompt"]) for row in rows}
        own = [row for row in demonstrations if _key(row["prompt"]) in wanted]
        by_prompt: dict[str, list[tuple[int, ...]]] = {}
        for demo in self._encoded(own, name).rows if own else ():
            by_prompt.setdefault(_key(own[demo.row]["prompt"]), []).append(demo.completion_ids)
        return replace(found, answers=[by_prompt.get(_key(row["prompt"]), []) for row in rows])

    def held_out(self, rows: Sequence[Row], name: str) -> HeldOut:
        return HeldOut(rows, self.ids(rows, name))

    def demonstrations(self, rows: Sequence[Row], name: str) -> Demonstrations:
        """Rows that are imitated, each in the branch that the rule's split gives it."""
        return self._drawn(rows, name, self._branch)

    def measured_demonstrations(self, rows: Sequence[Row], name: str) -> Demonstrations:
        """Rows whose likelihood is only measured: one branch."""
        return self._drawn(rows, name, lambda *_: SFT)

    def _drawn(self, rows: Sequence[Row], name: str, branch: Callable[[Row, int], str]) -> Demonstrations:
        encoded = self._encoded(rows, name)
        stream = RowStream(len(encoded.rows), self.config.seed, name)
        branch_of = [branch(rows[demo.row], demo.row) for demo in encoded.rows]
        return Demonstrations(encoded, rows, stream, self.tokenizer.pad_token_id, branch_of, self.pictures)

    def _branch(self, row: Row, number: int) -> str:
        if self.split is None:
            return SFT
        found = self.split(row)
        if not isinstance(found, str) or not found:
            raise ConfigError(f"balance: the class of demonstration {number} must be a word, got {found!r}")
        return f"{SFT}/{found}"

    def _encoded(self, rows: Sequence[Row], name: str) -> EncodedDemos:
        return encode_demonstrations(
            self.tokenizer,
            rows,
            max_prompt_length=self.config.max_prompt_length,
            max_completion_length=self.config.max_completion_length,
            stop_ids=self.stops,
            name=name,
            pictures=self.pictures,
        )


def _said(completion: Any) -> str:
    return str(completion if isinstance(completion, str) else completion[0]["content"])


def _key(prompt: Any) -> str:
    return json.dumps(prompt, sort_keys=True, default=lambda picture: hashlib.sha256(picture.tobytes()).hexdigest())


def from_task(task: Task, encoder: Encoder) -> Sources:
    """Prompts and expert demonstrations drawn from a task's `train` split; `meta`, `val` and test splits apart."""
    # Every draw has a seed of its own, named by its purpose: a setting that changes one (more demonstrations, say)
    # leaves the others as they are. Test problems do not depend on the run's seed at all.
    config = encoder.config
    if config.soft_punish_cache and tries(task) > 1:
        raise ConfigError("soft_punish_cache: it is for tasks with one answer; leave it at 0")

    def asked(problems: Sequence[Problem]) -> list[Row]:
        return [{"prompt": task.prompt(problem), "problem": problem} for problem in problems]

    def seed(purpose: str) -> int:
        return derive_seed(config.seed, "task", purpose)

    def rows(split: str, purpose: str, n: int | None) -> list[Row]:
        return asked(task.problems(split, seed=seed(purpose), n=n))

    def shown(problems: Sequence[Problem]) -> list[Row]:
        out: list[Row] = []
        for problem in problems:
            prompt, answer = demonstration(task, problem)
            completion = [{"role": "assistant", "content": answer}]
            out.append({"prompt": prompt, "problem": problem, "completion": completion})
        return out

    def answered(found: list[Row]) -> list[Row]:
        """Rows with the expert's answer to their very prompt: mistakes are none of it."""
        return [
            {**row, "completion": [{"role": "assistant", "content": task.demonstrate(row["problem"])}]} for row in found
        ]

    steps = config.max_steps
    count = max(1, min(TASK_PROBLEMS, steps * config.num_demos))
    demos = shown(demonstrated(task, seed=seed("demonstrations"), n=count))
    meta_demos = shown(task.problems("meta", seed=seed("meta demonstrations"), n=64))
    explored = rows("train", "prompts", min(TASK_PROBLEMS, steps * config.num_prompts))
    known = demonstrable(task, explored, demos) if encoder.answers else []
    tests = task.test_splits if config.eval.test_splits is None else config.eval.test_splits
    return Sources(
        prompts=encoder.answered(explored, "prompts", answered(known)),
        demonstrations=encoder.demonstrations(demos, "demonstrations") if config.num_demos else None,
        meta=encoder.prompts(rows("meta", "meta", None), "meta"),
        meta_demonstrations=encoder.measured_demonstrations(meta_demos, "meta demonstrations"),
        scorer=TaskReward(task),
        val=encoder.held_out(rows("val", "val", config.eval.problems), "val"),
        # Test problems do not depend on the run's seed: every run answers the same ones.
        tests={split: encoder.held_out(_test_rows(task, split, config.eval.test_problems), split) for split in tests},
    )


def demonstrable(task: Task, explored: list[Row], demos: Sequence[Row]) -> list[Row]:
    """The prompts that may have a demonstration of their own: all, unless the task chooses what it demonstrates."""
    keys = {row["problem"].key for row in demos}
    return [row for row in explored if row["problem"].key in keys] if isinstance(task, Demonstrator) else explored


def _test_rows(task: Task, split: str, n: int | None) -> list[Row]:
    return [{"prompt": task.prompt(problem), "problem": problem} for problem in task.problems(split, seed=0, n=n)]


def from_data(
    encoder: Encoder,
    *,
    train_dataset: Any,
    reward_funcs: Sequence[RewardFunction] | RewardFunction | None,
    demonstrations: Any,
    eval_dataset: Any,
) -> Sources:
    """The user's own data, in TRL's formats; every row is checked before anything is trained.

    Without `demonstrations`, rows of `train_dataset` that have a `completion` are the demonstrations. A share of the
    prompts is kept out of training for H*, the held-out utility and validation.

    Raises:
        ConfigError: nothing to train on.
        DataError: a row is malformed; names the row, the column and the fix.
    """
    config = encoder.config
    if train_dataset is None:
        raise ConfigError("train_dataset: none given; give rows with a column `prompt`, or a task")
    rows = load_rows(train_dataset)
    check_prompts(rows, "train_dataset")
    functions = [reward_funcs] if callable(reward_funcs) else list(reward_funcs or [])
    kept = min(META_MOST, len(rows) // META_SHARE)
    order = RowStream(len(rows), config.seed, "meta rows").take(len(rows))
    meta, train = ([rows[i] for i in order[:kept]], [rows[i] for i in sorted(order[kept:])]) if kept else (rows, rows)
    demos = _own_demonstrations(train, demonstrations, config)
    tests = [] if eval_dataset is None else load_rows(eval_dataset)
    if tests:
        check_prompts(tests, "eval_dataset")
    meta_demos = [row for row in meta if row.get("completion")] if kept else []
    return Sources(
        prompts=encoder.answered(train, "train_dataset", demos) if functions else None,
        demonstrations=encoder.demonstrations(demos, "demonstrations") if demos else None,
        meta=encoder.prompts(meta, "meta"),
        meta_demonstrations=encoder.measured_demonstrations(meta_demos, "meta demonstrations") if meta_demos else None,
        scorer=FunctionReward(functions, config.reward_weights) if functions else None,
        val=encoder.held_out(meta[: config.eval.problems], "meta") if kept and functions else None,
        tests={"eval": encoder.held_out(tests, "eval_dataset")} if tests and functions else {},
    )


def _own_demonstrations(rows: list[Row], demonstrations: Any, config: AMFTConfig) -> list[Row]:
    if not config.num_demos:
        return []
    if demonstrations is None:
        found = [row for row in rows if row.get("completion")]
    else:
        found = load_rows(demonstrations)
    if found:
        check_demonstrations(found, "train_dataset" if demonstrations is None else "demonstrations")
    elif demonstrations is not None:
        raise DataError("demonstrations: no rows; give at least one, or set num_demos: 0")
    return found
