"""`amft bundle RUN`: what a run recorded about itself, for a bug report, without names and secrets."""

from __future__ import annotations

from typing import Annotated

import typer


def bundle(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run directory, finished or not.")],
    output: Annotated[
        str | None, typer.Option("--output", metavar="FILE", help="The archive; default: beside the run.")
    ] = None,
    with_texts: Annotated[
        bool, typer.Option("--with-texts", help="Samples and answers too: what the model and the data said.")
    ] = False,
) -> None:
    """Write an archive for a bug report: settings, numbers, incidents; no weights, no texts, no names, no secrets."""
    from ..report.bundle import write_bundle

    target, names = write_bundle(run, output, with_texts)
    typer.echo("\n".join(names))
    typer.echo(f"bundle: {target} (look into it before you send it)")
