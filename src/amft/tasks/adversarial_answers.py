"""Answers that try to break a grader: to run, to hang, to crash it, or to be paid for nothing."""

from __future__ import annotations

import math
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import TaskError
from ..types import ABSTENTIONS, Problem
from .base import Task, TriesTask

ODD = "\x00\ud800{}[]()\"'\\,:*/+-=9e^_ \n\t\u202e\U0001f600Ⅷ²"
"""Characters with a meaning to some parser, and some that few expect."""

FRAMES = ("{}", '{{"formula": "{}"}}', "\\boxed{{{}}}", "{{{{{}}}}}", "%({})s", "```python\n{}\n```")
TOWERS = ("9**9**9**9", "\\boxed{9^{9^{9^9}}}", "10000000!!!", "1e999999999", "0x" + "f" * 5_000, "nan", "-inf", "1/0")


@dataclass
class Attacker:
    """Draws answers; every method is one kind of attack."""

    rng: random.Random
    expert: str
    """A right answer, to bend."""
    command: str
    """Python code that leaves a mark when it is run."""

    def payload(self) -> str:
        return self.rng.choice(FRAMES).format(self.command)

    def hidden(self) -> str:
        return self.expert.replace("1", self.command)

    def mutated(self) -> str:
        text = list(self.expert or "x")
        for _ in range(self.rng.randint(1, 8)):
            text[self.rng.randrange(len(text))] = self.rng.choice(ODD) * self.rng.choice((0, 1, 50))
        return "".join(text)

    def nested(self) -> str:
        return self.rng.choice("([{-+~\\") * self.rng.choice((100, 10_000, 300_000)) + self.expert

    def long(self) -> str:
        return self.rng.choice((self.expert, "9", " ", "\n", "a")) * self.rng.choice((1_000, 50_000))

    def towers(self) -> str:
        return self.rng.choice(TOWERS)

    def json_bomb(self) -> str:
        return '{"formula":' * self.rng.choice((50, 50_000)) + "1" + "}" * 50

    def backtracking(self) -> str:
        return self.rng.choice(("a" * 30_000 + "!", ", " * 20_000 + "x", "{'" * 20_000))

    def noise(self) -> str:
        return "".join(chr(self.rng.randrange(1, 0xD7FF)) for _ in range(self.rng.randint(0, 300)))

    def raw(self) -> str:
        return "".join(map(chr, self.rng.choices(range(256), k=self.rng.randint(1, 300))))


ATTACKS = ("payload", "hidden", "mutated", "nested", "long", "towers", "json_bomb", "backtracking", "noise", "raw")
MAY_BE_RIGHT = ("hidden", "mutated", "nested", "long")
"""Attacks that keep enough of the expert's answer to be right by chance."""


def adversarial_answers(n: int, expert: str, command: str, *, seed: int = 0) -> Iterator[tuple[str, str]]:
    """`n` pairs (kind of attack, answer), a function of the arguments."""
    attacker = Attacker(random.Random(f"hostile:{seed}"), expert, command)
    for i in range(n):
        kind = ATTACKS[i % len(ATTACKS)]
        yield kind, getattr(attacker, kind)()


def check_adversarial(task: Task, problems: Sequence[Problem], *, answers: int = 1000, seconds: float = 2.0) -> None:
    """Grade adversarial answers: nothing runs, nothing raises, nothing takes long, later grades stay what they were.

    Args:
        task: any task.
        problems: of one split, at least one; the answers are shared out among them.
        answers: how many.
        seconds: longest that one grade may take.

    Raises:
        TaskError: names the task, the split, the kind of attack and what it did.
    """
    with tempfile.TemporaryDirectory() as folder:
        mark = Path(folder) / "mark"
        command = f"__import__('pathlib').Path({str(mark)!r}).touch()"
        share = -(-answers // len(problems))
        for i, problem in enumerate(problems):
            expert = task.demonstrate(problem)
            before = task.grade(problem, expert)
            for kind, answer in adversarial_answers(min(share, answers - i * share), expert, command, seed=i):
                _attack(task, problem, kind, answer, seconds)
            if task.grade(problem, expert) != before:
                raise TaskError(f"{task.id}, split {problem.split}: adversarial answers changed a later grade")
        if mark.exists():
            raise TaskError(f"{task.id}, split {problems[0].split}: an answer was executed")


def _attack(task: Task, problem: Problem, kind: str, answer: str, seconds: float) -> None:
    where = f"{task.id}, split {problem.split}: an adversarial answer ({kind})"
    started = time.perf_counter()
    try:
        grade = task.grade(problem, answer)
        if isinstance(task, TriesTask):
            task.feedback(problem, [answer])
    except Exception as error:  # the point is to see whether anything comes through
        raise TaskError(f"{where} made the grader raise {type(error).__name__}: {error}"[:300]) from error
    spent = time.perf_counter() - started
    if spent > seconds:
        raise TaskError(f"{where} took {spent:.1f} s; {seconds:g} s are allowed")
    judged = grade.outcome not in ABSTENTIONS
    if (judged and not math.isfinite(grade.reward)) or (grade.correct and kind not in MAY_BE_RIGHT):
        raise TaskError(f"{where} was graded {grade.outcome} with reward {grade.reward}")
