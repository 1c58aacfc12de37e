"""One server for all ranks: 1 and 2 ranks, ddp and fsdp2, give the same rollouts and weights, one push a step."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from rank_team import ROWS, join, odd, save_model, start
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from served_policies import running

STEPS = 3
SETTINGS = {
    "max_steps": STEPS,
    "num_prompts": 3,  # uneven over 2 ranks
    "num_generations": 3,
    "num_demos": 5,
    "max_completion_length": 8,
    "learning_rate": 1e-3,
    "balance": {"rule": "amft", "meta_skip": 1},
    "engine": "vllm",
    "eval": {"steps": STEPS, "problems": 3},
    "sample_steps": 0,
    "checkpoint": {"steps": 0},
}


def run(base: Path, directory: Path, url: str, **changes) -> None:
    from amft.settings.config import AMFTConfig
    from amft.training.trainer import AMFTTrainer

    options = {"where": url, "timeout": 120.0}
    config = AMFTConfig(output_dir=str(directory), **(SETTINGS | {"engine_options": options, **changes}))
    AMFTTrainer(str(base), config, train_dataset=ROWS, reward_funcs=odd).train()


def both_ranks(rank: int, base: Path, out: Path, url: str) -> None:
    os.environ["VLLM_API_KEY"] = "a word"  # the fork server may have started before it was set
    join(rank, 2, out)
    for layout in ("ddp", "fsdp2"):
        run(base, out / layout, url, parallel=layout)
    run(base, out / "ddp-ahead", url, parallel="ddp", ahead=1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    out = tmp_path_factory.mktemp("served")
    base = save_model(out / "base")
    with pytest.MonkeyPatch.context() as patch, running(base) as (url, _):
        patch.setenv("VLLM_API_KEY", "a word")
        run(base, out / "one", url)
        run(base, out / "one-ahead", url, ahead=1)
        assert start(2, both_ranks, base, out, url) == [0, 0]
    return out


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(("layout", "one"), [("ddp", "one"), ("fsdp2", "one"), ("ddp-ahead", "one-ahead")])
def test_two_ranks_are_as_one(runs, layout, one):
    for mine, other in zip(rows(runs / layout), rows(runs / one), strict=True):
        assert mine["reward"] == pytest.approx(other["reward"], abs=1e-6)
        assert mine["mix/mu"] == pytest.approx(other["mix/mu"], abs=1e-4)
        assert mine["sampling/logp_difference"] == pytest.approx(other["sampling/logp_difference"], abs=1e-5)
    alone, two = (load_file(runs / name / "model" / "model.safetensors") for name in (one, layout))
    assert all(torch.allclose(value, two[name], atol=1e-5) for name, value in alone.items())


@pytest.mark.parametrize("layout", ["one", "ddp", "fsdp2"])
def test_the_model_is_sent_once_a_step_by_one_rank(runs, layout):
    assert [row["sampling/bytes_pushed"] for row in rows(runs / layout)] == [model_bytes(runs)] * STEPS


@pytest.mark.parametrize("layout", ["one-ahead", "ddp-ahead"])
def test_drawn_ahead_it_is_sent_once_before_each_step_but_the_last(runs, layout):
    sent = [model_bytes(runs)] * (STEPS - 1)
    assert [row["sampling/bytes_pushed"] for row in rows(runs / layout)] == [*sent, 0]


def model_bytes(runs):
    return sum(4 * value.numel() for value in load_file(runs / "base" / "model.safetensors").values())
