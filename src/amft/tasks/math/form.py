r"""What form a mathematical answer must have before its value is compared. Plain string work: model text is hostile.

math-verify reads the value out of a relation, a sentence or a unit: it takes `43=42`, `\ge 42` and
`42\text{ is wrong}` for 42. The rules here come first. docs/verdicts.md lists them with examples.
"""

from __future__ import annotations

import re

from .units import unit_of

NO_RIGHT_ANSWER = "no right answer"
"""The outcome of a comparison where the right answer itself cannot be read."""

_TEXT = re.compile(r"\\(?:text|textrm|textbf|textit|mathrm|mathbf|mbox|rm)\s*\{([^{}]*)\}")
_NAME = (
    r"(?:\\angle\s*)?(?:[A-Za-z]{1,3}|\\(?:alpha|beta|gamma|delta|theta|lambda|mu|phi|varphi|omega|rho|sigma))"
    r"(?:_(?:[A-Za-z0-9]|\{[A-Za-z0-9]{1,8}\}))?'{0,2}(?:\([A-Za-z0-9]{1,3}(?:,[A-Za-z0-9]{1,3}){0,3}\))?"
)
_NAMED = re.compile(rf"(?:^|,|;|and)\s*(?:{_NAME}|\({_NAME}(?:,\s*{_NAME}){{1,3}}\))\s*=(?!=)")
_RELATION = re.compile(
    r"[=<>≠≤≥≈≡∈]|\\(?:n?eq?|ne|not|n?leq?|n?leqslant|n?geq?|n?geqslant|n?less|lt|gt|ll|gg|approx|equiv|sim|simeq|cong"
    r"|propto|in|notin|ni|subset|subseteq|supset|supseteq|mid|parallel|perp|implies|iff|to|mapsto|therefore"
    r"|(?:long)?(?:right|left|leftright)arrow|(?:Long|)(?:Right|Left|Leftright)arrow)(?![A-Za-z])"
)
_BOUNDS = re.compile(r"\\(?:sum|prod|lim|int|max|min|sup|inf|bigcup|bigcap)\s*_\s*\{[^{}]*\}")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*\\?%")
_DEGREE = re.compile(r"\s*(?:\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\degree(?![A-Za-z])|°)")
_SPACES = r"(?:[\s~]|\\[ ,;!])"
_TAIL = re.compile(
    rf"{_SPACES}*\\(?:text|textrm|mathrm|mbox|rm)\s*\{{([^{{}}]*)\}}(\^(?:[23]|\{{[23]\}}))?$"
    rf"|{_SPACES}+([A-Za-z]{{2,}}(?:[ /][A-Za-z]+){{0,3}}(?:\^[23])?)$"
)
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_DECIMAL = re.compile(
    r"(?<![\w.])(?:([0-9]{1,3}(?:,[0-9]{3})+|[0-9]*)\.([0-9]+)|([0-9]+)(?=[eE][-+]?[0-9]))(?:[eE]([-+]?[0-9]{1,2}))?"
    r"(?!\.?[0-9]|[eE][-+]?[0-9])"
)
_LETTERS = re.compile(r"[A-Za-z]")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_REPEATING = re.compile(r"\\(?:overline|dot|bar|ldots|dots)")
_FUNCTIONS = frozenset({
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "log", "ln", "lg",
    "exp", "sqrt", "pi", "abs", "frac", "and", "or", "floor", "ceil", "max", "min", "gcd", "lcm", "mod", "inf", "infty",
    "dx", "dy", "dt",
})  # fmt: skip
"""Words that belong to mathematics."""


def pairs(right: str, given: str, *, exact: bool) -> list[tuple[str, str]] | None:
    r"""Right and given values to compare, any of which may be equal; None when the answer has not the right form.

    >>> pairs("42", r"42\text{ cm}", exact=True), pairs("42", r"\ge 42", exact=True)
    ([('42', '42')], None)

    Args:
        right: the right answer.
        given: what stands in the model's last box.
        exact: decimals are compared as fractions, not rounded.
    """
    if _relates(given) and not _relates(right):
        return None
    (gold, gold_unit), (value, unit) = _split(right), _split(given)
    if unit is not None and gold_unit not in (None, unit):
        return None
    if not _has_letters(gold) and _has_words(value):
        return None
    golds = [_PERCENT.sub(_hundredth, gold)]
    if "%" in gold and "%" not in value:
        golds.append(gold.replace(r"\%", "").replace("%", ""))
    value = _PERCENT.sub(_hundredth, value)
    if "%" in value:
        return None
    read = _fractions if exact else str
    return [(read(gold), read(value)) for gold in golds]


def _relates(text: str) -> bool:
    """Whether a text says more than `name = value`, or several of those."""
    return bool(_RELATION.search(_NAMED.sub(",", _BOUNDS.sub(",", _TEXT.sub(",", text)))))


def _split(text: str) -> tuple[str, str | None]:
    """The value, and its unit where a known one follows a number."""
    bare = text.strip().rstrip(".")
    value = _DEGREE.sub("", bare)
    tail = _TAIL.search(value)
    unit = tail and unit_of(tail[3] or tail[1] + (tail[2] or ""))
    if tail and unit and re.search("[0-9]", value[: tail.start()]):
        return value[: tail.start()], unit
    return value, "degree" if value != bare else None


def _has_letters(text: str) -> bool:
    """Whether a right answer speaks in words or variables."""
    return bool(_TEXT.search(text) or _LETTERS.search(_COMMAND.sub("", text)))


def _has_words(text: str) -> bool:
    """Whether words stand in a text that no function, no constant and no `name =` accounts for."""
    left = _NAMED.sub(",", _TEXT.sub(r" \1 ", text))
    return any(word.lower() not in _FUNCTIONS for word in _WORD.findall(left))


def _hundredth(found: re.Match[str]) -> str:
    return rf"{{\frac{{{found[1]}}}{{100}}}}"


def _fractions(text: str) -> str:
    r"""The text with its decimals as fractions, which are compared exactly: `0.25` becomes `{\frac{25}{100}}`."""
    return text if _REPEATING.search(text) else _DECIMAL.sub(_fraction, text)


def _fraction(found: re.Match[str]) -> str:
    whole, digits, alone, power = found.groups()
    number = (alone or whole or "0").replace(",", "")
    shift = int(power or 0) - len(digits or "")
    top = (number + (digits or "")).lstrip("0") or "0"
    return rf"{{\frac{{{top}}}{{1{'0' * -shift}}}}}" if shift < 0 else top + "0" * shift
