"""`AMFTGRPOTrainer` on two processes (gloo, DDP): graded demonstrations are the same on both, and as on one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl")
from rank_team import join, start
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.filterwarnings("ignore")

IMITATION = {"balance": "sft", "grading": {"filter": "verified", "silent_weight": 0.5}}
CLASSES = {"balance": {"rule": "amft", "meta_skip": 0}, "grading": {"wrong_weight": 0.5}}


def run(out: Path, name: str, balance: Any, grading: dict[str, Any]) -> None:
    """Train in float64; parameters, verdicts and weights of this process are left in files of its own."""
    from test_trl_adapter import DEMOS
    from test_trl_grading import build

    trainer = build(out / name, DEMOS, balance, grading, num_demos=4, double=True, max_steps=3)
    trainer.train()
    weights = [value for row in trainer.state.log_history for key, value in row.items() if "mix/weight/sft/" in key]
    rank = trainer.accelerator.process_index
    verdicts = torch.tensor([trainer.verdicts.get(verdict, 0) for verdict in ("right", "wrong")])
    state = {key: value.clone() for key, value in trainer.model.state_dict().items() if key != "lm_head.weight"}
    save_file({**state, "verdicts": verdicts, "weights": torch.tensor(weights)}, out / f"{name}-{rank}.safetensors")


def one_of_two(rank: int, out: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"HF_HUB_OFFLINE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}  # the store is a file
    join(rank, 2, out)
    run(out, "imitation", **IMITATION)
    run(out, "classes", **CLASSES)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trl")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        run(out, "alone", **IMITATION)
        assert start(2, one_of_two, out) == [0, 0]
    return out


def test_filtered_imitation_on_two_processes_is_that_of_one(runs: Path) -> None:
    alone = load_file(runs / "alone-0.safetensors")
    assert alone["verdicts"].tolist() == [3, 0]  # of what is kept
    for rank in (0, 1):
        found = load_file(runs / f"imitation-{rank}.safetensors")
        for name, value in alone.items():
            torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9)


def test_both_processes_grade_alike_and_learn_the_same_weights(runs: Path) -> None:
    mine, other = (load_file(runs / f"classes-{rank}.safetensors") for rank in (0, 1))
    assert mine["verdicts"].tolist() == [3, 1]
    assert len(set(mine["weights"].tolist())) > 2
    for name, value in mine.items():
        if name != "weights":  # only one process logs
            assert torch.equal(value, other[name]), name
