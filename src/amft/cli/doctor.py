"""`amft doctor RUN`: what looks wrong in a run, on what evidence, and what to do."""

from __future__ import annotations

import json
from dataclasses import asdict
from textwrap import fill
from typing import Annotated

import typer

WIDTH = 80


def doctor(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run directory, finished or not.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look for known failures in a run's own numbers."""
    from ..report.doctor import diagnose
    from ..runs import RunDirectory

    findings = diagnose(RunDirectory.open(run).path)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
        return
    for finding in findings:
        typer.echo(f"{finding.level}: {finding.title}")
        for name, text in (("evidence", finding.evidence), ("action", finding.action)):
            if text:
                typer.echo(fill(f"  {name}: {text}", WIDTH, subsequent_indent="    "))
