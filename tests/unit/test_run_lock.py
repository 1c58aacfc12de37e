"""A run directory has one writer; a dead one keeps nobody away (scenario B13)."""

import errno
import fcntl
import os
import signal
import subprocess
import sys

import pytest

from amft.errors import RunError
from amft.run_lock import LOCK_FILE, RunLock
from amft.runs import RunDirectory

HOLDER = """
import sys, time
from pathlib import Path
from amft.run_lock import RunLock

lock = RunLock(Path(sys.argv[1]))
lock.take()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with process:
        yield process
        process.kill()


def test_a_second_process_is_told_who_the_first_one_is(holder, tmp_path):
    with pytest.raises(RunError, match=rf"another process is writing this run \(process {holder.pid} on .*since 20"):
        RunLock(tmp_path).take()
    assert f"process {holder.pid} on" in (tmp_path / LOCK_FILE).read_text()


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_a_dead_process_is_none(holder, stop, tmp_path):
    os.kill(holder.pid, stop)
    holder.wait()
    lock = RunLock(tmp_path)
    assert lock.take() is None
    assert f"process {os.getpid()} on" in (tmp_path / LOCK_FILE).read_text()
    lock.release()


def test_what_is_released_can_be_taken_again(tmp_path):
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    first.take()
    with pytest.raises(RunError, match=f"process {os.getpid()} on"):
        second.take()
    first.release()
    first.release()
    assert second.take() is None
    second.release()


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert "this file system has no locks (No locks available)" in RunLock(tmp_path).take()


def test_a_full_disk_leaves_the_owner_unnamed_and_the_lock_held(tmp_path):
    lock = RunLock(tmp_path)
    (tmp_path / LOCK_FILE).symlink_to("/dev/full")
    assert lock.take() is None
    with pytest.raises(RunError, match="of which nothing is known"):
        RunLock(tmp_path).take()
    lock.release()


def test_a_run_that_was_killed_while_it_was_made_is_begun_anew(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    lock = RunLock(run.path)
    lock.take()
    lock.release()
    (run.path / ".config.json.aside").write_text("{")
    RunDirectory.create(tmp_path / "run")
    for name in ("config.json", "notes.txt"):
        (run.path / name).write_text("{}")
        with pytest.raises(RunError, match="already exists; continue it with --resume"):
            RunDirectory.create(tmp_path / "run")
        (run.path / name).unlink()
    (run.checkpoints / "step-1").mkdir()
    with pytest.raises(RunError, match="already exists"):
        RunDirectory.create(tmp_path / "run")


def test_what_was_hashed_is_not_read_again_and_says_the_same(tmp_path):
    run = RunDirectory.create(tmp_path / "run")
    for step in range(1, 6):
        run.append("metrics", {"step": step})
        assert run.settle() == RunDirectory(run.path).settle()
    third = run.settle()
    run.append("metrics", {"step": 6})
    run.cut_back(5, third)
    assert run.settle() == third == RunDirectory(run.path).settle()
    assert run.unsettled(third) is None
