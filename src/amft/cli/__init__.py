"""The command line. A user's mistake is one line on stderr and exit code 2; nothing heavy is imported for `--help`."""

from __future__ import annotations

import os
import sys
from collections.abc import Container, Sequence
from typing import Annotated

import typer

from ..errors import AMFTError
from . import (
    audit,
    bundle,
    compare,
    doctor,
    evaluate,
    fetch,
    lists,
    merge,
    plan,
    push,
    report,
    sample,
    settings,
    tasks,
    train,
)
from .rank_output import prints_error

USER_ERROR, INTERRUPTED, PIPE_CLOSED = 2, 130, 141
LONGEST_LINE = 1200
"""Characters of an error: what was given may be as long as the user likes."""
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # typer >= 0.26 brings its own click

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Post-train a language model with imitation and exploration in one stage, and learn the balance.",
)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("fetch")(fetch.fetch)
app.command("sample")(sample.sample)
app.command("plan")(plan.plan)
app.command("push")(push.push)
app.command("merge")(merge.merge)
app.command("bundle")(bundle.bundle)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("doctor")(doctor.doctor)
app.command("audit")(audit.audit)
app.add_typer(tasks.tasks, name="tasks")
app.command("rules")(lists.rules)
app.command("settings")(settings.list_settings)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        import importlib.metadata

        typer.echo(f"amft {importlib.metadata.version('amft')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0, 2 (the user's input), 130 or 143 (interrupted)."""
    command = typer.main.get_command(app)
    try:
        with command.make_context("amft", [*(sys.argv[1:] if arguments is None else arguments)]) as context:
            command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as stop:
        return stop.exit_code
    except _UsageError as error:
        return _fail(_usage_line(error))
    except AMFTError as error:
        return _fail(str(error)) if prints_error(error) else USER_ERROR
    except KeyboardInterrupt:
        typer.echo("amft: interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:  # the reader (head, less) has gone; nothing more may be flushed to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    return 0


def _fail(message: str) -> int:
    line = " ".join(message.split())
    typer.echo(f"amft: error: {line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE] + ' ...'}", err=True)
    return USER_ERROR


def _usage_line(error: Exception) -> str:
    # format_message of an unknown option would list the near ones in its own words
    message = error.message if hasattr(error, "possibilities") else error.format_message()  # type: ignore[attr-defined]
    message = message[:1].lower() + message[1:].rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "amft"
    key = getattr(error, "option_name", "").lstrip("-").replace("-", "_")
    if command == "amft train" and key in _recipe_keys():
        return f"{message}; write it as --set {key}=VALUE"
    near = getattr(error, "possibilities", None)
    if near and not message.endswith("?"):  # some versions of typer have asked already
        return f"{message}; did you mean {near[0]}?"
    return message if message.endswith("?") else f"{message}; see {command} --help"


def _recipe_keys() -> Container[str]:
    from ..settings.recipe import Recipe

    return Recipe.model_fields
