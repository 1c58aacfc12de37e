"""What several models answer to the same prompts: what `amft sample` runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..errors import ConfigError
from ..types import Row
from .evaluation import Asked, Questions, answers_of, asking_of, questions_of, run_config
from .own_data import renamed_rows


def sample_models(
    models: Sequence[str], asked: Asked, prompts: Sequence[str], *, plain: bool = False
) -> list[list[dict[str, Any]]]:
    """The answers of each model, in the same order: to the prompts, else to the data or task, else to the last run's.

    Args:
        models: `nano`, model directories or runs; the last run among them says how all are asked.
        asked: what to answer, and how.
        prompts: typed by the user; they take the place of data and task.
        plain: such prompts and those of `data` are not put into the chat template.

    Raises:
        ConfigError: prompts and data or task are given, or none of them and no model is a run.
        AMFTError: as in `build_evaluation`.
    """
    configs = [run_config(model) for model in models]
    known = next((i for i in reversed(range(len(models))) if configs[i]), len(models) - 1)
    config = configs[known]
    if prompts and (asked.task or asked.data):
        raise ConfigError("--prompt: it takes the place of --task and --data; give one of them")
    if prompts or (asked.data and not asked.rewards):
        questions = _unscored(asked, prompts, plain)
    else:
        questions = questions_of(models[known], config, _first_split(asked, config))
    asking = asking_of(config, asked)
    return [answers_of(model, questions, asking) for model in models]


def _unscored(asked: Asked, prompts: Sequence[str], plain: bool) -> Questions:
    from ..data.check_rows import check_prompts
    from ..data.row_set import RowSet
    from ..evaluation.saved_model import Unscored

    rows: list[Row] = [{"prompt": text} for text in prompts]
    if not prompts:
        assert asked.data is not None
        rows = renamed_rows(asked.data, {}, False)[: asked.problems]
    check_prompts(RowSet.whole(asked.data or "--prompt", rows))
    spoken = rows if plain else [{**row, "prompt": _as_message(row["prompt"])} for row in rows]
    return Questions({"prompts": spoken}, Unscored())


def _as_message(prompt: Any) -> Any:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _first_split(asked: Asked, config: dict[str, Any]) -> Asked:
    if asked.splits or (config.get("data") and asked.task is None):
        return asked
    from ..tasks.registry import build_task
    from .evaluation import asked_task

    name, options = asked_task("", config, asked.task, asked.options)
    return replace(asked, splits=build_task(name, **options).test_splits[:1])
