"""The task: cards, a target, one answer or several tries."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ...errors import TaskError
from ...types import Grade, Message, Problem
from ..episode import FEEDBACK_LEVELS, RETURNS, episode_grade
from .feedback import formula_feedback
from .mistakes import wrong_value
from .prompts import FORMULA_KEYS, expert_formula, formula_question, written
from .rules import BASES, OTHER_FACES, VARIED, FaceRule
from .search import trail
from .solver import solutions, solvable
from .splits import hands_of, key, large_hands_of
from .verifier import FORMULA_REWARDS, grade_formula

TRAIN_RULES: Mapping[str, tuple[FaceRule, ...]] = {"ten": (), "varied": VARIED}
"""Rules of the training prompts besides the task's own, which takes as many prompts as all of them together."""

OTHER_TARGETS = range(10, 41)
"""Targets of the training prompts that do not ask for the task's own."""

Dealt = tuple[FaceRule, tuple[str, ...]]


@dataclass(frozen=True)
class GeneralPoints:
    """Make a target number from a hand of cards, each used once (text).

    State: a hand of ranks A 2 ... 10 J Q K (A is 1), a face rule, a target.
    Prompt: one user message; it names the target, the face rule, the answer's keys and the cards in shuffled order.
    Answer: a JSON object with `cards`, `number` and `formula` (`steps` too in the worked style). The last complete
    object that holds a `formula` counts, wherever it stands; what is forgiven is in docs/verdicts.md.
    Outcomes and rewards: parse_error -3, illegal_syntax -3, wrong_numbers -2, wrong_value -1, correct +5; or 0/1
    with `reward="binary"`. Formulas are evaluated over exact fractions; nothing is executed. With `max_attempts` above
    1 a wrong answer is followed by a user message (`feedback_level`) and another try; the first right answer ends the
    episode, and its reward is the return of all answers (`returns`).
    Splits: by a hash of the hand, so that no test hand, nor one with the same values, is ever trained on.
    Metrics: success = share of correct answers, or of episodes that end with one; intervals are clustered by the
    values of the hand, since `3 8 J Q` and `3 8 10 K` are the same sum.
    Differences from the original (arXiv 2501.17161): held-out hands; hands are multisets drawn evenly instead of
    dealt; one outcome per answer instead of added penalties; white space is legal; exact fractions instead of
    floats; valid JSON is accepted; a right-hand side must equal the target; no credit for a lost bracket; exactly
    `max_attempts` answers, none is drawn and thrown away; feedback never shows a part of a solution.
    History: v1 (2026-11). Later, without a change of the first splits and defaults: several tries, other face rules,
    the splits rule (the same as rule_ood), faces, cards5 and large_number; demonstrations that revise a mistake, and
    demonstrations that search.
    """

    id: ClassVar[str] = "general_points-v1"
    splits: ClassVar[Mapping[str, str]] = {
        "train": "hands for training, J Q K as 10 (or also other rules, see train_rules)",
        "meta": "hands for the held-out utility, J Q K as 10",
        "val": "hands for model selection, J Q K as 10",
        "id": "test hands never trained on, J Q K as 10",
        "rule_ood": "test hands with a face card, J Q K as 11, 12, 13",
        "seen": "training hands, J Q K as 10, reported apart",
        "rule": "the same as rule_ood",
        "faces": "test hands with a face card, J Q K all as 5, 7 or 12",
        "cards5": "test hands of five cards",
        "large_number": "test hands with one number card from 14 to 19",
    }
    test_splits: ClassVar[tuple[str, ...]] = ("id", "rule_ood", "seen")
    seen_splits: ClassVar[tuple[str, ...]] = ("seen",)

    target: int = 24
    cards: int = 4
    demonstrations: str = "worked"
    """`answer`: the original's form; `worked`: binary steps before the formula; `search`: the prompt of `worked`, but
    the steps are trial and error. It knows whole values only: hands that need a fraction are worked instead."""
    reward: str = "outcome"
    """`outcome`: the table above; `binary`: 0/1."""
    train_rules: str = "ten"
    """`ten`: the face rule alone; `varied`: half of the training prompts use other rules, never one above 10."""
    train_targets: str = "one"
    """`one`: the target; `varied`: half of the training prompts ask for another number from 10 to 40."""
    face_rule: str = "ten"
    """What J Q K count where no split says otherwise: `ten`, `ordinal` (11, 12, 13), `all-5`, `all-7`, `all-12`.
    The split `rule` has `ordinal`, or `ten` where that is the rule already."""
    max_attempts: int = 1
    feedback_level: str = "outcome"
    """`none`, `binary`, `outcome` or `detailed`."""
    returns: str = "discounted"
    """Reward of several tries: `final`, `sum`, or `discounted` with 0.9 for each further try."""
    revisions: float = 0.0
    """Share of the demonstrations that show a wrong answer and its feedback, which are not imitated, before the right
    one; needs `max_attempts` above 1."""

    def __post_init__(self) -> None:
        for name, allowed in self._choices().items():
            if getattr(self, name) not in allowed:
                raise TaskError(f"task.{name}: {getattr(self, name)!r} is not one of {', '.join(allowed)}")
        for name, (low, high) in self._ranges().items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise TaskError(f"task.{name}: {value!r} is not a whole number from {low} to {high}")
        if type(self.revisions) not in (int, float) or not 0 <= self.revisions <= 1:
            raise TaskError(f"task.revisions: {self.revisions!r} is not a number from 0 to 1")
        if self.revisions and self.max_attempts == 1:
            raise TaskError("task.revisions: with one try nothing is revised; set max_attempts to 2 or more")

    def problems(self, split: str, *, seed: int = 0, n: int | None = None) -> list[Problem]:
        """`n` problems (None: every hand once). Hands are shuffled and used evenly; card order is drawn."""
        decks = self._decks(split)
        rng = random.Random(f"general_points:{'rule_ood' if split == 'rule' else split}:{seed}")
        queues: list[list[Dealt]] = [[] for _ in decks]
        out = []
        for _ in range(len(decks[0]) if n is None else n):
            # The first deck is drawn from half of the time where there are others.
            place = 0 if len(decks) == 1 else max(0, rng.choice(range(2 * len(decks) - 2)) - len(decks) + 2)
            if not queues[place]:
                queues[place] = rng.sample(decks[place], len(decks[place]))
            out.append(self._problem(split, *queues[place].pop(), rng))
        return out

    def prompt(self, problem: Problem) -> list[Message]:
        cards, rule = self._read(problem)
        target = problem.params["target"]
        return [{"role": "user", "content": formula_question(cards, rule, target, self.demonstrations)}]

    def grade(self, problem: Problem, answer: str) -> Grade:
        cards, rule = self._read(problem)
        return grade_formula(answer, cards, rule.values(cards), problem.params["target"], self.reward)

    def demonstrate(self, problem: Problem) -> str:
        """The simplest solution, the same one for every order of a hand; or a search, drawn for each order."""
        cards, rule = self._read(problem)
        numbers, target = rule.values(cards), problem.params["target"]
        if self.demonstrations == "search":
            found = trail(numbers, target, random.Random(f"search:{cards}:{numbers}:{target}"))
            if found:
                return written(cards, numbers, *found)
        return expert_formula(cards, numbers, solutions(numbers, target)[0], self.demonstrations)

    def spoil(self, problem: Problem) -> str:
        """The expert's answer with a legal formula of the right numbers that makes another value."""
        cards, rule = self._read(problem)
        numbers, target = rule.values(cards), problem.params["target"]
        sign = "*" if sum(numbers) == target else "+"
        assert sign == "+" or math.prod(numbers) != target, "a hand whose sum and product are the target"
        answer = json.loads(self.demonstrate(problem)) | {"formula": f"{sign.join(map(str, numbers))}={target}"}
        return json.dumps(answer, separators=(",", ":"))

    def feedback(self, problem: Problem, answers: Sequence[str]) -> str | None:
        """What is wrong with the last answer; None after a right one or the last try."""
        last = self.grade(problem, answers[-1])
        if last.correct or len(answers) >= self.max_attempts:
            return None
        cards, rule = self._read(problem)
        numbers, target = rule.values(cards), problem.params["target"]
        return formula_feedback(self.feedback_level, last.outcome, last.info, numbers, target)

    def mistakes(self, problem: Problem) -> list[str]:
        """A share `revisions` of the problems has one wrong answer that a demonstration then revises."""
        if not self.revisions:
            return []
        rng = random.Random(f"general_points mistake:{json.dumps(problem.params, sort_keys=True)}")
        if rng.random() >= self.revisions:
            return []
        cards, rule = self._read(problem)
        return [wrong_value(cards, rule.values(cards), problem.params["target"], self.demonstrations, rng)]

    def grade_episode(self, problem: Problem, answers: Sequence[str]) -> Grade:
        return episode_grade([self.grade(problem, answer) for answer in answers], self.returns)

    def _choices(self) -> dict[str, Sequence[str]]:
        return {
            "demonstrations": list(FORMULA_KEYS), "reward": list(FORMULA_REWARDS), "train_rules": list(TRAIN_RULES),
            "train_targets": ["one", "varied"], "face_rule": list(BASES), "feedback_level": FEEDBACK_LEVELS,
            "returns": list(RETURNS),
        }  # fmt: skip

    def _ranges(self) -> dict[str, tuple[int, int]]:
        return {"target": (1, 999), "cards": (2, 5), "max_attempts": (1, 100)}

    def _decks(self, split: str) -> list[list[Dealt]]:
        """The hands of a split with their rules; several decks where training varies the rule."""
        if split not in self.splits:
            raise TaskError(f"split {split!r} is not one of {', '.join(self.splits)}")
        decks = [self._deck(split)]
        if split == "train":
            others = TRAIN_RULES[self.train_rules]
            decks += [[(rule, hand) for hand in self._hands("train", rule, face_needed=True)] for rule in others]
        decks = [deck for deck in decks if deck]
        if not decks:
            raise TaskError(f"task: no hand of {self.cards} cards reaches {self.target} in split {split}")
        return decks

    def _deck(self, split: str) -> list[Dealt]:
        base = BASES[self.face_rule]
        if split in ("rule", "rule_ood", "faces"):
            rules = OTHER_FACES if split == "faces" else (BASES["ten" if self.face_rule == "ordinal" else "ordinal"],)
            return [(rule, hand) for rule in rules for hand in self._hands("test", rule, face_needed=True)]
        if split == "large_number":
            return [(base, hand) for hand in large_hands_of("test", base, self.cards, self.target)]
        if split == "cards5":
            return [(base, hand) for hand in hands_of("test", base, 5, self.target)]
        side = {"seen": "train"}.get(split, split if split in ("train", "meta", "val") else "test")
        return [(base, hand) for hand in self._hands(side, base)]

    def _hands(self, side: str, rule: FaceRule, face_needed: bool = False) -> tuple[tuple[str, ...], ...]:
        return hands_of(side, rule, self.cards, self.target, face_needed=face_needed)

    def _problem(self, split: str, rule: FaceRule, hand: tuple[str, ...], rng: random.Random) -> Problem:
        cards = rng.sample(hand, len(hand))
        target = self.target
        if split == "train" and self.train_targets == "varied" and rng.random() < 0.5:
            values = tuple(sorted(rule.values(hand)))
            target = rng.choice([other for other in OTHER_TARGETS if solvable(values, other)] or [target])
        params = {"cards": cards, "faces": [rule.j, rule.q, rule.k], "target": target}
        return Problem(task=self.id, split=split, key=key(rule.values(hand)), params=params)

    @staticmethod
    def _read(problem: Problem) -> tuple[list[str], FaceRule]:
        return problem.params["cards"], FaceRule("", *problem.params["faces"])
