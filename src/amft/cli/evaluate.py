"""`amft eval MODEL_OR_RUN`: answer held-out problems and print the success per split."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..report.text_table import percent, table
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
from .status import doing


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL_OR_RUN", help="nano, a model directory, or a run directory.")],
    task: TaskOption = None,
    splits: SplitsOption = None,
    data: DataOption = None,
    rewards: RewardsOption = None,
    samples: SamplesOption = None,
    max_tokens: MaxTokensOption = None,
    temperature: TemperatureOption = None,
    problems: Annotated[
        int | None, typer.Option("--problems", min=1, metavar="N", help="Per split; default: all.")
    ] = None,
    engine: EngineOption = None,
    dtype: DtypeOption = "auto",
    batch: Annotated[int, typer.Option("--batch", min=1, metavar="N", help="Problems answered together.")] = 64,
    seed: SeedOption = 0,
    settings: OptionsOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write a line of JSON per answer: prompt, answer, reward."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure a model's success, with 95 % intervals: a run's on its own task or data, as it was trained."""
    from ..errors import RunError

    if output is not None and output.exists():
        raise RunError(f"--output: {output} exists already; choose another file")
    with doing(f"loading {model}, then answering"):
        summary, rows = _answered(
            model,
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
            batch=batch,
            seed=seed,
        )
    if output is not None:
        from ..disk import replace_text

        replace_text(output, "".join(json.dumps(row) + "\n" for row in rows), cure="choose another --output")
    typer.echo(json.dumps(summary, indent=2) if as_json else _table(summary))


def _answered(model: str, options: list[str], **asked: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    from ..assembly.evaluation import Asked, build_evaluation
    from ..settings.recipe_file import settings as given

    hide_loading_bars()
    return build_evaluation(model, Asked(options=given(options), **asked))


def _table(summary: Sequence[Mapping[str, Any]]) -> str:
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
    return table(lines, ["split", "success [95 % interval]", "n", "clusters", *metrics])
