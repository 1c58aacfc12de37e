"""Several optimizers, each with parameters of its own, that step as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.optim import Optimizer


class JointOptimizer(Optimizer):
    """One list of groups and one state over several optimizers: what is changed here is changed there.

    Args:
        parts: made already; no parameter is in two of them.
    """

    def __init__(self, parts: Sequence[Optimizer]):
        self.parts = tuple(parts)
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        for part in self.parts:
            self.state.update(part.state)
        for part in self.parts:
            part.state = self.state

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step of each. There is no closure: each would call it anew."""
        assert closure is None
        for part in self.parts:
            part.step()

    def __getstate__(self) -> dict[str, Any]:
        return {"parts": self.parts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["parts"])  # type: ignore[misc]  # a copy is made anew of copied parts


def parts_of(optimizer: Optimizer) -> tuple[Optimizer, ...]:
    """The optimizers that one is made of; itself, where it is one."""
    return optimizer.parts if isinstance(optimizer, JointOptimizer) else (optimizer,)
