"""Graded demonstrations on 1 and 2 ranks, ddp and fsdp2: the same verdicts, weights of classes and parameters."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from rank_team import ROWS, join, outcome, same, save_model, start

STEPS, SAVED = 4, 2
SOURCED = [{**row, "source": ("book", "web")[i % 2]} for i, row in enumerate(ROWS)]
RUNS = {
    "classes": {"balance": {"rule": "amft", "meta_skip": 1, "draw": "share"}, "rows": SOURCED},
    "drawn": {"balance": {"rule": "amft", "meta_skip": 1, "wrong": 0.25}, "rows": SOURCED},
    "filtered": {"balance": {"rule": "fixed", "mu": 0.4}, "demonstrations": {"filter": "verified"}},
    "weighed": {"balance": "verifier-gate", "demonstrations": {"wrong_weight": 0.25, "right_above": 0.3}},
}
SETTINGS = {
    "max_steps": STEPS,
    "num_prompts": 3,  # 9 rollouts a step
    "num_generations": 3,
    "num_demos": 5,  # a class has no row in some steps, and in some a row on one rank only
    "micro_batch_size": 2,
    "max_completion_length": 8,
    "learning_rate": 1e-3,
    "dtype": "float64",
    "eval": {"steps": 0},
    "sample_steps": 0,
    "checkpoint": {"steps": SAVED},
}


def residue(completion_ids, **columns):
    """Pays some demonstrations and some random answers, so that weights of all classes move."""
    return [sum(ids) % 5 / 4 for ids in completion_ids]


def run(base: Path, directory: Path, resume: bool = False, rows=ROWS, **changes) -> None:
    from amft.settings.config import AMFTConfig
    from amft.training.trainer import AMFTTrainer

    if isinstance(changes["balance"], str):
        changes["balance"] = {"rule": changes["balance"]}
    config = AMFTConfig(output_dir=str(directory), **(SETTINGS | changes))
    AMFTTrainer(str(base), config, train_dataset=rows, reward_funcs=residue).train(resume=resume)


def both_ranks(rank: int, base: Path, out: Path) -> None:
    """Every run in both layouts, then one resumed in the other layout."""
    import torch.distributed as dist

    join(rank, 2, out)
    for name, changes in RUNS.items():
        for layout in ("ddp", "fsdp2"):
            run(base, out / f"{name}-{layout}", parallel=layout, **changes)
    if rank == 0:
        shutil.copytree(out / "classes-ddp", out / "classes-resumed")
        shutil.rmtree(out / "classes-resumed" / "checkpoints" / f"step-{STEPS}")
    dist.barrier()
    run(base, out / "classes-resumed", resume=True, parallel="fsdp2", **RUNS["classes"])
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("classes")
    base = save_model(out / "base")
    for name, changes in RUNS.items():
        run(base, out / name, **changes)
    assert start(2, both_ranks, base, out) == [0, 0]
    return out


@pytest.mark.parametrize("layout", ["ddp", "fsdp2"])
@pytest.mark.parametrize("name", RUNS)
def test_two_ranks_are_as_one(name, layout, runs):
    same(outcome(runs / f"{name}-{layout}"), outcome(runs / name))
    events = [(runs / each / "events.jsonl").read_text() for each in (name, f"{name}-{layout}")]
    verdicts = [[part for part in text.split('"') if " graded: " in part] for text in events]
    assert verdicts[0] == verdicts[1]
    assert len(verdicts[0]) == 1
    assert " 0 " not in verdicts[0][0].replace(" 0 silent", "")


def test_a_checkpoint_of_ddp_resumes_on_shards(runs):
    same(outcome(runs / "classes-resumed"), outcome(runs / "classes"))


def test_weights_of_classes_move_and_a_class_is_absent_from_a_step(runs):
    rows = outcome(runs / "classes")[1]
    named = {key for row in rows for key in row if key.startswith("mix/weight/sft/")}
    assert len(named) == 4
    for key in named:
        assert len({row[key] for row in rows}) > 1, key
    observed = [{key for key in row if key.startswith("mix/meta_grad/")} for row in rows]
    assert len({len(keys) for keys in observed[2:]}) > 1
