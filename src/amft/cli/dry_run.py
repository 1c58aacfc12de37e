"""`amft train RECIPE --dry-run`: what a run would be, printed."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from .lists import TERMINAL
from .units import in_bytes, in_parameters

if TYPE_CHECKING:
    from ..planning.dry_run import DryRun


def described(found: DryRun) -> str:
    """One line a part, under those of the recipe."""
    state = "of unknown size" if found.optimizer_bytes is None else in_bytes(found.optimizer_bytes)
    buffers = f", meta-gradient {in_bytes(found.buffer_bytes)}" if found.buffer_bytes else ""
    shadow = f", shadow {in_bytes(found.shadow_bytes)}" if found.shadow_bytes else ""
    rows = ", ".join(f"{name} {n}" for name, n in found.rows.items())
    rewards = f"of {len(found.rewards)} demonstrations: {', '.join(f'{reward:g}' for reward in found.rewards)}"
    every, validated = found.eval_steps, found.rows.get("validation")
    validation = f"; validation every {every} of them" if every and validated else ""
    facts = {
        "class": f"{found.model}, {in_parameters(found.parameters)} parameters ({in_bytes(found.bytes)}), "
        f"{'all' if found.trained == found.parameters else in_parameters(found.trained)} trained",
        "optimizer": f"{found.optimizer}, state {state}{buffers}{shadow}",
        "tokenizer": f"{found.tokenizer} tokens; {' '.join(found.ends)} ends an answer" if found.tokenizer else "",
        "measures": ", ".join(found.rule),
        "rows": rows,
        "rewards": rewards if found.rewards else "",
        **found.batches,
        "then": f"{found.steps} steps, of which {found.warmup_steps} imitate only{validation}",
    }
    lines = [_line(name, text) for name, text in facts.items() if text]
    lines += [_line("note", note) for note in found.notes]
    lines += [_line("unchecked", what) for what in found.unchecked]
    return "\n".join([*lines, "dry run: nothing was trained, written or fetched"])


def _line(name: str, text: str) -> str:
    return textwrap.fill(f"{name:11} {text}", TERMINAL, subsequent_indent=" " * 12)
