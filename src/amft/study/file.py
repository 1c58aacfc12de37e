"""The study file: which runs are compared, read strictly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from ..errors import ConfigError
from ..settings.config import dotted
from ..settings.recipe_file import read_mapping
from ..settings.strict_model import StrictModel
from ..settings.validation_errors import nearest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
BUDGET = ("max_steps", "max_seconds", "num_prompts", "num_generations", "num_demos", "steps_per_generation")
"""Recipe keys that say how much a run may spend; a study sets them once, for every run."""
COMMON = (*BUDGET, "task", "data", "model", "seed", "eval", "checkpoint.keep_best", "max_completion_length",
          "max_prompt_length")  # fmt: skip
"""Recipe keys that rules may not set: they would compare different work, or measure it differently."""


class Metrics(StrictModel):
    """What is read off a run."""

    splits: list[str] | None = Field(None, description="test splits; null: the task's own")
    headline: str | None = Field(None, description="the split that scores and regret speak of; null: the first")
    ood: str | None = Field(None, description="the out-of-distribution split; null: none")
    samples: int = Field(1, ge=1, description="answers per test problem; 1 is greedy")
    problems: int | None = Field(None, ge=1, description="test problems per split; null: all")
    outcome: str | None = Field(None, description="a measure of single answers, in [0, 1], to tell regret by as well")
    pass_at: list[int] = Field(default_factory=list, description="k of pass@k, each at most samples")


class Target(StrictModel):
    """Crossed regret that the subject should not exceed, a share; below 0 it is to beat every constant."""

    mean: float = Field(ge=-1, le=1, description="mean regret over the regimes")
    worst: float = Field(ge=-1, le=1, description="regret in the worst regime")


class StudyFile(StrictModel):
    """Named regimes and rules at one budget. Paths are relative to the current directory.

    Raises:
        ConfigError: one line that names the field, what was given and what is allowed.
    """

    recipe: str = Field(min_length=1, description="recipe file, or a shipped recipe's name")
    settings: dict[str, Any] = Field(default_factory=dict, description="recipe keys for every run")
    budget: dict[str, Any] = Field(default_factory=dict, description="what every run may spend; see BUDGET")
    start: dict[str, Any] | None = Field(None, description="recipe keys of one run whose model all others begin with")
    tasks: dict[str, Any] = Field(default_factory=dict, description="name: task; crossed with the regimes")
    regimes: dict[str, dict[str, Any]] = Field(
        default_factory=lambda: dict[str, dict[str, Any]](all={}),
        min_length=1,
        description="name: recipe keys of this regime",
    )
    rules: dict[str, Any] = Field(min_length=1, description="name: rule, or its settings and recipe `settings`")
    grid: list[float] = Field(default_factory=list, description="constant mu; regret is measured against them")
    tuned: dict[str, list[str]] = Field(
        default_factory=dict, description="name: rules, of which validation picks one per regime"
    )
    baseline: str = Field(min_length=1, description="the rule that others are compared with")
    subject: str = Field("amft", min_length=1, description="whose claims are judged; without `amft`, the first rule")
    target: Target | None = Field(None, description="regret the subject should not exceed; needs a grid")
    seeds: list[int] = Field(min_length=1, description="each a run of every regime and rule")
    racing: int | None = Field(
        None, ge=5, description="seeds after which rules that are clearly beaten on validation stop in a regime"
    )
    metrics: Metrics = Field(default_factory=Metrics)
    threads: int = Field(1, ge=1, description="CPU threads of a run")
    checkpoints: Literal["model", "all"] = Field(
        "model", description="of a finished run: the model it ended with and nothing to resume from, or all"
    )

    @model_validator(mode="before")
    @classmethod
    def _judged(cls, given: Any) -> Any:
        rules = given.get("rules") if isinstance(given, dict) else None
        if not isinstance(rules, dict) or not rules or "amft" in rules:
            return given
        return {"subject": next(iter(rules)), **given}

    @model_validator(mode="after")
    def _consistent(self) -> StudyFile:
        for kind in ("tasks", "regimes", "rules", "tuned"):
            for name in getattr(self, kind):
                if not NAME.fullmatch(name):
                    raise ValueError(
                        f"{kind}: the name {name!r} must be letters, digits and _ . + - (it names a folder)"
                    )
        for key in self.budget:
            if key not in BUDGET:
                raise ValueError(f"budget.{key}: not a budget key; {nearest(key, BUDGET)}")
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError("seeds: each once, 0 or more")
        if any(not 0 <= mu <= 1 for mu in self.grid) or len(set(self.grid)) < len(self.grid):
            raise ValueError("grid: values of mu in [0, 1], each once")
        if self.target is not None and not self.grid:
            raise ValueError("target: regret needs a grid of constant mu; add grid, for example [0, 0.5, 1]")
        if any(not 1 <= k <= self.metrics.samples for k in self.metrics.pass_at):
            raise ValueError(f"metrics.pass_at: each k from 1 to metrics.samples ({self.metrics.samples})")
        self._known_names()
        return self

    def _known_names(self) -> None:
        arms = self.arms
        for name, members in self.tuned.items():
            if name in arms:
                raise ValueError(f"tuned.{name}: is a rule already; choose another name")
            for member in members:
                if member not in arms:
                    raise ValueError(f"tuned.{name}: no rule {member!r}; {nearest(member, [*arms])}")
        known = [*arms, *self.tuned]
        for field in ("baseline", "subject"):
            if getattr(self, field) not in known:
                raise ValueError(f"{field}: no rule {getattr(self, field)!r}; {nearest(getattr(self, field), known)}")
        clash = [name for name in self.grid_names if name in self.rules]
        if clash:
            raise ValueError(f"rules.{clash[0]}: the grid makes this one; choose another name")

    @property
    def grid_names(self) -> dict[str, float]:
        """Names of the fixed rules: `fixed-0.1`."""
        return {f"fixed-{mu:g}": mu for mu in self.grid}

    @property
    def arms(self) -> dict[str, dict[str, Any]]:
        """Every rule that is run -> its recipe keys, `balance` among them; the grid last."""
        found = {name: _arm(name, spec) for name, spec in self.rules.items()}
        return found | {name: {"balance": {"rule": "fixed", "mu": mu}} for name, mu in self.grid_names.items()}

    @property
    def cases(self) -> dict[str, dict[str, Any]]:
        """Every regime that is run -> its recipe keys; crossed with the tasks where there are any."""
        if not self.tasks:
            return dict(self.regimes)
        single = list(self.regimes) == ["all"]
        return {
            task if single else f"{task}+{regime}": {"task": _spelled(spec, "id"), **keys}
            for task, spec in self.tasks.items()
            for regime, keys in self.regimes.items()
        }


def read_study(path: str | Path) -> StudyFile:
    """Read a study file.

    Raises:
        ConfigError: it is missing or not YAML, a key is unknown, or a value is not allowed.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"{path}: no such study file")
    try:
        return StudyFile(**read_mapping(file))
    except ConfigError as error:
        text = str(error)
        raise ConfigError(text if text.startswith(str(file)) else f"{file}: {text}") from None


def _arm(name: str, spec: Any) -> dict[str, Any]:
    tree = _spelled(spec, "rule")
    if not isinstance(tree, dict) or not isinstance(tree.get("rule"), str):
        raise ValueError(f"rules.{name}: give a rule's name, or a mapping with the key `rule`")
    tree = dict(tree)
    settings = tree.pop("settings", {})
    if not isinstance(settings, dict):
        raise ValueError(f"rules.{name}.settings: a mapping of recipe keys")
    shared = [key for key in dotted(settings) if f"{key}.".startswith(tuple(f"{common}." for common in COMMON))]
    if shared:
        raise ValueError(
            f"rules.{name}.settings.{shared[0]}: every rule shares it; set it in budget, settings or regimes"
        )
    return {"balance": tree, **settings}


def _spelled(spec: Any, key: str) -> Any:
    return {key: spec} if isinstance(spec, str) else spec
