"""From a model and a task to its held-out success: what `amft eval` runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..runs import RunDirectory
from ..settings.recipe import TaskSpec, check_known_splits
from .models import model_directory, trained_model


def build_evaluation(
    model: str,
    task: str | None = None,
    splits: Sequence[str] = (),
    *,
    samples: int = 1,
    problems: int | None = None,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Answer held-out problems with a model, or the one a run ended with; one summary row per split.

    Args:
        model: `nano`, a model directory, or a run directory.
        task: versioned id; None is the task of the run. A run's own task keeps the options it was trained with.
        splits: none means the task's test splits.
        samples: answers per problem; 1 is greedy.
        problems: per split; None is all of them.
        options: of the task; they come before those of the run.

    Raises:
        ConfigError: no task is given, and `model` is not a run with one.
        TaskError: the task, an option or a split does not exist.
        ModelError, CheckpointError: there is no model to load.
    """
    from ..tasks.guest_task import hosted
    from ..tasks.registry import build_task

    name, chosen_options = asked_task(model, task, options or {})
    built = hosted(build_task(name, **chosen_options))
    chosen = list(splits) or list(built.test_splits)
    check_known_splits(built, chosen)
    path = trained_model(Path(model)) or model_directory(model)
    from ..evaluation import evaluate_model
    from ..evaluation.groups import group_figures
    from ..evaluation.score import summary

    trusted = _is_run(model) and bool(RunDirectory(Path(model)).read("config").get("trust_special_tokens"))
    rows = evaluate_model(path, built, chosen, samples, problems, seed, trusted)
    return [
        line
        | group_figures(
            built,
            built.problems(line["split"], seed=seed, n=problems),
            [row for row in rows if row["split"] == line["split"]],
        )
        for line in summary(rows)
    ]


def asked_task(model: str, task: str | None, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Id and options of the task to answer: the one given, or the run's; if they are the same, as the run had it.

    Raises:
        ConfigError: no task is given, and `model` is not a run with one.
    """
    trained = RunDirectory(Path(model)).read("config").get("task") if _is_run(model) else None
    if trained and task in (None, trained["id"], trained["id"].rpartition("-v")[0]):
        own = TaskSpec(**trained)
        return own.id, own.options | dict(options)
    if task is None:
        raise ConfigError(f"--task: give a task's id, since {model} is not a run of `amft train` on a task")
    return task, dict(options)


def _is_run(model: str) -> bool:
    return (Path(model) / "checkpoints").is_dir()
