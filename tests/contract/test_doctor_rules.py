"""The doctor on a real tiny run of every rule of the registry, as it went and with everything gone wrong."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import train

from amft.balance.describe import describe
from amft.balance.registry import RULES
from amft.report.advice import ORDER
from amft.report.doctor import CHECKS, diagnose
from amft.report.finding import Finding
from amft.runs import RunDirectory
from amft.settings.config import AMFTConfig

FAST = {"relift": {"size": 3}, "mifo": {"size": 3}, "gac": {"every": 2}}
SETTINGS = {entry["rule"]: set(entry["settings"]) for entry in describe()}
WORST = {
    "completions/clipped_ratio": 0.7, "frac_reward_zero_std": 0.9, "mix/grad_cos": -0.5, "mix/grad_cos/sft/right": -0.5,
    "entropy": 50.0, "frac_reward_abstained": 0.5, "success": 0.02, "eval/val/success": 0.02, "mix/grad_norm_rl": 1e-9,
    "mix/grad_norm/rl": 1e-9,
}  # fmt: skip
ADVICE = re.compile(r"\b(raise|lower|set) ((?:[a-z_.]+(?: \(now [^)]*\))?(?: or )?)+)", re.IGNORECASE)
each_rule = pytest.mark.parametrize("name", RULES)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of 20 steps for every rule, scored on validation as it went."""
    home = tmp_path_factory.mktemp("runs")
    for name in RULES:
        spec = {"rule": name, **FAST.get(name, {})}
        train(
            home / name, spec, sft_warmup_steps=2, eval={"steps": 5, "problems": 8, "test_splits": []}, sample_steps=10
        )
    return {name: home / name for name in RULES}


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def rewritten(run: Path, to: Path, change) -> Path:
    """A copy of a run with every line of its metrics changed; only what the run measured can be."""
    shutil.copytree(run, to)
    lines = [{name: change(row, name, value) for name, value in row.items()} for row in rows(run)]
    (to / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return to


def fell(run: Path) -> None:
    """Scores of a test that the model got worse at."""
    for model, right in (("base", True), ("policy", False)):
        for problem in range(40):
            row = {"step": 20 * (not right), "model": model, "split": "id", "key": str(problem), "problem": 0}
            RunDirectory(run).append("scores", {**row, "sample": 0, "correct": right, "reward": 0.0, "outcome": "x"})


def moves(found: list[Finding]) -> Iterator[tuple[str, str]]:
    """Every setting that is advised, with its direction."""
    for finding in found:
        for way, names in ADVICE.findall(finding.action):
            yield from ((re.sub(r" \(now.*", "", name).strip("., "), way.lower()) for name in names.split(" or "))


def check(name: str, run: Path) -> list[Finding]:
    """What must hold of any run, however it went."""
    found = diagnose(run)
    assert len({finding.topic for finding in found}) == len(found), "two verdicts on one topic"
    assert {finding.topic for finding in found} <= {*CHECKS, "success on id", "all"}
    levels = [finding.level for finding in found]
    assert levels == sorted(levels, key=ORDER.index)
    assert "ok" not in levels or levels == ["ok"]
    ways: dict[str, str] = {}
    for setting, way in moves(found):
        assert ways.setdefault(setting, way) == way, f"{setting} both ways"
        holder, _, inner = setting.partition(".")
        known: Any = SETTINGS[name] if holder == "balance" else AMFTConfig.model_fields
        if inner and holder != "balance":
            known = known[holder].annotation.model_fields
        assert (inner or holder) in known, f"{name} has no {setting}"
    mixing = [row for row in rows(run) if row["phase"] == "mix"]
    text = " ".join(f"{finding.title} {finding.evidence} {finding.action}" for finding in found)
    if "in every step" in text:
        assert len({row["mix/mu"] for row in mixing}) == 1
    if told := re.search(r"μ went from (\d\.\d+) to (\d\.\d+)", text):
        assert told.groups() == (f"{mixing[0]['mix/mu']:.2f}", f"{mixing[-1]['mix/mu']:.2f}")
    if not any("policy_loss" in row for row in mixing):
        assert not {"num_generations", "temperature", "beta", "entropy_coef", "num_prompts"} & ways.keys()
    if RULES[name].preset.get("warmup") is False:
        assert "sft_warmup_steps" not in ways
    return found


@each_rule
def test_a_run_as_it_went(name: str, runs: dict[str, Path]) -> None:
    check(name, runs[name])


@each_rule
def test_a_run_in_which_everything_went_wrong(name: str, runs: dict[str, Path], tmp_path: Path) -> None:
    run = rewritten(runs[name], tmp_path / "run", lambda row, key, value: WORST.get(key, value))
    fell(run)
    found = {finding.topic: finding for finding in check(name, run)}
    assert found["success on id"].level == "bad"
    measured = set().union(*rows(run))
    assert ("groups" in found) == ("frac_reward_zero_std" in measured)
    assert ("length" in found) == ("completions/clipped_ratio" in measured)
    has_floor = "mu_min" in SETTINGS[name]
    assert ("balance.mu_min" in found["success on id"].action) == has_floor


@each_rule
def test_a_run_at_its_lower_bound(name: str, runs: dict[str, Path], tmp_path: Path) -> None:
    """mu falls to 0.05, the lower bound where there is one: stuck where mu is learned, as asked where it is not."""
    done = iter(range(100))

    def change(row: dict, key: str, value: object) -> object:
        return max(0.05, 0.5 - 0.1 * next(done)) if key == "mix/mu" and row["phase"] == "mix" else value

    run = rewritten(runs[name], tmp_path / "run", change)
    fell(run)
    found = {finding.topic: finding for finding in check(name, run)}
    learned = "mu_min" in SETTINGS[name]
    assert (found.get("balance") is not None and "stuck at mu_min" in found["balance"].title) == learned
    if learned:
        assert "balance.mu_min" in found["success on id"].action
        assert "balance.mu_min" not in found["balance"].action


def test_every_check_of_the_registry_speaks_on_some_run(runs: dict[str, Path], tmp_path: Path) -> None:
    run = rewritten(runs["amft"], tmp_path / "run", lambda row, key, value: WORST.get(key, value))
    RunDirectory(run).append("events", {"step": 0, "kind": "data", "message": "30 of 80 rows are not used"})
    started = iter(range(100))

    def leave_out(row: dict, key: str, value: object) -> object:
        return 0.7 if next(started) < 3 else 0.02

    kinds = rewritten(
        runs["amft"],
        tmp_path / "classes",
        lambda row, key, value: leave_out(row, key, value) if key.startswith("mix/weight/sft/") else value,
    )
    spoken = {finding.topic for each in (run, kinds) for finding in diagnose(each)}
    silent = {*CHECKS} - spoken
    assert silent <= {"steps", "end of the run", "meta-gradient", "validation success"}
