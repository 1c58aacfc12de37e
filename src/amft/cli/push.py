"""`amft push RUN_OR_MODEL TARGET`: a trained model to the Hugging Face hub, or into a directory."""

from __future__ import annotations

from typing import Annotated

import typer


def push(
    source: Annotated[str, typer.Argument(metavar="RUN_OR_MODEL", help="A finished run, or a model directory.")],
    target: Annotated[
        str,
        typer.Argument(metavar="TARGET", help="owner/name on the hub, or a path that begins with / . or ~"),
    ],
    private: Annotated[bool, typer.Option("--private", help="If the repository is new.")] = False,
) -> None:
    """Push the final model of a run with its card."""
    from ..assembly.models import final_model
    from ..models.hub import push_folder

    typer.echo(push_folder(final_model(source), target, private or None))
