"""The task: a short story or an equation, worked steps, one exact answer."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from ...errors import TaskError
from ...types import Grade, Message, Problem
from .programs import LONG, LONG_KINDS, PROGRAM_KINDS, SHORT, Program, draw_program
from .verifier import judge_number
from .wording import ASK, PARAPHRASED, TRAINED, ProblemWording, word_question

SMALL_NUMBERS, LARGE_NUMBERS = range(2, 21), range(100, 500)
"""Numbers of the ordinary problems, and of `large_number`."""

SIDES = {"test": range(20), "val": range(20, 25), "meta": range(25, 30), "train": range(30, 100)}
"""Side -> which hundredths of all programs, by the hash of their key."""


@dataclass(frozen=True)
class ProgramPool:
    """Where a split's programs come from."""

    side: str
    size: int
    numbers: range = SMALL_NUMBERS
    lengths: range = SHORT
    kinds: tuple[str, ...] = PROGRAM_KINDS
    wording: ProblemWording = TRAINED


PROGRAM_POOLS: Mapping[str, ProgramPool] = {
    "train": ProgramPool("train", 4000),
    "meta": ProgramPool("meta", 200),
    "val": ProgramPool("val", 200),
    "id": ProgramPool("test", 400),
    "length": ProgramPool("test", 400, lengths=LONG, kinds=LONG_KINDS),
    "large_number": ProgramPool("test", 400, numbers=LARGE_NUMBERS),
    "wording": ProgramPool("test", 400, wording=PARAPHRASED),
}


@dataclass(frozen=True)
class WordProblems:
    """Short word problems and linear equations, generated, with worked exact answers (text, one answer).

    State: a program (`programs.py`): gains and losses, boxes of things, a comparison, equal shares, or an equation
    `ax+b=c`; 1 to 3 steps over numbers from 2 to 20. No number in it or on the way exceeds 999; one division in
    five leaves a fraction.
    Prompt: one user message, the story in one or two sentences and the line that asks for `Answer: n`.
    Answer: the worked style writes one operation a line (`3*4=12`), then `Answer: 12`. The last `Answer:` counts;
    whole numbers, fractions and decimals are compared exactly; a unit may follow.
    Outcomes and rewards: correct 1; wrong_answer, unreadable (not a number), no_answer 0.
    Splits: programs are told apart by a hash, so that no test program is ever trained on in any words. Out of
    distribution: 4 to 6 steps, numbers from 100, sentences and words that training never uses.
    Metrics: success = share of correct answers; intervals are clustered by program.
    Differences from published sets: every problem is generated, so none can have been seen in pretraining; only
    the four operations.
    History: v1 (2026-11).
    """

    id: ClassVar[str] = "word_problems-v1"
    splits: ClassVar[Mapping[str, str]] = {
        "train": "programs for training",
        "meta": "programs for the held-out utility",
        "val": "programs for model selection",
        "id": "test programs of the same kinds, numbers, lengths and words",
        "length": "test programs of 4 to 6 steps",
        "large_number": "test programs over numbers from 100 to 499",
        "wording": "test programs told in sentences never trained on",
    }
    test_splits: ClassVar[tuple[str, ...]] = ("id", "length", "large_number", "wording")

    demonstrations: str = "worked"
    """`worked`: one operation a line before the answer; `answer`: the answer alone."""

    def __post_init__(self) -> None:
        if self.demonstrations not in ASK:
            raise TaskError(f"task.demonstrations: {self.demonstrations!r} is not one of {', '.join(ASK)}")

    def problems(self, split: str, *, seed: int = 0, n: int | None = None) -> list[Problem]:
        """`n` problems (None: every program once), shuffled and used evenly; words are drawn.

        Raises:
            TaskError: there is no such split.
        """
        if split not in PROGRAM_POOLS:
            raise TaskError(f"split {split!r} is not one of {', '.join(self.splits)}")
        programs = programs_of(split)
        rng = random.Random(f"word_problems:{split}:{seed}")
        queue: list[Program] = []
        out = []
        for _ in range(len(programs) if n is None else n):
            queue = queue or rng.sample(programs, len(programs))
            program = queue.pop()
            params = {
                "kind": program.kind,
                "numbers": list(program.numbers),
                "question": word_question(program, PROGRAM_POOLS[split].wording, rng),
            }
            out.append(Problem(task=self.id, split=split, key=program.key, params=params))
        return out

    def prompt(self, problem: Problem) -> list[Message]:
        return [{"role": "user", "content": f"{problem.params['question']}\n{ASK[self.demonstrations]}"}]

    def grade(self, problem: Problem, answer: str) -> Grade:
        outcome = judge_number(answer, _program(problem).answer)
        return Grade(outcome, float(outcome == "correct"), outcome == "correct")

    def demonstrate(self, problem: Problem) -> str:
        """The steps and the answer."""
        program = _program(problem)
        steps = program.steps if self.demonstrations == "worked" else []
        return "\n".join([*map(str, steps), f"Answer: {program.answer}"])

    def spoil(self, problem: Problem) -> str:
        """The steps with a wrong answer."""
        return f"{self.demonstrate(problem)}1"


@lru_cache(maxsize=16)
def programs_of(split: str) -> list[Program]:
    """All programs of a split, distinct by key, the same in every run."""
    pool = PROGRAM_POOLS[split]
    rng = random.Random(f"word_problems pool {split}")
    found: dict[str, Program] = {}
    while len(found) < pool.size:
        program = draw_program(rng, rng.choice(pool.kinds), pool.numbers, pool.lengths)
        if side_of_program(program) == pool.side:
            found.setdefault(program.key, program)
    return list(found.values())


def side_of_program(program: Program) -> str:
    """The side of the data a program belongs to, whoever draws it."""
    place = int(hashlib.sha256(f"word_problems {program.key}".encode()).hexdigest()[:8], 16) % 100
    return next(side for side, share in SIDES.items() if place in share)


def _program(problem: Problem) -> Program:
    return Program(problem.params["kind"], tuple(problem.params["numbers"]))
