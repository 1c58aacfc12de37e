"""The facts of a run: what was trained, with what, at what cost, and how to do it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .load import Run

NamedValues = list[tuple[str, str]]
_NAMED = ("command", "seed")


def subject(run: Run) -> str:
    """What was trained on what: `nano on general_points-v1`."""
    task, data = run.config.get("task"), run.config.get("data")
    name = task.get("id") if isinstance(task, dict) else task
    if name is None and isinstance(data, dict):
        name = data.get("train")
    model = str(run.config.get("model") or "").rstrip("/").rsplit("/", 1)[-1]
    if not model and not name:  # a run from Python, which was given objects
        return f"Run {run.path.resolve().name}"
    return f"{model or 'a model'} on {name}" if name else model


def facts(run: Run) -> list[tuple[str, NamedValues]]:
    """Groups of name and value: the run, its balance rule, its machine."""
    groups = [("Run", _run(run)), ("Balance rule", list(_flat(run.balance)))]
    groups.append(("Environment", [pair for pair in _flat(run.env) if pair[0] not in _NAMED]))
    return [(name, pairs) for name, pairs in groups if pairs]


def resolved_settings(run: Run) -> NamedValues:
    """The whole resolved config, flat."""
    return list(_flat(run.config))


def tiles(run: Run) -> NamedValues:
    """The few numbers worth a glance."""
    total = f" of {run.max_steps}" if run.max_steps else ""
    shown = [("steps", f"{run.last_step}{total}")]
    _, mu = run.measured("mix/mu", mixing=True)
    if len(mu):
        shown.append(("μ, first → last", f"{mu[0]:.2f} → {mu[-1]:.2f}"))
    seconds = _seconds(run)
    if seconds:
        shown.append(("time", duration(seconds)))
    tokens = sum(_total(run, name) for name in ("tokens/rollout", "tokens/demo"))
    return [*shown, ("tokens trained on", count(tokens))] if tokens else shown


def duration(seconds: float) -> str:
    """`95` as `1 min 35 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if whole < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(number: float) -> str:
    """`1234567` as `1.23 M`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.0f}"


def _run(run: Run) -> NamedValues:
    found = {
        "directory": run.path.resolve().name,
        "command": run.env.get("command"),
        "seed": run.env.get("seed", run.config.get("seed")),
        "model": run.config.get("model"),
        "training time": duration(_seconds(run)) if _seconds(run) else None,
    }
    for name, label in (("tokens/rollout", "rollout tokens"), ("tokens/demo", "demonstration tokens")):
        if _total(run, name):
            found[label] = f"{_total(run, name):,.0f}".replace(",", " ")
    return [(name, _shown(value)) for name, value in found.items() if value is not None]


def _seconds(run: Run) -> float:
    return float(sum(run.seconds.get("time/step", ())))


def _total(run: Run, name: str) -> float:
    return float(run.measured(name)[1].sum())


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + str(name), _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(map(_shown, value)) or "(empty)"
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)
