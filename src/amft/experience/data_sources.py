"""A run's sources from the user's own rows, every one of them checked before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..data.check_rows import check_demonstrations, check_one_kind, check_prompts
from ..data.held_out_split import split_rows
from ..data.isolated_reward import IsolatedReward
from ..data.reward_columns import check_columns, require_function, required_columns
from ..data.rewards import FunctionReward
from ..data.row_set import RowCount, RowSet
from ..errors import ConfigError
from ..types import RewardFunction
from .sources import Encoder, Sources


@dataclass(frozen=True)
class OwnData:
    """What a user gives: rows in TRL's formats (path, `datasets.Dataset` or list of dicts) and reward functions."""

    train_dataset: Any = None
    """Prompts to explore; rows that have a `completion` are imitated, unless `demonstrations` are given."""
    reward_funcs: Sequence[RewardFunction] | RewardFunction | None = None
    demonstrations: Any = None
    val_dataset: Any = None
    """Rows to validate on; None: one prompt in ten of `train_dataset`, at most 64."""
    eval_dataset: Any = None
    """Rows scored before and after."""

    @property
    def functions(self) -> list[RewardFunction]:
        """The reward functions, one or many or none.

        Raises:
            ConfigError: one is a model or its name.
        """
        given: Any = self.reward_funcs
        several = [] if given is None else list(given) if isinstance(given, list | tuple) else [given]
        for function in several:
            require_function(function)
        return several


def from_data(encoder: Encoder, data: OwnData) -> Sources:
    """Sources of the user's own data, what is held out taken out of everything that is trained on.

    Raises:
        ConfigError: nothing to train on.
        DataError: a row is malformed, or nothing is left; names the row, the column and the fix.
    """
    if data.train_dataset is None:
        raise ConfigError("train_dataset: none given; give rows with a column `prompt`, or a task")
    functions = data.functions
    if encoder.config.rewards.isolate:
        _check_isolated(functions)
    given = {name: RowSet.read(name, source) for name, source in _named(encoder, data).items()}
    for source in given.values():
        if source.rows or source.name == "train_dataset":
            check_prompts(source)
    check_one_kind(list(given.values()))
    for source in (given["train_dataset"], given["val_dataset"], given["eval_dataset"]):
        check_columns(functions, source)
    train, shown, val, tests = given.values()
    split = split_rows(train, shown, val, tests, encoder.config.seed)
    demos = _with_completion(split.train, encoder) if data.demonstrations is None else split.demonstrations
    if demos.rows:
        check_demonstrations(demos)
    scorer = FunctionReward(functions, encoder.config.reward_weights) if functions else None
    columns, needed = {name for row in split.train.rows for name in row}, required_columns(functions)
    graded = encoder.graded(demos, scorer, columns, needed)
    held_out = split.held_out
    meta_demos = held_out.pick(i for i, row in enumerate(held_out.rows) if row.get("completion"))
    validated = held_out.pick(range(min(encoder.config.eval.problems, len(held_out.rows))) if functions else ())
    return Sources(
        prompts=encoder.with_verdicts(encoder.answered(split.train, "train_dataset", graded.rows), graded)
        if functions
        else None,
        demonstrations=encoder.demonstrations(graded, "demonstrations") if graded.rows.rows else None,
        all_filtered=bool(demos.rows) and not graded.rows.rows,
        # With too few prompts to spare any, H* is measured on those that are trained on.
        meta=encoder.prompts(held_out if held_out.rows else split.train, "meta"),
        meta_demonstrations=encoder.measured_demonstrations(meta_demos, "meta demonstrations")
        if meta_demos.rows
        else None,
        verified=encoder.verified_demonstrations(meta_demos, scorer, columns, needed),
        scorer=scorer,
        val=encoder.held_out(validated) if validated.rows else None,
        tests={"eval": encoder.held_out(tests)} if tests.rows and functions else {},
        not_used=[*split.counts, *encoder.not_used],
        digests={name: source.digest() for name, source in given.items() if source.rows},
    )


def _check_isolated(functions: Sequence[RewardFunction]) -> None:
    """A function that is here already cannot be elsewhere."""
    for function in functions:
        if not isinstance(function, IsolatedReward):
            name = getattr(function, "__name__", type(function).__name__)
            raise ConfigError(
                f"rewards.isolate: {name} is a function of this process; name its file in data.rewards, or in Python "
                "give amft.data.isolated_reward.IsolatedReward('file.py:function')"
            )


def _named(encoder: Encoder, data: OwnData) -> dict[str, Any]:
    """In the order that `split_rows` takes them."""
    imitates = encoder.config.num_demos > 0
    return {
        "train_dataset": data.train_dataset,
        "demonstrations": data.demonstrations if imitates else None,
        "val_dataset": data.val_dataset,
        "eval_dataset": data.eval_dataset,
    }


def _with_completion(rows: RowSet, encoder: Encoder) -> RowSet:
    """Rows that can be imitated; an empty completion is counted, for it may be a mistake."""
    if not encoder.config.num_demos:
        return rows.pick(())
    empty = sum(row.get("completion") in ("", []) for row in rows.rows)
    if empty:
        encoder.not_used.append(
            RowCount(rows.name, "the completion is empty, so they are no demonstrations", empty, len(rows.rows))
        )
    return rows.pick(i for i, row in enumerate(rows.rows) if row.get("completion"))
