"""`amft train RECIPE`: run a recipe, then print held-out success before and after."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from .bars import hide_loading_bars
from .rank_output import is_main
from .status import doing

if TYPE_CHECKING:
    from ..settings.recipe import Recipe

_SIGNALS = {"SIGINT": 130, "SIGTERM": 143}


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe file, or a shipped recipe's name such as general_points.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace one key of the recipe; repeatable, the later wins."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in output_dir from its last checkpoint.")
    ] = False,
    accept_changes: Annotated[
        list[str] | None,
        typer.Option(
            "--accept-changes",
            metavar="WHAT",
            help="With --resume: data, rewards, rule, model or tokenizer may have changed; repeatable.",
        ),
    ] = None,
    output_dir: Annotated[
        str | None, typer.Option("--output-dir", metavar="DIR", help="Where the run is written.")
    ] = None,
) -> None:
    """Train a model from a recipe."""
    settings = settings or []
    from ..settings.recipe import load_recipe

    overrides = [*settings, *([] if output_dir is None else [f"output_dir={json.dumps(output_dir)}"])]
    loaded = load_recipe(recipe, overrides)
    with doing(f"loading {loaded.model}"):
        from ..assembly.training import build_trainer

        hide_loading_bars()
        trainer = build_trainer(loaded)
    if is_main():
        typer.echo(_facts(recipe, loaded))
    result = trainer.train(resume=resume, accept_changes=accept_changes or ())
    if result.interrupted:
        if is_main():
            command = _resume_command(recipe, settings, output_dir)
            typer.echo(f"amft: stopped by {result.interrupted}; {_how_to_go_on(loaded, command)}", err=True)
        raise typer.Exit(_SIGNALS.get(result.interrupted, 130))

    if not is_main():
        return
    if result.table:
        typer.echo(f"\n{result}\n")
    typer.echo(f"report: {result.report()}")


def _facts(name: str, recipe: Recipe) -> str:
    settings = ", ".join(f"{key} {value}" for key, value in recipe.balance.items() if key != "rule")
    source = recipe.task.id if recipe.task else recipe.data.train if recipe.data else ""
    facts = {
        "recipe": name,
        "model": recipe.model,
        "task" if recipe.task else "data": source,
        "balance": f"{recipe.balance.get('rule')}{f' ({settings})' if settings else ''}",
        "steps": f"{recipe.max_steps}, of which {recipe.sft_warmup_steps} warm-up; seed {recipe.seed}",
        "per step": f"{recipe.num_prompts} prompts x {recipe.num_generations} completions + "
        f"{recipe.num_demos} demonstrations",
        "run": recipe.output_dir,
    }
    return "\n".join(f"{key:9} {value}" for key, value in facts.items())


def _how_to_go_on(recipe: Recipe, command: str) -> str:
    if recipe.checkpoint.only_model:
        return "the model is saved. With checkpoint.only_model there is no going on"
    return f"the run is saved. Continue with:\n  {command}"


def _resume_command(recipe: str, settings: Sequence[str], output_dir: str | None) -> str:
    words = ["amft", "train", recipe]
    for setting in settings:
        words += ["--set", setting]
    if output_dir is not None:
        words += ["--output-dir", output_dir]
    return shlex.join([*words, "--resume"])
