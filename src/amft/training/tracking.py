"""Trackers besides the JSON lines, by the integrations of `accelerate`; each only when asked for and installed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import ConfigError
from ..report.text import shorten
from ..settings.config import AMFTConfig

PROJECT = "amft"
FIRST_CHART = "amft/mu"
"""Mu once more, under a name that comes first where charts are sorted by name."""
CELL_CHARACTERS = 500
"""Of a cell in a table of samples."""

ARGUMENTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "aim": lambda run: {"run_name": run.name, "logging_dir": run.parent},
    "clearml": lambda run: {"run_name": PROJECT, "task_name": run.name},
    "comet_ml": lambda run: {"run_name": PROJECT},  # noqa: ARG005
    "dvclive": lambda run: {"dir": str(run / "dvclive")},
    "mlflow": lambda run: {"experiment_name": PROJECT, "run_name": run.name},
    "swanlab": lambda run: {"run_name": PROJECT, "experiment_name": run.name},
    "tensorboard": lambda run: {"run_name": "tensorboard", "logging_dir": run},
    "trackio": lambda run: {"run_name": PROJECT, "name": run.name},
    "wandb": lambda run: {"run_name": PROJECT, "name": run.name},
}
"""Tracker -> what its class in `accelerate.tracking` is given for a run directory. `run_name` can mean a project."""


class Trackers:
    """What a run reports to: its settings once, its numbers at every step.

    A tracker that fails later on is left out from then on; training goes on.

    Args:
        config: settings; `report_to` names the trackers.

    Raises:
        ConfigError: one is not installed.
    """

    def __init__(self, config: AMFTConfig):
        self.config = config
        self.open_ones: dict[str, Any] = {}
        for name in config.report_to:
            _require(name)

    def open(self) -> None:
        """Start them; the run directory must be there.

        Raises:
            ConfigError: one does not start, for example because nobody is logged in.
        """
        run = Path(self.config.output_dir).absolute()
        for name in self.config.report_to:
            try:
                tracker = _classes()[name](**ARGUMENTS[name](run))
                tracker.start()
                tracker.store_init_configuration(dict(flat(self.config.model_dump())))
            except Exception as error:  # of the tracker's own kind
                raise ConfigError(
                    f"report_to: {name} does not start ({_line(error)}); mend it or leave it out, then go on: --resume"
                ) from error
            self.open_ones[name] = tracker

    def log(self, step: int, values: Mapping[str, Any]) -> list[str]:
        """Send the numbers among the values; one line for each tracker that failed and is left out from now on.

        Args:
            step: optimizer steps done.
            values: by name; text, such as the phase, is in metrics.jsonl alone.
        """
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        if "mix/mu" in numbers:
            numbers = {FIRST_CHART: numbers["mix/mu"], **numbers}
        return self._each(lambda tracker: tracker.log(numbers, step=step))

    def table(self, step: int, name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Send rows as a table, to trackers that have one, and to TensorBoard as text; one line for each that failed.

        Args:
            step: optimizer steps done.
            name: of the table.
            rows: with the same columns.
        """
        columns = list(rows[0]) if rows else []
        cells = [[shorten(str(row[column]), CELL_CHARACTERS) for column in columns] for row in rows]

        def send(tracker: Any) -> None:
            if hasattr(tracker, "log_table"):
                tracker.log_table(name, columns=columns, data=cells, step=step)
            elif tracker.name == "tensorboard":
                tracker.log({name: markdown_table(columns, cells)}, step=step)

        return self._each(send) if rows else []

    def close(self) -> list[str]:
        """Finish them; one line for each that failed."""
        failed = self._each(lambda tracker: tracker.finish())
        self.open_ones = {}
        return failed

    def _each(self, call: Callable[[Any], None]) -> list[str]:
        failed = {}
        for name, tracker in self.open_ones.items():
            try:
                call(tracker)
            except Exception as error:
                failed[name] = f"{name} failed and gets nothing more ({_line(error)})"
        self.open_ones = {name: tracker for name, tracker in self.open_ones.items() if name not in failed}
        return list(failed.values())


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str | int | float]]:
    """Nested settings as `outer.inner` with values that every tracker takes: numbers, and text for all else."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value if isinstance(value, str | int | float) else json.dumps(value)


def markdown_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; what a cell says cannot end it."""
    lines = [list(columns), ["---"] * len(columns), *cells]
    plain = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in plain)


def _require(name: str) -> None:
    try:
        from accelerate.tracking import get_available_trackers

        if name in map(str, get_available_trackers()):
            return
    except ImportError:
        pass
    raise ConfigError(f"report_to: {name} or accelerate is not installed; pip install 'amft[{name}]'")


def _classes() -> dict[str, Any]:
    """The classes of `accelerate.tracking`, whose own messages need the state of its processes."""
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    threads = torch.get_num_threads()
    PartialState()
    torch.set_num_threads(threads)  # on several CPU ranks it chooses a number of its own
    return dict(LOGGER_TYPE_TO_CLASS)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
