"""Hashes of what training computes, to prove that moving code changed no number.

    python tests/move/record.py --write tests/move/hashes.json    # on the tree before the move
    python tests/move/record.py --check tests/move/hashes.json    # on the tree after it
    python tests/move/record.py --check tests/move/hashes.json --only 'rule/*'
    python tests/move/record.py --check tests/move/hashes.json --only trl/amft --keep /tmp/new   # keeps metrics.jsonl

A case is one small training run in a process of its own. Its record is the SHA-256 of the bytes of metrics.jsonl, the
start of the hash of each of its lines (so that the first step that differs is named), and the SHA-256 over the names,
types, shapes and bytes of the final weights. The numbers hold for one machine and one set of versions: `--check` says
when the recorded environment is another one.

How a new tree is adapted. The cases below are written in the names of commit d455264 and stay as they are; what the new
tree calls otherwise is said in the tables of adapter.py, and nowhere else:

- NAMES: where a class or function lives, `module:attribute`. Append the new place; the first that exists is taken.
- SETTINGS: a setting's old name to its new one, both with dots, such as "eval_steps": "eval.steps". It is used as soon
  as the tree does not know one of the old names. Settings of a rule count too: "balance.utility": "balance.signal".
- METRICS: a metric's new name to its old one, if one was renamed on purpose; empty means bytes are compared as written.
- `checkpoints`, `weights_of` and `metrics_of`: how a run directory is laid out.

`NAMES` may hold the places of both trees, so one copy of this folder runs on both. `python record.py` puts the src of
the tree that it lies in first on the path.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import json
import multiprocessing
import os
import platform
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapter import last_line, named
from cases import Case, cases

TIMEOUT = 300.0
"""Seconds for one case; then it has failed."""


def child(case: Case, out: Path, answer: Any) -> None:
    """In a process of its own: train, silently, and send back the record or the error."""
    import torch

    log = os.open(out / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    torch.set_num_threads(1)
    try:
        answer.send(case(out))
    except BaseException as error:
        traceback.print_exc()
        answer.send({"error": traceback.format_exception_only(error)[-1].strip()})


def outcome(case: Case, out: Path) -> dict[str, str]:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(case, out, theirs))
    process.start()
    theirs.close()
    try:
        return ours.recv() if ours.poll(TIMEOUT) else {"error": f"not done after {TIMEOUT:g} s"}
    except EOFError:
        process.join()
        return {"error": f"the process ended with code {process.exitcode}; {last_line(out)}"}
    finally:
        process.join(10)
        process.kill()


def run_all(chosen: dict[str, Case], keep: Path | None, say: Callable[[str, dict[str, str]], str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for n, (name, case) in enumerate(chosen.items(), 1):
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="record-") as folder:
            found[name] = outcome(case, Path(folder))
            if keep is not None:
                target = keep / name
                target.mkdir(parents=True, exist_ok=True)
                for file in (Path(folder) / "run" / "metrics.jsonl", Path(folder) / "log"):
                    if file.is_file():
                        shutil.copy(file, target)
        seconds = time.perf_counter() - begun
        print(f"{n:3}/{len(chosen)} {seconds:5.1f} s  {name:28} {say(name, found[name])}", flush=True)
    return found


def environment() -> dict[str, str]:
    import torch
    import transformers

    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    found = {"torch": torch.__version__, "transformers": transformers.__version__, "python": platform.python_version()}
    return found | {"cpu": cpu or platform.machine(), "kernels": torch.backends.cpu.get_cpu_capability()}


def verdict(wanted: dict[str, str] | None, found: dict[str, str]) -> str:
    """What is to be said of a case: `same`, or how it differs."""
    if "error" in found:
        return f"FAILED: {found['error']}"
    if wanted is None:
        return "not recorded"
    parts = [part for part in ("metrics", "weights") if wanted[part] != found[part]]
    if not parts:
        return "same"
    pairs = list(zip(wanted["lines"].split(), found["lines"].split(), strict=False))
    first = next((n for n, (a, b) in enumerate(pairs, 1) if a != b), None)
    lines = f", first at line {first}" if first else ", other number of lines" if "metrics" in parts else ""
    return f"DIFFERS: {' and '.join(parts)}{lines}"


def check(recorded: dict[str, Any], chosen: dict[str, Case], only: str, keep: Path | None) -> int:
    wanted = {name: case for name, case in recorded["cases"].items() if matches(name, only)}
    now = environment()
    for name, value in recorded["environment"].items():
        if now[name] != value:
            print(f"note: {name} is {now[name]}, the hashes are of {value}")
    found = run_all(chosen, keep, lambda name, result: verdict(wanted.get(name), result))
    wrong = {name: verdict(wanted.get(name), result) for name, result in found.items()}
    wrong = {name: said for name, said in wrong.items() if said != "same"}
    wrong |= {name: "MISSING: no such case in this tree" for name in wanted if name not in found}
    for name, said in wrong.items():
        print(f"{name}: {said}")
    print(f"{len(found) - sum(name in found for name in wrong)} of {len(wanted)} recorded cases are the same")
    return 1 if any(said != "not recorded" for said in wrong.values()) else 0


def matches(name: str, only: str) -> bool:
    return fnmatch.fnmatchcase(name, only) or only in name


def write(file: Path, chosen: dict[str, Case], only: str, keep: Path | None) -> int:
    found = run_all(chosen, keep, lambda name, result: verdict(None, result).replace("not recorded", "recorded"))
    failed = [name for name, result in found.items() if "error" in result]
    before = json.loads(file.read_text())["cases"] if file.is_file() and only != "*" else {}
    good = {name: result for name, result in found.items() if name not in failed}
    file.write_text(json.dumps({"environment": environment(), "cases": before | good}, indent=1) + "\n")
    print(f"{len(good)} cases recorded, {len(failed)} failed")
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", type=Path, metavar="FILE", help="record")
    action.add_argument("--check", type=Path, metavar="FILE", help="compare with what was recorded")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="cases whose name matches, or contains it")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep metrics.jsonl and the output of every case")
    given = parser.parse_args()
    named("AMFTTrainer")  # imported once, before the processes of the cases are forked
    print(f"amft of {Path(sys.modules['amft'].__file__ or '').parent}")
    chosen = {name: case for name, case in cases().items() if matches(name, given.only)}
    begun = time.perf_counter()
    if given.write:
        code = write(given.write, chosen, given.only, given.keep)
    else:
        code = check(json.loads(given.check.read_text()), chosen, given.only, given.keep)
    print(f"{time.perf_counter() - begun:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
