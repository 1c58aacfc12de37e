"""What `amft plan` says of a recipe that ran out of memory on this machine."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import AMFTError

if TYPE_CHECKING:
    from ..settings.recipe import Recipe


def planned_advice(recipe: Recipe) -> str:
    """The peak that a plan counts, and the settings that would fit; or why there is no plan."""
    from ..planning.devices import GIB, find_device
    from ..planning.own_code import without_own_code
    from ..planning.plan import plan_step
    from ..planning.shape import read_shape

    kind, memory = _device()
    try:
        device = replace(find_device(kind), memory=memory)
        found = plan_step(without_own_code(recipe)[0], read_shape(recipe.model), device, _devices())
    except AMFTError as error:
        return f"amft plan cannot say more of this recipe ({error})"
    peak = f"amft plan counts {found.memory.peak / GIB:.1f} GiB per device of {memory / GIB:.1f}"
    if found.fits:
        return f"{peak}, which should fit: see what else takes memory here"
    words = " ".join(
        f"--set {name}={json.dumps(value)}" for change in found.changes for name, value in change["set"].items()
    )
    ends = "" if found.changes and found.changes[-1]["fits"] else ", and larger or more devices"
    return f"{peak}; it would change {words or 'nothing'}{ends}"


def _device() -> tuple[str, float]:
    """A known kind of device like this machine's, and its memory in bytes."""
    import torch

    if torch.cuda.is_available():
        return "h100", float(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
    return "cpu", float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _devices() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))
