"""Killed, cut, flipped, full: after any of it the newest complete checkpoint is found and is what was written."""

import errno
import os
import random
import resource
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from dying import Death, Killed
from saved_states import saved_state

from amft.checkpoints import checkpoint, manifest
from amft.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from amft.checkpoints.checkpoint_retention import clean_leftovers, newest_checkpoint, prune
from amft.errors import CheckpointError


def save(checkpoints: Path, step: int, size: int = 64) -> None:
    def export(folder: Path) -> None:
        (folder / "config.json").write_text(f'{{"step": {step}}}')

    tensors = {"policy": {"w": torch.full((size,), float(step))}, "optimizer": {"m": torch.full((size,), -float(step))}}
    save_checkpoint(checkpoints / f"step-{step}", tensors, saved_state(step), export)


def check(path: Path) -> int:
    """The step of a checkpoint whose every part is of that step."""
    tensors, state = load_checkpoint(path)
    step = int(path.name.removeprefix("step-"))
    assert state == saved_state(step)
    assert (tensors["policy"]["w"] == step).all()
    assert (tensors["optimizer"]["m"] == -step).all()
    assert f'"step": {step}' in (path / "model" / "config.json").read_text()
    return step


KILLER = """
    import os, random, signal, sys, time
    from pathlib import Path
    from test_checkpoint_faults import save
    from amft.checkpoints.checkpoint_retention import prune

    root, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    draw = random.Random(seed)
    for kill in range(kills):
        folder = root / str(kill)
        read, write = os.pipe()
        child = os.fork()
        if not child:
            for step in range(1, 1_000_000):
                save(folder, step, size=20_000)
                os.write(write, step.to_bytes(4, "big"))
                prune(folder, keep=2)
        first = os.read(read, 4)
        time.sleep(draw.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(write)
        told = first
        while more := os.read(read, 4096):
            told = more[-4:]
        os.close(read)
        print(int.from_bytes(told, "big"), flush=True)
"""


@pytest.mark.parametrize(
    ("seed", "kills"), [(0, 8), *(pytest.param(seed, 100, marks=pytest.mark.slow) for seed in range(1, 4))]
)
def test_kill_9_at_random_moments(tmp_path: Path, seed: int, kills: int) -> None:
    """Scenario B3: of what `save_checkpoint` said was saved, nothing is lost, and nothing half is ever taken."""
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLER), str(tmp_path), str(kills), str(seed)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout.split()
    assert len(told) == kills
    for kill, last in enumerate(told):
        folder = tmp_path / str(kill)
        newest = newest_checkpoint(folder)
        assert newest.path is not None
        assert newest.skipped == []
        assert check(newest.path) in (int(last), int(last) + 1)  # +1: renamed, killed before it could say so
        clean_leftovers(folder)
        assert all(path.name.startswith("step-") for path in folder.iterdir())


def die_at(event: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends just before its `event`-th write, sync or rename; clean-up code finds its hands tied."""
    death = Death(event, monkeypatch)
    death.watch(checkpoint, "save_file", "fsync")
    death.watch(manifest, "fsync")
    death.watch(Path, "mkdir", "write_text", "rename")
    rmtree = death.guarded(shutil.rmtree)
    monkeypatch.setattr(shutil, "rmtree", lambda *a, **k: None if death.came else rmtree(*a, **k))


@pytest.mark.parametrize("again", [False, True], ids=["new step", "same step again"])
def test_death_before_every_single_operation(tmp_path: Path, again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exhaustive where the kill test is random: one run per operation of a save, until a save gets through."""
    for event in range(1, 100):
        folder = tmp_path / str(event)
        for step in (1, 2) if again else (1,):
            save(folder, step)
        with monkeypatch.context() as patch:
            die_at(event, patch)
            try:
                save(folder, 2)
                survived = True
            except Killed:
                survived = False
        clean_leftovers(folder)
        newest = newest_checkpoint(folder)
        assert newest.skipped == []
        assert newest.path is not None
        assert check(newest.path) in ({2} if again or survived else {1, 2})
        assert all(path.name.startswith("step-") for path in folder.iterdir())
        save(folder, 3)
        assert check(newest_checkpoint(folder).path or tmp_path) == 3
        if survived:
            break
    assert survived
    assert event > 15


def files_of(path: Path) -> list[str]:
    return sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())


FILES = ["manifest.json", "model/config.json", "optimizer.safetensors", "policy.safetensors", "state.json"]


