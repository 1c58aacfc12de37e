"""Weights on their way to a server: a rank that does not send gathers them with the others and keeps none."""

from __future__ import annotations

import weakref
from pathlib import Path

import torch

from amft.rollout.weight_push import FilePush


class Source:
    """Five tensors, made when asked for; counts how many are alive."""

    def __init__(self) -> None:
        self.made: list[weakref.ref[torch.Tensor]] = []
        self.most = 0

    def __iter__(self):
        for i in range(5):
            value = torch.full((4,), float(i))
            self.made.append(weakref.ref(value))
            yield f"tensor {i}", value
            del value
            self.most = max(self.most, sum(each() is not None for each in self.made))


def test_a_rank_that_does_not_send_goes_through_all_and_holds_one(tmp_path: Path) -> None:
    source = Source()
    FilePush(None, source, False, tmp_path).send_weights()  # type: ignore[arg-type]
    assert len(source.made) == 5
    assert source.most == 1
    assert list(tmp_path.iterdir()) == []
