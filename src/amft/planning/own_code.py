"""A plan runs no code of a recipe: what it cannot know without is taken to be the dearest."""

from __future__ import annotations

from ..balance.method import PARTS
from ..balance.registry import code_in
from ..settings.recipe import Recipe

DEAREST = "amft"
"""A rule with the meta-gradient keeps one more copy of the gradient than others."""


def without_own_code(recipe: Recipe) -> tuple[Recipe, str | None]:
    """The recipe with shipped parts in place of one's own, and what a reader of its plan should know of that."""
    own = code_in(recipe.balance)
    task = recipe.task if recipe.task is None or ".py:" not in recipe.task.id else None
    if not own:
        return recipe.model_copy(update={"task": task}), None
    given = {} if ".py:" in str(recipe.balance.get("rule")) else dict(recipe.balance)
    kept = {name: value for name, value in given.items() if name not in PARTS or ".py:" not in str(value)}
    changed = {"task": task, "balance": {"rule": DEAREST, **kept}}
    return recipe.model_copy(update=changed), (
        f"note    {', '.join(own)}: a plan runs no code of yours, so this counts the memory of rule "
        f"{changed['balance']['rule']}"  # type: ignore[index]
    )
