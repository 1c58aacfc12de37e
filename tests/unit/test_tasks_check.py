"""The checker itself: a task that breaks one promise is told which one."""

from __future__ import annotations

import dataclasses
import json
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from amft.errors import TaskError
from amft.tasks.adversarial_answers import ATTACKS, adversarial_answers
from amft.tasks.base import Task, TriesTask, tries
from amft.tasks.check import check_task, describe_prompt
from amft.tasks.episode import episode_grade
from amft.types import Grade, Problem


@dataclass(frozen=True)
class Adding:
    """Add two numbers; up to three tries."""

    id: ClassVar[str] = "adding-v1"
    splits: ClassVar[dict[str, str]] = {"train": "even", "test": "odd"}
    test_splits: ClassVar[tuple[str, ...]] = ("test",)

    max_attempts: int = 3

    def problems(self, split: str, *, seed: int = 0, n: int | None = None) -> list[Problem]:
        rng = random.Random(f"{split}:{seed}")
        firsts = [2 * i + (split == "test") for i in range(20)]
        pairs = [(a, 7) for a in firsts] if n is None else [(rng.choice(firsts), 7) for _ in range(n)]
        return [Problem(self.id, split, str(a), {"a": a, "b": b}) for a, b in pairs]

    def prompt(self, problem: Problem) -> list[dict[str, Any]]:
        return [{"role": "user", "content": f"{problem.params['a']}+{problem.params['b']}?"}]

    def grade(self, problem: Problem, answer: str) -> Grade:
        right = answer == self.demonstrate(problem)
        return Grade("correct" if right else "wrong", float(right), right)

    def demonstrate(self, problem: Problem) -> str:
        return f"{problem.params['a']} + {problem.params['b']} = {problem.params['a'] + problem.params['b']}"

    def spoil(self, problem: Problem) -> str:
        return self.demonstrate(problem) + "1"

    def feedback(self, problem: Problem, answers: Sequence[str]) -> str | None:
        over = self.grade(problem, answers[-1]).correct or len(answers) >= self.max_attempts
        return None if over else f"no, {len(answers)} used"

    def grade_episode(self, problem: Problem, answers: Sequence[str]) -> Grade:
        return episode_grade([self.grade(problem, answer) for answer in answers], "discounted")


def broken(**methods: Any) -> Task:
    """`Adding` with some methods of its class replaced."""
    return dataclasses.dataclass(frozen=True)(type("Broken", (Adding,), methods))()


def of_params(**params: Any) -> Callable[..., list[Problem]]:
    def problems(self: Any, split: str, *, seed: int = 0, n: int | None = None) -> list[Problem]:
        drawn = Adding.problems(self, split, seed=seed, n=n)
        return [dataclasses.replace(problem, params={**problem.params, **params}) for problem in drawn]

    return problems


def shared_keys(self: Any, split: str, *, seed: int = 0, n: int | None = None) -> list[Problem]:
    return [dataclasses.replace(p, split=split) for p in Adding.problems(self, "train", seed=seed, n=n)]


def unseeded(self: Any, split: str, *, seed: int = 0, n: int | None = None) -> list[Problem]:
    return Adding.problems(self, split, seed=time.perf_counter_ns(), n=n)


def executed(self: Any, problem: Problem, answer: str) -> Grade:
    if answer.startswith("__import__"):
        mark = re.search(r"Path\('([^']*)'\)", answer)
        assert mark is not None
        Path(mark[1]).touch()
    return Adding.grade(self, problem, answer)


def slow(self: Any, problem: Problem, answer: str) -> Grade:
    if answer == "nan":
        time.sleep(0.3)
    return Adding.grade(self, problem, answer)


def learning(seen: list[str] = []) -> Callable[..., Grade]:  # noqa: B006
    def grade(self: Any, problem: Problem, answer: str) -> Grade:
        seen.append(answer)
        return dataclasses.replace(Adding.grade(self, problem, answer), info={"large": any(len(s) > 999 for s in seen)})

    return grade


def global_draw(self: Any, problem: Problem) -> list[dict[str, Any]]:
    random.random()
    return Adding.prompt(self, problem)


