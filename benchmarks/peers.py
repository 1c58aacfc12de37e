"""TRL against this library at equal work: the same weights, prompts, demonstrations and lengths of answers, in turns.

    python benchmarks/peers.py                              # the whole grid, about two hours on one idle core
    python benchmarks/peers.py "mixed 3.7 M" rollouts       # cases whose names begin so
    python benchmarks/peers.py --table                      # the results so far
    python benchmarks/peers.py --write docs/performance.md  # the same, put between the page's markers

Each arm is a process of its own on one thread, which waits while another one steps, so that a drift of the machine's
speed falls on all. After a first step, `--steps` rounds: one step of every arm. The ratio of an arm to TRL is the
median over the rounds of CPU seconds; wall seconds stand beside it. Tokens drawn and imitated are counted by each arm
and must be the same. Results go to `--output`, one case after the other; one that is measured again replaces the older.

`amft` arms run as `amft train` does, TRL as it comes; `--memory plain` leaves the allocator of all alone, and
`--memory kept` keeps freed memory for all.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from peers_cases import CASES, Case

HERE = Path(__file__).parent
KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**62)}
ROLLOUTS = "rollouts"


class Arm:
    """One library in a process of its own."""

    def __init__(self, name: str, case: str, options: argparse.Namespace, log: Any):
        command = [sys.executable, __file__, "--serve", name, case]
        if options.smollm2:
            command += ["--smollm2", options.smollm2]
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment(options)
        )

    def ask(self, order: str) -> dict[str, float]:
        """Its answer to an order."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: stopped with exit code {self.process.wait()}; see the log")
        answer: dict[str, float] = json.loads(line)
        return answer

    def end(self) -> None:
        """Whatever it is doing."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def environment(options: argparse.Namespace) -> dict[str, str]:
    """One thread, no network, and the allocator as asked for."""
    chosen = {"as it comes": {}, "plain": {"AMFT_MALLOC": "plain"}, "kept": KEPT}[options.memory]
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **chosen}


def measure(name: str, case: Case, options: argparse.Namespace, log: Any) -> dict[str, Any]:
    """All steps of all arms of a case."""
    arms = [Arm(arm, name, options, log) for arm in case.arms if options.arms is None or arm in options.arms]
    found: dict[str, Any] = {arm.name: {"steps": []} for arm in arms}
    try:
        for number in range(options.steps + 1):
            for arm in arms:
                step = arm.ask("step")
                if number:
                    found[arm.name]["steps"].append(step)
            check_equal_work({arm.name: found[arm.name]["steps"][-1] for arm in arms if number})
        for arm in arms:
            found[arm.name] |= arm.ask("products") if options.products else {}
            found[arm.name] |= arm.ask("stop")
    finally:
        for arm in arms:
            arm.end()
    return {"arms": found, **about(options)}


def check_equal_work(steps: dict[str, dict[str, float]]) -> None:
    """Every arm drew and imitated as many tokens.

    Raises:
        SystemExit: they did not, so their seconds cannot be compared.
    """
    for what in ("drawn", "tokens/demo"):
        counts = {arm: step.get(what) for arm, step in steps.items()}
        if len(set(counts.values())) > 1:
            raise SystemExit(f"unequal work: {what} {counts}")


def about(options: argparse.Namespace) -> dict[str, Any]:
    """When, where and with what."""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{names[0] if names else platform.machine()}, {len(names)} cores",
        "load": round(os.getloadavg()[0], 1),
        "memory": options.memory,
        **{name: importlib.metadata.version(name) for name in ("torch", "transformers", "trl")},
    }


def measure_rollouts(options: argparse.Namespace, log: Any) -> dict[str, Any]:
    """Tokens a second of each engine, in one process of its own."""
    command = [sys.executable, str(HERE / "peers_rollouts.py"), str(options.rounds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment(options), check=True)
    return {ROLLOUTS: json.loads(done.stdout.splitlines()[-1]), **about(options)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="beginnings of names; none: all but `tiny`")
    parser.add_argument("--steps", type=int, default=15, help="rounds after the first step")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the rollouts")
    parser.add_argument("--arms", nargs="*", help="these arms only")
    parser.add_argument("--smollm2", help="directory of `amft fetch smollm2`; without it those cases are left out")
    parser.add_argument("--memory", choices=("as it comes", "plain", "kept"), default="as it comes")
    parser.add_argument("--products", action=argparse.BooleanOptionalAction, default=True, help="the roofline")
    parser.add_argument("--output", type=Path, default=HERE / "peers.json")
    parser.add_argument("--log", type=Path, default=Path(os.devnull), help="what the libraries print")
    parser.add_argument("--list", action="store_true", help="names of the cases")
    parser.add_argument("--table", action="store_true", help="print the results so far")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put them between the markers of a page")
    parser.add_argument("--serve", nargs=2, metavar=("ARM", "CASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        from peers_arms import serve

        serve(options.serve[0], CASES[options.serve[1]], options.smollm2)
        return
    results = read(options.output)
    if options.table or options.write:
        from peers_table import put, table

        print(table(results))
        if options.write:
            options.write.write_text(put(options.write.read_text(encoding="utf-8"), table(results)), encoding="utf-8")
        return
    if options.list:
        print("\n".join(chosen(options)))
        return
    failed = [name for name in chosen(options) if not measured(name, options)]
    if failed:
        raise SystemExit(f"not measured: {', '.join(failed)}")


def measured(name: str, options: argparse.Namespace) -> bool:
    """Measure one case and write it down; whether that went well, so that the others are measured anyway."""
    from peers_table import lines

    print(f"{datetime.datetime.now():%H:%M:%S} {name}", flush=True)
    try:
        with options.log.open("a", encoding="utf-8") as log:
            made = measure_rollouts(options, log) if name == ROLLOUTS else measure(name, CASES[name], options, log)
    except (SystemExit, subprocess.CalledProcessError) as error:
        print(f"{name}: {error}", flush=True)
        return False
    results = read(options.output) | {name: made}
    options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print("\n".join(lines(name, made)), flush=True)
    return True


def read(output: Path) -> dict[str, Any]:
    """The results so far."""
    found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {}
    return found


def chosen(options: argparse.Namespace) -> list[str]:
    """Names of the cases that were asked for."""
    names = [name for name, case in CASES.items() if case.sizes or options.smollm2]
    wanted = options.cases or [name for name in [*names, ROLLOUTS] if name != "tiny"]
    return [name for name in [*names, ROLLOUTS] if any(name.startswith(each) for each in wanted)]


if __name__ == "__main__":
    main()
