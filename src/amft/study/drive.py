"""Running what is missing: one process a run with threads and cores of its own; a killed driver loses nothing.

A run's process holds an exclusive lock on `seed-N.lock`, inherited, so that it outlives a killed driver. A second
driver that finds it held waits for the run that is still going on, then looks at what it left. The file holds its pid.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from queue import Queue
from typing import IO

from ..checkpoints.checkpoint_retention import keep_model
from ..checkpoints.manifest import fsync
from ..disk import disk_guard
from ..errors import CheckpointError, RunError
from ..run_lock import try_lock
from ..runs import RunDirectory, read_json, write_json
from . import forks
from .plan import PlannedRun

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_POLL = 0.2
STOPPED = (130, 143)
"""Exit codes of a run that was told to stop and saved itself."""


@dataclass(frozen=True)
class Slot:
    """Where a run may run."""

    cores: frozenset[int] | None
    gpu: str | None = None


def slots(jobs: int | None, threads: int) -> list[Slot]:
    """One slot per run at a time: `threads` cores each, and one of the GPUs of CUDA_VISIBLE_DEVICES where it is set.

    Args:
        jobs: runs at a time; None takes as many as there are cores for.
        threads: CPU threads of a run.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    jobs = jobs or max(1, len(cores) // threads)
    pinned = hasattr(os, "sched_setaffinity") and 1 < jobs * threads <= len(cores)
    gpus = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return [
        Slot(
            frozenset(cores[i * threads : (i + 1) * threads]) if pinned else None, gpus[i % len(gpus)] if gpus else None
        )
        for i in range(jobs)
    ]


@contextmanager
def sole_driver(output: Path) -> Iterator[None]:
    """Hold the study's lock.

    Raises:
        RunError: another `amft compare` holds it.
    """
    with disk_guard(output, cure="choose another --output"):
        file = open(output / ".lock", "w", encoding="utf-8")  # noqa: SIM115  # closed when the study ends
    with file:
        if not try_lock(file):
            raise RunError(f"{output}: another amft compare is working on it; wait for it or choose another --output")
        yield


class Driver:
    """Makes runs, `len(slots)` at a time.

    Args:
        slots: see `slots`.
        tell: called with one line per run that ends.
        checkpoints: what a finished run keeps, see `StudyFile`.
    """

    def __init__(self, slots: Sequence[Slot], tell: Callable[[str], None], checkpoints: str = "model"):
        self.slots, self.tell, self.checkpoints = slots, tell, checkpoints
        self.stop = threading.Event()
        self.running: set[ForkServerProcess] = set()
        self.guard = threading.Lock()

    def run(self, runs: Sequence[PlannedRun]) -> dict[PlannedRun, str]:
        """Make every run; what became of each: `finished`, `failed` or `stopped`.

        Raises:
            KeyboardInterrupt: SIGINT or SIGTERM; the runs in progress were told to save themselves, and have.
        """
        free: Queue[Slot] = Queue()
        for slot in self.slots:
            free.put(slot)
        outcomes: dict[PlannedRun, str] = {}
        if runs:
            forks.serve(_threads(runs[0]))
        previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
        with ThreadPoolExecutor(len(self.slots)) as pool:
            jobs = {pool.submit(self._make, run, free): run for run in runs}
            try:
                for job in as_completed(jobs):
                    outcomes[jobs[job]] = job.result()
                    if not self.stop.is_set():
                        self.tell(
                            f"[{len(outcomes)}/{len(runs)}] {jobs[job].name}: {self._words(jobs[job], job.result())}"
                        )
            except BaseException:
                self._halt()
                raise
            finally:
                signal.signal(signal.SIGTERM, previous)
        return outcomes

    def tidy(self, run: PlannedRun) -> None:
        """Let a finished run keep the model it ended with alone, unless the study keeps all."""
        if self.checkpoints == "all":
            return
        try:
            fsync(run.path / "scores.jsonl")  # which make it a finished one: on the disk before the rest is off it
            keep_model(RunDirectory(run.path))
        except CheckpointError as error:
            self.tell(f"{run.name}: its checkpoints stay as they are: {error}")

    def _make(self, run: PlannedRun, free: Queue[Slot]) -> str:
        if self.stop.is_set():
            return "stopped"
        slot = free.get()
        try:
            run.path.parent.mkdir(parents=True, exist_ok=True)
            with open(run.beside("lock"), "a+", encoding="utf-8") as lock:
                if not self._acquire(lock, run):
                    return "stopped"
                outcome = run.state if run.state == "finished" else self._train(run, slot, lock)
                if outcome == "finished":
                    self.tidy(run)
                return outcome
        finally:
            free.put(slot)

    def _acquire(self, lock: IO[str], run: PlannedRun) -> bool:
        """Wait until no process of an earlier driver works on the run; False when told to stop meanwhile."""
        if try_lock(lock):
            return True
        self.tell(f"{run.name}: a process of an earlier amft compare still works on it; waiting")
        while not self.stop.wait(_POLL):
            if try_lock(lock):
                return True
        return False

    def _train(self, run: PlannedRun, slot: Slot, lock: IO[str]) -> str:
        started = (run.path / "config.json").exists()
        if not started and run.path.exists():
            shutil.rmtree(run.path)  # killed before it had written what it is
        run.beside("failed.json").unlink(missing_ok=True)
        with self.guard:
            if self.stop.is_set():
                return "stopped"
            process = forks.start(
                command(run, resume=started)[2:],
                environment=_environment(run, slot),
                cores=slot.cores,
                log=run.beside("log"),
                kept=lock.fileno(),
            )
            self.running.add(process)
        lock.truncate(0)
        lock.write(str(process.pid))
        lock.flush()
        code = forks.wait(process)
        self.running.discard(process)
        if code == 0 and run.state == "finished":
            return "finished"
        if self.stop.is_set() and code in STOPPED:
            return "stopped"
        write_json(run.beside("failed.json"), {"code": code, "message": _last_line(run.beside("log"))})
        return "failed"

    def _halt(self) -> None:
        with self.guard:
            self.stop.set()
            for process in self.running:
                process.terminate()

    def _words(self, run: PlannedRun, outcome: str) -> str:
        return outcome if outcome != "failed" else f"failed: {failure(run)}"


def command(run: PlannedRun, *, resume: bool = False) -> list[str]:
    """The command line that makes a run: `python -m amft ...`."""
    words = [sys.executable, "-m", "amft", "train", run.recipe]
    for setting in run.settings:
        words += ["--set", setting]
    return [*words, "--output-dir", str(run.path), *(["--resume"] if resume else [])]


def failure(run: PlannedRun) -> str:
    """Why a run failed: its last line, or the signal that ended it; and where its log is."""
    found = read_json(run.beside("failed.json"))
    code = int(found["code"])
    reason = f"killed by {signal.Signals(-code).name}" if code < 0 else found["message"] or f"exit code {code}"
    return f"{reason} (log: {run.beside('log')})"


def _threads(run: PlannedRun) -> dict[str, str]:
    threads = next(setting.partition("=")[2] for setting in run.settings if setting.startswith("threads="))
    return dict.fromkeys(THREAD_VARIABLES, threads)


def _environment(run: PlannedRun, slot: Slot) -> dict[str, str]:
    gpu = {} if slot.gpu is None else {"CUDA_VISIBLE_DEVICES": slot.gpu}
    return {**os.environ, **_threads(run), "TOKENIZERS_PARALLELISM": "false", **gpu}


def _last_line(log: Path) -> str:
    lines = log.read_bytes()[-4000:].decode("utf-8", "replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[:400]
