"""`amft report RUN`: write the run's page."""

from __future__ import annotations

from typing import Annotated

import typer


def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run directory.")],
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Write one self-contained HTML page about a run."""
    from ..report.page import write_report
    from ..runs import RunDirectory

    page = write_report(RunDirectory.open(run).path)
    typer.echo(page)
    if show:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())
