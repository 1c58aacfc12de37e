"""A run's sources from a task: prompts and expert demonstrations of its `train` split, the other splits apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..data.held_out_split import prompt_words
from ..data.rewards import TaskReward
from ..data.row_set import RowSet
from ..data.streams import derive_seed
from ..errors import ConfigError, TaskError
from ..tasks.base import Demonstrator, KnownAnswer, Task, demonstrated, demonstration, tries
from ..types import Problem, Row
from .sources import Encoder, Sources

TASK_PROBLEMS = 8192
"""Problems drawn from a task for each branch: several card orders of every hand."""

DIGESTED = 64
"""Rows of each draw that tell whether a task still gives the same problems."""


def from_task(task: Task, encoder: Encoder) -> Sources:
    """Prompts and expert demonstrations drawn from a task's `train` split; `meta`, `val` and test splits apart.

    Raises:
        ConfigError: a setting is not for this task.
        TaskError: a problem that is scored stands in what is trained on.
    """
    # Every draw has a seed of its own, named by its purpose: a setting that changes one (more demonstrations, say)
    # leaves the others as they are. Test problems do not depend on the run's seed at all.
    config = encoder.config
    if config.soft_punish_cache and tries(task) > 1:
        raise ConfigError("soft_punish_cache: it is for tasks with one answer; leave it at 0")

    def seed(purpose: str) -> int:
        return derive_seed(config.seed, "task", purpose)

    def asked(name: str, split: str, n: int | None, seed: int) -> RowSet:
        problems = task.problems(split, seed=seed, n=n)
        return RowSet.whole(name, [{"prompt": task.prompt(problem), "problem": problem} for problem in problems])

    def scored(name: str, n: int | None, seed: int) -> RowSet:
        found = asked(name, name, n, seed)
        return _with_answers(task, found) if config.eval.answer_probability else found

    steps = config.max_steps
    count = max(1, min(TASK_PROBLEMS, steps * config.num_demos))
    demos = _shown(task, "demonstrations", demonstrated(task, seed=seed("demonstrations"), n=count))
    meta_demos = _shown(task, "meta demonstrations", task.problems("meta", seed=seed("meta demonstrations"), n=64))
    explored = asked("prompts", "train", min(TASK_PROBLEMS, steps * config.num_prompts), seed("prompts"))
    scorer = TaskReward(task)
    graded = encoder.graded(demos, scorer)
    known = _answered(task, demonstrable(task, explored.rows, demos.rows) if encoder.answers else [])
    meta = asked("meta", "meta", None, seed("meta"))
    val = scored("val", config.eval.problems, seed("val"))
    splits = task.test_splits if config.eval.test_splits is None else config.eval.test_splits
    tests = {split: scored(split, config.eval.test_problems, 0) for split in splits}
    seen = getattr(task, "seen_splits", ())
    _check_apart(
        task, [explored, demos], [meta, meta_demos, val, *(tests[name] for name in splits if name not in seen)]
    )
    return Sources(
        prompts=encoder.with_verdicts(
            encoder.answered(explored, "prompts", encoder.graded(known, scorer).rows), graded
        ),
        demonstrations=encoder.demonstrations(graded, "demonstrations")
        if config.num_demos and graded.rows.rows
        else None,
        all_filtered=bool(config.num_demos) and not graded.rows.rows,
        meta=encoder.prompts(meta, "meta"),
        meta_demonstrations=encoder.measured_demonstrations(meta_demos, "meta demonstrations"),
        verified=encoder.verified_demonstrations(meta_demos, scorer),
        scorer=scorer,
        val=encoder.held_out(val),
        tests={split: encoder.held_out(rows) for split, rows in tests.items()},
        not_used=encoder.not_used,
        # How many more are drawn depends on the length of the run.
        digests={
            rows.name: rows.digest(DIGESTED) for rows in (explored, demos, meta, meta_demos, val, *tests.values())
        },
    )


def demonstrable(task: Task, explored: Sequence[Row], demos: Sequence[Row]) -> list[Row]:
    """The prompts that may have a demonstration of their own: all, unless the task chooses what it demonstrates."""
    keys = {row["problem"].key for row in demos}
    return [row for row in explored if not isinstance(task, Demonstrator) or row["problem"].key in keys]


def _shown(task: Task, name: str, problems: Sequence[Problem]) -> RowSet:
    """Rows with a demonstration: the expert's answer, or a whole talk with mistakes."""
    rows: list[Row] = []
    for problem in problems:
        prompt, answer = demonstration(task, problem)
        rows.append(_assisted({"prompt": prompt, "problem": problem}, answer))
    return RowSet.whole(name, rows)


def _answered(task: Task, rows: Sequence[Row]) -> RowSet:
    """Rows with the expert's answer to their very prompt: mistakes are none of it."""
    return RowSet.whole(
        "the prompts' own demonstrations",
        [_assisted(row, task.demonstrate(row["problem"])) for row in rows],
    )


def _assisted(row: Row, answer: str) -> Row:
    return {**row, "completion": [{"role": "assistant", "content": answer}]}


def _with_answers(task: Task, rows: RowSet) -> RowSet:
    """The same rows, each with the one right answer as its completion.

    Raises:
        ConfigError: the task has no such thing.
    """
    if not isinstance(task, KnownAnswer):
        raise ConfigError(
            f"eval.answer_probability: {task.id} has no one right answer to each problem (`right_answer` of "
            "tasks/base.py); leave the setting out"
        )
    return replace(rows, rows=[_assisted(row, task.right_answer(row["problem"])) for row in rows.rows])


def _check_apart(task: Task, trained: Sequence[RowSet], scored: Sequence[RowSet]) -> None:
    """Neither a key nor a prompt of text may stand on both sides; `amft tasks check` tries whole splits."""
    keys = {row["problem"].key for source in trained for row in source.rows}
    words = {asked for source in trained for row in source.rows if (asked := _words(row)) is not None}
    for source in scored:
        for row in source.rows:
            if row["problem"].key in keys or _words(row) in words:
                raise TaskError(
                    f"{task.id}: split {row['problem'].split} shares the problem {row['problem'].key!r} with what is "
                    "trained on; its splits must be apart (`amft tasks check` finds all such problems)"
                )


def _words(row: Row) -> str | None:
    """The words of a prompt; None where a picture asks."""
    return prompt_words(row["prompt"]) if all(isinstance(m["content"], str) for m in row["prompt"]) else None
