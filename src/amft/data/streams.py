"""Endless seeded row orders with a cursor, and the seeds of everything else that draws. No torch."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping
from typing import Any

from ..errors import CheckpointError, DataError


def derive_seed(seed: int, *parts: str | int) -> int:
    """A 63-bit seed for one named purpose: the first bytes of SHA-256 over the JSON list `[seed, *parts]`.

    Equal on every machine and Python version; other parts give an unrelated seed.

    Example:
        >>> derive_seed(0, "rl", 0) == derive_seed(0, "rl", 1)
        False
    """
    digest = hashlib.sha256(json.dumps([seed, *parts]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class RowStream:
    """Row numbers without end: each epoch visits every row once, in an order drawn from (seed, name, epoch).

    Args:
        n_rows: rows of the dataset.
        seed: the run's seed.
        name: what the stream feeds; streams of other names are independent.

    Raises:
        DataError: there are no rows.
    """

    def __init__(self, n_rows: int, seed: int, name: str):
        if n_rows < 1:
            raise DataError(f"{name}: the dataset has no rows")
        self.n_rows = n_rows
        self.seed = seed
        self.name = name
        self._start(epoch=0, cursor=0)

    def take(self, k: int) -> list[int]:
        """The next `k` row numbers, over as many epochs as that needs."""
        taken: list[int] = []
        while len(taken) < k:
            if self.cursor == self.n_rows:
                self._start(self.epoch + 1, cursor=0)
            rows = self._order[self.cursor : self.cursor + k - len(taken)]
            self.cursor += len(rows)
            taken += rows
        return taken

    def visits(self, k: int) -> list[int]:
        """How often each of the next `k` rows was taken before."""
        return [(self.taken + i) // self.n_rows for i in range(k)]

    @property
    def taken(self) -> int:
        """Rows taken so far, over all epochs."""
        return self.epoch * self.n_rows + self.cursor

    def state_dict(self) -> dict[str, Any]:
        """JSON values that `load_state_dict` continues from."""
        names = ("name", "seed", "n_rows", "epoch", "cursor")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at a saved cursor.

        Raises:
            CheckpointError: the state is of another dataset size, seed or name, or is malformed.
        """
        for name in ("name", "seed", "n_rows"):
            if state.get(name) != getattr(self, name):
                raise CheckpointError(
                    f"stream {self.name}: the checkpoint has {name} {state.get(name)!r}, this run has "
                    f"{getattr(self, name)!r}; resume with the dataset and seed of the checkpoint"
                )
        epoch, cursor = state.get("epoch"), state.get("cursor")
        if type(epoch) is not int or type(cursor) is not int or epoch < 0 or not 0 <= cursor <= self.n_rows:
            raise CheckpointError(f"stream {self.name}: the checkpoint has no such place: epoch {epoch}, row {cursor}")
        self._start(epoch, cursor)

    def begin_epoch(self, epoch: int) -> None:
        """Go on with the first row of an epoch."""
        self._start(epoch, cursor=0)

    def _start(self, epoch: int, cursor: int) -> None:
        self.epoch = epoch
        self.cursor = cursor
        self._order = list(range(self.n_rows))
        random.Random(derive_seed(self.seed, self.name, epoch)).shuffle(self._order)
