"""Racing: who stops after the first seeds, by hand; and a study that makes no more runs of those."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path

import pytest
from study_dirs import study_file, write_one

from amft.cli import main
from amft.errors import ConfigError
from amft.report.study.load import load_study
from amft.report.study.page import write_study_report
from amft.report.study.racing import beaten
from amft.study import drive
from amft.study.plan import write_study

SEEDS = [0, 1, 2, 3, 4]


def stopped(scores: dict[str, list[float | None]], spared: tuple[str, ...] = ()) -> dict[tuple[str, str], str]:
    return beaten(["all"], [*scores], SEEDS, spared, lambda _, rule, seed: scores[rule][seed])


def test_only_those_that_are_clearly_behind_stop() -> None:
    scores: dict[str, list[float | None]] = {
        "leader": [0.8, 0.82, 0.78, 0.81, 0.79],
        "far": [0.5, 0.53, 0.47, 0.51, 0.49],
        "near": [0.9, 0.6, 0.85, 0.6, 0.9],  # mean .77, and as often ahead as behind
        "short": [0.1, 0.1, 0.1, 0.1, None],
        "spared": [0.1, 0.12, 0.09, 0.1, 0.11],
    }
    assert stopped(scores, ("spared",)) == {("all", "far"): "leader"}
    assert stopped(scores) == {("all", "far"): "leader", ("all", "spared"): "leader"}


def test_the_more_rules_are_looked_at_the_clearer_it_must_be() -> None:
    # Differences -.06, -.02, -.1, -.01, -.06: t = -3.10 with 4 degrees of freedom, p = .036; of three, corrected .107.
    scores: dict[str, list[float | None]] = {"leader": [0.5] * 5, "behind": [0.44, 0.48, 0.40, 0.49, 0.44]}
    assert stopped(scores) == {("all", "behind"): "leader"}
    same: list[float | None] = [0.3, 0.7, 0.3, 0.7, 0.45]
    assert stopped({**scores, "x": same, "y": same}) == {}


LEVELS = {"good": 0.9, "bad": 0.1, "base": 0.5}


def racing_study(seeds: int = 7):  # a StudyFile, imported late
    return study_file(
        regimes={"all": {}}, rules=dict.fromkeys(LEVELS, "sft"), grid=[], tuned={}, subject="good",
        baseline="base", seeds=list(range(seeds)), racing=5,
    )  # fmt: skip


def test_a_stopped_rule_is_told_and_its_other_seeds_are_not_missing(tmp_path: Path) -> None:
    study = racing_study()
    write_study(study, tmp_path)
    for rule, level in LEVELS.items():
        for seed in study.seeds if rule != "bad" else SEEDS:
            write_one(tmp_path / "runs" / "all" / rule / f"seed-{seed}", level, seed, {"rule": "sft"})
    loaded = load_study(tmp_path)
    assert (loaded.stopped, loaded.unfinished) == ({("all", "bad"): "good"}, [])
    page = write_study_report(tmp_path).read_text()
    assert "bad in all (by good)" in page
    assert "all: bad stopped early, clearly beaten by good on validation" in (tmp_path / "table.txt").read_text()


def test_compare_makes_no_more_runs_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    scripts = tmp_path_factory.mktemp("script")
    monkeypatch.syspath_prepend(str(scripts))
    text = f"""
    import pathlib, sys
    sys.path.insert(0, {os.path.dirname(__file__)!r})
    from study_dirs import write_one
    place = pathlib.Path(sys.argv[1])
    write_one(place, {LEVELS}[place.parent.name], int(place.name[5:]), dict(rule="sft"))
    """
    (scripts / "race_script.py").write_text(textwrap.dedent(text))
    words = [sys.executable, "-m", "race_script"]
    monkeypatch.setattr(drive, "command", lambda run, resume=False: [*words, str(run.path)])
    file = tmp_path / "study.yaml"
    file.write_text(
        "recipe: general_points\nrules: {good: sft, bad: sft, base: sft}\nbaseline: base\nsubject: good\n"
        "seeds: [0, 1, 2, 3, 4, 5]\nracing: 5\ncheckpoints: all\nmetrics: {splits: [id, rule_ood]}\n"
    )
    assert main(["compare", str(file), "--output", str(tmp_path / "out"), "--jobs", "2"]) == 0
    made = {rule: len([*(tmp_path / "out" / "runs" / "all" / rule).glob("seed-?")]) for rule in LEVELS}
    assert made == {"good": 6, "bad": 5, "base": 6}


def test_fewer_than_five_seeds_are_refused() -> None:
    with pytest.raises(ConfigError, match="racing"):
        study_file(racing=4)
