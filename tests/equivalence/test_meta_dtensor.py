"""MixGrad on two sharded ranks gives what it gives on one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from rank_team import join, start
from torch.nn.functional import mse_loss

from amft.balance.weights import Weights
from amft.meta import MixGrad


def _model():
    generator = torch.Generator().manual_seed(0)
    # 5 and 3 rows over 2 ranks: uneven shards; the last layer leaves one rank an empty shard
    layers = torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3), torch.nn.Linear(3, 1)
    model = torch.nn.Sequential(*layers).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return model


def _backward(model, batch) -> None:
    x, y = batch
    mse_loss(model(x), y).backward()


def _run(model) -> dict:
    """Three mixed steps on the same data on every rank; everything a rank can see of them."""
    generator = torch.Generator().manual_seed(7)
    rows = torch.randn(3, 8, 5, generator=generator, dtype=torch.float64)
    batches = [(batch[:, :4], batch[:, 4:]) for batch in rows]
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2, weight_decay=0.1)
    mix = MixGrad(model.named_parameters(), optimizer, horizon=0.5)
    record = []
    for _ in range(3):
        _backward(model, batches[0])
        seen = mix.observe().get("sft")
        mix.stash("rl")
        _backward(model, batches[1])
        mix.stash("sft")
        mixed = mix.combine(Weights.convex(0.3))
        norm = mix.clip_(0.05)
        optimizer.step()
        mix.after_step()
        optimizer.zero_grad()
        record += [
            seen.dot if seen else 0.0,
            seen.cos if seen else 0.0,
            mixed.norms["sft"],
            mixed.norms["rl"],
            mixed.cosines["sft"],
            norm,
        ]
    full = {name: (t.full_tensor() if hasattr(t, "full_tensor") else t) for name, t in mix.state_dict().items()}
    fresh = MixGrad(model.named_parameters(), optimizer, horizon=0.5)
    fresh.load_state_dict({name: t.clone() for name, t in full.items()})  # full tensors are sharded again
    _backward(model, batches[2])
    record += [mix.observe()["sft"].dot, fresh.observe()["sft"].dot]
    return {"numbers": record, "effect": {name: t.tolist() for name, t in full.items()}}


def _rank(rank: int, out: Path) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    join(rank, 2, out)
    mesh = init_device_mesh("cpu", (2,))
    model = _model()
    for layer in model:
        fully_shard(layer, mesh=mesh)
    result = _run(fully_shard(model, mesh=mesh))
    (out / f"{rank}.json").write_text(json.dumps(result))
    dist.barrier()
    dist.destroy_process_group()


def test_two_sharded_ranks_equal_one(tmp_path):
    assert start(2, _rank, tmp_path) == [0, 0]
    alone = _run(_model())
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert first["numbers"] == pytest.approx(alone["numbers"], rel=1e-6, abs=1e-12)
    for name, effect in alone["effect"].items():
        torch.testing.assert_close(torch.tensor(first["effect"][name]), torch.tensor(effect), rtol=1e-6, atol=1e-9)
