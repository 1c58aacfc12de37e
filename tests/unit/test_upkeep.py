"""What a finished run keeps: the model it ended with, whole at every moment of the tidying."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from dying import Death, Killed
from saved_states import saved_state

from amft.checkpoints import manifest
from amft.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from amft.checkpoints.checkpoint_retention import final_checkpoint, is_resumable, keep_model, list_checkpoints
from amft.checkpoints.manifest import verify
from amft.errors import CheckpointError
from amft.runs import RunDirectory

SIZE = 1000
"""Numbers of a model; float32, so 4000 bytes. Its optimizer has two such, the meta buffer one."""


def run_of(directory: Path, *, best: int | None, steps: tuple[int, ...] = (4, 8)) -> RunDirectory:
    run = RunDirectory.create(directory)
    run.write("config", {"checkpoint": {"keep_best": best is not None}})
    for step in steps:

        def export(folder: Path, step: int = step) -> None:
            (folder / "model.safetensors").write_bytes(bytes([step]) * 4 * SIZE)
            (folder / "config.json").write_text(f'{{"step": {step}}}')

        moments = {f"{name}.w": torch.full((SIZE,), float(step)) for name in ("exp_avg", "exp_avg_sq")}
        known = {"step": best, "score": 0.5} if best is not None and best <= step else None
        shards = directory / "shards"
        shards.mkdir()
        (shards / "part.safetensors").write_bytes(b"0" * 100)
        tensors = {"optimizer": moments, "meta": {"w": torch.ones(SIZE)}, "rollouts": {}}
        save_checkpoint(run.checkpoints / f"step-{step}", tensors, saved_state(step, known), export, {"shards": shards})
    return run


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("best", "kept"), [(4, 4), (8, 8), (None, 8)])
def test_the_model_the_run_ended_with_is_all_that_stays(tmp_path: Path, best: int | None, kept: int) -> None:
    run = run_of(tmp_path / "run", best=best)
    before = final_checkpoint(run)
    assert before.name == f"step-{kept}"
    assert is_resumable(before)
    assert size(run.checkpoints) > 2 * (4 * 4 * SIZE + 100)
    keep_model(run)
    assert final_checkpoint(run) == before
    assert list_checkpoints(run.checkpoints) == [before]
    names = {"manifest.json", "state.json", "model", "model/model.safetensors", "model/config.json"}
    assert files(run.checkpoints) == {before.name} | {f"{before.name}/{name}" for name in names}
    assert size(run.checkpoints) < 4 * SIZE + 2000
    assert verify(before) == ["model/config.json", "model/model.safetensors", "state.json"]
    assert (before / "model" / "model.safetensors").read_bytes() == bytes([kept]) * 4 * SIZE
    assert not is_resumable(before)
    assert load_checkpoint(before)[0] == {}


def test_a_run_without_checkpoints_is_left_alone(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    keep_model(run)
    assert files(run.path) == {"checkpoints"}


@pytest.mark.parametrize("part", ["model/model.safetensors", "manifest.json"])
def test_nothing_goes_when_what_would_stay_is_damaged(tmp_path: Path, part: str) -> None:
    run = run_of(tmp_path / "run", best=4)
    (run.checkpoints / "step-4" / part).write_bytes(b"x")
    before = files(run.path)
    with pytest.raises(CheckpointError, match="step-4"):
        keep_model(run)
    assert files(run.path) == before


def die_at(event: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends just before its `event`-th write, sync, rename or deletion."""
    death = Death(event, monkeypatch)
    death.watch(manifest, "fsync")
    death.watch(Path, "write_text", "replace", "rename", "unlink", "rmdir")
    death.watch(shutil, "rmtree")


def test_death_before_every_operation_leaves_the_model_and_a_second_try_ends_the_same(tmp_path: Path) -> None:
    whole = run_of(tmp_path / "whole", best=4)
    keep_model(whole)
    for event in range(1, 50):
        run = run_of(tmp_path / str(event), best=4)
        with pytest.MonkeyPatch.context() as patch:
            die_at(event, patch)
            try:
                keep_model(run)
                survived = True
            except Killed:
                survived = False
        found = final_checkpoint(run)
        assert verify(found)
        assert (found / "model" / "model.safetensors").read_bytes() == bytes([4]) * 4 * SIZE
        keep_model(run)
        assert {name for name in files(run.checkpoints) if not name.startswith(".deleting-")} == files(
            whole.checkpoints
        )
        if survived:
            assert event > 10
            return
    pytest.fail("keep_model has more operations than this test tried")


def test_a_disk_that_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(tmp_path / "run", best=None, steps=(8,))

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(CheckpointError, match="step-8: files in it cannot be deleted .Permission denied"):
        keep_model(run)
