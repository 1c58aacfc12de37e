"""Trackers besides the JSON lines: TensorBoard, W&B, trackio; each only when asked for and installed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ..errors import ConfigError
from ..settings.config import AMFTConfig


class Tracker(Protocol):
    def log(self, step: int, values: Mapping[str, Any]) -> None: ...


class TensorBoard:
    """Event files under the run directory."""

    def __init__(self, config: AMFTConfig):
        self.directory = Path(config.output_dir) / "tensorboard"
        self.writer: Any = None
        self.module = _import("torch.utils.tensorboard", "tensorboard")

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        if self.writer is None:  # opened late: the run directory must be new when the run begins
            self.writer = self.module.SummaryWriter(str(self.directory))
        for name, value in values.items():
            if isinstance(value, float | int):
                self.writer.add_scalar(name, value, step)
        self.writer.flush()


class Hosted:
    """W&B, and trackio, which has the same calls."""

    def __init__(self, package: str, config: AMFTConfig):
        self.module, self.config, self.open = _import(package, package), config, False

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        if not self.open:
            name = Path(self.config.output_dir).name
            self.module.init(project="amft", name=name, config=self.config.model_dump())
            self.open = True
        self.module.log(dict(values), step=step)


def trackers(config: AMFTConfig) -> list[Tracker]:
    """The trackers of `report_to`.

    Raises:
        ConfigError: one is not installed.
    """
    return [TensorBoard(config) if name == "tensorboard" else Hosted(name, config) for name in config.report_to]


def _import(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(f"report_to: {package} is not installed; pip install amft[{package}]") from None
