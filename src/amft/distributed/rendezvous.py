"""How processes find each other when torchrun has started them again.

torchrun keeps one store for all its restarts, so a process may read the address of one that was killed and wait for it
in vain. Here every start agrees on a name of its own first, and everything after that is kept under this name.
"""

from __future__ import annotations

import time
import uuid

from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]


def meet(store: Store, rank: int, size: int, timeout: float) -> Store:
    """A store for the processes that are alive now.

    Rank 0 welcomes whoever says hello, also a hello left by a dead process, until every rank has answered by the
    name that only a living one can know.

    Args:
        timeout: seconds.

    Raises:
        RuntimeError: a rank has not come in time.
    """
    mine = uuid.uuid4().hex
    if rank:
        store.set(f"hello/{rank}", mine)
        name = store.get(f"welcome/{mine}").decode()
        store.set(f"{name}/{rank}", "here")
        return PrefixStore(name, store)
    deadline = time.monotonic() + timeout
    welcomed: dict[int, str] = {}
    while absent := [other for other in range(1, size) if not store.check([f"{mine}/{other}"])]:
        if time.monotonic() > deadline:
            raise RuntimeError(f"rank {absent[0]} has not come in {timeout:g} s")
        for other in absent:
            hello = store.get(f"hello/{other}").decode() if store.check([f"hello/{other}"]) else None
            if hello is not None and hello != welcomed.get(other):
                store.set(f"welcome/{hello}", mine)
                welcomed[other] = hello
        time.sleep(0.02)
    return PrefixStore(mine, store)
