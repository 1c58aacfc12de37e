"""`amft report RUN_OR_STUDY`: write the page of a run or of a whole study."""

from __future__ import annotations

from typing import Annotated

import typer

from .status import doing


def report(
    run: Annotated[str, typer.Argument(metavar="RUN_OR_STUDY", help="A run directory, or that of a study.")],
    picture: Annotated[
        str | None, typer.Option("--picture", metavar="FILE.svg", help="Draw mu and success of a run as a picture too.")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Write one self-contained HTML page about a run or a study."""
    with doing("writing the page"):
        from ..report.page import write_report
        from ..report.study.load import is_study
        from ..report.study.page import write_study_report
        from ..runs import RunDirectory

        page = write_study_report(run) if is_study(run) else write_report(RunDirectory.open(run).path)
    typer.echo(page)
    if picture is not None:
        from ..report.picture import write_picture

        typer.echo(write_picture(run, picture))
    if show:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())
