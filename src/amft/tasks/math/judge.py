"""Whether two mathematical answers are equal, by math-verify. Runs only in grading processes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from .form import NO_RIGHT_ANSWER


def judge(values: Sequence[tuple[str, str]]) -> str:
    """The outcome of an answer, which is right if any pair of a right and a given value is equal.

    Args:
        values: from `form.pairs`, at least one.

    Returns:
        `correct`, `wrong_answer`, `unreadable` when the answer is no mathematics, or `NO_RIGHT_ANSWER`.
    """
    found = {equal(gold, given) for gold, given in values}
    return next(outcome for outcome in ("correct", "wrong_answer", "unreadable", NO_RIGHT_ANSWER) if outcome in found)


def equal(gold: str, given: str) -> str:
    """The outcome for a right and a given value, in LaTeX or plain; see `judge`."""
    from math_verify import verify

    right, found = _gold(gold), _parsed(given)
    if not _read(right):
        return NO_RIGHT_ANSWER
    if verify(right, found, timeout_seconds=None, raise_on_error=True):
        return "correct"
    return "wrong_answer" if _read(found) else "unreadable"


def warm_up() -> None:
    """Load math-verify, and what sympy loads late: the first comparison of a kind takes a second, later ones little."""
    for gold, given in (("1/2", "\\frac{2}{4}"), ("x^2+2x+1", "(x+1)^2"), ("\\sqrt{2}", "2^{1/2}"), ("(1,2)", "[1,3)")):
        equal(gold, given)


@lru_cache(maxsize=2048)
def _gold(text: str) -> list[Any]:
    return _parsed(text)


def _parsed(text: str) -> list[Any]:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    # The pool keeps the time: math-verify's own alarm would take away the one that ends a stuck process.
    return parse(
        f"\\boxed{{{text}}}",
        (LatexExtractionConfig(), ExprExtractionConfig()),
        parsing_timeout=None,
        raise_on_error=True,
    )


def _read(found: list[Any]) -> bool:
    """math-verify gives the expression and its text, or the text alone."""
    return any(not isinstance(part, str) for part in found)
