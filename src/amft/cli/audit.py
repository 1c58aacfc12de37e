"""`amft audit RECIPE`: whether a recipe's gradients, masks and rows are what they should be."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from .bars import hide_loading_bars
from .lists import TERMINAL
from .status import doing

if TYPE_CHECKING:
    from ..audit.answer import AuditAnswer

INDENT = 25
WRONG = 1
"""Exit code when a check fails."""
_WORDS = {"ok": "ok", "wrong": "WRONG", "none": "-"}


def audit(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe file, or a shipped recipe's name.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a recipe's accounts: sums over micro-batches and ranks, masks, means, prompts. Trains nothing."""
    from ..settings.recipe import load_recipe

    loaded = load_recipe(recipe, changes or [])
    with doing(f"auditing {loaded.model}"):
        from ..audit.run import audit_recipe

        hide_loading_bars()
        found = audit_recipe(loaded)
    if as_json:
        typer.echo(json.dumps([asdict(answer) for answer in found], indent=2))
    else:
        typer.echo("\n".join([*map(_lines, found), _summary(found)]))
    if any(answer.ruling == "wrong" for answer in found):
        raise typer.Exit(WRONG)


def _lines(answer: AuditAnswer) -> str:
    head = f"{_WORDS[answer.ruling]:6} {answer.check:17} {answer.question}"
    below = textwrap.fill(answer.evidence, TERMINAL, initial_indent=" " * INDENT, subsequent_indent=" " * INDENT)
    return f"{textwrap.fill(head, TERMINAL, subsequent_indent=' ' * INDENT)}\n{below}"


def _summary(found: list[AuditAnswer]) -> str:
    wrong = [answer.check for answer in found if answer.ruling == "wrong"]
    asked = sum(answer.ruling != "none" for answer in found)
    return f"{len(wrong)} of {asked} checks failed: {', '.join(wrong)}" if wrong else f"all {asked} checks passed"
