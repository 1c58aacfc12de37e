"""The published sets this task reads, and which of their columns hold what. Every map is written out.

Two families of files exist for most sets: the original on the hub, and the `verl` layout (one row of chat messages
with `reward_model.ground_truth`) in which the single-stage papers publish both their training set and all their
evaluation sets, told apart by `data_source`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Which columns of a file hold what; a dot steps into a struct."""

    question: str
    """Text, or chat messages."""
    answer: str
    """Text, a number, a list with one answer, or with choices the letter, the label or the right choice's text."""
    demonstration: str = ""
    """Text or chat messages; empty: there is none."""
    choices: str = ""
    """A list of texts; empty: no choices, or they stand in the question."""
    labels: str = ""
    """A list of the choices' labels; empty: A, B, C ..."""
    wrong: tuple[str, ...] = ()
    """Columns of the wrong choices; the right one is `answer`, and the order is drawn from the question."""
    place: str = ""
    """Column with the place of the right choice, from 0; where a row has it, it must agree with the answer."""
    verified: str = ""
    """A list of flags beside a list of demonstrations: the first one with a true flag is used."""
    source: tuple[str, str] = ("", "")
    """Column and value of the rows that belong to the set; other rows are passed over."""

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns a row must have."""
        named = (
            self.question, self.answer, self.demonstration, self.verified, self.choices, self.labels, self.source[0],
        )  # fmt: skip
        return tuple(filter(None, (*named, *self.wrong)))


@dataclass(frozen=True)
class KnownSet:
    """A published set."""

    layouts: tuple[Layout, ...]
    """Tried in this order: the first whose columns the file has."""
    hub: tuple[str, str | None, str]
    """Name on the Hugging Face hub, configuration, split."""
    choice: bool = False
    """Multiple choice, graded by the letter."""
    rounded: bool = False
    """Decimals are compared to six places in place of exactly: answers of the sciences are rounded."""


def _verl(source: str, demonstration: str = "") -> Layout:
    return Layout("prompt", "reward_model.ground_truth", demonstration, source=("data_source", source))


TRAINING_SETS: Mapping[str, KnownSet] = {
    "openr1_math": KnownSet(
        (Layout("prompt", "reward_model.ground_truth", "target"),),
        ("Elliott/Openr1-Math-46k-8192", None, "train"),
    ),
    "openr1_math_220k": KnownSet(
        (Layout("problem", "answer", "generations", verified="correctness_math_verify"),),
        ("open-r1/OpenR1-Math-220k", "default", "train"),
    ),
    "plain": KnownSet((Layout("prompt", "answer", "demonstration"),), ("", None, "")),
}
"""Sets with demonstrations. `plain` is for your own: columns `prompt`, `answer` and `demonstration`."""

EVALUATION: Mapping[str, KnownSet] = {
    "aime24": KnownSet(
        (_verl("aime"), Layout("problem", "answer"), Layout("Problem", "Answer")),
        ("HuggingFaceH4/aime_2024", None, "train"),
    ),
    "amc": KnownSet((_verl("amc"), Layout("problem", "answer")), ("AI-MO/aimo-validation-amc", None, "train")),
    "math500": KnownSet((_verl("math"), Layout("problem", "answer")), ("HuggingFaceH4/MATH-500", None, "test")),
    "minerva": KnownSet(
        (_verl("minerva"), Layout("question", "answer")), ("math-ai/minervamath", None, "test"), rounded=True
    ),
    "olympiad_bench": KnownSet(
        (_verl("olympiad_bench"), Layout("question", "final_answer")),
        ("Hothan/OlympiadBench", "OE_TO_maths_en_COMP", "train"),
    ),
    "arc_c": KnownSet(
        (_verl("arc_c"), Layout("question", "answerKey", choices="choices.text", labels="choices.label")),
        ("allenai/ai2_arc", "ARC-Challenge", "test"),
        choice=True,
    ),
    "gpqa_d": KnownSet(
        (
            _verl("gpqa"),
            Layout(
                "Question",
                "Correct Answer",
                wrong=("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"),
            ),
        ),
        ("Idavidrein/gpqa", "gpqa_diamond", "train"),
        choice=True,
    ),
    "mmlu_pro": KnownSet(
        (_verl("mmlu_pro"), Layout("question", "answer", choices="options", place="answer_index")),
        ("TIGER-Lab/MMLU-Pro", None, "test"),
        choice=True,
    ),
}
"""Held-out sets of arXiv 2508.06944: five of mathematics, then three out of domain."""

SETS: Mapping[str, KnownSet] = {**TRAINING_SETS, **EVALUATION}
