"""From a study file to runs: which settings each has, where it lives, and how far it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..disk import disk_guard
from ..errors import ConfigError, RunError
from ..runs import RunDirectory, write_json
from ..settings.config import dotted
from ..settings.recipe import Recipe, load_recipe
from .file import StudyFile


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study."""

    regime: str
    rule: str
    seed: int
    recipe: str
    settings: tuple[str, ...]
    """`key=value`, as `amft train --set` takes them."""
    path: Path
    """The run directory; its log, lock and failure stand beside it."""

    @property
    def name(self) -> str:
        return f"{self.regime}/{self.rule} seed {self.seed}"

    def beside(self, ending: str) -> Path:
        """`seed-0.log` and the like, next to the run directory."""
        return self.path.with_name(f"{self.path.name}.{ending}")

    @property
    def state(self) -> str:
        """`finished`, `failed`, `started` or `missing`, from what is on disk."""
        if is_finished(self.path):
            return "finished"
        if self.beside("failed.json").exists():
            return "failed"
        return "started" if (self.path / "config.json").exists() else "missing"

    def load(self) -> Recipe:
        """The recipe with its settings.

        Raises:
            ConfigError, TaskError: a setting is unknown or not allowed.
        """
        try:
            return load_recipe(self.recipe, self.settings)
        except ConfigError as error:
            raise ConfigError(f"{self.regime}/{self.rule}: {error}") from None


def start_run(study: StudyFile, output: Path) -> PlannedRun | None:
    """The run whose model every other run begins with, if the study has one; checked like the others.

    Raises:
        ConfigError, TaskError: its recipe is not valid.
        RunError: it was made with other settings.
    """
    if study.start is None:
        return None
    chosen = {**_common(study), **dotted(study.start)}
    run = PlannedRun("start", "all", 0, study.recipe, _settings(chosen), output / "start")
    recipe = run.load()
    _allowed(run, recipe)
    if (run.path / "config.json").exists():
        _same(run, recipe)
    return run


def plan_runs(study: StudyFile, output: Path) -> list[PlannedRun]:
    """Every run of a study, all rules of one regime and seed next to each other; each recipe is checked once.

    Raises:
        ConfigError, TaskError: a run's recipe is not valid.
        RunError: a run in `output` was made with other settings.
    """
    runs = list(_runs(study, output))
    recipes: dict[tuple[str, str], Recipe] = {}
    for run in runs:
        cell = run.regime, run.rule
        if cell not in recipes:
            recipes[cell] = run.load()
            _allowed(run, recipes[cell])
        if (run.path / "config.json").exists():
            _same(run, recipes[cell])
    return runs


def is_finished(path: Path) -> bool:
    """Whether every test answer of the trained model is there: as many as the base model gave."""
    if not (path / "config.json").exists():
        return False
    answers: dict[str, set[tuple[Any, ...]]] = {"base": set(), "policy": set()}
    for row in RunDirectory(path).rows("scores"):
        answers[row["model"]].add((row["split"], row["key"], row["problem"], row["sample"]))
    return bool(answers["policy"]) and answers["policy"] == answers["base"]


def write_study(study: StudyFile, output: Path) -> None:
    """`study.json`: what the page needs to know beside the run directories."""
    with disk_guard(output, cure="choose another --output"):
        output.mkdir(parents=True, exist_ok=True)
    written = study.model_dump()
    written |= {"cases": study.cases, "arms": study.arms, "grid_names": study.grid_names}
    written["order"] = {name: list(written[name]) for name in ("cases", "arms", "grid_names", "tuned")}
    write_json(output / "study.json", written)


def _runs(study: StudyFile, output: Path) -> Iterator[PlannedRun]:
    first = {} if study.start is None else {"model": str(output / "start")}
    for seed in study.seeds:
        for regime, keys in study.cases.items():
            for rule, arm in study.arms.items():
                chosen = {**_common(study), **first, **dotted(keys), **dotted(arm), **study.budget, "seed": seed}
                path = output / "runs" / regime / rule / f"seed-{seed}"
                yield PlannedRun(regime, rule, seed, study.recipe, _settings(chosen), path)


def _common(study: StudyFile) -> dict[str, Any]:
    metrics = study.metrics
    return {
        "checkpoint.keep_best": True,
        "eval.test_samples": metrics.samples,
        "eval.test_problems": metrics.problems,
        **({} if metrics.splits is None else {"eval.test_splits": metrics.splits}),
        **dotted(study.settings),
        "threads": study.threads,
    }


def _settings(chosen: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{key}={json.dumps(value)}" for key, value in chosen.items())


def _allowed(run: PlannedRun, recipe: Recipe) -> None:
    if recipe.eval.test_splits == [] or (recipe.data is not None and recipe.data.test is None):
        raise ConfigError(f"{run.regime}/{run.rule}: no test split is scored, so there is nothing to compare")
    if not recipe.eval.steps and recipe.checkpoint.keep_best:
        raise ConfigError(f"{run.regime}/{run.rule}: eval.steps is 0, so validation cannot pick a checkpoint")
    if recipe.checkpoint.only_model:
        raise ConfigError(
            f"{run.regime}/{run.rule}: checkpoint.only_model: a run that is cut off could not be resumed; leave it "
            "out, finished runs keep only the model"
        )


def _same(run: PlannedRun, recipe: Recipe) -> None:
    """Refuse a run directory that was made with other settings."""
    saved, ours = dotted(RunDirectory(run.path).read("config")), dotted(recipe.model_dump())
    ours["seed"] = run.seed if run.regime != "start" else ours["seed"]
    free = {"output_dir", "threads", "report_to", "checkpoint.total_limit"} | (
        {"dtype"} if recipe.dtype == "auto" else set()
    )
    for key in saved.keys() & ours.keys() - free:
        if saved[key] != ours[key]:
            raise RunError(
                f"{run.path}: was made with {key} {saved[key]!r}, the study says {ours[key]!r}; "
                "choose another --output or delete the run"
            )