def endless(self: Any, problem: Problem, answers: Sequence[str]) -> str | None:
    return None if Adding.grade(self, problem, answers[-1]).correct else "no"


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"problems": shared_keys}, "splits train and test share the key"),
    ({"problems": unseeded}, "one seed gave different problems"),
    ({"problems": of_params(pair=(1, 2))}, "changes in JSON"),
    ({"problems": lambda self, split, **k: Adding.problems(self, "train", **k)}, "share the key"),
    ({"prompt": global_draw}, "global random numbers"),
    ({"prompt": lambda self, p: [{"role": "user", "content": str(time.perf_counter_ns())}]}, "not deterministic"),
    ({"prompt": lambda self, p: [{"role": "user", "content": ""}]}, "message 1 of a prompt needs"),
    ({"demonstrate": lambda self, p: str(time.perf_counter_ns())}, "the expert of '[0-9]+' is not deterministic"),
    ({"demonstrate": lambda self, p: "?", "grade": lambda self, p, a: Grade("no", 0.0, False)}, "is graded no"),
    ({"grade": lambda self, p, a: Grade("fine", 1.0, True)}, "'' is graded as correct"),
    ({"spoil": lambda self, p: self.demonstrate(p)}, "is graded as correct"),
    ({"grade": lambda self, p, a: Grade("x", 1.0, a == self.demonstrate(p))}, "is paid like the expert"),
    ({"grade": executed}, "was executed"),
    ({"grade": slow}, r"\(towers\) took \d.\d s; 0.2 s are allowed"),
    ({"grade": learning()}, "changed a later grade"),
    ({"grade": lambda self, p, a: Adding.grade(self, p, a) if len(a) < 5_000 else 1 / 0}, "raise ZeroDivisionError"),
    ({"feedback": lambda self, p, answers: None}, "there is no feedback after 1 of 3"),
    ({"feedback": endless}, "3 wrong answers do not end"),
    ({"feedback": lambda self, p, answers: "again"}, "a right answer does not end the episode"),
    ({"grade_episode": lambda self, p, answers: Grade("correct", 1.0, True)}, "an episode of wrong answers"),
    ({"grade_episode": lambda self, p, answers: self.grade(p, answers[0])}, "an episode that ends well"),
]


def test_a_sound_task_passes_with_its_facts() -> None:
    rows = check_task(Adding(), problems=30, adversarial=100)
    assert [(row["split"], row["problems"], row["keys"]) for row in rows] == [("train", 30, 20), ("test", 30, 20)]
    assert rows == check_task(Adding(), problems=30, adversarial=10)  # the digest is of problems, not of attacks
    assert rows[0]["digest"] != rows[1]["digest"]


@pytest.mark.parametrize(("methods", "message"), BROKEN, ids=lambda value: value if isinstance(value, str) else "")
def test_each_broken_promise_is_named(methods: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message) as caught:
        check_task(broken(**methods), problems=20, adversarial=200, seconds=0.2)
    assert "\n" not in str(caught.value)


def test_seen_splits_may_share_keys() -> None:
    check_task(broken(problems=shared_keys, seen_splits=("test",)), problems=5, adversarial=10)


def test_adversarial_answers_are_of_every_kind_and_seeded() -> None:
    first = list(adversarial_answers(50, "1 + 1", "run()", seed=4))
    assert {kind for kind, _ in first} == set(ATTACKS)
    assert (
        first
        == list(adversarial_answers(50, "1 + 1", "run()", seed=4))
        != list(adversarial_answers(50, "1 + 1", "run()"))
    )
    assert max(len(answer) for _, answer in first) > 100_000


def test_tries() -> None:
    assert isinstance(Adding(), TriesTask)
    assert tries(Adding()) == 3
    once = type("Once", (), {name: getattr(Adding, name) for name in ("id", "splits", "test_splits")})()
    assert tries(once) == 1


def test_episode_grade_by_hand() -> None:
    grades = [Grade("bad", -3.0, False), Grade("near", -1.0, False), Grade("correct", 5.0, True, {"value": "24"})]
    rewards = {how: episode_grade(grades, how).reward for how in ("final", "sum", "discounted")}
    # -3 + 0.9 * -1 + 0.81 * 5 = 0.15
    assert rewards == {"final": 5.0, "sum": 1.0, "discounted": pytest.approx(0.15)}
    found = episode_grade(grades, "sum")
    assert (found.outcome, found.correct) == ("correct", True)
    assert found.info == {"value": "24", "attempts": 3, "outcomes": ["bad", "near", "correct"]}
    assert json.dumps(found.info)


def test_pictures_stand_in_the_first_message_only() -> None:
    image = pytest.importorskip("PIL.Image").new("RGB", (2, 2))
    picture = {"type": "image", "image": image}
    words = {"type": "text", "text": "hello"}
    text = describe_prompt([{"role": "user", "content": [picture, words]}, {"role": "assistant", "content": "yes"}])
    assert re.fullmatch(r"user: <image RGB 2x2 [0-9a-f]{64}>\nuser: hello\nassistant: yes", text)
    for bad in ([[picture, picture]], [[words], [picture]]):
        with pytest.raises(TaskError, match="one may stand in the first"):
            describe_prompt([{"role": "user", "content": content} for content in bad])
