from __future__ import annotations

import json
import math
import shutil
from typing import Any, get_args

import pytest
import torch
from tiny_runs import build
from transformers import SchedulerType, get_scheduler

from amft.errors import ConfigError
from amft.schedules import cosine_decay, linear_ramp
from amft.settings.config import AMFTConfig
from amft.step.lr_schedule import FOLLOW_METRIC, NO_OPTIONS, LRSchedule

OPTIONS: dict[str, dict[str, Any]] = {
    "cosine": {"num_cycles": 0.75},
    "cosine_with_restarts": {"num_cycles": 2},
    "polynomial": {"lr_end": 1e-5, "power": 2.0},
    "inverse_sqrt": {"timescale": 4},
    "cosine_with_min_lr": {"min_lr": 1e-4},
    "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1, "warmup_lr_rate": 0.2},
    "warmup_stable_decay": {"num_decay_steps": 4, "min_lr_ratio": 0.1},
}


def schedule(name: str, total: int = 11, warmup: int = 0, rate: float = 1e-3, **options: Any) -> LRSchedule:
    return LRSchedule(name, options, rate, total, warmup)


def factors(name: str, total: int = 11, warmup: int = 0, **options: Any) -> list[float]:
    plan = schedule(name, total, warmup, **options)
    return [plan.factor(step) for step in range(total)]


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


def test_lr_by_hand() -> None:
    assert factors("constant", 6, 4) == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors("linear", 4) == [1.0, 0.75, 0.5, 0.25]
    assert factors("cosine", 10, 1)[4] == pytest.approx(0.5 * (1 + math.cos(math.pi * 3 / 9)))
    assert factors("cosine_with_min_lr", 5, min_lr=5e-4)[2] == pytest.approx(
        0.5 + 0.5 * 0.5 * (1 + math.cos(0.4 * math.pi))
    )
    assert factors("warmup_stable_decay", 6, 2, num_stable_steps=2, num_decay_steps=2, decay_type="linear") == [
        0.0, 0.5, 1.0, 1.0, 1.0, 0.5,
    ]  # fmt: skip


@pytest.mark.parametrize("warmup", [0, 1, 3, 7, 300])
@pytest.mark.parametrize("total", [1, 2, 7, 97, 300])
def test_the_three_first_schedules_give_the_bits_they_always_gave(total: int, warmup: int) -> None:
    """Results were made with these formulas: a change in the last bit is another run."""

    def before(name: str, step: int) -> float:
        if step < warmup:
            return step / warmup
        done = (step - warmup) / (total - warmup)
        return {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[name]

    for name in ("constant", "linear", "cosine"):
        assert factors(name, total, warmup) == [before(name, step) for step in range(total)]


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("name", [name.value for name in SchedulerType if name.value not in FOLLOW_METRIC])
def test_the_numbers_of_transformers(name: str, warmup: int) -> None:
    options = OPTIONS.get(name, {})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    theirs = "constant_with_warmup" if name == "constant" else name
    scheduler = get_scheduler(theirs, optimizer, warmup, 11, scheduler_specific_kwargs=dict(options))
    plan = schedule(name, 11, warmup, **options)
    for step in range(11):
        assert 1e-3 * plan.factor(step) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-18)
        optimizer.step()
        scheduler.step()


def test_every_name_of_transformers_is_a_setting() -> None:
    allowed = get_args(AMFTConfig.model_fields["lr_scheduler_type"].annotation)
    assert set(allowed) == {name.value for name in SchedulerType}
    assert set(OPTIONS) | set(FOLLOW_METRIC) | set(NO_OPTIONS) == set(allowed)


def test_a_step_leaves_nothing_behind() -> None:
    plan = schedule("cosine")
    late = plan.factor(9)
    assert plan.factor(2) == schedule("cosine").factor(2)
    plan.observe(0.5)
    assert plan.state_dict() == {"observed": []}
    assert schedule("cosine").factor(9) == late


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("reduce_lr_on_plateau", {"patience": 1, "factor": 0.5}, [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]),
        ("reduce_lr_on_plateau", {"patience": 1, "factor": 0.5, "mode": "min"}, [1.0] * 6),
        ("greedy", {"patience": 0, "factor": 0.5, "min_lr": 0.0}, [1.0, 2.0, 1.0, 0.5, 0.25, 0.125]),
    ],
)
def test_schedules_that_follow_a_metric(name: str, options: dict[str, Any], expected: list[float]) -> None:
    plan = schedule(name, **options)
    found = [plan.factor(0)]
    for step, metric in enumerate([0.5, 0.5, 0.4, 0.5, 0.3], 1):
        plan.observe(metric)
        found.append(plan.factor(step))
        again = schedule(name, **options)
        again.load_state_dict(plan.state_dict())
        assert again.factor(step) == plan.factor(step)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("cosin", {}, "lr_scheduler_type cosin .*not a valid SchedulerType.*cosine"),
        ("linear", {"min_lr": 0.1}, "lr_scheduler_kwargs: linear takes none, not min_lr"),
        ("constant", {"min_lr": 0.1}, "constant takes none"),
        ("cosine", {"min_lr": 0.1}, "unexpected keyword argument 'min_lr'"),
        ("cosine_with_min_lr", {}, "One of min_lr or min_lr_rate should be set"),
        ("polynomial", {"lr_end": -1.0}, "gives the learning rate the factors"),
        ("warmup_stable_decay", {}, "missing 1 required positional argument: 'num_decay_steps'"),
        ("polynomial", {"lr_end": 1.0}, "must be smaller than initial lr"),
        ("polynomial", {"power": "two"}, "unsupported operand"),
        ("inverse_sqrt", {"timescale": 0}, "division by zero"),
        ("cosine", {"last_epoch": 3}, "initial_lr"),
        ("greedy", {"factor": 2.0}, "Factor should be"),
    ],
)
def test_a_wrong_schedule_is_one_line(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        schedule(name, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FOLLOW_METRIC)
def test_a_warm_up_that_would_do_nothing_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"lr_warmup_steps: {name} has no warm-up"):
        schedule(name, warmup=3)


def test_a_run_follows_its_validation_and_resumes_to_the_byte(tmp_path) -> None:
    changes: dict[str, Any] = {
        "lr_scheduler_type": "reduce_lr_on_plateau",
        "lr_scheduler_kwargs": {"patience": 0, "factor": 0.5},
        "eval": {"steps": 1, "test_splits": []},
        "max_steps": 6,
        "checkpoint": {"steps": 3},
        "reward": lambda completion_ids, **_: [1.0] * len(completion_ids),
    }
    build(tmp_path / "a", "fixed", **changes).train()
    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert [line["eval/val/success"] for line in lines] == [1.0] * 6  # so every validation but the first is no better
    assert [line["learning_rate"] / 1e-2 for line in lines] == pytest.approx([1, 1, 0.5, 0.25, 0.125, 0.0625])
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(tmp_path / "b" / "checkpoints" / "step-6")
    build(tmp_path / "b", "fixed", **changes).train(resume=True)
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() == (tmp_path / "b" / "metrics.jsonl").read_bytes()
    with pytest.raises(ConfigError, match="lr_scheduler_type: reduce_lr_on_plateau follows validation; set eval.steps"):
        build(tmp_path / "c", "fixed", **changes | {"eval": {"steps": 0, "test_splits": []}}).train()
