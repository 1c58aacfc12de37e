"""`amft rules`, and how lists of settings are printed."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from ..errors import ConfigError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


TERMINAL = 80
"""Columns of a terminal that lists fit in."""

_AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Print docs/rules.md.")]


def rules(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show this rule whole.")] = None,
    as_json: AsJson = False,
    as_markdown: _AsMarkdown = False,
) -> None:
    """List the balance rules, one a line; or show one with its equation, its source and its settings."""
    from ..balance.describe import describe, describe_parts
    from ..signals.shipped import shipped_signals
    from .rules_page import rules_page

    described = describe()
    if as_markdown:
        typer.echo(rules_page(described, describe_parts(), shipped_signals().values()), nl=False)
        return
    if name is not None:
        described = [_named(described, name)]
    if as_json:
        typer.echo(json.dumps(described, indent=2))
    else:
        typer.echo(_overview(described) if name is None else _rule(described[0]))


def _named(described: Sequence[Mapping[str, Any]], name: str) -> Any:
    from ..settings.validation_errors import nearest

    names = [rule["rule"] for rule in described]
    if name not in names:
        raise ConfigError(f"no rule is called {name!r}; {nearest(name, names)}")
    return described[names.index(name)]


def _overview(described: Sequence[Mapping[str, Any]]) -> str:
    width = max(len(rule["rule"]) for rule in described) + 2
    lines = [
        rule["rule"].ljust(width) + textwrap.shorten(rule["summary"], TERMINAL - width, placeholder=" ...")
        for rule in described
    ]
    return "\n".join([*lines, "", "amft rules NAME shows one whole: equation, source, settings"])


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
    return textwrap.fill(" ".join(text.split()), TERMINAL, initial_indent="  ", subsequent_indent="  ")


def entries(entries: Mapping[str, Any]) -> str:
    width = max(map(len, entries), default=0) + 6
    lines = []
    for name, value in entries.items():
        head = f"    {name}".ljust(width)
        text = textwrap.fill(_as_yaml(value), TERMINAL, initial_indent=head, subsequent_indent=" " * width)
        lines.append(text or head.rstrip())
    return "\n".join(lines)


def _as_yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
