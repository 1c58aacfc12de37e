"""The end of a process, staged just before one chosen operation on the disk."""

from __future__ import annotations

from collections.abc import Callable

import pytest


class Killed(BaseException):
    """Stands for the end of the process: no handler of ours may run after it."""


class Death:
    """Ends the process just before its `event`-th watched operation, and before every later one."""

    def __init__(self, event: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.event, self.monkeypatch, self.count = event, monkeypatch, 0

    @property
    def came(self) -> bool:
        return self.count >= self.event

    def watch(self, owner: object, *names: str) -> None:
        for name in names:
            self.monkeypatch.setattr(owner, name, self.guarded(getattr(owner, name)))

    def guarded(self, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            self.count += 1
            if self.came:
                raise Killed
            return real(*args, **kwargs)

        return call
