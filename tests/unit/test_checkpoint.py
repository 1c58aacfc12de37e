"""Checkpoints: byte-exact round trips, which one is newest, pruning, and what is refused."""

import json
import math
import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from saved_states import saved_state
from torch import Tensor

from amft.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from amft.checkpoints.checkpoint_retention import clean_leftovers, list_checkpoints, newest_checkpoint, prune
from amft.errors import CheckpointError

FLOATS = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn]
DTYPES = [*FLOATS, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]


def raw(tensor: Tensor) -> bytes:
    return bytes(tensor.detach().contiguous().reshape(-1).view(torch.uint8).tolist())


def round_trip(tmp_path: Path, group: dict[str, Tensor]) -> dict[str, Tensor]:
    save_checkpoint(tmp_path / "step-1", {"policy": group}, {})
    tensors, state = load_checkpoint(tmp_path / "step-1")
    assert state == {}
    assert list(tensors) == ["policy"]
    assert tensors["policy"].keys() == group.keys()
    return tensors["policy"]


def save(checkpoints: Path, *steps: int) -> None:
    for step in steps:
        save_checkpoint(
            checkpoints / f"step-{step}", {"policy": {"w": torch.full((3,), float(step))}}, saved_state(step)
        )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_keeps_its_bytes(tmp_path: Path, dtype: torch.dtype) -> None:
    bits = torch.randint(0, 256, (5, 3, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    tensor = (bits > 127) if dtype == torch.bool else bits.view(dtype)  # random bits: NaN payloads, subnormals
    back = round_trip(tmp_path, {"x": tensor})["x"]
    assert back.dtype == dtype
    assert back.shape == tensor.shape
    assert raw(back) == raw(tensor)


def test_shapes_and_layouts(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    group = {
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "transposed": base.T,
        "strided": base[::2, 1::2],
        "expanded": torch.tensor([1.0, 2.0]).expand(3, 2),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "name with / and ü": torch.ones(1),
    }
    back = round_trip(tmp_path, group)
    for name, tensor in group.items():
        assert torch.equal(back[name], tensor), name
        assert back[name].shape == tensor.shape, name
        assert not back[name].requires_grad, name


def test_shared_storage_comes_back_equal_and_apart(tmp_path: Path) -> None:
    weight = torch.arange(6.0)
    group = {"embed": weight, "head": weight, "view": weight[2:4], "reshaped": weight.view(2, 3)}
    before = {name: tensor.clone() for name, tensor in group.items()}
    back = round_trip(tmp_path, group)
    assert all(torch.equal(back[name], before[name]) for name in group)
    back["embed"][2] = -1.0
    assert back["head"][2] == back["view"][0] == 2.0
    assert all(torch.equal(group[name], before[name]) for name in group)


def test_generators_continue_where_they_were(tmp_path: Path) -> None:
    generator, plain = torch.Generator().manual_seed(7), random.Random(7)
    torch.rand(1000, generator=generator)
    plain.gauss(0, 1)
    save_checkpoint(tmp_path / "step-1", {"rng": {"rollout": generator.get_state()}}, {"rng": plain.getstate()})
    tensors, state = load_checkpoint(tmp_path / "step-1")
    other, again = torch.Generator(), random.Random()
    other.set_state(tensors["rng"]["rollout"])
    version, words, gauss = state["rng"]
    again.setstate((version, tuple(words), gauss))
    assert torch.equal(torch.rand(9, generator=other), torch.rand(9, generator=generator))
    assert [again.gauss(0, 1) for _ in range(3)] == [plain.gauss(0, 1) for _ in range(3)]


def test_state_keeps_every_number(tmp_path: Path) -> None:
    state = {"mu": 0.1 + 0.2, "tiny": 5e-324, "seed": 2**63 - 1, "inf": math.inf, "on": True, "none": None, "s": "ü\n"}
    save_checkpoint(tmp_path / "step-1", {}, state)
    assert load_checkpoint(tmp_path / "step-1") == ({}, state)
    save_checkpoint(tmp_path / "step-2", {}, {"nan": math.nan})
    assert math.isnan(load_checkpoint(tmp_path / "step-2")[1]["nan"])


@pytest.mark.parametrize("state", [{1: "a"}, {"deep": [{"x": {2: 3}}]}, {"tensor": torch.ones(1)}])
def test_a_state_json_would_change_is_a_defect_of_ours(tmp_path: Path, state: Any) -> None:
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path / "step-1", {}, state)
    assert list(tmp_path.iterdir()) == []


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    save(tmp_path / "a", 1)
    save(tmp_path / "b", 1)
    for file in (tmp_path / "a" / "step-1").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / "step-1" / file.name).read_bytes()


def test_export_writes_a_model_folder_under_the_same_guard(tmp_path: Path) -> None:
    def export(folder: Path) -> None:
        assert list(folder.iterdir()) == []
        (folder / "config.json").write_text("{}")
        (folder / "sub").mkdir()
        (folder / "sub" / "model.safetensors").write_bytes(b"not ours to read")

    save_checkpoint(tmp_path / "step-1", {}, {}, export)
    assert sorted(json.loads((tmp_path / "step-1" / "manifest.json").read_text())["files"]) == [
        "model/config.json",
        "model/sub/model.safetensors",
        "state.json",
    ]
    assert load_checkpoint(tmp_path / "step-1") == ({}, {})
    (tmp_path / "step-1" / "model" / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"model/config\.json: damaged"):
        load_checkpoint(tmp_path / "step-1")


def test_a_failing_export_leaves_nothing_behind(tmp_path: Path) -> None:
    save(tmp_path, 1)

    def export(_folder: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "step-2", {}, {}, export)
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


def test_saving_over_a_checkpoint_replaces_it(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save_checkpoint(tmp_path / "step-1", {}, {"second": True})
    assert load_checkpoint(tmp_path / "step-1") == ({}, {"second": True})
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


def test_newest_is_by_number_and_ignores_other_names(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "none") == (None, [])
    save(tmp_path, 9, 100, 20)
    for name in ("step-x", "best", "step-200.old", ".saving-step-300"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-400").write_text("a file")
    assert newest_checkpoint(tmp_path) == (tmp_path / "step-100", [])
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-9", "step-20", "step-100"]
    assert (tmp_path / ".saving-step-300").is_dir(), "looking must change nothing"


def test_newest_names_what_it_passed_over(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3, 4)
    (tmp_path / "step-4" / "policy.safetensors").write_bytes(b"")
    (tmp_path / "step-3" / "manifest.json").unlink()
    newest = newest_checkpoint(tmp_path)
    assert newest.path == tmp_path / "step-2"
    assert [skipped.path.name for skipped in newest.skipped] == ["step-4", "step-3"]
    assert "step-4/policy.safetensors: damaged" in newest.skipped[0].reason
    assert "step-3/manifest.json: missing, so the checkpoint is incomplete" in newest.skipped[1].reason


def test_prune_keeps_the_newest_and_the_protected(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3, 10, 20)
    removed = prune(tmp_path, keep=2, protect=[tmp_path / "step-2"])
    assert [path.name for path in removed] == ["step-1", "step-3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-2", "step-20"]
    assert prune(tmp_path, keep=2, protect=[tmp_path / "step-2"]) == []
    assert prune(tmp_path, keep=9) == []


def test_prune_does_not_count_an_incomplete_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3)
    (tmp_path / "step-3" / "manifest.json").unlink()
    assert prune(tmp_path, keep=2) == []


def test_leftovers_of_a_killed_process(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    for name in (".saving-step-3", ".deleting-step-0", ".replaced-step-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("x")
    (tmp_path / "step-1").rename(tmp_path / ".replaced-step-1")  # killed between the two renames of a second save
    (tmp_path / ".notes-step-1").mkdir()
    clean_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".notes-step-1", "step-1", "step-2"]
    assert load_checkpoint(tmp_path / "step-1")[1] == saved_state(1)
    clean_leftovers(tmp_path / "none")


def test_the_next_save_cleans_up_after_a_killed_one(tmp_path: Path) -> None:
    for step in (2, 3):
        (tmp_path / f".saving-step-{step}").mkdir()
        (tmp_path / f".saving-step-{step}" / "stale.safetensors").write_text("x")
    save(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-2"]
    assert list(load_checkpoint(tmp_path / "step-2")[0]) == ["policy"]


class Bomb:
    """Unpickling this makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["optimizer.pt", "pytorch_model.bin", "rng.pkl", "policy.safetensors"])
def test_a_pickle_is_never_loaded(tmp_path: Path, name: str) -> None:
    """Not listed: ignored. In place of a listed file: the hash gives it away. Listed by a forged manifest: refused."""
    from amft.checkpoints import manifest

    save(tmp_path, 1)
    target, bomb = tmp_path / "step-1" / name, pickle.dumps(Bomb(tmp_path / "exploded"))
    replaces = target.exists()
    target.write_bytes(bomb)
    if replaces:
        with pytest.raises(CheckpointError, match=f"{name}: damaged"):
            load_checkpoint(tmp_path / "step-1")
    else:
        assert list(load_checkpoint(tmp_path / "step-1")[0]) == ["policy"]
    listed = {
        file.name: {"size": file.stat().st_size, "sha256": manifest._sha256(file)}
        for file in (tmp_path / "step-1").iterdir()
        if file.name != "manifest.json"
    }
    (tmp_path / "step-1" / "manifest.json").write_text(manifest._text(listed))
    with pytest.raises(CheckpointError, match="cannot be read" if replaces else f"{name}: pickle files"):
        load_checkpoint(tmp_path / "step-1")
    assert not (tmp_path / "exploded").exists()


def test_an_exporter_may_not_write_pickles(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model/model\.bin: pickle files are not allowed"):
        save_checkpoint(tmp_path / "step-1", {}, {}, lambda folder: (folder / "model.bin").write_bytes(b"x") and None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../secret.json", "/etc/hostname"])
def test_a_manifest_cannot_point_outside(tmp_path: Path, name: str) -> None:
    from amft.checkpoints import manifest

    save(tmp_path, 1)
    (tmp_path / "step-1" / "manifest.json").write_text(manifest._text({name: {"size": 0, "sha256": ""}}))
    with pytest.raises(CheckpointError, match="names a file outside"):
        load_checkpoint(tmp_path / "step-1")


def test_a_manifest_of_another_format_says_so(tmp_path: Path) -> None:
    save(tmp_path, 1)
    path = tmp_path / "step-1" / "manifest.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(CheckpointError, match=r"manifest\.json: format 2, this version reads 1"):
        load_checkpoint(tmp_path / "step-1")


def test_no_such_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "step-1")


def test_other_users_can_read_it(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        save(tmp_path, 1)
    finally:
        os.umask(mask)
    modes = {path.name: path.stat().st_mode & 0o777 for path in [tmp_path / "step-1", *(tmp_path / "step-1").iterdir()]}
    assert modes == {"step-1": 0o755} | dict.fromkeys(["policy.safetensors", "state.json", "manifest.json"], 0o644)
