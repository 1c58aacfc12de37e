"""All shipped signals, found by looking through this folder: for messages and for the table of docs/rules.md."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Any

from .base import Signal


def shipped_signals() -> dict[str, Signal[Any]]:
    """Name -> signal, in order of cost, then name."""
    package = __name__.rpartition(".")[0]
    folder = import_module(package).__path__
    modules = [import_module(f"{package}.{module.name}") for module in pkgutil.iter_modules(folder)]
    found = {value.name: value for module in modules for value in vars(module).values() if isinstance(value, Signal)}
    order = list(type(next(iter(found.values())).cost))
    return dict(sorted(found.items(), key=lambda item: (order.index(item[1].cost), item[0])))
