"""`amft eval MODEL_OR_RUN`: answer a task's held-out problems and print the success per split."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ..report.text_table import percent, table
from .bars import hide_loading_bars
from .status import doing


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL_OR_RUN", help="nano, a model directory, or a run directory.")],
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="ID", help="Task id; default: the run's own task, with the run's options."),
    ] = None,
    splits: Annotated[
        list[str] | None, typer.Option("--split", metavar="S", help="Repeatable; default: the task's test splits.")
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", min=1, metavar="K", help="Answers per problem; 1 is greedy.")
    ] = 1,
    problems: Annotated[
        int | None, typer.Option("--problems", min=1, metavar="N", help="Per split; default: all.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="SEED", help="Of the problems and answers drawn.")] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the task, before the run's own; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a model's success on a task, with 95 % intervals."""
    from ..assembly.evaluation import build_evaluation
    from ..settings.recipe_file import settings as given

    with doing(f"loading {model}, then answering"):
        hide_loading_bars()
        summary = build_evaluation(
            model, task, splits or [], samples=samples, problems=problems, seed=seed, options=given(settings or [])
        )
    if as_json:
        typer.echo(json.dumps(summary, indent=2))
        return
    known = ("split", "rate", "low", "high", "n", "clusters")
    metrics = list(dict.fromkeys(name for row in summary for name in row if name not in known))
    lines = [
        {
            **row,
            **{name: round(row[name], 3) for name in metrics if name in row},
            "success [95 % interval]": percent(row["rate"], row["low"], row["high"]),
        }
        for row in summary
    ]
    typer.echo(table(lines, ["split", "success [95 % interval]", "n", "clusters", *metrics]))
