"""Ranks: shares, what they tell each other, how they meet again; threads stand in for processes."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.distributed as dist

from amft.cli.rank_output import is_main, prints_error
from amft.distributed.parallel import build_parallel
from amft.distributed.ranks import Ranks, join_ranks, restarted
from amft.distributed.rendezvous import meet
from amft.errors import ConfigError, RankError
from amft.settings.config import AMFTConfig


class Placed(Ranks):
    """A rank without a group."""

    def __init__(self, rank, size, told=None):
        self.group, self.rank, self.size, self.told = None, rank, size, told

    def gather(self, value):
        return [value if rank == self.rank else self.told for rank in range(self.size)]


def test_shares_are_in_order_even_and_complete():
    for n in range(12):
        for size in range(1, 6):
            parts = [Placed(rank, size).share(n) for rank in range(size)]
            assert [i for part in parts for i in part] == list(range(n))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_alone_everything_is_free():
    alone = Ranks()
    assert alone.is_main
    assert alone.all_sum([1.0, 2.0]) == [1.0, 2.0]
    assert alone.gather("x") == ["x"]
    assert alone.first(None) is None
    assert alone.from_main(lambda: 3) == 3
    assert alone.sum_(torch.ones(2)).tolist() == [1.0, 1.0]


def test_all_ranks_take_the_decision_of_the_lowest_that_has_one():
    assert Placed(0, 2, told="SIGTERM").first(None) == "SIGTERM"
    assert Placed(1, 2, told="SIGINT").first("SIGTERM") == "SIGINT"


def test_an_error_of_rank_0_reaches_the_others_who_stay_quiet():
    def refuse():
        raise ConfigError("run: already exists")

    with pytest.raises(ConfigError, match="already exists"):
        Placed(0, 2).from_main(refuse)
    with pytest.raises(RankError, match="rank 0 stopped: run: already exists") as caught:
        Placed(1, 2, told={"error": "run: already exists"}).from_main(refuse)
    assert not prints_error(caught.value)
    assert prints_error(RankError("rank 1 of 2 lost contact"))
    assert Placed(1, 2, told={"value": [4]}).from_main(refuse) == [4]


def test_losing_contact_is_one_line_and_other_errors_stay_what_they_are():
    lost = "[/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1\nmore"
    with pytest.raises(RankError) as caught, Placed(1, 4).contact():
        raise RuntimeError(lost)
    assert str(caught.value).startswith("rank 1 of 4 lost contact with another rank")
    assert "\n" not in str(caught.value)
    with pytest.raises(RuntimeError, match="shape"), Placed(1, 4).contact():
        raise RuntimeError("shape mismatch")
    with pytest.raises(RuntimeError, match="closed by peer"), Ranks().contact():
        raise RuntimeError(lost)


def test_the_processes_that_live_meet_in_spite_of_what_dead_ones_left():
    store = dist.HashStore()
    for rank in (1, 2):
        store.set(f"hello/{rank}", f"left-by-dead-{rank}")
    names = {}

    def come(rank):
        names[rank] = meet(store, rank, 3, timeout=20.0)

    team = [threading.Thread(target=come, args=(rank,)) for rank in range(3)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join(30)
    names[0].set("said", "by rank 0")
    assert names[1].get("said") == names[2].get("said") == b"by rank 0"
    with pytest.raises(RuntimeError, match="rank 1 has not come"):
        meet(dist.HashStore(), 0, 2, timeout=0.1)


def test_torchrun_is_recognised(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(dist, "is_initialized", lambda: False)  # another test of this process may have joined a group
    assert join_ranks(1.0).size == 1
    assert is_main()
    assert not restarted()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert restarted()
    assert not is_main()
    assert not prints_error(ConfigError("learning_rate: must be positive"))  # the first process of the machine says it
    with pytest.raises(ConfigError, match=r"MASTER_ADDR.*start with torchrun"):
        join_ranks(1.0)


def test_a_layout_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr("amft.distributed.parallel.join_ranks", lambda timeout: Placed(0, 4))
    with pytest.raises(ConfigError, match="parallel: single, but 4 processes"):
        build_parallel(AMFTConfig(parallel="single"))
    with pytest.raises(
        ConfigError, match="replicate: 3 copies cannot be laid evenly on 4 ranks; start a multiple of 3"
    ):
        build_parallel(AMFTConfig(parallel="fsdp2", replicate=3))
    with pytest.raises(ConfigError, match="replicate needs parallel: fsdp2"):
        AMFTConfig(replicate=2)
    with pytest.raises(ConfigError, match="cpu_offload needs parallel: fsdp2"):
        AMFTConfig(cpu_offload=True)
