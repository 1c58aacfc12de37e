"""`amft compare STUDY`: run what a study lacks, then tabulate all of it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..study.plan import PlannedRun

FAILED = 1


def compare(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study file (YAML).")],
    output: Annotated[
        str | None, typer.Option("--output", metavar="DIR", help="Study directory; default runs/NAME of the file.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, metavar="N", help="Runs at a time; default: as many as cores allow.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try failed runs again, from their last checkpoint.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run, and run nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Compare balance rules over regimes and seeds at one budget."""
    from ..progress_bar import heartbeat
    from ..study.drive import Driver, slots, sole_driver
    from ..study.file import read_study
    from ..study.plan import plan_runs, start_run, write_study

    spec = read_study(study)
    folder = Path(output or f"runs/{Path(study).stem}")
    runs = plan_runs(spec, folder)
    first = start_run(spec, folder)
    states = {run: run.state for run in [*([first] if first else []), *runs]}
    open_states = ("missing", "started", *(["failed"] if retry else []))
    start, due = ([run for run in some if states[run] in open_states] for some in ([first] if first else [], runs))
    if dry_run:
        _foresee([*start, *runs], [*start, *due], jobs, spec.threads)
        return
    write_study(spec, folder)
    _announce([*([first] if first else []), *runs], [*start, *due], jobs, spec.threads)
    with sole_driver(folder), heartbeat(lambda: _how_far([*start, *due])):
        driver = Driver(slots(jobs, spec.threads), lambda line: typer.echo(line, err=True), spec.checkpoints)
        for run in (run for run, state in states.items() if state == "finished"):
            driver.tidy(run)
        outcomes = driver.run(start)
        if first is None or first.state == "finished":
            early = [run for run in due if run.seed in spec.seeds[: spec.racing]]
            outcomes |= driver.run(early)
            outcomes |= driver.run(_left(folder, [run for run in due if run not in early]))
    typer.echo(_tabulate(folder, as_json))
    failed = [run for run in ([first] if first else []) + runs if run.state == "failed"]
    for run in failed:
        from ..study.drive import failure

        again = "" if outcomes.get(run) else "; try it again with --retry"
        typer.echo(f"amft: failed: {run.name}: {failure(run)}{again}", err=True)
    if failed:
        raise typer.Exit(FAILED)


def _left(folder: Path, runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    """The runs that racing has not stopped."""
    from ..report.study.load import load_study

    stopped = load_study(folder).stopped if runs else {}
    for (regime, rule), leader in stopped.items():
        typer.echo(f"{regime}/{rule}: stops, clearly beaten by {leader} on validation", err=True)
    return [run for run in runs if (run.regime, run.rule) not in stopped]


def _foresee(runs: Sequence[PlannedRun], due: Sequence[PlannedRun], jobs: int | None, threads: int) -> None:
    from ..study.drive import command

    for run in due:
        typer.echo(shlex.join(command(run, resume=run.state != "missing")))
    _announce(runs, due, jobs, threads)


def _how_far(due: Sequence[PlannedRun]) -> str:
    counts = Counter(run.state for run in due)
    return f"{counts['finished']} of {len(due)} runs finished, {counts['started']} under way"


def _announce(runs: Sequence[PlannedRun], due: Sequence[PlannedRun], jobs: int | None, threads: int) -> None:
    from ..study.drive import slots

    counts = Counter(run.state for run in runs)
    states = ", ".join(
        f"{counts[state]} {state}" for state in ("finished", "failed", "started", "missing") if counts[state]
    )
    typer.echo(f"{len(runs)} runs: {states}; {len(due)} to make, {len(slots(jobs, threads))} at a time", err=True)


def _tabulate(folder: Path, as_json: bool) -> str:
    from ..report.study.page import write_study_report

    page = write_study_report(folder)
    kind = "json" if as_json else "txt"
    table = (folder / f"table.{kind}").read_text(encoding="utf-8")
    return table.rstrip() if as_json else f"{table}table: {folder / 'table.json'}\nreport: {page}"
