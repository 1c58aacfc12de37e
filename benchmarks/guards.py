"""What the guards of a run cost: lock, digests, split, checks, syncs, as a share of the run's time.

python benchmarks/guards.py [STEPS]       # the demonstration's own recipe, so many of its steps (default 12)

Every guard is timed inside one run, by wrapping its function; the rest of the run's wall time is everything else. So
machine noise, which is larger than what is measured, does not enter the share.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from amft.assembly.training import build_trainer
from amft.checkpoints import manifest
from amft.data import encoding
from amft.experience import task_sources
from amft.models import load
from amft.run_lock import RunLock
from amft.runs import RunDirectory
from amft.settings.recipe import load_recipe
from amft.training import foundation, run_logger, training_run

GUARDS: list[tuple[Any, str]] = [
    (RunLock, "take"),
    (RunDirectory, "settle"),
    (foundation, "weights_digest"),
    (foundation, "tokenizer_digests"),
    (foundation, "sources_of"),
    (foundation, "check_tokenizer"),
    (load, "check_files"),
    (load, "check_sound"),
    (task_sources, "_check_apart"),
    (task_sources.RowSet, "digest"),
    (encoding, "special_strings"),
    (run_logger, "private"),
    (training_run, "check_sources"),
    (manifest, "fsync"),
]


def timed(real: Callable[..., Any], name: str, seconds: dict[str, float]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        begun = time.perf_counter()
        try:
            return real(*args, **kwargs)
        finally:
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - begun

    return call


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    seconds: dict[str, float] = {}
    for owner, name in GUARDS:
        setattr(owner, name, timed(getattr(owner, name), name, seconds))
    with tempfile.TemporaryDirectory() as folder:
        changes = [f"max_steps={steps}", "eval.test_problems=8", f"output_dir={Path(folder) / 'run'}"]
        recipe = load_recipe("general_points", changes)
        begun = time.perf_counter()
        build_trainer(recipe).train()
        whole = time.perf_counter() - begun
    for name, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"{name:20} {1000 * spent:8.1f} ms")
    total = sum(seconds.values())
    print(f"{'all guards':20} {1000 * total:8.1f} ms, {100 * total / whole:.2f} % of {whole:.1f} s ({steps} steps)")


if __name__ == "__main__":
    main()
