"""`amft tasks` and `amft rules`: what there is to choose from."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Annotated, Any

import typer

_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def tasks(as_json: _AsJson = False) -> None:
    """List the tasks, their splits and their options."""
    from ..tasks.registry import describe_tasks

    described = describe_tasks()
    typer.echo(json.dumps(described, indent=2) if as_json else "\n\n".join(map(_task, described)))


def rules(as_json: _AsJson = False) -> None:
    """List the balance rules and their settings."""
    from ..balance.registry import describe

    described = describe()
    typer.echo(json.dumps(described, indent=2) if as_json else "\n\n".join(map(_rule, described)))


def _task(task: Mapping[str, Any]) -> str:
    parts = [task["id"], _indented(task["summary"]), "  splits", _entries(task["splits"])]
    return "\n".join([*parts, "  options (task.NAME in a recipe)", _entries(task["options"])])


def _rule(rule: Mapping[str, Any]) -> str:
    parts = [rule["rule"], _indented(f"{rule['summary']} ({rule['source']})")]
    if rule["settings"]:
        parts += ["  settings (balance.NAME in a recipe)", _entries(rule["settings"])]
    return "\n".join(parts)


def _indented(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 100, initial_indent="  ", subsequent_indent="  ")


def _entries(entries: Mapping[str, Any]) -> str:
    width = max(map(len, entries), default=0)
    return "\n".join(f"    {name.ljust(width)}  {_as_yaml(value)}" for name, value in entries.items())


def _as_yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
