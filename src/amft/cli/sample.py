"""`amft sample MODEL_OR_RUN [MODEL_OR_RUN]`: read what models answer, side by side."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from .bars import hide_loading_bars
from .columns import side_by_side


def sample(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL_OR_RUN...", help="One or more: nano, a model or a run directory.")
    ],
    prompts: Annotated[
        list[str] | None,
        typer.Option("--prompt", metavar="TEXT", help="A question; repeatable. A single - reads one per line."),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="FILE", help="Rows with a column prompt, as in a recipe.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="ID", help="A task's problems; default: what the last run was tested on."),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="S", help="Of the task; default: its first test split.")
    ] = None,
    problems: Annotated[int, typer.Option("--problems", "-n", min=1, metavar="N", help="How many.")] = 5,
    samples: Annotated[int, typer.Option("--samples", min=1, metavar="K", help="Answers to each; 1 is greedy.")] = 1,
    max_tokens: Annotated[
        int | None,
        typer.Option("--max-tokens", min=1, metavar="N", help="Of one answer; default: the last run's, or 256."),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0.0, metavar="T", help="0 is greedy; default: as in amft eval.")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Prompts as they stand, without the chat template.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="SEED", help="Of problems and draws.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON per answer.")] = False,
) -> None:
    """Answer prompts with one model or several and print the answers side by side."""
    from ..assembly.evaluation import Asked
    from ..assembly.sampling import sample_models

    hide_loading_bars()
    texts = _typed() if prompts == ["-"] else prompts or []
    asked = Asked(
        task=task,
        splits=[split] if split else (),
        data=data,
        problems=problems,
        samples=samples,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
    )
    found = sample_models(models, asked, texts, plain=plain)
    if as_json:
        for name, rows in zip(models, found):
            for row in rows:
                typer.echo(json.dumps({"model": name, **row}))
        return
    for answers in zip(*found):
        typer.echo(_shown(models, answers) + "\n")


def _typed() -> list[str]:
    return [line.strip() for line in sys.stdin if line.strip()]


def _shown(models: Sequence[str], answers: Sequence[Mapping[str, Any]]) -> str:
    from ..report.text import visible

    titles = [f"{Path(name)}{_mark(row)}" for name, row in zip(models, answers)]
    return f"{visible(str(answers[0]['prompt']))}\n{side_by_side(titles, [str(row['answer']) for row in answers])}"


def _mark(row: Mapping[str, Any]) -> str:
    if row["reward"] is None:
        return ""
    return f", {row['outcome'].replace('_', ' ')}" if row["outcome"] else f", reward {row['reward']:g}"
