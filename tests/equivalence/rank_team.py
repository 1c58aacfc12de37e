"""Several processes for the tests of several ranks: forked from one server that has imported everything once."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

TIMEOUT = 500  # seconds; a busy machine
ROWS = [{"prompt": f"{n} + {n * n} =", "completion": f" {n + n * n}"} for n in range(1, 31)]


def odd(completion_ids, **columns):
    """Odd token ids are good: dense, so that every group of random answers has an advantage."""
    return [sum(token % 2 for token in ids) / len(ids) for ids in completion_ids]


def save_model(directory: Path) -> Path:
    """A random model of width 16 with the nano tokenizer."""
    from amft.models.load import NANO, load_tokenizer
    from amft.models.tiny import tiny_model

    tokenizer = load_tokenizer(str(NANO))
    tiny_model("llama", vocab_size=len(tokenizer), hidden_size=16, heads=2, kv_heads=1).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def join(rank: int, size: int, out: Path, patience: float = TIMEOUT) -> None:
    """Make this process one of `size`."""
    import datetime

    import torch.distributed as dist

    torch.set_num_threads(1)
    store = dist.FileStore(str(out / "store"), size)
    dist.init_process_group(
        "gloo", store=store, rank=rank, world_size=size, timeout=datetime.timedelta(seconds=patience)
    )


def start(size: int, target, *arguments) -> list[int | None]:
    """Run `target(rank, *arguments)` on every rank; exit codes, None for one that had to be killed."""
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["amft.training.trainer", "transformers.models.llama.modeling_llama"])
    team = [context.Process(target=target, args=(rank, *arguments)) for rank in range(size)]
    for process in team:
        process.start()
    deadline = time.monotonic() + TIMEOUT
    for process in team:
        process.join(max(0.0, deadline - time.monotonic()))
    codes = [process.exitcode for process in team]
    for process in team:
        process.kill()
        process.join()
    return codes


def outcome(directory: Path) -> tuple[torch.Tensor, list[dict]]:
    """Parameters and metrics of a run that saved its last step."""
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    state = load_file(directory / "checkpoints" / f"step-{len(rows)}" / "model" / "model.safetensors")
    return torch.cat([state[name].flatten() for name in sorted(state)]), rows


def same(found: tuple[torch.Tensor, list[dict]], expected: tuple[torch.Tensor, list[dict]], rel: float = 3e-6) -> None:
    """Two outcomes, but for the rounding of sums that are added up in another order, some of them in float32."""
    (parameters, rows), (wanted, wanted_rows) = found, expected
    assert (parameters - wanted).norm() / wanted.norm() < min(rel, 1e-6)
    for row, other in zip(rows, wanted_rows, strict=True):
        assert row.keys() == other.keys()
        for name, value in other.items():
            assert row[name] == (value if isinstance(value, str) else pytest.approx(value, rel=rel, abs=1e-3 * rel)), (
                name
            )