def flip(seed: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        draw, data = random.Random(seed), bytearray(path.read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.write_bytes(data)

    return damage


def cut(share: float) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        os.truncate(path, int(path.stat().st_size * share))

    return damage


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE = {
    "delete": Path.unlink,
    "empty": cut(0.0),
    "half": cut(0.5),
    "one byte short": lambda path: os.truncate(path, path.stat().st_size - 1),
    "one byte more": lambda path: path.write_bytes(path.read_bytes() + b"\n"),
    "folder": replace_by_folder,
    **{f"flip {seed}": flip(seed) for seed in range(6)},
}


@pytest.mark.parametrize("name", FILES)
def test_any_damage_is_named_and_the_one_before_is_taken(tmp_path: Path, name: str) -> None:
    """Scenario B5."""
    save(tmp_path, 1)
    save(tmp_path, 2)
    assert files_of(tmp_path / "step-2") == FILES
    whole = {file: (tmp_path / "step-2" / file).read_bytes() for file in FILES}
    for kind, damage in DAMAGE.items():
        damage(tmp_path / "step-2" / name)
        with pytest.raises(CheckpointError, match=f"step-2/{name}: ") as caught:
            load_checkpoint(tmp_path / "step-2")
        assert "\n" not in str(caught.value), kind
        newest = newest_checkpoint(tmp_path)
        assert newest.path is not None
        assert check(newest.path) == 1, kind
        assert [(skipped.path.name, skipped.reason) for skipped in newest.skipped] == [("step-2", str(caught.value))]
        shutil.rmtree(tmp_path / "step-2")
        for file, data in whole.items():
            (tmp_path / "step-2" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "step-2" / file).write_bytes(data)
        assert check(tmp_path / "step-2") == 2


def test_a_flipped_bit_anywhere_in_the_manifest_is_seen(tmp_path: Path) -> None:
    save(tmp_path, 1)
    path = tmp_path / "step-1" / "manifest.json"
    data = path.read_bytes()
    for bit in range(0, len(data) * 8, 41):  # prime to 8: each of the eight bits gets its turn
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(CheckpointError, match=r"manifest\.json: "):
            manifest.verify(tmp_path / "step-1")


def test_a_damaged_checkpoint_can_be_saved_again(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    cut(0.5)(tmp_path / "step-2" / "policy.safetensors")
    save(tmp_path, 2)
    assert newest_checkpoint(tmp_path) == (tmp_path / "step-2", [])
    assert check(tmp_path / "step-2") == 2


@pytest.mark.parametrize("limit", [50, 10_000])
def test_the_kernel_refuses_the_bytes(tmp_path: Path, limit: int) -> None:
    """Real failing writes: a file-size limit acts where a full disk would, in the small files or in the tensors."""
    save(tmp_path, 1)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        with pytest.raises(
            CheckpointError, match=r"step-2: cannot be written \(.*; older checkpoints are as they were; free"
        ) as caught:
            save(tmp_path, 2, size=4 if limit == 50 else 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]
    assert check(tmp_path / "step-1") == 1


@pytest.mark.parametrize("again", [False, True], ids=["new step", "same step again"])
def test_disk_full_at_every_operation(tmp_path: Path, again: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario B6: ENOSPC before each write, sync or rename in turn; the old checkpoint stays and the error is ours."""
    for event in range(1, 100):
        folder = tmp_path / str(event)
        save(folder, 2 if again else 1)
        with monkeypatch.context() as patch:
            survived = not full_at(event, patch, folder)
        newest = newest_checkpoint(folder)
        assert newest.path is not None
        assert check(newest.path) in ({2} if again or survived else {1, 2})
        if survived:
            break
    assert survived
    assert event > 15


def full_at(event: int, patch: pytest.MonkeyPatch, folder: Path) -> bool:
    """Save step 2 with one failing operation; whether it failed."""
    count = 0

    def guarded(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal count
            count += 1
            if count == event:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **kwargs)

        return call

    for owner, name in ((checkpoint, "save_file"), (checkpoint, "fsync"), (manifest, "fsync")):
        patch.setattr(owner, name, guarded(getattr(owner, name)))
    for name in ("mkdir", "write_text", "rename"):
        patch.setattr(Path, name, guarded(getattr(Path, name)))
    try:
        save(folder, 2)
    except CheckpointError as error:
        assert "No space left on device" in str(error)  # noqa: PT017
        return True
    return count >= event


def test_a_checkpoint_that_cannot_be_deleted_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)

    def refuse(_path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        with pytest.raises(CheckpointError, match="step-1: cannot be deleted"):
            prune(tmp_path, keep=1)
    assert newest_checkpoint(tmp_path) == (tmp_path / "step-2", [])
    clean_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-2"]
