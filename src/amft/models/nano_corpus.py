"""What the nano base is pretrained on: generic arithmetic, countdown problems and card reading.

No problem asks for a target from four values that a held-out GeneralPoints prompt can show, whatever the target, and
none asks for 24 from four values at all. Reading exercises, which ask for no target, draw their cards freely.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
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


def conversations(seed: int) -> Iterator[list[Message]]:
    """An endless, seeded stream of question and answer."""
    rng = random.Random(f"nano corpus {seed}")
    kinds = (arithmetic, reading, countdown, points)
    while True:
        (kind,) = rng.choices(kinds, weights=(20, 5, 30, 45))
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
    asked = f"Read the cards. {rule.sentence} Reply in JSON: cards, number.\nCards: {', '.join(cards)}"
    return asked, json.dumps({"cards": cards, "number": rule.values(cards)}, separators=(",", ":"))


def countdown(rng: random.Random) -> tuple[str, str]:
    """Plain numbers to a target."""
    while True:
        numbers = [rng.randint(1, MAX_NUMBER) for _ in range(_size(rng))]
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


def points(rng: random.Random) -> tuple[str, str]:
    """Cards to a target under a face rule, in the words of the GeneralPoints prompt."""
    while True:
        cards, rule = _cards(rng, _size(rng))
        numbers = list(rule.values(cards))
        solution = _solution(rng, numbers)
        if solution is None:
            continue
        style = _style(rng)
        return question(cards, rule, int(solution.value), style), expert_answer(cards, numbers, solution, style)


def allowed(numbers: list[int], target: int) -> bool:
    """Whether a problem may be trained on."""
    return len(numbers) != 4 or (target != 24 and tuple(sorted(numbers)) not in held_out_values())


def _cards(rng: random.Random, size: int) -> tuple[list[str], FaceRule]:
    faces = [rng.randint(1, MAX_NUMBER) for _ in range(3)]
    rule = FaceRule("", *faces) if rng.random() < 0.5 else FaceRule("", *faces[:1] * 3)
    return [rng.choice(RANKS) for _ in range(size)], rule


def _size(rng: random.Random) -> int:
    return rng.choices((2, 3, 4), weights=(1, 4, 5))[0]


def _style(rng: random.Random) -> str:
    return "worked" if rng.random() < 0.8 else "answer"


def _solution(rng: random.Random, numbers: list[int]) -> Expr | None:
    """The simplest way to a random target; None when there is none that may be shown."""
    targets = {t: e for t, e in _simplest(tuple(sorted(numbers))).items() if allowed(numbers, t)}
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
