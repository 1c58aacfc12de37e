"""What the nano base is pretrained on: generic arithmetic, countdown problems and card reading.

Four numbers are shown as numbers only and four cards are only read; a short last stage shows the two joined. Left out
of everything is each multiset of four values that a held-out GeneralPoints prompt can show, for every target.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from functools import cache

from ..tasks.general_points.prompts import KEYS, expert_answer, question
from ..tasks.general_points.rules import RANKS, FaceRule
from ..tasks.general_points.solver import Expr, difficulty, expressions
from ..tasks.general_points.splits import held_out_values
from ..types import Message

MAX_NUMBER, MAX_TARGET, MAX_VALUE = 13, 40, 144
"""Numbers and targets of the problems, and the largest value on the way to a target."""

FACTS = 8
"""Operations in one arithmetic exercise."""


def conversations(seed: int, stage: str = "generic") -> Iterator[list[Message]]:
    """An endless, seeded stream of question and answer.

    Args:
        seed: of every draw.
        stage: a key of `STAGES`.
    """
    rng = random.Random(f"nano corpus {seed}")
    kinds, weights = zip(*STAGES[stage].items(), strict=True)
    while True:
        (kind,) = rng.choices(kinds, weights=weights)
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


def reading(rng: random.Random) -> tuple[str, str]:
    """Cards to numbers under a face rule."""
    cards, rule = _cards(rng, rng.randint(2, 5))
    numbers = list(rule.values(cards))
    if not allowed(numbers):
        return reading(rng)
    asked = f"Read the cards. {rule.sentence} Reply in JSON: cards, number.\nCards: {', '.join(cards)}"
    return asked, json.dumps({"cards": cards, "number": numbers}, separators=(",", ":"))


def countdown(rng: random.Random) -> tuple[str, str]:
    """Plain numbers to a target."""
    while True:
        numbers = [rng.randint(1, MAX_NUMBER) for _ in range(rng.choices((2, 3, 4), weights=(1, 3, 6))[0])]
        solution = _solution(rng, numbers)
        if solution is None:
            continue
        style = _style(rng)
        asked = (
            f"Make {solution.value} from the numbers, each used once, with + - * / ( ). "
            f"Reply in JSON: {KEYS[style].removeprefix('cards, ')}.\nNumbers: {', '.join(map(str, numbers))}"
        )
        answer = json.loads(expert_answer([], numbers, solution, style))
        del answer["cards"]
        return asked, json.dumps(answer, separators=(",", ":"))


def few_points(rng: random.Random) -> tuple[str, str]:
    """Two or three cards to a target."""
    return _points(rng, rng.choice((2, 3, 3)))


def four_points(rng: random.Random) -> tuple[str, str]:
    """Four cards to a target."""
    return _points(rng, 4)


def _points(rng: random.Random, size: int) -> tuple[str, str]:
    """Cards to a target under a face rule, in the words of the GeneralPoints prompt."""
    while True:
        cards, rule = _cards(rng, size)
        numbers = list(rule.values(cards))
        solution = _solution(rng, numbers)
        if solution is None:
            continue
        style = _style(rng)
        return question(cards, rule, int(solution.value), style), expert_answer(cards, numbers, solution, style)


STAGES: dict[str, dict[Callable[[random.Random], tuple[str, str]], int]] = {
    "generic": {arithmetic: 20, reading: 10, countdown: 50, few_points: 20},
    "last": {arithmetic: 10, countdown: 40, few_points: 10, four_points: 40},
}
"""Stage -> kind of problem -> its share of the conversations."""


def allowed(numbers: list[int]) -> bool:
    """Whether these values may be trained on."""
    return tuple(sorted(numbers)) not in held_out_values()


def _cards(rng: random.Random, size: int) -> tuple[list[str], FaceRule]:
    faces = [rng.randint(1, MAX_NUMBER) for _ in range(3)]
    rule = FaceRule("", *faces) if rng.random() < 0.5 else FaceRule("", *faces[:1] * 3)
    return [rng.choice(RANKS) for _ in range(size)], rule


def _style(rng: random.Random) -> str:
    return "worked" if rng.random() < 0.8 else "answer"


def _solution(rng: random.Random, numbers: list[int]) -> Expr | None:
    """The simplest way to a random target; None when there is none that may be shown."""
    targets = _simplest(tuple(sorted(numbers))) if allowed(numbers) else {}
    return targets[rng.choice(list(targets))] if targets else None


@cache
def _simplest(numbers: tuple[int, ...]) -> dict[int, Expr]:
    """Target -> its simplest solution, for the targets that whole numbers of moderate size reach."""
    found = {}
    for target, ways in sorted(expressions(numbers).items()):
        if target.denominator == 1 and 1 <= target <= MAX_TARGET:
            best = min(ways, key=lambda e: (difficulty(e), str(e)))
            fractions, _, largest = difficulty(best)
            if not fractions and largest <= MAX_VALUE:
                found[int(target)] = best
    return found
