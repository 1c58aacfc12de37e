"""`amft train RECIPE`: run a recipe, then print held-out success before and after."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigError, CutShortError, DeviceMemoryError
from ..guests import HOST
from .advice import planned_advice
from .bars import hide_loading_bars
from .columns import side_by_side, wrapped
from .freed_memory import keep_freed_memory
from .rank_output import is_main
from .status import doing

if TYPE_CHECKING:
    from ..settings.recipe import Recipe
    from ..training.result import TrainResult
    from ..training.trainer import AMFTTrainer

SHOWN_PAIRS, SHOWN_CHARACTERS = 3, 300
"""Test problems whose answers are printed at the end, and how much of a text."""

_SIGNALS = {"SIGINT": 130, "SIGTERM": 143}


def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE_OR_RUN",
            help="A recipe file, a shipped recipe's name such as general_points, or with --resume a run directory.",
        ),
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
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Build everything but the weights, print what would happen, and stop.")
    ] = False,
) -> None:
    """Train a model from a recipe."""
    settings = settings or []
    from ..settings.recipe import read_recipe

    overrides = [*settings, *([] if output_dir is None else [f"output_dir={json.dumps(output_dir)}"])]
    loaded = read_recipe(recipe, overrides)
    if loaded.code and is_main():
        typer.echo(_facts(recipe, loaded))  # before any of it runs
    if dry:
        _say_what_would_happen(recipe, loaded, resume)
        return
    command = _resume_command(recipe, settings, output_dir)
    try:
        with HOST.limited(loaded.reward_timeout):
            trainer = _built(loaded)
            if not loaded.code and is_main():
                typer.echo(_facts(recipe, loaded))
            result = trainer.train(resume=resume, accept_changes=accept_changes or ())
    except CutShortError as cut:
        typer.echo(f"amft: error: {cut}; continue from the last checkpoint with: {command}", err=True)
        raise typer.Exit(_SIGNALS.get(cut.signal or "", 2)) from None
    except DeviceMemoryError as short:
        raise DeviceMemoryError(f"{short}; {planned_advice(loaded)}") from None
    if result.interrupted:
        if is_main():
            typer.echo(f"amft: stopped by {result.interrupted}; {_how_to_go_on(loaded, command)}", err=True)
        raise typer.Exit(_SIGNALS.get(result.interrupted, 130))

    if is_main():
        _say_what_came_of_it(result)


def _say_what_would_happen(name: str, recipe: Recipe, resume: bool) -> None:
    if resume:
        raise ConfigError("--dry-run: it is for a run that begins; leave out --resume")
    from ..settings.recipe import check_parts

    check_parts(recipe)
    with HOST.limited(recipe.reward_timeout), doing(f"building {recipe.model} without its weights"):
        from ..planning.dry_run import dry_run
        from .dry_run import described

        hide_loading_bars()
        found = dry_run(recipe)
    if not recipe.code:
        typer.echo(_facts(name, recipe))
    typer.echo(described(found))


def _say_what_came_of_it(result: TrainResult) -> None:
    from ..report.card import loading_lines

    if result.table:
        typer.echo(f"\n{result}\n")
        if answers := _answers(result.run):
            typer.echo(answers)
    if result.model is not None:
        typer.echo("\n".join([f"model: {result.model}", *loading_lines(result.model, str(result.model))]))
    if result.pushed is not None:
        typer.echo(result.pushed)
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
        **({"runs code": _code(recipe)} if recipe.code else {}),
    }
    return "\n".join(f"{key:9} {value}" for key, value in facts.items())


def _built(recipe: Recipe) -> AMFTTrainer:
    """The trainer, every part of the recipe checked."""
    from ..settings.recipe import check_parts

    check_parts(recipe)
    keep_freed_memory()
    with doing(f"loading {recipe.model}"):
        from ..assembly.training import build_trainer

        hide_loading_bars()
        return build_trainer(recipe)


def _code(recipe: Recipe) -> str:
    where = "rewards each in a process of its own" if recipe.rewards.isolate else "in this process"
    return f"{', '.join(recipe.code)} ({where}, with your rights)"


def _answers(run: Path) -> str:
    from ..report.answers import answer_pairs
    from ..report.load import load_run
    from ..report.text import shorten

    marks = {"good": "right", "poor": "wrong", "none": "not scored"}
    blocks = []
    for pair in answer_pairs(load_run(run), SHOWN_PAIRS):
        titles = [f"before, {marks[pair.before_tone]}", f"after, {marks[pair.after_tone]}"]
        texts = [shorten(text, SHOWN_CHARACTERS) for text in (pair.before, pair.after)]
        blocks.append(f"{wrapped(shorten(pair.prompt, SHOWN_CHARACTERS))}\n{side_by_side(titles, texts)}\n")
    return "\n".join(blocks)


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
