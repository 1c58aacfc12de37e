"""`amft settings`: every setting with its default and what it does."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError
from .lists import TERMINAL, AsJson

if TYPE_CHECKING:
    from ..settings.describe_settings import DescribedSetting

_AsPage = Annotated[bool, typer.Option("--markdown", help="Print docs/settings.md.")]


def list_settings(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One setting, or a group such as eval.")] = None,
    as_json: AsJson = False,
    as_page: _AsPage = False,
) -> None:
    """List every setting with its default; or show one, or a group, with what it takes."""
    from ..settings.describe_settings import described_settings
    from .settings_page import settings_page

    described = described_settings()
    if as_page:
        typer.echo(settings_page(described), nl=False)
        return
    chosen = described if name is None else _named(described, name)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in chosen], indent=2))
    else:
        typer.echo("\n".join(map(_line if name is None else _card, chosen)))


def _named(described: list[DescribedSetting], name: str) -> list[DescribedSetting]:
    from ..settings.validation_errors import nearest

    found = [each for each in described if each.name == name or each.name.startswith(f"{name}.")]
    if not found:
        raise ConfigError(f"no setting is called {name!r}; {nearest(name, [each.name for each in described])}")
    return found


def _line(each: DescribedSetting) -> str:
    head = f"{each.name} = {each.default}" if each.default else each.name
    return textwrap.shorten(f"{head}: {each.meaning}", TERMINAL, placeholder=" ...")


def _card(each: DescribedSetting) -> str:
    lines = [f"takes {each.allowed}", f"default {each.default}" if each.default else "must be given", each.meaning]
    filled = [textwrap.fill(line, TERMINAL, initial_indent="  ", subsequent_indent="  ") for line in lines if line]
    return "\n".join([each.name, *filled])
