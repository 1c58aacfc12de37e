"""A prefix tree holds every row, what rows share once, and its two kinds of blocks are what its tokens may see."""

from __future__ import annotations

import random

import pytest

from amft.models import prefix_tree as module
from amft.models.prefix_tree import prefix_tree


@pytest.fixture(autouse=True)
def _every_common_token_counts(monkeypatch):
    monkeypatch.setattr(module, "SHORTEST", 1)


def nested(seed: int) -> list[list[int]]:
    """Rows over three words that begin alike, some the same, some the beginning of others."""
    draw = random.Random(seed)
    rows = [[draw.randrange(3) for _ in range(draw.randrange(1, 9))] for _ in range(6)]
    for _ in range(10):
        row = draw.choice(rows)
        rows.append(row[: draw.randrange(1, len(row) + 1)] + [draw.randrange(3) for _ in range(draw.randrange(5))])
    return rows


def test_by_hand():
    tree = prefix_tree([[5, 6, 7], [5, 6, 8, 9]])
    assert tree.tokens == [5, 6, 7, 8, 9]
    assert tree.depths == [0, 1, 2, 2, 3]
    assert tree.ends == [5, 5, 3, 5, 5]
    assert tree.places == [[(0, 2), (2, 3)], [(0, 2), (3, 5)]]
    assert tree.bands == [(0, 2, 5)]
    assert tree.squares == [(0, 1, 2), (2, 1, 1), (3, 1, 2)]


def test_answers_of_one_length_are_one_square():
    tree = prefix_tree([[1, 2, 3, 4], [1, 5, 6, 7], [1, 8, 9], [1, 0, 1, 2]])
    assert tree.squares == [(0, 1, 1), (1, 1, 2), (3, 3, 3)]


@pytest.mark.parametrize("shortest", [1, 3])
@pytest.mark.parametrize("seed", range(20))
def test_every_row_is_there_and_sees_itself_alone(seed, shortest, monkeypatch):
    monkeypatch.setattr(module, "SHORTEST", shortest)
    rows = nested(seed)
    tree = prefix_tree(rows)
    seen = {(q, k) for q in range(len(tree.tokens)) for k in range(q + 1) if q < tree.ends[k]}
    wanted = set()
    for number, row in enumerate(rows):
        places = tree.of_row(number).tolist()
        assert [tree.tokens[place] for place in places] == row
        assert [tree.depths[place] for place in places] == list(range(len(row)))
        wanted |= {(q, k) for i, q in enumerate(places) for k in places[: i + 1]}
    assert seen == wanted
    blocks = [
        (start + n * length + q, start + n * length + k)
        for start, count, length in tree.squares
        for n in range(count)
        for q in range(length)
        for k in range(q + 1)
    ]
    blocks += [(q, k) for start, stop, end in tree.bands for q in range(stop, end) for k in range(start, stop)]
    assert sorted(blocks) == sorted(wanted)  # each pair once


def test_nothing_stands_twice_where_every_common_token_counts():
    rows = nested(3)
    beginnings = {tuple(row[: i + 1]) for row in rows for i in range(len(row))}
    assert len(prefix_tree(rows).tokens) == len(beginnings)


def test_a_short_common_beginning_is_not_worth_a_node(monkeypatch):
    monkeypatch.setattr(module, "SHORTEST", 3)
    assert len(prefix_tree([[1, 2, 3, 4], [1, 2, 5]]).tokens) == 7
    assert len(prefix_tree([[1, 2, 3, 4], [1, 2, 3]]).tokens) == 4


def test_rows_nested_deeper_than_python_recurses():
    tree = prefix_tree([[0] * n for n in range(1, 1500)])
    assert len(tree.tokens) == 1499
    assert len(tree.nodes) == 1499
