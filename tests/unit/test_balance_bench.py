from pathlib import Path

import pytest

from amft.errors import TaskError
from amft.study.file import read_study
from amft.study.plan import plan_runs, start_run
from amft.tasks.base import demonstrated
from amft.tasks.registry import build_task

ROOT = Path(__file__).parents[2]
SUMS = f"{ROOT / 'benchmarks' / 'balance' / 'sums.py'}:Sums"


def sums(**options):
    return build_task(SUMS, **options)


def right(task, n=2000):
    shown = demonstrated(task, seed=0, n=n)
    return sum(task.grade(problem, task.demonstrate(problem)).correct for problem in shown) / len(shown)


def test_demonstrations_are_as_bad_as_the_regime_wants_them():
    assert right(sums()) == right(sums(demos="few")) == right(sums(demos="easier")) == 1
    assert right(sums(demos="noisy")) == pytest.approx(0.4, abs=0.03)
    assert right(sums(demos="misleading")) == 0
    few = demonstrated(sums(demos="few"), seed=3, n=5000)
    assert len(few) == len({problem.key for problem in few}) == 64
    assert few != demonstrated(sums(demos="few"), seed=4, n=5000)
    assert all(max(p.params["numbers"]) < 10 for p in demonstrated(sums(demos="easier"), seed=0, n=500))
    noisy = sums(demos="noisy")
    problem = noisy.problems("train", n=1)[0]
    assert noisy.demonstrate(problem) == noisy.demonstrate(problem)


def test_rewards_by_hand():
    task, dense, sparse = sums(), sums(reward="dense"), sums(reward="sparse")
    problem = next(p for p in task.problems("train") if sorted(p.params["numbers"]) == [37, 47])  # 84
    assert [task.grade(problem, text).reward for text in ("84", " 84\n", "85", "084", "eighty", "")] == [
        1,
        1,
        0,
        0,
        0,
        0,
    ]
    assert [dense.grade(problem, text).reward for text in ("84", "74", "85", "4", "184")] == [1, 0.5, 0, 0, 0]
    assert [each.right_answer(problem) for each in (task, sums(demos="misleading"))] == ["84", "84"]
    assert task.grade(problem, "٨٤").outcome == "no_number"
    problems = task.problems("train")
    paid = [sparse.grade(p, str(sum(p.params["numbers"]))) for p in problems]
    assert all(grade.correct for grade in paid)
    assert sum(grade.reward for grade in paid) / len(paid) == pytest.approx(0.05, abs=0.02)


def test_no_test_pair_is_trained_on_whatever_its_order():
    task = sums()
    pairs = {split: {frozenset(p.params["numbers"]) for p in task.problems(split)} for split in task.splits}
    assert pairs["wording"] == pairs["id"]
    for split in ("meta", "val", "id", "large"):
        assert not pairs[split] & pairs["train"]
    assert len(pairs["id"]) > 200
    assert all(max(pair) > 49 for pair in pairs["large"])
    questions = [task.prompt(task.problems(split, n=1)[0])[0]["content"] for split in ("id", "wording")]
    assert questions[0].startswith("Add ")
    assert questions[1].startswith("What is ")


@pytest.mark.parametrize(
    ("options", "message"), [({"demos": "good"}, "task.demos"), ({"rewad": "x"}, "did you mean reward")]
)
def test_wrong_options_are_one_line(options, message):
    with pytest.raises(TaskError, match=message):
        sums(**options)


def test_a_task_file_that_is_none_is_one_line(tmp_path):
    (tmp_path / "t.py").write_text("import dataclasses\n@dataclasses.dataclass\nclass A:\n    pass\nb = 1\n")
    (tmp_path / "broken.py").write_text("1/0\n")
    for name, message in [
        ("t.py:A", "lacks id, splits, test_splits, problems, prompt, grade, demonstrate"),
        ("t.py:b", "has no dataclass 'b'"),
        ("none.py:A", "no file"),
        ("broken.py:A", "cannot be imported .ZeroDivisionError"),
    ]:
        with pytest.raises(TaskError, match=message):
            build_task(f"{tmp_path}/{name}")


@pytest.mark.parametrize(("name", "regimes"), [("study", 7), ("ablation", 7), ("smoke", 2)])
def test_the_shipped_studies_can_be_planned(name, regimes, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    study = read_study(ROOT / "benchmarks" / "balance" / f"{name}.yaml")
    runs = plan_runs(study, tmp_path)
    assert len(study.cases) == regimes
    assert len(runs) == regimes * len(study.arms) * len(study.seeds)
    assert start_run(study, tmp_path).load().balance == {"rule": "sft"}
    assert {run.load().model for run in runs[: len(study.arms)]} == {str(tmp_path / "start")}


def test_settings_are_chosen_on_other_seeds_than_the_bench_reports():
    chosen, reported = (read_study(ROOT / "benchmarks" / "balance" / f"{name}.yaml") for name in ("ablation", "study"))
    assert not {*chosen.seeds} & {*reported.seeds}
    for shared in ("regimes", "start", "budget", "settings", "recipe"):
        assert getattr(chosen, shared) == getattr(reported, shared), shared
