"""The planner on rows without padding: tokens by hand and against the layout, bytes against what autograd keeps."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from plan_shapes import SIZES, SMALL

from amft.batch import Batch, pad_batch
from amft.cli import main
from amft.distributed.micro_batch_limit import RowLimit
from amft.distributed.rank_partition import micro_batches
from amft.errors import ConfigError
from amft.models.attention import attention
from amft.models.forward import token_scores
from amft.models.layout import branched
from amft.models.tiny import FAMILIES
from amft.models.tree_attention import TREE
from amft.planning.devices import DEVICES
from amft.planning.memory import LOGIT_COPIES, Load, activations, logits
from amft.planning.packing import Packing, budgeted, fullest
from amft.planning.plan import HEADROOM, load_of, plan_step
from amft.planning.shape import shape_of
from amft.settings.config import AMFTConfig

LOAD = Load(
    rows=4, prompt=10, completion=30, sampled=4, trained=1272, width=4, half=False, moments=2, buffers=1, fused=False
)
MEAN = {"prompt": 5.0, "completion": 7.0}


def test_tokens_by_hand() -> None:
    """8 rows of 5 + 7 tokens hold 8 * 11 without their last ones; 56 are scored. The longest are 10 + 30."""
    assert fullest(8, 32, **MEAN, longest=(10, 30), dealt=False) == Packing(88, 56)
    # Several devices: 8 rows of the longest are 8 * 39, all 32 rows of the device 32 * 11 (224 scored, 240 at most).
    assert fullest(8, 32, **MEAN, longest=(10, 30), dealt=True) == Packing(312, 224)
    # Two micro-batches a device: 16 rows are 176 together, fewer than 8 of the longest.
    assert fullest(8, 16, **MEAN, longest=(10, 30), dealt=True).tokens == 176


@pytest.mark.parametrize("ranks", [1, 2])
def test_no_micro_batch_of_the_packer_holds_more(ranks: int) -> None:
    draw = random.Random(3)
    sizes = [(draw.randrange(1, 11), draw.randrange(1, 31)) for _ in range(48)]
    batch = unlike(sizes)
    found = [
        branched(part)
        for rank in range(ranks)
        for _, part in micro_batches(batch, RowLimit(8), SimpleNamespace(size=ranks, rank=rank))  # type: ignore[arg-type]
    ]
    tokens = [len(each.inputs["input_ids"][0]) for each in found]
    scored = [len(each.ids[0]) for each in found]
    prompt, completion = (sum(column) / 48 for column in zip(*sizes))
    bound = fullest(8, 48 // ranks, prompt, completion, longest=(10, 30), dealt=ranks > 1)
    if ranks == 1:
        assert sum(tokens) / len(tokens) == pytest.approx(bound.tokens)
        assert sum(scored) / len(scored) == pytest.approx(bound.scored)
    else:
        assert max(tokens) <= bound.tokens
        assert max(scored) <= bound.scored


def unlike(sizes: list[tuple[int, int]]) -> Batch:
    """Rows that begin with a token of their own."""
    return pad_batch([[2 + i] + [1] * (p - 1) for i, (p, _) in enumerate(sizes)], [[2] * c for _, c in sizes], 0)


def kept_by_autograd(model: Any, sizes: list[tuple[int, int]]) -> int:
    """Bytes of the different storages that a forward pass over a tree saves, weights apart."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, tuple[int, torch.Tensor]] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = (storage.nbytes(), tensor)  # kept alive, so that no address is used twice
        return tensor

    batch = unlike(sizes)
    with attention(model, TREE), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        token_scores(model, batch).logps.sum()
    return sum(size for size, _ in seen.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_activations_are_what_autograd_keeps(family: str) -> None:
    config, model = FAMILIES[family]
    built = model(config(**SIZES))
    shape = shape_of(built.config.to_dict(), "config")
    sizes = [(10, 30), (3, 7), (5, 12), (10, 1)]
    load = replace(LOAD, packing=Packing(tokens=74, scored=50))
    passing = 4 * 74 * 3 * 160
    assert activations(shape, load) - passing == pytest.approx(kept_by_autograd(built, sizes), rel=0.04)


def test_bytes_by_hand() -> None:
    """SMALL: H 8, Q 8, K 4, I 16. A token of a layer keeps 4 * 8 norms + 2 * 8 + 8 + 4 * 16 linear = 120 numbers, and
    8 + 2 * 4 = 16 in attention; one layer's gradients are 3 * 16, the edges 3 * 8: 2 * 136 + 72 = 344 a token."""
    load = replace(LOAD, packing=Packing(tokens=100, scored=60))
    assert activations(SMALL, load) == 4 * 100 * 344
    assert logits(SMALL, load) == 60 * 10 * 4 * (LOGIT_COPIES + 3)


def test_settings_reach_the_packing() -> None:
    def packing(devices: int, mean: tuple[float, float] | None, kind: str = "cpu", **settings: Any) -> Packing | None:
        config = AMFTConfig(max_prompt_length=10, max_completion_length=30, micro_batch_size=8, **settings)
        return load_of(config.model_dump(), SMALL, DEVICES[kind], devices, mean).packing

    assert packing(1, None, prefix_tree=False) is None
    assert packing(1, None) == Packing(312, 240)
    assert packing(1, (5, 7)) == Packing(88, 56)
    assert packing(1, (5, 7), "h100") == Packing(88, 56)
    # 128 completions and 64 demonstrations over 8 devices: 16 rows each.
    assert packing(8, (5, 7)) == Packing(176, 112)


@pytest.mark.parametrize("tree", [True, False])
def test_the_budget_is_the_largest_that_fits(tree: bool) -> None:
    config = AMFTConfig(num_prompts=64, max_prompt_length=100, max_completion_length=400, prefix_tree=tree)
    device = replace(DEVICES["h100"], memory=DEVICES["h100"].runtime + 2e8)

    def peak(tokens: int) -> float:
        return plan_step(config.model_copy(update={"micro_batch_tokens": tokens}), SMALL, device, 1).memory.peak

    found = plan_step(config, SMALL, device, 1)
    assert found.micro_batch_tokens is not None
    assert peak(found.micro_batch_tokens) <= HEADROOM * device.memory < peak(found.micro_batch_tokens + 512)
    cramped = replace(device, memory=DEVICES["h100"].runtime)
    assert plan_step(config, SMALL, cramped, 1).micro_batch_tokens is None


def test_a_budget_is_proposed_first_where_the_rows_do_not_fit() -> None:
    config = AMFTConfig(num_prompts=64, max_prompt_length=100, max_completion_length=400, dtype="bfloat16")
    device = replace(DEVICES["h100"], memory=(DEVICES["h100"].runtime + 2e7) / HEADROOM)
    found = plan_step(config, SMALL, device, 1)
    assert not found.fits
    assert found.changes[0]["set"] == {"micro_batch_tokens": found.micro_batch_tokens}
    assert found.changes[0]["fits"]


def test_tokens_under_a_budget_by_hand() -> None:
    """40 rows of 5 + 7 hold 440 without their last ones and 280 scored; a row of 10 + 30 counts whole."""
    assert budgeted(100, 40, **MEAN, longest=(10, 30)) == Packing(100, 100)
    assert budgeted(20, 40, **MEAN, longest=(10, 30)) == Packing(40, 40)
    assert budgeted(9999, 40, **MEAN, longest=(10, 30)) == Packing(440, 280)


def test_mean_lengths_are_checked_and_reach_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    padded, ends = AMFTConfig(prefix_tree=False), AMFTConfig()
    with pytest.raises(ConfigError, match="rows are padded to the longest; set prefix_tree: true"):
        plan_step(padded, SMALL, DEVICES["h100"], 1, (5, 7))
    with pytest.raises(ConfigError, match="--mean-completion 300: must be above 0 and at most max_completion_length"):
        plan_step(ends, SMALL, DEVICES["h100"], 1, (5, 300))
    found = []
    for mean in ([], ["--mean-completion", "20"], ["--mean-completion", "20", "--mean-prompt", "30"]):
        arguments = ["plan", "general_points", "--gpu", "cpu", *mean, "--json"]
        assert main(arguments) == 0
        found.append(json.loads(capsys.readouterr().out))
    activation = [each["memory"]["activations"] for each in found]
    assert activation == sorted(activation, reverse=True)
    assert len(set(activation)) == 3
    assert found[2]["seconds"]["rl"] < found[0]["seconds"]["rl"]
    assert found[2]["seconds"]["generate"] == found[0]["seconds"]["generate"]
