"""The task: published mathematics problems, a final answer in a box, graded by math-verify elsewhere."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

from ...errors import TaskError
from ...extras import require_extra
from ...types import Grade, Message, Problem, abstain
from ..grading import Failure, GradingPool, Limits
from .answers import MAX_BOXED, boxed, chosen_letter, same_text, whole_number
from .form import NO_RIGHT_ANSWER, pairs
from .load import LoadedSet, download_set, read_set
from .rows import Item
from .sets import EVALUATION, TRAINING_SETS

_SHARES = {"id": range(5), "val": range(5, 7), "meta": range(7, 10), "train": range(10, 100)}
"""Split -> which hundredths of the training set's questions, by their hash."""

HUB = "hub"
"""Given as a path: fetch the set from the Hugging Face hub."""

_JUDGE = f"{__package__}.judge"
"""Named, not imported: sympy stays out of the training process."""


@dataclass(frozen=True)
class MathProblems:
    r"""Published mathematics and science problems with a final answer in `\boxed{}` (text, one answer).

    State: a question, its right answer, for multiple choice the letters, for training sets a worked demonstration.
    Prompt: the messages of the file as they are, or one user message: the question, the choices as `A) ...`, and
    where the answer belongs. The order of GPQA's choices is drawn from its question.
    Answer: free text; the last `\boxed{...}` in its last 16,384 characters counts. Multiple choice is graded by the
    letter in the box, else by the last `answer: X`.
    Outcomes and rewards: correct 1; wrong_answer, wrong_form (a relation or words where the right answer is a value,
    or another unit), unreadable (no mathematics in the box), no_answer (no box), too_long (over 512 characters in the
    box) 0; grader_timeout and grader_crash abstain: no reward, counted; unjudged (abstentions beyond `max_abstained` of
    the answers to one problem) 0.
    Equal text is correct at once, and whole numbers are compared at once; all else goes to math-verify in processes
    with caps on time and memory. Numbers are compared exactly; to six decimals in minerva. docs/verdicts.md has the
    rules of form, of units and of percent with examples.
    Splits: the training set by a hash of the question (id, val, meta, train), without questions of the evaluation
    sets; each evaluation set is a split of its own. Only splits whose file is given exist.
    Metrics: success = share of correct answers; avg@k by `samples` in evaluation (files that repeat each problem are
    read once); intervals are clustered by question.
    Differences from the original (arXiv 2508.06944): held-out splits of the training set; abstention instead of a
    wrong answer when grading fails; no reward for format.
    History: v1 (2026-11). Before its first release: the answer's form is demanded and abstentions are bounded.
    """

    id: ClassVar[str] = "math-v1"
    splits: ClassVar[Mapping[str, str]] = {
        "train": "90 % of the training set's questions",
        "meta": "3 % of them, for the held-out utility",
        "val": "2 % of them, for model selection",
        "id": "5 % of them, never trained on",
        "aime24": "AIME 2024, 30 problems",
        "amc": "AMC, 83 problems",
        "math500": "MATH-500, 500 problems",
        "minerva": "Minerva (university science), 272 problems",
        "olympiad_bench": "OlympiadBench (English, text), 675 problems",
        "arc_c": "ARC challenge, 1,172 multiple-choice questions, out of domain",
        "gpqa_d": "GPQA diamond, 198 multiple-choice questions, out of domain",
        "mmlu_pro": "MMLU-Pro, 12,032 multiple-choice questions, out of domain",
    }
    test_splits: ClassVar[tuple[str, ...]] = ("id", *EVALUATION)

    path: str = ""
    """The training set: a .jsonl, .json or .parquet file, or `hub` to fetch it. Empty: evaluation only."""
    dataset: str = "openr1_math"
    """What the training set is, and so what its columns mean: `openr1_math`, `openr1_math_220k`,
    or `plain` for your own."""
    tests: Mapping[str, str] | None = None
    """Evaluation set -> its file, or `hub`; one file may hold several sets."""
    max_bad_rows: int = 0
    """Rows of each file that may be unusable; one more is an error that lists the first of them."""
    workers: int = 2
    """Grading processes."""
    timeout: float = 5.0
    """Seconds until the grading of an answer is given up."""
    max_abstained: int = 1
    """Answers of a group that may go unjudged (no reward, no part in the group's mean); further ones get 0."""
    memory_mb: int = 2048
    """Address space of a grading process, in MiB."""

    def __post_init__(self) -> None:
        _check(self.dataset in TRAINING_SETS, f"dataset: {self.dataset!r} is not one of {', '.join(TRAINING_SETS)}")
        _check(type(self.max_bad_rows) is int and self.max_bad_rows >= 0, "max_bad_rows: give a whole number from 0")
        most = self.max_abstained
        _check(type(most) is int and most >= 0, "max_abstained: give a whole number from 0")
        tests = {} if self.tests is None else self.tests
        _check(isinstance(tests, Mapping), "tests: give a mapping of sets to files, for example {aime24: aime24.jsonl}")
        _check(isinstance(self.path, str), "path: give the path of a file")
        for name, path in tests.items():
            _check(name in EVALUATION, f"tests: {name!r} is not one of {', '.join(EVALUATION)}")
            _check(isinstance(path, str), f"tests.{name}: give the path of a file")
        _check(bool(self.path or tests), "path: give the training set's file, or evaluation sets in tests")
        for field, path in {"path": self.path, **{f"tests.{name}": path for name, path in tests.items()}}.items():
            _check(path in ("", HUB) or Path(path).is_file(), f"{field}: no file {path}")
        require_extra("math-v1", "math", "pebble", "math_verify")
        _ = self._limits
        there = [*(_SHARES if self.path else ()), *tests]
        object.__setattr__(self, "splits", {name: text for name, text in type(self).splits.items() if name in there})
        object.__setattr__(self, "test_splits", tuple(name for name in type(self).test_splits if name in there))

    @property
    def _limits(self) -> Limits:
        return Limits(self.workers, self.timeout, self.memory_mb)

    @property
    def grading_seconds(self) -> float:
        """Longest that one grade may take."""
        return self._limits.seconds

    def problems(self, split: str, *, seed: int = 0, n: int | None = None) -> list[Problem]:
        """`n` problems (None: every question once), shuffled and used evenly."""
        items = self._items(split)
        rng = random.Random(f"math:{split}:{seed}")
        queue: list[Item] = []
        out = []
        for _ in range(len(items) if n is None else n):
            queue = queue or rng.sample(items, len(items))
            out.append(self._problem(split, queue.pop()))
        return out

    def prompt(self, problem: Problem) -> list[Message]:
        return [dict(message) for message in problem.params["messages"]]

    def grade(self, problem: Problem, answer: str) -> Grade:
        return self.grade_many([problem], [answer])[0]

    def grade_many(self, problems: Sequence[Problem], answers: Sequence[str]) -> list[Grade]:
        """One grade per answer; what needs math-verify is judged in parallel. A group is a problem's neighbours."""
        outcomes: list[Any] = [_at_sight(p, answer) for p, answer in zip(problems, answers, strict=True)]
        hard = [i for i, outcome in enumerate(outcomes) if not isinstance(outcome, str)]
        if hard:
            verdicts = _pool(self._limits).run(f"{_JUDGE}:judge", [(outcomes[i],) for i in hard])
            for i, verdict in zip(hard, verdicts, strict=True):
                outcomes[i] = verdict
        return [_grade(outcome) for outcome in _bounded(outcomes, problems, self.max_abstained)]

    def demonstrate(self, problem: Problem) -> str:
        """The file's own demonstration; where it has none, the right answer in a box."""
        return problem.params["demonstration"] or f"\\boxed{{{problem.params['answer']}}}"

    def loaded(self) -> list[LoadedSet]:
        """What was read from each file, with the rows that could not be used."""
        return [*([self._training] if self.path else []), *self._tests.values()]

    @cached_property
    def _training(self) -> LoadedSet:
        return self._read(self.dataset, self.path)

    @cached_property
    def _tests(self) -> dict[str, LoadedSet]:
        return {name: self._read(name, path) for name, path in (self.tests or {}).items()}

    def _read(self, name: str, path: str) -> LoadedSet:
        loaded = download_set(name) if path == HUB else read_set(name, path)
        if len(loaded.bad) > self.max_bad_rows:
            raise TaskError(
                f"{loaded.bad[0]} ({len(loaded.bad)} rows of {name} cannot be used; mend them, or set "
                f"task.max_bad_rows: {len(loaded.bad)})"
            )
        return loaded

    @cached_property
    def _shares(self) -> dict[str, list[Item]]:
        held_out = {item.key for loaded in self._tests.values() for item in loaded.items}
        items = [item for item in self._training.items if item.key not in held_out]
        return {name: [item for item in items if int(item.key, 16) % 100 in share] for name, share in _SHARES.items()}

    def _items(self, split: str) -> list[Item]:
        _check(split in self.splits, f"split {split!r} is not one of {', '.join(self.splits)}")
        items = self._tests[split].items if split in EVALUATION else self._shares[split]
        _check(bool(items), f"{self.path or split}: no usable row falls into split {split}; give more rows")
        return items

    def _problem(self, split: str, item: Item) -> Problem:
        params = {
            "messages": list(item.messages),
            "answer": item.answer,
            "letters": item.letters,
            "demonstration": item.demonstration,
        }
        return Problem(task=self.id, split=split, key=item.key, params=params)


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise TaskError(f"task.{message}")


