"""Words for a program: two sets of sentences for the same arithmetic, the second only for testing."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .programs import Program

ASK = {"worked": "Write the steps, then Answer: n", "answer": "Write Answer: n"}
"""Demonstration style -> last line of every prompt, the same in both wordings."""


@dataclass(frozen=True)
class ProblemWording:
    """Sentences and words to fill them."""

    names: Sequence[str]
    things: Sequence[str]
    gains: Sequence[str]
    losses: Sequence[str]
    changes: tuple[str, str]
    """Before the first change and between changes."""
    sentences: Mapping[str, Sequence[str]]
    """Kind -> sentences; `{who}`, `{other}`, `{things}`, `{changes}` and the numbers `{0}`, `{1}`, `{2}`."""
    equation: Mapping[bool, Sequence[str]]
    """Whether the constant is positive -> sentences, `{0}` and `{2}` as given, `{1}` without its sign."""


TRAINED = ProblemWording(
    names=("Tom", "Ann", "Ben", "Eva", "Max", "Ida"),
    things=("pens", "eggs", "cups", "nuts", "keys", "caps"),
    gains=("buys {}", "gets {}", "finds {}"),
    losses=("loses {}", "sells {}", "uses {}"),
    changes=(", ", ", "),
    sentences={
        "chain": ("{who} has {0} {things}{changes}. How many now?", "{who} had {0} {things}{changes}. How many now?"),
        "groups": ("{who} has {0} boxes of {1} {things}{changes}. How many {things}?",),
        "compare": ("{who} has {0} {things}, {other} has {1} more. How many together?",),
        "share": ("{1} friends share {0} {things}. How many each?", "{0} {things} for {1} friends. How many each?"),
    },
    equation={True: ("{0}x+{1}={2}. Find x.",), False: ("{0}x-{1}={2}. Find x.",)},
)

PARAPHRASED = ProblemWording(
    names=("Zoe", "Leo", "Mia", "Sam"),
    things=("coins", "books", "stamps", "shells"),
    gains=("{} are added", "{} come in", "{} more arrive"),
    losses=("{} are taken away", "{} go out", "{} disappear"),
    changes=("; then ", ", "),
    sentences={
        "chain": (
            "On the table lie {0} {things}{changes}. What is left?",
            "A jar holds {0} {things}{changes}. And now?",
        ),
        "groups": ("On the table lie {0} bags with {1} {things} in each{changes}. What is the number of {things}?",),
        "compare": ("{other} owns {1} {things} more than {who}, who owns {0}. What do both own in all?",),
        "share": ("Split {0} {things} evenly into {1} bags. What goes into a bag?",),
    },
    equation={
        True: ("I think of a number. {0} times it, plus {1}, is {2}. Which number?",),
        False: ("I think of a number. {0} times it, less {1}, is {2}. Which number?",),
    },
)


def word_question(program: Program, wording: ProblemWording, rng: random.Random) -> str:
    """The program in words, drawn with `rng`."""
    numbers = program.numbers
    if program.kind == "equation":
        return rng.choice(wording.equation[numbers[1] > 0]).format(numbers[0], abs(numbers[1]), numbers[2])
    who, other = rng.sample(wording.names, 2)
    first, between = wording.changes
    told = [
        rng.choice(wording.gains if by > 0 else wording.losses).format(abs(by))
        for by in numbers[1 if program.kind == "chain" else 2 :]
    ]
    return rng.choice(wording.sentences[program.kind]).format(
        *numbers,
        who=who,
        other=other,
        things=rng.choice(wording.things),
        changes=first + between.join(told) if told else "",
    )
