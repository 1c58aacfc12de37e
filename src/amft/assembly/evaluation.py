"""From a model or a run, and what it shall answer, to graded answers: what `amft eval` and `amft sample` run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..runs import RunDirectory
from ..settings.recipe import DataSpec, TaskSpec, check_known_splits
from ..types import Row, Sampling
from .models import model_directory
from .own_data import load_own_reward, renamed_rows

if TYPE_CHECKING:
    from ..data.rewards import Scorer
    from ..evaluation.saved_model import Asking
    from ..tasks.base import Task

ANSWER_TOKENS = 256
"""Longest answer of a model that is no run, in tokens, unless told otherwise."""


@dataclass(frozen=True)
class Questions:
    """What is answered."""

    splits: Mapping[str, Sequence[Row]]
    scorer: Scorer
    task: Task | None = None


@dataclass(frozen=True)
class Asked:
    """What a user asked for; None is as the run had it, or the default of a model that is no run."""

    task: str | None = None
    splits: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the task; they come before those of the run."""
    data: str | None = None
    rewards: Sequence[str] = ()
    problems: int | None = None
    """Per split; None is all of them."""
    samples: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    engine: str | None = None
    dtype: str = "auto"
    batch: int = 64
    seed: int = 0


def build_evaluation(model: str, asked: Asked) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Answer held-out problems with a model, or the one a run ended with.

    Args:
        model: `nano`, a model directory, or a run directory.
        asked: what to answer, and how.

    Returns:
        One summary row per split, and one row per answer.

    Raises:
        ConfigError: there is nothing to answer, or nothing to score it with.
        TaskError, DataError, RewardError: the task, a split, a row or a reward function is not as it should be.
        ModelError, CheckpointError: there is no model to load.
    """
    from ..evaluation.groups import group_figures
    from ..evaluation.score import summary

    config = run_config(model)
    questions = questions_of(model, config, asked)
    rows = answers_of(model, questions, asking_of(config, asked))
    lines = summary(rows)
    task = questions.task
    if task is not None:
        for line in lines:
            own = [row for row in rows if row["split"] == line["split"]]
            line |= group_figures(task, [row["problem"] for row in questions.splits[line["split"]]], own)
    return lines, rows


def run_config(model: str) -> dict[str, Any]:
    """The settings of a run; empty for a model that is none."""
    path = Path(model)
    return dict(RunDirectory(path).read("config")) if (path / "checkpoints").is_dir() else {}


def answers_of(model: str, questions: Questions, asking: Asking) -> list[dict[str, Any]]:
    """Answer rows; see `evaluation.saved_model.answer_splits`."""
    path = model_directory(model)
    from ..evaluation.saved_model import answer_splits

    return answer_splits(path, questions.splits, questions.scorer, asking)


def asking_of(config: Mapping[str, Any], asked: Asked) -> Asking:
    """How the model is asked: as the run asked it, but for what the user says."""
    from ..evaluation.saved_model import Asking

    samples = asked.samples or config.get("eval", {}).get("test_samples", 1)
    temperature = 0.0 if samples == 1 else config.get("temperature", 1.0)
    sampling = Sampling(
        samples,
        asked.max_tokens or config.get("max_completion_length", ANSWER_TOKENS),
        temperature if asked.temperature is None else asked.temperature,
        config.get("top_p", 1.0),
        config.get("top_k", 0),
        config.get("max_transcript_length", 0),
    )
    engine = asked.engine or config.get("engine", "auto")
    options = config.get("engine_options") if engine == "vllm" else None
    trusted = bool(config.get("trust_special_tokens"))
    return Asking(sampling, engine, options, asked.dtype, asked.batch, trusted=trusted, seed=asked.seed)


def questions_of(model: str, config: Mapping[str, Any], asked: Asked) -> Questions:
    """What is answered: the data or the task that is given, else those of the run.

    Args:
        model: the model's or the run's directory, for messages.
        config: the run's settings; empty where the model is of no run.

    Raises:
        ConfigError: a reward without rows to score.
    """
    if asked.data is not None or (asked.task is None and config.get("data")):
        return _from_data(model, config, asked)
    if asked.rewards:
        raise ConfigError("--reward: it scores rows of your own; give them with --data, or leave it out for a task")
    from ..data.rewards import TaskReward
    from ..tasks.guest_task import hosted
    from ..tasks.registry import build_task

    name, options = asked_task(model, config, asked.task, asked.options)
    task = hosted(build_task(name, **options))
    chosen = list(asked.splits) or list(task.test_splits)
    check_known_splits(task, chosen)
    splits = {split: task.problems(split, seed=asked.seed, n=asked.problems) for split in chosen}
    rows = {split: [{"prompt": task.prompt(p), "problem": p} for p in found] for split, found in splits.items()}
    return Questions(rows, TaskReward(task), task)


def _from_data(model: str, config: Mapping[str, Any], asked: Asked) -> Questions:
    if asked.task is not None or asked.options:
        raise ConfigError("--data: rows of your own have no task and no options of one; leave out --task and --set")
    if asked.splits:
        raise ConfigError("--split: rows of your own have none; leave it out")
    own = DataSpec(**config["data"]) if config.get("data") else None
    file = asked.data or (own.test if own else None)
    if file is None:
        raise ConfigError(f"--data: give a file of rows, since the run {model} had no data.test")
    rewards = list(asked.rewards) or (own.rewards if own else [])
    if not rewards:
        raise ConfigError("--reward: give path/to/file.py:function to score the answers with")
    from ..data.check_rows import check_prompts
    from ..data.rewards import FunctionReward
    from ..data.row_set import RowSet

    rows = renamed_rows(file, own.columns if own else {}, config.get("allow_download", False))[: asked.problems]
    check_prompts(RowSet.whole(file, rows))
    weights = None if asked.rewards else config.get("reward_weights")
    name = "eval" if asked.data is None else Path(file).name
    isolate, seconds = config.get("rewards", {}).get("isolate", False), config.get("reward_timeout")
    functions = [load_own_reward(reward, isolate, seconds) for reward in rewards]
    return Questions({name: rows}, FunctionReward(functions, weights))


def asked_task(
    model: str, config: Mapping[str, Any], task: str | None, options: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Id and options of the task to answer: the one given, or the run's; if they are the same, as the run had it.

    Raises:
        ConfigError: no task is given, and `model` is not a run with one.
    """
    trained = config.get("task")
    if trained and task in (None, trained["id"], trained["id"].rpartition("-v")[0]):
        own = TaskSpec(**trained)
        return own.id, own.options | dict(options)
    if task is None:
        raise ConfigError(
            f"--task: give a task's id, or rows with --data, since {model} is not a run of `amft train` that has them"
        )
    return task, dict(options)
