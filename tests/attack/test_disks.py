"""A disk that refuses, at every write of a whole run: one line, nothing lost, and the resumed run ends the same."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny_runs import build

from amft.errors import AMFTError
from amft.report.page import write_report

SETTINGS = {
    "max_steps": 6, "checkpoint": {"steps": 2, "total_limit": 2}, "eval": {"steps": 3, "test_splits": []},
    "sample_steps": 2,
}  # fmt: skip
SAME = ("metrics.jsonl", "samples.jsonl", "checkpoints/step-6/model/model.safetensors")
LIMITS = [10, 60, 200, 400, 700, 900, 1200, 1600, 2100, 2600, 3200, 3900, 4700, 6000, 9000, 14_000]


def run(directory: Path, resume: bool = False) -> None:
    build(directory, "amft", **SETTINGS).train(resume=resume)
    write_report(directory)


def again(directory: Path) -> None:
    """What a user does when there is room again."""
    run(directory, resume=(directory / "config.json").exists())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole") / "run"
    run(directory)
    return directory


def check(directory: Path, whole: Path) -> None:
    again(directory)
    for name in SAME:
        assert (directory / name).read_bytes() == (whole / name).read_bytes(), name
    assert (directory / "report.html").read_text().count("</html>") == 1
    left = {path.name for path in directory.rglob(".*")} | {path.name for path in directory.rglob("*.aside")}
    assert left == set()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may become larger: the kernel refuses, as a full disk does, in any library."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("size", LIMITS)
def test_no_file_may_be_larger(size: int, whole: Path, tmp_path: Path) -> None:
    with largest_file(size), pytest.raises(AMFTError, match="cannot be written") as caught:
        run(tmp_path / "run")
    assert "\n" not in str(caught.value)
    check(tmp_path / "run", whole)


class Refusals:
    """The `at`-th opening for writing, renaming, syncing or making of a directory below a folder is refused."""

    def __init__(self, folder: Path, at: int, monkeypatch: pytest.MonkeyPatch):
        self.folder, self.at, self.count, self.where = str(folder), at, 0, ""
        for owner, name in ((os, "open"), (os, "replace"), (os, "rename"), (os, "mkdir"), (os, "fsync")):
            monkeypatch.setattr(owner, name, self._guarded(getattr(owner, name), name))
        import builtins

        monkeypatch.setattr(builtins, "open", self._guarded(open, "file"))

    def _guarded(self, real, name):
        def call(path, *args, **kwargs):
            mode = str(args[0] if args else kwargs.get("mode", "r")) if name == "file" else "w"
            is_ours = name == "fsync" or str(path).startswith(self.folder)
            if is_ours and any(letter in mode for letter in "wax+"):
                self.count += 1
                if self.count == self.at:
                    self.where = f"{name} {path}"
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(path, *args, **kwargs)

        return call


@pytest.mark.parametrize("start", range(8))
def test_every_operation_is_refused_once(start: int, whole: Path, tmp_path: Path, monkeypatch) -> None:
    """Eight parts of one sweep."""
    at = start + 1
    while True:
        directory = tmp_path / f"{at}" / "run"
        with monkeypatch.context() as patch:
            refusals = Refusals(directory, at, patch)
            refusal = None
            try:
                run(directory)
            except AMFTError as error:
                refusal = str(error)
        if not refusals.where:
            break
        if refusal is not None:
            assert "\n" not in refusal, refusals.where
            check(directory, whole)
        else:  # what was refused could be done without
            assert all((directory / name).read_bytes() == (whole / name).read_bytes() for name in SAME), refusals.where
        at += 8
    assert at > 100


def test_a_full_file_system_of_its_own(whole: Path, tmp_path: Path) -> None:
    """A real one of half a megabyte, then given more room."""
    mount = tmp_path / "disk"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(mount)], capture_output=True).returncode:
        pytest.skip("this process may not mount a file system")
    try:
        with pytest.raises(AMFTError, match="No space left"):
            run(mount / "run")
        subprocess.run(["mount", "-o", "remount,size=64m", str(mount)], check=True)
        subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
        with pytest.raises(AMFTError, match="Read-only file system"):
            again(mount / "run")
        subprocess.run(["mount", "-o", "remount,rw", str(mount)], check=True)
        check(mount / "run", whole)
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)
