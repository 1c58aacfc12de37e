from __future__ import annotations

import math

import pytest
import torch
from transformers import get_scheduler

from amft.errors import ConfigError
from amft.schedules import cosine_decay, linear_ramp, lr_factor


def test_ramp_and_decay_by_hand() -> None:
    assert [linear_ramp(s, 4, 1.0, 3.0) for s in (-1, 0, 1, 2, 4, 9)] == [1.0, 1.0, 1.5, 2.0, 3.0, 3.0]
    # Half a wave: cos 0 = 1, cos 60 deg = 1/2, cos 90 deg = 0, cos 180 deg = -1.
    found = [cosine_decay(s, 6, 0.9, 0.1) for s in (0, 2, 3, 6, 7)]
    assert found == pytest.approx([0.9, 0.7, 0.5, 0.1, 0.1])
    assert found[0] == 0.9
    assert found[-1] == 0.1


def test_a_schedule_of_no_steps_is_at_its_end() -> None:
    assert linear_ramp(0, 0, 1.0, 2.0) == 2.0
    assert cosine_decay(0, 0, 1.0, 2.0) == 2.0


def test_lr_factor_by_hand() -> None:
    assert [lr_factor("constant", s, 10, 4) for s in (0, 1, 4, 9, 50)] == [0.0, 0.25, 1.0, 1.0, 1.0]
    assert [lr_factor("linear", s, 10, 0) for s in (0, 5, 10, 12)] == [1.0, 0.5, 0.0, 0.0]
    assert lr_factor("cosine", 4, 10, 1) == pytest.approx(0.5 * (1 + math.cos(math.pi * 3 / 9)))


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_the_numbers_of_transformers(name, warmup) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = "constant_with_warmup" if name == "constant" else name
    scheduler = get_scheduler(theirs, optimizer, num_warmup_steps=warmup, num_training_steps=11)
    for step in range(11):
        assert lr_factor(name, step, 11, warmup) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-15)
        optimizer.step()
        scheduler.step()


def test_an_unknown_name() -> None:
    with pytest.raises(ConfigError, match="lr_scheduler_type 'cosin' does not exist; use one of constant, linear"):
        lr_factor("cosin", 0, 10, 0)
