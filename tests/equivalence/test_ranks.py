"""1, 2 and 4 processes, ddp and fsdp2, whole and in micro-batches: the same parameters, the same mu (scenario A2)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from rank_team import ROWS, join, odd, outcome, same, save_model, start
from safetensors.torch import load_file

STEPS, SAVED = 5, 3
LAYOUTS = [(parallel, rows) for parallel in ("ddp", "fsdp2") for rows in (64, 2)]
"""(layout, rows per micro-batch)."""

OPTIONS = {
    "memory": {"gradient_checkpointing": True, "cpu_offload": True},
    "padded": {"prefix_tree": False, "micro_batch_size": 2},
    "tokens": {"micro_batch_tokens": 25},
    "padded tokens": {"micro_batch_tokens": 30, "prefix_tree": False},
    # With seed 0 the meta-gradient of step 3 has a cosine of 2e-4, which rounding to bfloat16 may turn; with 1, 5e-3.
    "half": {"dtype": "bfloat16", "engine": "hf", "seed": 1},
    "hf": {"engine": "hf", "seed": 1},  # its draws depend on the number of ranks
}
"""Runs of fsdp2 on two ranks, with the output layer in chunks."""

SETTINGS = {
    "max_steps": STEPS,
    "num_prompts": 3,  # 9 rollouts a step: uneven over 2 ranks and over 4
    "num_generations": 3,
    "num_demos": 5,
    "max_completion_length": 8,
    "steps_per_generation": 2,  # old log-probabilities are read
    "beta": 0.05,  # so is a reference
    "entropy_coef": 0.01,
    "learning_rate": 1e-3,
    "max_grad_norm": 0.05,
    "balance": {"rule": "amft", "meta_skip": 1},
    "dtype": "float64",
    "eval": {"steps": STEPS, "problems": 3},
    # one of 4 ranks has none
    "sample_steps": 0,
    "checkpoint": {"steps": SAVED},
}


def run(base: Path, directory: Path, resume: bool = False, **changes) -> None:
    from amft.settings.config import AMFTConfig
    from amft.training.trainer import AMFTTrainer

    config = AMFTConfig(output_dir=str(directory), **(SETTINGS | changes))
    trainer = AMFTTrainer(str(base), config, train_dataset=ROWS, reward_funcs=odd)
    trainer.train(resume=resume)
    assert trainer.ranks.all_sum([1.0]) == [float(trainer.ranks.size)]


def rank_of_four(rank: int, base: Path, out: Path) -> None:
    """All runs on 4 ranks, then those on the first 2 of them, then two of these resumed on 4."""
    import torch.distributed as dist

    from amft import tensors
    from amft.distributed import parallel
    from amft.distributed.ranks import Ranks
    from amft.models import head

    join(rank, 4, out)
    for layout, rows in LAYOUTS:
        run(base, out / f"{layout}-4-{rows}", parallel=layout, micro_batch_size=rows)
    pair = dist.new_group([0, 1])
    if rank < 2:
        parallel.join_ranks = lambda timeout: Ranks(pair)
        for layout, rows in LAYOUTS:
            run(base, out / f"{layout}-2-{rows}", parallel=layout, micro_batch_size=rows)
        for layout in ("ddp", "fsdp2"):
            run(base, out / f"{layout}-ppo", parallel=layout, micro_batch_size=2, loss_type="ppo")
        run(base, out / "bridge", parallel="ddp", micro_batch_size=2, balance={"rule": "bridge"})
        head.WIDE, tensors.CHUNK_ELEMENTS = 1, 2000  # the output layer in chunks of a few tokens
        for name, changes in OPTIONS.items():
            run(base, out / name, **{"parallel": "fsdp2", **changes})
        head.WIDE, tensors.CHUNK_ELEMENTS = 4096, 2**24
        parallel.join_ranks = lambda timeout: Ranks(dist.group.WORLD)
    self_alone = [dist.new_group([other]) for other in range(4)][rank]
    if rank == 0:
        parallel.join_ranks = lambda timeout: Ranks(self_alone)
        run(base, out / "fsdp2-1", parallel="fsdp2")
    dist.barrier()
    parallel.join_ranks = lambda timeout: Ranks(dist.group.WORLD)
    if rank == 0:
        for saved in ("fsdp2-2-64", "ddp-2-64"):
            cut(out / saved, out / f"{saved}-on-4")
    dist.barrier()
    for saved, now in (("fsdp2-2-64", "ddp"), ("ddp-2-64", "fsdp2")):
        run(base, out / f"{saved}-on-4", resume=True, parallel=now)
    dist.destroy_process_group()


def cut(whole: Path, copy: Path) -> None:
    """The run as it was after its first checkpoint."""
    shutil.copytree(whole, copy)
    shutil.rmtree(copy / "checkpoints" / f"step-{STEPS}")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def alone(base, tmp_path_factory):
    directory = tmp_path_factory.mktemp("alone") / "run"
    run(base, directory)
    return outcome(directory)


@pytest.fixture(scope="module")
def runs(base, tmp_path_factory) -> Path:
    """Every run on several ranks, made by one team of 4 processes."""
    out = tmp_path_factory.mktemp("ranks")
    assert start(4, rank_of_four, base, out) == [0] * 4
    return out


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(("layout", "rows"), LAYOUTS)
def test_the_number_of_ranks_does_not_change_the_numbers(layout, size, rows, alone, runs):
    same(outcome(runs / f"{layout}-{size}-{rows}"), alone)


def test_a_value_head_does_not_see_the_number_of_ranks(runs, base, tmp_path):
    run(base, tmp_path / "alone", loss_type="ppo")
    wanted = load_file(tmp_path / "alone" / "checkpoints" / f"step-{STEPS}" / "critic.safetensors")
    for layout in ("ddp", "fsdp2"):
        same(outcome(runs / f"{layout}-ppo"), outcome(tmp_path / "alone"))
        found = load_file(runs / f"{layout}-ppo" / "checkpoints" / f"step-{STEPS}" / "critic.safetensors")
        for name in wanted:
            torch.testing.assert_close(found[name], wanted[name], rtol=1e-6, atol=1e-12)


def test_a_shadow_does_not_see_the_number_of_ranks(runs, base, tmp_path):
    run(base, tmp_path / "alone", balance={"rule": "bridge"})
    same(outcome(runs / "bridge"), outcome(tmp_path / "alone"))
    wanted = load_file(tmp_path / "alone" / "checkpoints" / f"step-{STEPS}" / "shadow.safetensors")
    found = load_file(runs / "bridge" / "checkpoints" / f"step-{STEPS}" / "shadow.safetensors")
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-6, atol=1e-9)


def test_mu_moves_in_the_runs_that_are_compared(alone):
    weights = [row["mix/mu"] for row in alone[1]]
    assert len(set(weights)) > 2
    assert all(row["grad_norm"] > SETTINGS["max_grad_norm"] for row in alone[1])


@pytest.mark.parametrize("saved", ["fsdp2-2-64", "ddp-2-64"])
def test_a_checkpoint_of_two_ranks_resumes_on_four_and_on_one(saved, alone, runs, base, tmp_path):
    same(outcome(runs / f"{saved}-on-4"), alone)
    cut(runs / saved, tmp_path / "run")
    run(base, tmp_path / "run", resume=True)
    same(outcome(tmp_path / "run"), alone)


@pytest.mark.parametrize("name", ["memory", "padded", "fsdp2-1"])
def test_options_of_memory_do_not_change_the_numbers(name, alone, runs):
    same(outcome(runs / name), alone)


def test_bfloat16_over_float32_shards_stays_near_float64_with_the_same_draws(runs):
    (found, rows), (exact, others) = outcome(runs / "half"), outcome(runs / "hf")
    assert found.dtype == torch.float32
    assert (found - exact).norm() / exact.norm() < 3e-3  # five steps move it by 6e-2
    assert len(rows) == STEPS
    assert all(row["sft/loss"] == pytest.approx(other["sft/loss"], rel=0.02) for row, other in zip(rows, others))
    assert all(row["mix/mu"] == pytest.approx(other["mix/mu"], abs=0.01) for row, other in zip(rows, others))


def test_shards_are_safetensors_and_in_the_manifest(runs):
    checkpoint = runs / "fsdp2-2-64" / "checkpoints" / f"step-{STEPS}"
    files = json.loads((checkpoint / "manifest.json").read_text())["files"]
    shards = [name for name in files if name.startswith("shards/")]
    assert len(shards) == 2
    assert all(name.endswith(".safetensors") for name in shards)
    assert sorted(files) == sorted(
        str(p.relative_to(checkpoint)) for p in checkpoint.rglob("*") if p.is_file() and p.name != "manifest.json"
    )
