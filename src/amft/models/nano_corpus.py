"""What the nano base is pretrained on: generic arithmetic, countdown problems and card reading.

Left out, so that the base has seen nothing that is reported: every multiset of four values that a held-out
GeneralPoints prompt can show (for every target), and the target 24 with four numbers altogether.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

from ..tasks.general_points.prompts import KEYS, expert_answer, question
from ..tasks.general_points.rules import RANKS, FaceRule
from ..tasks.general_points.solver import Expr, reachable, solutions, steps
from ..tasks.general_points.splits import held_out_values
from ..types import Message

MAX_TARGET = 100


def conversations(seed: int) -> Iterator[list[Message]]:
    """An endless, seeded stream of question and answer."""
    rng = random.Random(f"nano corpus {seed}")
    kinds = (arithmetic, reading, countdown, points)
    while True:
        (kind,) = rng.choices(kinds, weights=(15, 5, 35, 45))
        asked, answer = kind(rng)
        yield [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def arithmetic(rng: random.Random) -> tuple[str, str]:
    """One operation on small numbers, the result a whole number from 0 to 999."""
    a, b = rng.randint(0, 99), rng.randint(0, 30)
    sign, value = rng.choice([("+", a + b), ("-", abs(a - b)), ("*", a * b), ("/", a)])
    if sign == "/":
        b = max(b, 1)
        a, value = a * b, a
    left = f"{max(a, b)}-{min(a, b)}" if sign == "-" else f"{a}{sign}{b}"
    return (arithmetic(rng) if max(value, a) > 999 else (f"{left}=", str(value)))


def reading(rng: random.Random) -> tuple[str, str]:
    """Cards to numbers under a face rule."""
    cards, rule = _cards(rng, rng.randint(2, 5))
    asked = f"Read the cards. {rule.sentence} Reply in JSON: cards, number.\nCards: {', '.join(cards)}"
    return asked, json.dumps({"cards": cards, "number": rule.values(cards)}, separators=(",", ":"))


def countdown(rng: random.Random) -> tuple[str, str]:
    """Plain numbers to a target."""
    while True:
        numbers = [rng.randint(1, 13) for _ in range(_size(rng))]
        target = _target(rng, numbers)
        if target is None:
            continue
        style = _style(rng)
        asked = (
            f"Make {target} from the numbers, each used once, with + - * / ( ). "
            f"Reply in JSON: {KEYS[style].removeprefix('cards, ')}.\nNumbers: {', '.join(map(str, numbers))}"
        )
        solution = _solution(rng, numbers, target)
        fields: dict[str, object] = {"number": numbers}
        if style == "worked":
            fields["steps"] = steps(solution)
        fields["formula"] = f"{solution}={target}"
        return asked, json.dumps(fields, separators=(",", ":"))


def points(rng: random.Random) -> tuple[str, str]:
    """Cards to a target under a face rule, in the words of the GeneralPoints prompt."""
    while True:
        cards, rule = _cards(rng, _size(rng))
        numbers = list(rule.values(cards))
        target = _target(rng, numbers)
        if target is None:
            continue
        style = _style(rng)
        return question(cards, rule, target, style), expert_answer(
            cards, numbers, _solution(rng, numbers, target), style
        )


def allowed(numbers: list[int], target: int) -> bool:
    """Whether a problem may be trained on."""
    return len(numbers) != 4 or (target != 24 and tuple(sorted(numbers)) not in held_out_values())


def _cards(rng: random.Random, size: int) -> tuple[list[str], FaceRule]:
    faces = [rng.randint(1, 13) for _ in range(3)]
    rule = FaceRule("", *faces) if rng.random() < 0.5 else FaceRule("", *faces[:1] * 3)
    return [rng.choice(RANKS) for _ in range(size)], rule


def _size(rng: random.Random) -> int:
    return rng.choices((2, 3, 4), weights=(1, 4, 5))[0]


def _style(rng: random.Random) -> str:
    return "worked" if rng.random() < 0.8 else "answer"


def _target(rng: random.Random, numbers: list[int]) -> int | None:
    values = sorted(int(v) for v in reachable(tuple(sorted(numbers))) if v.denominator == 1 and 1 <= v <= MAX_TARGET)
    target = rng.choice(values) if values else 0
    return target if target and allowed(numbers, target) else None


def _solution(rng: random.Random, numbers: list[int], target: int) -> Expr:
    found = solutions(numbers, target)
    return found[0] if rng.random() < 0.7 else rng.choice(found[:4])
