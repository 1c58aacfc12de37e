"""`amft rules`, and how lists of settings are printed."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


_AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Print docs/rules.md.")]


def rules(as_json: AsJson = False, as_markdown: _AsMarkdown = False) -> None:
    """List the balance rules and their settings."""
    from ..balance.describe import describe, describe_parts
    from ..signals.shipped import shipped_signals
    from .rules_page import rules_page

    described = describe()
    if as_markdown:
        typer.echo(rules_page(described, describe_parts(), shipped_signals().values()), nl=False)
    else:
        typer.echo(json.dumps(described, indent=2) if as_json else "\n\n".join(map(_rule, described)))


def _rule(rule: Mapping[str, Any]) -> str:
    title = rule["rule"] + (" (experimental)" if rule["unverified"] else "")
    parts = [title, indented(f"{rule['summary']} ({rule['source']})"), indented(rule["equation"])]
    if rule["unverified"]:
        parts.append(indented(f"not verified: {rule['unverified']}"))
    if rule["needs"]:
        parts.append(indented(f"needs {', '.join(rule['needs'])}"))
    if rule["settings"]:
        parts += ["  settings (balance.NAME in a recipe)", entries(rule["settings"])]
    return "\n".join(parts)


def indented(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 100, initial_indent="  ", subsequent_indent="  ")


def entries(entries: Mapping[str, Any]) -> str:
    width = max(map(len, entries), default=0)
    return "\n".join(f"    {name.ljust(width)}  {_as_yaml(value)}" for name, value in entries.items())


def _as_yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
