"""Copies of the model, each in shards (HSDP): 4 ranks as 2 x 2 and as 4 x 1 compute what 1 x 4 and one process do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from rank_team import ROWS, join, odd, outcome, same, save_model, start

STEPS, SAVED = 5, 3
EXACT = 1e-9
"""Sums of float64 in another order."""

SETTINGS = {
    "max_steps": STEPS,
    "num_prompts": 3,
    "num_generations": 3,
    "num_demos": 5,
    "max_completion_length": 8,
    "beta": 0.05,
    "learning_rate": 1e-3,
    "max_grad_norm": 0.05,
    "balance": {"rule": "amft", "meta_skip": 1},
    "dtype": "float64",
    "micro_batch_size": 2,
    "parallel": "fsdp2",
    "eval": {"steps": STEPS, "problems": 3},
    "sample_steps": 0,
    "checkpoint": {"steps": SAVED},
}
COPIES = {"1 x 4": 1, "2 x 2": 2, "4 x 1": 4}


def run(base: Path, directory: Path, resume: bool = False, **changes) -> None:
    from amft.settings.config import AMFTConfig
    from amft.training.trainer import AMFTTrainer

    config = AMFTConfig(output_dir=str(directory), **(SETTINGS | changes))
    trainer = AMFTTrainer(str(base), config, train_dataset=ROWS, reward_funcs=odd)
    trainer.train(resume=resume)
    if config.parallel == "fsdp2":
        held = sum(p.to_local().numel() for p in trainer.model.parameters())
        whole = sum(p.numel() for p in trainer.model.parameters())
        assert held == pytest.approx(whole * config.replicate / 4, rel=0.1)


def sums_between_copies(base: Path, directory: Path, **changes) -> int:
    """Messages in which copies add up gradients, counted where FSDP2 sends them."""
    import torch.distributed as dist

    said, sent = [], dist.all_reduce

    def counting(tensor, *args, group=None, **options):
        said.append(group is not None and dist.get_world_size(group) == 2)
        return sent(tensor, *args, group=group, **options)

    dist.all_reduce = counting
    run(base, directory, replicate=2, max_steps=1, **changes)
    dist.all_reduce = sent
    return sum(said)


def rank_of_four(rank: int, base: Path, out: Path) -> None:
    import torch.distributed as dist

    join(rank, 4, out)
    for name, copies in COPIES.items():
        run(base, out / name, replicate=copies)
    run(base, out / "half 2 x 2", replicate=2, dtype="bfloat16")
    run(base, out / "half 1 x 4", dtype="bfloat16")
    counts = [sums_between_copies(base, out / f"in {n}", micro_batch_size=n) for n in (1, 64)]
    if rank == 0:
        (out / "counts").write_text(" ".join(map(str, counts)))
        for name in ("2 x 2 resumed", "2 x 2 resumed as 1 x 4"):
            shutil.copytree(out / "2 x 2", out / name)
            shutil.rmtree(out / name / "checkpoints" / f"step-{STEPS}")
    dist.barrier()
    run(base, out / "2 x 2 resumed", resume=True, replicate=2)
    run(base, out / "2 x 2 resumed as 1 x 4", resume=True)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def runs(base, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("copies")
    assert start(4, rank_of_four, base, out) == [0] * 4
    return out


@pytest.mark.parametrize("name", COPIES)
def test_copies_of_shards_compute_what_one_process_does(name, runs, base, tmp_path):
    run(base, tmp_path / "alone", parallel="single")
    same(outcome(runs / name), outcome(tmp_path / "alone"), EXACT)
    assert len({row["mix/mu"] for row in outcome(runs / name)[1]}) > 2


def test_copies_add_up_once_however_small_the_micro_batches(runs):
    small, large = map(int, (runs / "counts").read_text().split())
    assert small == large > 0


@pytest.mark.parametrize("name", ["2 x 2", "4 x 1", "2 x 2 resumed as 1 x 4"])
def test_copies_of_shards_compute_what_one_copy_does(name, runs):
    same(outcome(runs / name), outcome(runs / "1 x 4"), EXACT)


def test_in_bfloat16_copies_stay_near_one_copy(runs):
    (found, _), (wanted, _) = outcome(runs / "half 2 x 2"), outcome(runs / "half 1 x 4")
    assert (found - wanted).norm() / wanted.norm() < 1e-3


def test_a_run_on_copies_resumes_to_the_byte(runs):
    whole, resumed = runs / "2 x 2", runs / "2 x 2 resumed"
    for file in ("metrics.jsonl", "model/model.safetensors"):
        assert (resumed / file).read_bytes() == (whole / file).read_bytes()
