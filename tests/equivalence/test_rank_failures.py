"""A rank that dies, or is silent for too long: the others stop soon, each with one clear line."""

from __future__ import annotations

import os
import signal
import time

import pytest
from rank_team import ROWS, join, odd, save_model, start

from amft.errors import AMFTError

SOON = 60  # seconds


def rank_of_three(rank: int, base, out, layout: str, silent: float) -> None:
    """Rank 2 dies in the first reward after a checkpoint, or is silent for some seconds."""
    from amft.settings.config import AMFTConfig
    from amft.training.trainer import AMFTTrainer

    join(rank, 3, out, 4.0 if silent else 100.0)
    manifest, since = out / "run" / "checkpoints" / "step-1" / "manifest.json", out / "since"

    def reward(completion_ids, **columns):
        if rank == 2 and manifest.is_file() and not since.exists():
            since.write_text(str(time.time()))
            if not silent:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(silent)
        return odd(completion_ids)

    settings = {
        "output_dir": str(out / "run"),
        "max_steps": 50,
        "num_prompts": 3,
        "num_generations": 2,
        "num_demos": 3,
        "max_completion_length": 8,
        "eval": {"steps": 0},
        "sample_steps": 0,
        "checkpoint": {"steps": 1},
        "parallel": layout,
    }
    try:
        AMFTTrainer(str(base), AMFTConfig(**settings), train_dataset=ROWS, reward_funcs=reward).train()
    except AMFTError as error:
        (out / f"error-{rank}").write_text(f"{time.time()} {type(error).__name__}: {error}")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize(("layout", "silent"), [("ddp", 0), ("fsdp2", 0), ("ddp", 9)])
def test_the_others_stop_with_one_clear_line(layout, silent, base, tmp_path):
    codes = start(3, rank_of_three, base, tmp_path, layout, silent)
    assert codes == [0, 0, 0 if silent else -signal.SIGKILL]
    since = float((tmp_path / "since").read_text())
    for rank in range(2):
        when, error = (tmp_path / f"error-{rank}").read_text().split(" ", 1)
        assert float(when) - since < SOON
        assert error.startswith(f"RankError: rank {rank} of 3 lost contact with another rank")
        assert "--resume" in error
        assert "\n" not in error
    assert (tmp_path / "run" / "checkpoints" / "step-1" / "manifest.json").is_file()
