"""`amft plan RECIPE --gpus N --gpu KIND`: memory and time of a step before anything is bought."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..report.text_table import table
from .units import in_bytes, in_parameters, in_seconds

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
        typer.Option("--mean-prompt", metavar="TOKENS", help="Of a prompt, on average, where rows are not padded."),
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
    from ..planning.own_code import without_own_code
    from ..planning.plan import plan_step as make
    from ..planning.shape import read_shape
    from ..settings.recipe import check_parts, read_recipe

    device = find_device(gpu)
    if memory is not None:
        device = replace(device, memory=memory * GIB)
    loaded, note = without_own_code(read_recipe(recipe, changes or []))
    check_parts(loaded)
    mean = (
        loaded.max_prompt_length if mean_prompt is None else mean_prompt,
        loaded.max_completion_length if mean_completion is None else mean_completion,
    )
    lengths = None if mean_prompt is None and mean_completion is None else mean
    found = make(loaded, read_shape(loaded.model, model_config), device, gpus, lengths)
    if note:
        typer.echo(note, err=True)
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
        "micro_batch_tokens": found.micro_batch_tokens,
        "changes": found.changes,
    }


def _text(found: Plan, gpu: str) -> str:
    memory, seconds = found.memory, found.seconds
    sizes = {name.replace("_", " "): in_bytes(size) for name, size in asdict(memory).items() if size}
    wide = max(map(len, sizes.values()))
    head = f"{in_parameters(found.shape.parameters)} parameters on {found.devices} x {gpu}, memory of one device:"
    parts = table([{"part": name, "size": size.rjust(wide)} for name, size in sizes.items()], ["part", "size"])
    peak = [
        f"peak {in_bytes(memory.peak)} of {in_bytes(found.device.memory)}: {'fits' if found.fits else 'does not fit'}",
        f"     training {in_bytes(memory.training)}, sampling {in_bytes(memory.sampling)}",
    ]
    times = {"sampling": seconds.generate, "RL": seconds.rl, "imitation": seconds.sft, "exchange": seconds.exchange}
    shares = ", ".join(f"{name} {in_seconds(time)}" for name, time in times.items() if time)
    step = [
        f"step {in_seconds(seconds.step)} at best, every answer at full length",
        f"     {shares}",
    ]
    return "\n".join([head, parts, *peak, *step, *_budget(found), *_advice(found)])


def _budget(found: Plan) -> list[str]:
    if found.micro_batch_tokens is None:
        return []
    return [f"micro_batch_tokens: up to {found.micro_batch_tokens:,} fit with all else as it is"]


def _advice(found: Plan) -> list[str]:
    if found.fits:
        return []
    lines = ["change, in this order:"]
    for change in found.changes:
        words = " ".join(f"--set {name}={json.dumps(value)}" for name, value in change["set"].items())
        alone, together = in_bytes(change["peak_alone"]), in_bytes(change["peak_together"])
        ends = ", fits" if change["fits"] else ""
        lines.append(f"  {words}\n    {alone} alone, {together} with those above{ends}")
    if not found.changes or not found.changes[-1]["fits"]:
        lines.append("  that is not enough: take more or larger devices")
    return lines
