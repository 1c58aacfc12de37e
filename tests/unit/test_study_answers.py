"""Scores of many runs in little memory: the same mapping, its problems kept once."""

from __future__ import annotations

from amft.report.study.answers import Answers


def test_it_is_the_mapping_it_was_made_of() -> None:
    found = {("a", 0): [1.0, 0.0], ("a", 1): [0.5], ("b", "x"): [0.25, 0.0]}
    answers = Answers(found, {})
    assert dict(answers) == found
    assert answers == found
    assert (len(answers), list(answers.values())) == (3, [*found.values()])
    assert answers.keys() == found.keys()
    assert Answers({}, {}) == {}


def test_runs_that_were_asked_the_same_share_what_was_asked() -> None:
    known: dict = {}
    first, again = (Answers({("a", i): [value] for i in range(4)}, known) for value in (1.0, 2.0))
    other = Answers({("b", 0): [1.0]}, known)
    assert first.places is again.places
    assert other.places is not first.places
    assert len(known) == 2
    assert [again["a", i] for i in range(4)] == [[2.0]] * 4
