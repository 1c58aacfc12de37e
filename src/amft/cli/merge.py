"""`amft merge RUN_OR_ADAPTER OUTPUT`: an adapter and the model under it become one ordinary model."""

from __future__ import annotations

from typing import Annotated

import typer

from .bars import hide_loading_bars


def merge(
    source: Annotated[str, typer.Argument(metavar="RUN_OR_ADAPTER", help="A run with lora, or an adapter.")],
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="Directory to write; it must not exist.")],
) -> None:
    """Add a trained adapter to its base and write the result as a model directory."""
    from ..assembly.models import merge_adapter

    hide_loading_bars()
    merge_adapter(source, output)
    typer.echo(output)
