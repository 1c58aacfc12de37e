"""230 spoiled checkpoints: the run goes on from the one before and ends the same, or says why not in one line."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from checkpoint_mutations import spoil

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny_runs import build

from amft.errors import AMFTError

MUTATIONS = 230
SETTINGS = {
    "max_steps": 8, "checkpoint": {"steps": 3, "total_limit": 9}, "eval": {"steps": 3, "test_splits": []},
    "steps_per_generation": 2, "num_iterations": 2, "sft_warmup_steps": 1, "sample_steps": 2,
}  # fmt: skip


def run(directory: Path, resume: bool = False) -> None:
    build(directory, "amft", **SETTINGS).train(resume=resume)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole") / "run"
    run(directory)
    return directory


@pytest.mark.parametrize("seed", range(MUTATIONS))
def test_a_spoiled_checkpoint_is_passed_over_or_refused(seed: int, whole: Path, tmp_path: Path) -> None:
    cut = tmp_path / "run"
    shutil.copytree(whole, cut)
    shutil.rmtree(cut / "checkpoints" / "step-8")
    how = spoil(cut / "checkpoints" / "step-6", seed)
    refusal = None
    try:
        run(cut, resume=True)
    except AMFTError as error:
        refusal = str(error)
    if refusal is not None:
        assert "\n" not in refusal, how
        assert len(refusal) < 600, how
        return
    for name in ("metrics.jsonl", "samples.jsonl", "checkpoints/step-8/model/model.safetensors"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), how
