"""What the nano base is pretrained on: arithmetic, card reading, countdown problems, a few streets and word problems.

No problem asks for a target from four values that a held-out GeneralPoints prompt can show, whatever the target;
streets and word problems are the training ones of their tasks. Reading exercises and single looks, which ask for no
target or show three numbers, draw freely.

Four plain numbers are searched by trial and error (`search.trail`); four cards are nearly always answered at the first
attempt. So the base can do more than it does when it is asked in cards, and that is what is left to learn.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from functools import cache

from ..tasks.base import Task
from ..tasks.general_points.prompts import FORMULA_KEYS, formula_question, written
from ..tasks.general_points.rules import RANKS, TEN, FaceRule
from ..tasks.general_points.search import reaches, search_tries, trail
from ..tasks.general_points.solver import Expr, number, steps
from ..tasks.general_points.splits import held_out_values
from ..tasks.registry import build_task
from ..types import Message, Problem

MAX_NUMBER, MAX_VALUE = 13, 144
TARGET, TARGETS = 24, range(10, 41)
"""The target of most problems, and those of the others."""

PER_SIZE = (15, 6, 6)
"""How often two, three and four numbers are drawn; most twos and many threes reach no target and are drawn again."""

FACTS, LOOKS = 8, 12
"""Operations in one arithmetic exercise, and hands in one exercise of looking."""


def conversations(seed: int) -> Iterator[list[Message]]:
    """An endless, seeded stream of question and answer."""
    rng = random.Random(f"nano corpus {seed}")
    kinds = (arithmetic, reading_exercise, looking, countdown, points, streets, words)
    while True:
        (kind,) = rng.choices(kinds, weights=(5, 3, 36, 34, 16, 2, 4))
        asked, answer = kind(rng)
        yield [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def arithmetic(rng: random.Random) -> tuple[str, str]:
    """Operations on small numbers with whole results, in the form of the worked steps."""
    facts = [_fact(rng) for _ in range(FACTS)]
    asked = f"Compute: {', '.join(left for left, _ in facts)}"
    return asked, json.dumps({"steps": [f"{left}={value}" for left, value in facts]}, separators=(",", ":"))


def _fact(rng: random.Random) -> tuple[str, int]:
    sign = rng.choice("+-*/")
    b = rng.randint(1, MAX_NUMBER)
    if sign == "+":
        a = rng.randint(1, 60)
        a, b = rng.choice([(a, b), (b, a)])
        return f"{a}+{b}", a + b
    if sign == "-":
        a, b = rng.randint(1, 99), rng.choice([b, rng.randint(1, 60)])
        return f"{max(a, b)}-{min(a, b)}", abs(a - b)
    a = rng.randint(1, MAX_VALUE // b)
    if sign == "*":
        a, b = rng.choice([(a, b), (b, a)])
        return f"{a}*{b}", a * b
    return f"{a * b}/{b}", a


def reading_exercise(rng: random.Random) -> tuple[str, str]:
    """Cards to numbers under a face rule."""
    cards, rule = _cards(rng, rng.randint(2, 5))
    asked = f"Read the cards. {rule.sentence} Reply in JSON: cards, number.\nCards: {', '.join(cards)}"
    return asked, json.dumps({"cards": cards, "number": rule.values(cards)}, separators=(",", ":"))


def looking(rng: random.Random) -> tuple[str, str]:
    """Three numbers at a time: the way to the target, or `no`."""
    target = _target(rng)
    shown, said = [], []
    for _ in range(LOOKS):
        hand, way = _look(rng, target)
        shown.append(hand)
        said += [f"{hand}:no"] if way is None else [hand, *way]
    return f"Make {target}: {'; '.join(shown)}", json.dumps(said, separators=(",", ":"))


def _look(rng: random.Random, target: int) -> tuple[str, list[str] | None]:
    """What an operation leaves of four numbers, and the way on; as many hopeless ones as others."""
    wanted = rng.random() < 0.5
    while True:
        some = rng.choice(search_tries([number(n) for n in _numbers(rng, 4)]))
        if some.leads_to(target) == wanted:
            left = [int(part.value) for part in some.left]
            found = trail(left, target, rng)
            return ",".join(map(str, left)), found and found[0]


def countdown(rng: random.Random) -> tuple[str, str]:
    """Plain numbers to a target; four of them are nearly always searched."""
    numbers, target = _problem(rng, lambda size: _numbers(rng, size))
    style, way, solution = _solved(rng, numbers, target, searched=0.9)
    asked = (
        f"Make {target} from the numbers, each used once, with + - * / ( ). "
        f"Reply in JSON: {FORMULA_KEYS[style].removeprefix('cards, ')}.\nNumbers: {', '.join(map(str, numbers))}"
    )
    answer = json.loads(written([], numbers, way, solution))
    del answer["cards"]
    return asked, json.dumps(answer, separators=(",", ":"))


def points(rng: random.Random) -> tuple[str, str]:
    """Cards to a target under a face rule, in the words of the GeneralPoints prompt; seldom searched."""
    hand: list[tuple[list[str], FaceRule]] = []

    def deal(size: int) -> list[int]:
        hand[:] = [_cards(rng, size)]
        return list(hand[0][1].values(hand[0][0]))

    numbers, target = _problem(rng, deal)
    cards, rule = hand[0]
    style, way, solution = _solved(rng, numbers, target, searched=0.1)
    return formula_question(cards, rule, target, style), written(cards, numbers, way, solution)


def streets(rng: random.Random) -> tuple[str, str]:
    """One step of a training route."""
    return _of_task("navigation-v1", rng)


def words(rng: random.Random) -> tuple[str, str]:
    """A training word problem."""
    return _of_task("word_problems-v1", rng)


def _of_task(name: str, rng: random.Random) -> tuple[str, str]:
    task = _task(name)
    problem = rng.choice(_problems(name))
    return task.prompt(problem)[-1]["content"], task.demonstrate(problem)


@cache
def _task(name: str) -> Task:
    return build_task(name)


@cache
def _problems(name: str) -> list[Problem]:
    return _task(name).problems("train", seed=0, n=400)


def allowed(numbers: list[int]) -> bool:
    """Whether a problem with these numbers may be trained on."""
    return len(numbers) < 4 or tuple(sorted(numbers)) not in held_out_values(len(numbers))


def _problem(rng: random.Random, deal: Callable[[int], list[int]]) -> tuple[list[int], int]:
    """Numbers from which whole values lead to the target."""
    while True:
        target = _target(rng)
        numbers = deal(rng.choices((2, 3, 4), weights=PER_SIZE)[0])
        if allowed(numbers) and reaches(tuple(sorted(numbers)), target):
            return numbers, target


def _solved(rng: random.Random, numbers: list[int], target: int, searched: float) -> tuple[str, list[str] | None, Expr]:
    found = trail(numbers, target, rng)
    assert found
    way, solution = found
    if rng.random() < 0.12:
        return "answer", None, solution
    if len(numbers) < 4 or rng.random() < searched:
        return "search", way, solution
    return "worked", steps(solution), solution


def _target(rng: random.Random) -> int:
    return TARGET if rng.random() < 0.93 else rng.choice(TARGETS)


def _numbers(rng: random.Random, size: int) -> list[int]:
    """Numbers as hands have them: 10 comes often."""
    if rng.random() < 0.6:
        return list(TEN.values([rng.choice(RANKS) for _ in range(size)]))
    return [rng.randint(1, MAX_NUMBER) for _ in range(size)]


def _cards(rng: random.Random, size: int) -> tuple[list[str], FaceRule]:
    faces = [rng.randint(1, MAX_NUMBER) for _ in range(3)]
    rule = rng.choice([TEN, FaceRule("", *faces), FaceRule("", *faces[:1] * 3)])
    return [rng.choice(RANKS) for _ in range(size)], rule
