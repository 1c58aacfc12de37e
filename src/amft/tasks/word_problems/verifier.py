"""The verdict on one answer: the last `Answer: n`, compared over exact fractions. Nothing is evaluated."""

from __future__ import annotations

import re
from fractions import Fraction

MAX_READ = 4096
"""Characters at the end of an answer that are read."""

MAX_NUMBER_LENGTH = 48
"""Characters of an answer, its unit included."""

_SAID = re.compile(r"answer:[ \t]{0,8}", re.IGNORECASE | re.ASCII)
_NUMBER = re.compile(
    r"([-+]?[0-9]{1,9})(?:/([0-9]{1,9})|\.([0-9]{1,9}))?(?:\.|\.? [A-Za-z][A-Za-z ]{0,30}\.?)?[ \t\r]*"
)


def judge_number(answer: str, right: Fraction) -> str:
    """`correct`, `wrong_answer`, `unreadable` (no whole number, fraction or decimal), or `no_answer`.

    >>> [judge_number(said, Fraction(14)) for said in ("7*2=14 Answer: 14", "Answer: 28/2", "14")]
    ['correct', 'correct', 'no_answer']
    """
    said = [found.end() for found in _SAID.finditer(answer, max(0, len(answer) - MAX_READ))]
    if not said:
        return "no_answer"
    value = read_number(answer[said[-1] : said[-1] + MAX_NUMBER_LENGTH].split("\n", 1)[0])
    if value is None:
        return "unreadable"
    return "correct" if value == right else "wrong_answer"


def read_number(text: str) -> Fraction | None:
    """A number such as `14`, `-3`, `7/2`, `3.5` or `14 pens`; None for anything else."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    whole, below, decimals = found.groups()
    if below is not None:
        return Fraction(int(whole), int(below)) if int(below) else None
    return Fraction(whole + (f".{decimals}" if decimals else ""))
