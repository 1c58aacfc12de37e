"""docs/rules.md, written from the registry by `amft rules --markdown`; its text is the template `rules.md.j2`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from ..signals.base import Signal


def rules_page(
    rules: Sequence[Mapping[str, Any]], parts: Sequence[Mapping[str, Any]], signals: Iterable[Signal[Any]]
) -> str:
    """The page in Markdown.

    Args:
        rules: `balance.describe.describe()`.
        parts: `balance.describe.describe_parts()`.
        signals: the values of `signals.shipped.shipped_signals()`.
    """
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters.update(code=_code, codes=_codes, pairs=_pairs, cells=_cells)
    template = files(__package__).joinpath("rules.md.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(rules=rules, parts=parts, signals=signals)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _codes(texts: Sequence[str]) -> str:
    return ", ".join(map(_code, texts))


def _pairs(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_one_line(value)}" for name, value in settings.items())


def _one_line(value: Any) -> str:
    return str(value).replace("\n", "\\n")


def _cells(texts: Sequence[str]) -> str:
    """The inside of a row of a Markdown table."""
    return " | ".join(text.replace("|", "\\|") for text in texts)
