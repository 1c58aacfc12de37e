"""`amft plan RECIPE --gpus N --gpu KIND`: memory and time of a step before anything is bought."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..report.text_table import table

if TYPE_CHECKING:
    from ..planning.plan import Plan


def plan(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a shipped recipe.")],
    gpus: Annotated[int, typer.Option("--gpus", min=1, metavar="N", help="How many devices.")] = 1,
    gpu: Annotated[
        str, typer.Option("--gpu", metavar="KIND", help="h200, h100, a100, a100-40, l40s, rtx4090 or cpu.")
    ] = "h100",
    memory: Annotated[
        float | None, typer.Option("--memory", min=0.1, metavar="GIB", help="Memory of one device, if another.")
    ] = None,
    model_config: Annotated[
        str | None, typer.Option("--model-config", metavar="FILE", help="The model's config.json, if it is elsewhere.")
    ] = None,
    mean_prompt: Annotated[
        float | None,
        typer.Option("--mean-prompt", metavar="TOKENS", help="With padding_free: of a prompt, on average."),
    ] = None,
    mean_completion: Annotated[
        float | None, typer.Option("--mean-completion", metavar="TOKENS", help="The same of a completion.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Estimate memory and time per step from the model's config, and say what to change when it does not fit."""
    from dataclasses import replace

    from ..planning.devices import GIB, find_device
    from ..planning.plan import plan_step as make
    from ..planning.shape import read_shape
    from ..settings.recipe import load_recipe

    device = find_device(gpu)
    if memory is not None:
        device = replace(device, memory=memory * GIB)
    loaded = load_recipe(recipe, changes or [])
    mean = (
        loaded.max_prompt_length if mean_prompt is None else mean_prompt,
        loaded.max_completion_length if mean_completion is None else mean_completion,
    )
    lengths = None if mean_prompt is None and mean_completion is None else mean
    found = make(loaded, read_shape(loaded.model, model_config), device, gpus, lengths)
    typer.echo(json.dumps(_record(found), indent=2) if as_json else _text(found, gpu))


def _record(found: Plan) -> dict[str, Any]:
    memory, seconds = found.memory, found.seconds
    return {
        "parameters": found.shape.parameters,
        "devices": found.devices,
        "device_memory": found.device.memory,
        "memory": {**asdict(memory), "training": memory.training, "sampling": memory.sampling, "peak": memory.peak},
        "seconds": {**asdict(seconds), "step": seconds.step},
        "fits": found.fits,
        "changes": found.changes,
    }


def _text(found: Plan, gpu: str) -> str:
    from ..planning.devices import GIB

    memory, seconds = found.memory, found.seconds
    parts = [
        {"part": name.replace("_", " "), "GiB": round(size / GIB, 2)} for name, size in asdict(memory).items() if size
    ]
    head = f"{found.shape.parameters / 1e9:.2f} B parameters on {found.devices} x {gpu}"
    peak = (
        f"peak    {memory.peak / GIB:.1f} GiB per device (training {memory.training / GIB:.1f}, sampling "
        f"{memory.sampling / GIB:.1f}) of {found.device.memory / GIB:.1f}: {'fits' if found.fits else 'does not fit'}"
    )
    time = (
        f"step    {seconds.step:.1f} s: generate {seconds.generate:.1f}, RL {seconds.rl:.1f}, imitation "
        f"{seconds.sft:.1f}, exchange {seconds.exchange:.1f} (a roofline, every answer at full length)"
    )
    return "\n".join([head, table(parts, ["part", "GiB"]), peak, time, *_advice(found)])


def _advice(found: Plan) -> list[str]:
    from ..planning.devices import GIB

    if found.fits:
        return []
    lines = ["change, in this order:"]
    for change in found.changes:
        words = " ".join(f"--set {name}={json.dumps(value)}" for name, value in change["set"].items())
        alone, together = change["peak_alone"] / GIB, change["peak_together"] / GIB
        ends = ", fits" if change["fits"] else ""
        lines.append(f"  {words}: {alone:.1f} GiB alone, {together:.1f} with those above{ends}")
    if not found.changes or not found.changes[-1]["fits"]:
        lines.append("  that is not enough: take more or larger devices")
    return lines
