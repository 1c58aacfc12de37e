"""`amft sample MODEL_OR_RUN [MODEL_OR_RUN]`: read what models answer, side by side."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from .asking import (
    DataOption,
    DtypeOption,
    EngineOption,
    MaxTokensOption,
    OptionsOption,
    RewardsOption,
    SamplesOption,
    SeedOption,
    SplitsOption,
    TaskOption,
    TemperatureOption,
)
from .bars import hide_loading_bars
from .columns import side_by_side, wrapped
from .status import doing


def sample(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL_OR_RUN...", help="One or more: nano, a model or a run directory.")
    ],
    prompts: Annotated[
        list[str] | None,
        typer.Option("--prompt", metavar="TEXT", help="A question; repeatable. A single - reads one per line."),
    ] = None,
    data: DataOption = None,
    rewards: RewardsOption = None,
    task: TaskOption = None,
    splits: SplitsOption = None,
    problems: Annotated[int, typer.Option("--problems", "-n", min=1, metavar="N", help="How many.")] = 5,
    samples: SamplesOption = 1,
    max_tokens: MaxTokensOption = None,
    temperature: TemperatureOption = None,
    engine: EngineOption = None,
    dtype: DtypeOption = "auto",
    plain: Annotated[bool, typer.Option("--plain", help="Prompts as they stand, without the chat template.")] = False,
    seed: SeedOption = 0,
    settings: OptionsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON per answer.")] = False,
) -> None:
    """Answer prompts with one model or several and print the answers side by side."""
    texts = _typed() if prompts == ["-"] else prompts or []
    with doing(f"loading {', '.join(models)}, then answering"):
        found = _answered(
            models,
            texts,
            plain,
            settings or [],
            task=task,
            splits=splits or (),
            data=data,
            rewards=rewards or (),
            problems=problems,
            samples=samples,
            max_tokens=max_tokens,
            temperature=temperature,
            engine=engine,
            dtype=dtype,
            seed=seed,
        )
    if as_json:
        for name, rows in zip(models, found):
            for row in rows:
                typer.echo(json.dumps({"model": name, **row}))
        return
    for answers in zip(*found):
        typer.echo(_shown(models, answers) + "\n")


def _answered(
    models: list[str], texts: list[str], plain: bool, options: list[str], **asked: Any
) -> list[list[dict[str, Any]]]:
    from ..assembly.evaluation import Asked
    from ..assembly.sampling import sample_models
    from ..settings.recipe_file import settings as given

    hide_loading_bars()
    return sample_models(models, Asked(options=given(options), **asked), texts, plain=plain)


def _typed() -> list[str]:
    return [line.strip() for line in sys.stdin if line.strip()]


def _shown(models: Sequence[str], answers: Sequence[Mapping[str, Any]]) -> str:
    titles = [f"{Path(name)}{_mark(row)}" for name, row in zip(models, answers)]
    return f"{wrapped(str(answers[0]['prompt']))}\n{side_by_side(titles, [str(row['answer']) for row in answers])}"


def _mark(row: Mapping[str, Any]) -> str:
    if row["reward"] is None:
        return ""
    return f", {row['outcome'].replace('_', ' ')}" if row["outcome"] else f", reward {row['reward']:g}"
