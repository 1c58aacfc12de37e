"""Every setting as a list, for `amft settings` and docs/settings.md. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel

from .recipe import Recipe
from .strict_model import StrictModel
from .validation_errors import allowed_values, inner_model, shown


@dataclass(frozen=True)
class DescribedSetting:
    """One key of a recipe."""

    name: str
    """Dotted where it is in a group."""
    allowed: str
    default: str
    """As YAML has it; empty: it must be given."""
    meaning: str


def described_settings() -> list[DescribedSetting]:
    """All keys of a recipe, groups spelled out, in the order of the code."""
    return list(_described(Recipe, ()))


def _described(model: type[BaseModel], above: tuple[str, ...]) -> Iterator[DescribedSetting]:
    for name, field in model.model_fields.items():
        path = (*above, name)
        inner = inner_model(field.annotation)
        if inner is not None and issubclass(inner, StrictModel):
            yield from _described(inner, path)
            continue
        text = "" if field.is_required() else shown(field.get_default(call_default_factory=True))
        yield DescribedSetting(".".join(path), allowed_values(path, Recipe), text, field.description or "")