@cache
def _pool(limits: Limits) -> GradingPool:
    return GradingPool(limits, [_JUDGE])


def _at_sight(problem: Problem, answer: str) -> str | list[tuple[str, str]]:
    """The outcome where no mathematics is needed, else the values to compare."""
    right, letters = problem.params["answer"], problem.params["letters"]
    if letters:
        letter = chosen_letter(answer, letters)
        return "no_answer" if letter is None else "correct" if letter == right else "wrong_answer"
    given = boxed(answer)
    if given is None:
        return "no_answer"
    if len(given) > MAX_BOXED:
        return "too_long"
    if same_text(given, right):
        return "correct"
    known = EVALUATION.get(problem.split)
    values = pairs(right, given, exact=known is None or not known.rounded)
    if values is None:
        return "wrong_form"
    if any(same_text(*pair) for pair in values):
        return "correct"
    whole = [(whole_number(gold), whole_number(value)) for gold, value in values]
    if any(None in pair for pair in whole):
        return values
    return "correct" if any(gold == value for gold, value in whole) else "wrong_answer"


def _bounded(outcomes: Sequence[Any], problems: Sequence[Problem], most: int) -> Iterator[Any]:
    """The outcomes with all but the first `most` abstentions among a problem's neighbours turned into `unjudged`.

    An answer that makes the grader run out of time would otherwise be free of charge, and be learned. A right answer
    that cannot be read is no fault of the model's.
    """
    lost = 0
    for i, outcome in enumerate(outcomes):
        if i == 0 or problems[i] is not problems[i - 1]:
            lost = 0
        lost += isinstance(outcome, Failure)
        yield "unjudged" if isinstance(outcome, Failure) and lost > most else outcome


def _grade(outcome: str | Failure) -> Grade:
    if outcome == NO_RIGHT_ANSWER:
        return abstain("grader_crash", "the right answer cannot be read")
    if isinstance(outcome, Failure):
        return abstain(outcome.outcome, outcome.why)
    return Grade(outcome, float(outcome == "correct"), outcome == "correct")
