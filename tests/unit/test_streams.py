"""Row order: complete epochs, resume at every cursor, independence, bytes that never change."""

import json
import random

import pytest

from amft.data.streams import RowStream, derive_seed
from amft.errors import CheckpointError, DataError


def test_each_epoch_visits_every_row_once_in_another_order() -> None:
    stream = RowStream(50, seed=3, name="rl")
    epochs = [stream.take(50) for _ in range(4)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


@pytest.mark.parametrize("sizes", [[1] * 23, [5, 5, 5, 5, 3], [23], [0, 7, 16]])
def test_the_order_does_not_depend_on_how_it_is_taken(sizes: list[int]) -> None:
    stream, whole = RowStream(7, seed=0, name="rl"), RowStream(7, seed=0, name="rl").take(23)
    taken = [stream.take(size) for size in sizes]
    assert [len(part) for part in taken] == sizes
    assert [row for part in taken for row in part] == whole


def test_resumes_at_every_cursor_over_epoch_borders() -> None:
    whole = RowStream(5, seed=1, name="sft").take(30)
    for cut in range(18):
        stream = RowStream(5, seed=1, name="sft")
        stream.take(cut)
        resumed = RowStream(5, seed=1, name="sft")
        resumed.load_state_dict(json.loads(json.dumps(stream.state_dict())))
        assert resumed.take(12) == whole[cut : cut + 12]
        assert resumed.state_dict() != stream.state_dict()
        assert stream.take(12) == whole[cut : cut + 12]
        assert resumed.state_dict() == stream.state_dict()


def test_name_and_seed_give_other_orders() -> None:
    orders = {tuple(RowStream(40, seed, name).take(40)) for seed in (0, 1) for name in ("rl", "sft", "meta")}
    assert len(orders) == 6


def test_two_names_of_one_seed_are_uncorrelated() -> None:
    """P(same row at the same place) is 1/n, so 200 epochs of 20 rows match 200 times on average (sd 14)."""
    left, right = RowStream(20, 0, "rl"), RowStream(20, 0, "sft")
    matches = sum(a == b for a, b in zip(left.take(4000), right.take(4000), strict=True))
    assert 140 < matches < 260


def test_every_row_comes_first_equally_often() -> None:
    """2000 epochs of 5 rows: each row is first 400 times on average, sd 18."""
    stream, first = RowStream(5, seed=9, name="rl"), [0] * 5
    for _ in range(2000):
        first[stream.take(5)[0]] += 1
    assert all(320 < count < 480 for count in first)


def test_no_global_generator_is_touched() -> None:
    before = random.getstate()
    RowStream(100, 0, "rl").take(250)
    assert random.getstate() == before


def test_seeds_and_orders_are_the_same_on_every_machine() -> None:
    """Frozen: another value here means that old runs cannot be repeated."""
    # first 8 bytes of sha256('[0, "rl", 1]'), big-endian, shifted right by one
    assert derive_seed(0, "rl", 1) == 0x76094AFD8CCB17D4
    assert RowStream(8, 0, "rl").take(8) == [4, 5, 2, 6, 7, 3, 1, 0]


def test_parts_are_not_glued_together() -> None:
    assert derive_seed(0, "a", "b") != derive_seed(0, "ab")
    assert derive_seed(1, "1") != derive_seed(11, "")
    assert 0 <= derive_seed(5, "x") < 2**63


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_rows": 6}, "n_rows 6, this run has 5"),
        ({"seed": 2}, "seed 2"),
        ({"name": "rl"}, "name 'rl'"),
        ({"cursor": 6}, "row 6"),
        ({"cursor": -1}, "row -1"),
        ({"epoch": None}, "epoch None"),
        ({"cursor": True}, "row True"),
    ],
)
def test_refuses_a_state_of_another_run(change: dict[str, object], said: str) -> None:
    stream = RowStream(5, seed=1, name="sft")
    stream.take(3)
    with pytest.raises(CheckpointError, match=said):
        stream.load_state_dict({**stream.state_dict(), **change})
    assert stream.state_dict()["cursor"] == 3


def test_no_rows() -> None:
    with pytest.raises(DataError, match="rl: the dataset has no rows"):
        RowStream(0, 0, "rl")
