"""A run directory as plain arrays. Reads what is there: a run in progress or cut short is as welcome as a whole one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..balance.describe import describe
from ..errors import RunError
from ..runs import RunDirectory
from ..stats.aggregate import Floats as Floats

Ints = npt.NDArray[np.int64]
JsonRows = list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Run:
    """Everything a run left behind. A metric that was not measured at a step is NaN there."""

    path: Path
    config: dict[str, Any]
    env: dict[str, Any]
    balance: dict[str, Any]
    """The balance rule's settings, its defaults filled in where the rule is one of ours."""
    steps: Ints
    """(T,) steps with a metrics line, ascending."""
    metrics: dict[str, Floats]
    """name -> (T,)."""
    warmup: npt.NDArray[np.bool_]
    """(T,) steps of pure imitation before the single stage."""
    seconds: dict[str, Floats]
    """Timing name -> its measured values."""
    samples: JsonRows
    scores: JsonRows
    events: JsonRows
    incidents: list[int]
    """Steps for which the guard left a bundle under `incidents/`."""

    @property
    def last_step(self) -> int:
        """Steps done so far."""
        return int(self.steps[-1]) if self.steps.size else 0

    @property
    def max_steps(self) -> int | None:
        """Steps the run was meant to take."""
        return self.config.get("max_steps")

    @property
    def first_validation(self) -> float | None:
        """Success on validation before the first step; None where it was not asked."""
        said = [event.get("success") for event in self.events if event.get("kind") == "validation"]
        return next((float(value) for value in said if isinstance(value, (int, float))), None)

    def setting(self, key: str) -> Any:
        """A value of config.json by its dotted key; None where it is not there."""
        value: Any = self.config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def measured(self, name: str, *, mixing: bool = False) -> tuple[Ints, Floats]:
        """Steps at which a metric was measured, and its values there.

        Args:
            name: of the metric; an unknown one was never measured.
            mixing: leave the warm-up out.
        """
        values = self.metrics.get(name)
        if values is None:
            return self.steps[:0], np.zeros(0)
        keep = np.isfinite(values) & ~(self.warmup & mixing)
        return self.steps[keep], values[keep]

    def late(self, name: str, absent: float | None = None) -> Floats:
        """Values of a metric over the second half of the single stage so far.

        Args:
            name: of the metric.
            absent: stands for it at steps at which it was not measured; None leaves them out.
        """
        mixing = self.steps[~self.warmup]
        if not mixing.size:
            return np.zeros(0)
        half = (mixing[0] - 1 + mixing[-1]) / 2
        if absent is None:
            steps, values = self.measured(name, mixing=True)
            return values[steps > half]
        values = self.metrics.get(name, np.full(len(self.steps), absent))
        return np.where(np.isfinite(values), values, absent)[(self.steps > half) & ~self.warmup]


def load_run(path: str | Path) -> Run:
    """Read a run directory.

    Raises:
        RunError: there is no run in it, or a line before the last is damaged.
    """
    folder = RunDirectory.open(path)
    config = _mapping(folder, "config")
    lines = _by_step(folder, "metrics")
    steps = np.array(sorted(lines), dtype=np.int64)
    ordered = [lines[step] for step in sorted(lines)]
    metrics = _columns(ordered)
    return Run(
        path=folder.path,
        config=config,
        env=_mapping(folder, "env") if (folder.path / "env.json").exists() else {},
        balance=_balance(config.get("balance")),
        steps=steps,
        metrics=metrics,
        warmup=_warmup(ordered, steps, config),
        seconds={name: v[np.isfinite(v)] for name, v in _columns(_by_step(folder, "timings").values()).items()},
        samples=_rows(folder, "samples"),
        scores=_rows(folder, "scores"),
        events=_rows(folder, "events"),
        incidents=sorted(
            int(file.stem[5:]) for file in folder.path.glob("incidents/step-*.json") if file.stem[5:].isdigit()
        ),
    )


def _mapping(folder: RunDirectory, name: str) -> dict[str, Any]:
    found = folder.read(name)
    if not isinstance(found, dict):
        raise RunError(f"{folder.path / name}.json: must hold one JSON object")
    return found


def _balance(spec: Any) -> dict[str, Any]:
    given = dict(spec) if isinstance(spec, dict) else {}
    defaults: dict[str, Any] = next(
        (entry["settings"] for entry in describe() if entry["rule"] == given.get("rule")), {}
    )
    return {**given, **defaults, **given}


def _rows(folder: RunDirectory, stream: str) -> JsonRows:
    rows = list(folder.rows(stream))
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise RunError(f"{folder.path / stream}.jsonl: line {number} must be an object with a whole-number step")
    return rows


def _by_step(folder: RunDirectory, stream: str) -> dict[int, dict[str, Any]]:
    return {row["step"]: row for row in _rows(folder, stream)}


def _columns(rows: Iterable[dict[str, Any]]) -> dict[str, Floats]:
    """name -> (T,) of every number in the rows; text and None become NaN, names without any number are left out."""
    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name, value in row.items() if _number(value) and name != "step")
    return {
        name: np.array([float(row[name]) if _number(row.get(name)) else np.nan for row in rows], dtype=np.float64)
        for name in names
    }


def _number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _warmup(rows: JsonRows, steps: Ints, config: dict[str, Any]) -> npt.NDArray[np.bool_]:
    length = config.get("sft_warmup_steps") or 0
    phases = [row.get("phase") for row in rows]
    return np.array(
        [step <= length if phase is None else phase == "warmup" for step, phase in zip(steps, phases)], dtype=np.bool_
    )
