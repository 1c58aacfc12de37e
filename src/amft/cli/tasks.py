"""`amft tasks`: what there is; `amft tasks show ID`: problems as the model meets them; `check`: proof of a task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import TaskError
from ..report.text_table import table
from .lists import AsJson, entries, indented

if TYPE_CHECKING:
    from ..tasks.base import Task

_Id = Annotated[str, typer.Argument(metavar="ID", help="Versioned task id; `amft tasks` lists them.")]
_Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the task; repeatable.")
]

tasks = typer.Typer(invoke_without_command=True, help="List the tasks, their splits and their options.")


@tasks.callback()
def _list(context: typer.Context, as_json: AsJson = False) -> None:
    """List the tasks, their splits and their options."""
    if context.invoked_subcommand is not None:
        return
    from ..tasks.registry import describe_tasks

    described = describe_tasks()
    typer.echo(json.dumps(described, indent=2) if as_json else "\n\n".join(map(_task, described)))


@tasks.command("show")
def show(
    task: _Id,
    n: Annotated[int, typer.Option("--n", min=1, metavar="N", help="Problems to show.")] = 3,
    split: Annotated[str | None, typer.Option("--split", metavar="S", help="Default: the first test split.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="SEED", help="Of the problems drawn.")] = 0,
    settings: _Settings = None,
    png: Annotated[Path | None, typer.Option("--png", metavar="DIR", help="Save the pictures there.")] = None,
) -> None:
    """Show a few problems: prompt, the expert's answer and its grade."""
    from ..tasks.base import demonstration

    built = _build(task, settings)
    chosen = built.test_splits[0] if split is None else split
    for number, problem in enumerate(built.problems(chosen, seed=seed, n=n), 1):
        typer.echo(f"{'' if number == 1 else chr(10)}{built.id}  {chosen}  {problem.key}")
        asked, expert = demonstration(built, problem)
        for message in asked:
            typer.echo(f"{message['role']}: {_content(message['content'], png, f'{built.id}-{chosen}-{number}.png')}")
        grade = built.grade(problem, expert)
        typer.echo(f"expert: {expert}\ngrade: {grade.outcome} {grade.reward:g}")


@tasks.command("check")
def check(
    task: _Id,
    problems: Annotated[int, typer.Option("--problems", min=1, metavar="N", help="Per split.")] = 1000,
    adversarial: Annotated[
        int, typer.Option("--adversarial", min=1, metavar="N", help="Adversarial answers per split.")
    ] = 1000,
    settings: _Settings = None,
) -> None:
    """Try out everything a task promises; a broken promise is an error."""
    from ..tasks.check import check_task

    rows = check_task(_build(task, settings), problems=problems, adversarial=adversarial)
    typer.echo(table(rows, ["split", "problems", "keys", "digest"]))


def _build(task: str, settings: list[str] | None) -> Task:
    from ..settings.recipe_file import settings as given
    from ..tasks.guest_task import hosted
    from ..tasks.registry import build_task

    return hosted(build_task(task, **given(settings or [])))


def _content(content: Any, folder: Path | None, name: str) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(
        part["text"] if part["type"] == "text" else _picture(part["image"], folder, name) for part in content
    )


def _picture(image: Any, folder: Path | None, name: str) -> str:
    if folder is None:
        return f"[picture, {image.width} x {image.height}; --png DIR saves it]"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / name)
    except OSError as error:
        raise TaskError(f"--png {folder}: the picture cannot be written ({error.strerror or error})") from None
    return f"[picture: {folder / name}]"


def _task(task: dict[str, Any]) -> str:
    parts = [task["id"], indented(task["summary"]), "  splits", entries(task["splits"])]
    return "\n".join([*parts, "  options (task.NAME in a recipe)", entries(task["options"])])
