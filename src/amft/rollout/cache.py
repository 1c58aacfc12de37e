"""Key and value storage of a decoding batch: allocated once, written in place, rows removed by moving the last ones.

transformers' own `DynamicCache` copies the whole cache at every token and copies every row that stays when one leaves.
"""

from __future__ import annotations

from typing import Any

import transformers
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

RENAMED = tuple(map(int, transformers.__version__.split(".")[:2])) >= (5, 24)
CACHE_ARGUMENT = "cache" if RENAMED else "past_key_values"
"""The name by which a model's forward takes its cache."""


class RowLayer(DynamicLayer):
    """One layer's keys and values, each [R, heads, capacity, head_dim], filled up to `length` tokens."""

    def __init__(self, keys: Tensor, values: Tensor, capacity: int):
        super().__init__()
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self.length = keys.shape[2]
        self.keys, self.values = _grown(keys, capacity), _grown(values, capacity)

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append [R, heads, new, head_dim]; returns everything stored so far."""
        end = self.length + key_states.shape[2]
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        """Tokens stored per row."""
        return self.length

    def remove(self, holes: Tensor, movers: Tensor, rows: int) -> None:
        """Row `movers[i]` takes the place of row `holes[i]`; rows from `rows` on are dropped."""
        for name in ("keys", "values"):
            stored = getattr(self, name)
            filled = stored[:, :, : self.length]
            filled[holes] = filled[movers]
            setattr(self, name, stored[:rows])


class RowCache(Cache):
    """A batch cache made from a prefilled one by giving each row the prompt it continues."""

    def __init__(self, prefilled: Cache, prompt_of_row: Tensor, capacity: int):
        """Args: prompt_of_row: [R] row of `prefilled` that row r continues; capacity: tokens, prompt included."""
        layers = [
            RowLayer(layer.keys[prompt_of_row], layer.values[prompt_of_row], capacity) for layer in prefilled.layers
        ]
        super().__init__(layers=layers)

    def remove(self, holes: Tensor, movers: Tensor, rows: int) -> None:
        """See `RowLayer.remove`."""
        for layer in self.layers:
            layer.remove(holes, movers, rows)


def _grown(states: Tensor, capacity: int) -> Tensor:
    rows, heads, length, dim = states.shape
    storage = states.new_empty(rows, heads, capacity, dim)
    storage[:, :, :length] = states
    return storage
