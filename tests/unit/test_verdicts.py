"""Verdicts on demonstrations: what a reward says, what a filter keeps, and what repeated ones count."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from amft.data.encoding import EncodedDemo
from amft.data.rewards import RewardBatch
from amft.data.row_set import RowSet
from amft.data.streams import RowStream
from amft.experience.verdicts import Graded, grade, paid_by_verdict, verdicts_of
from amft.settings.groups import DemonstrationSettings
from amft.types import Sample


def asked(**settings):
    return DemonstrationSettings(**settings)


def test_what_a_reward_says():
    batch = RewardBatch([1.0, 0.6, 0.5, 0.0, -1.0, math.nan, math.inf], {})
    assert verdicts_of(batch, asked()) == ["right", "right", "wrong", "wrong", "wrong", "silent", "silent"]
    assert verdicts_of(batch, asked(zero="silent"))[3] == "silent"
    assert verdicts_of(batch, asked(right_above=0.7))[:2] == ["right", "wrong"]


def test_a_task_says_itself_what_is_correct():
    batch = RewardBatch([0.0, 0.9, 0.0, math.nan], {}, correct=[True, False, False, False])
    assert verdicts_of(batch, asked()) == ["right", "wrong", "wrong", "silent"]
    assert verdicts_of(batch, asked(zero="silent")) == ["right", "wrong", "silent", "silent"]


class Scorer:
    """Pays the number in the column `pay`; remembers what it was given."""

    def __init__(self):
        self.seen = []

    def score(self, rows, texts, completion_ids):
        self.seen += [(sorted(row), text, tuple(ids)) for row, text, ids in zip(rows, texts, completion_ids)]
        return RewardBatch([row["pay"] for row in rows], {})


def rows(*pays):
    listed = [{"prompt": str(i), "completion": f"c{i}", "pay": pay, "source": "a"} for i, pay in enumerate(pays)]
    return RowSet.whole("demonstrations", listed)


def encoded(*numbers):
    return [EncodedDemo(i, (1,), (i,)) for i in numbers]


def test_each_that_fits_is_graded_once_with_the_columns_of_the_prompts():
    scorer = Scorer()
    found = grade(rows(1.0, 0.0, None, 1.0), encoded(0, 1, 2), scorer, asked(), {"pay"}, {"pay"})
    assert found.verdict_of == {1: "right", 2: "wrong", 3: "silent"}  # the fourth is too long, the third lacks its pay
    columns = ["completion", "pay", "prompt"]
    assert scorer.seen == [(columns, "c0", (0,)), (columns, "c1", (1,))]
    assert str(found) == "demonstrations: 3 graded: 1 right, 1 wrong, 1 silent"


@pytest.mark.parametrize(
    ("wanted", "kept", "said"),
    [
        ("none", [1, 2, 3], []),
        ("not-wrong", [1, 3], ["the verifier calls them wrong"]),
        ("verified", [1], ["the verifier calls them wrong", "the verifier cannot judge them"]),
    ],
)
def test_what_a_filter_keeps(wanted, kept, said):
    graded = Graded(rows(1, 0, None, 1), {1: "right", 2: "wrong", 3: "silent"})
    found, counts = graded.kept(wanted)
    assert list(found.rows.numbers) == kept  # the fourth was never graded: it is too long
    assert [str(count) for count in counts] == [
        f"demonstrations: 1 of 4 rows are not used: {reason} (demonstrations.filter)" for reason in said
    ]


def test_rollouts_that_are_paid_by_the_verdict_on_their_prompt():
    def group(*rewards):
        return [Sample((1,), (2,), reward=reward) for reward in rewards]

    groups = [group(1, 0), group(0, 0), group(0.5, math.nan), group(-1, 0)]
    found = paid_by_verdict(groups, ["right", "wrong", None, "wrong"])
    assert found == {"right": (2, 1), "wrong": (4, 0), "none": (2, 1)}


def test_visits_say_how_often_a_row_was_taken():
    stream, taken = RowStream(3, 0, "x"), []
    for n in (2, 3, 4):
        expected = stream.visits(n)
        drawn = stream.take(n)
        before = [*taken]
        assert expected == [(before + drawn[:i]).count(row) for i, row in enumerate(drawn)]
        taken += drawn
    assert all(a <= b for a, b in pairwise(stream.visits(5)))
