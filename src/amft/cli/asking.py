"""The options that `amft eval` and `amft sample` share: what is answered, and how."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import typer

TaskOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--task", metavar="ID", help="Task id; default: the run's own task or data, as it had it."),
]
SplitsOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--split", metavar="S", help="Of the task; repeatable. Default: its test splits.")
]
DataOption: TypeAlias = Annotated[
    str | None, typer.Option("--data", metavar="FILE", help="Rows of your own; default: the run's data.test.")
]
RewardsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--reward", metavar="FILE.py:F", help="Scores rows of your own; default: the run's. Repeatable."),
]
OptionsOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="An option of the task, before the run's own; repeatable."),
]
SamplesOption: TypeAlias = Annotated[
    int | None,
    typer.Option("--samples", min=1, metavar="K", help="Answers per problem; 1 is greedy. Default: the run's, else 1."),
]
MaxTokensOption: TypeAlias = Annotated[
    int | None,
    typer.Option("--max-tokens", min=1, metavar="N", help="Of one answer; default: the run's limit, else 256."),
]
TemperatureOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--temperature", min=0.0, metavar="T", help="0 is greedy; default for several answers: the run's, or 1"
    ),
]
EngineOption: TypeAlias = Annotated[
    Literal["auto", "hf", "decode", "vllm"] | None,
    typer.Option("--engine", help="Rollout engine; default: the run's, else auto."),
]
DtypeOption: TypeAlias = Annotated[
    Literal["auto", "float32", "bfloat16"],
    typer.Option("--dtype", help="Of the weights; auto: bfloat16 on a GPU that has units for it, else float32."),
]
SeedOption: TypeAlias = Annotated[
    int, typer.Option("--seed", min=0, metavar="SEED", help="Of the problems and answers drawn.")
]
