from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from plain_scores import mean_logps, selected_logps, token_entropy
from torch import Tensor

from amft import tensors
from amft.tensors import reduce, reduction_count

VALUES = torch.tensor([[1.0, 2.0, 3.0], [4.0, 9.0, 9.0]])
MASK = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])


def logits(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).mul(3).to(dtype)


@pytest.mark.parametrize(
    ("how", "count", "mean"),
    [
        ("token", 4.0, 2.5),  # (1 + 2 + 3 + 4) / 4 tokens
        ("sequence", 2.0, 3.0),  # ((1 + 2 + 3) / 3 + 4 / 1) / 2 rows
        ("constant", 10.0, 1.0),  # (1 + 2 + 3 + 4) / (2 rows * 5)
    ],
)
def test_reduce_by_hand(how, count, mean) -> None:
    assert reduction_count(MASK, how, 5) == count
    assert reduce(VALUES, MASK, how, count).item() == pytest.approx(mean, rel=1e-7)


@pytest.mark.parametrize("how", ["token", "sequence", "constant"])
def test_one_value_per_row_is_that_value_on_each_of_its_tokens(how) -> None:
    column = torch.tensor([[2.0], [5.0]])
    count = reduction_count(MASK, how, 5)
    assert reduce(column, MASK, how, count) == reduce(column.expand(2, 3), MASK, how, count)


def test_rows_without_tokens_count_in_the_sequence_mean() -> None:
    # Masking the second row leaves the first row's weight at 1/2: 2 / 2 rows.
    mask = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    assert reduce(VALUES, mask, "sequence", reduction_count(mask, "sequence", 5)).item() == 1.0


@pytest.mark.parametrize("how", ["token", "sequence", "constant"])
@pytest.mark.parametrize("cuts", [(1,), (3,), (1, 2), (2, 3, 4), (1, 2, 3, 4)])
def test_micro_batches_add_up(how, cuts) -> None:
    lengths = torch.tensor([3, 0, 7, 1, 5])
    mask = (torch.arange(7) < lengths[:, None]).double()
    whole = logits(5, 7).requires_grad_()
    parts = logits(5, 7).requires_grad_()
    slices = [slice(a, b) for a, b in pairwise([0, *cuts, 5])]
    count = sum(reduction_count(mask[rows], how, 7) for rows in slices)
    assert count == reduction_count(mask, how, 7)
    total = sum(reduce(parts[rows], mask[rows], how, count) for rows in slices)
    expected = reduce(whole, mask, how, count)
    assert total.item() == pytest.approx(expected.item(), rel=1e-12)
    total.backward()
    expected.backward()
    torch.testing.assert_close(parts.grad, whole.grad, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("how", ["token", "sequence", "constant"])
@pytest.mark.parametrize("rows", [0, 3])
def test_nothing_counts(how, rows) -> None:
    values = torch.full((rows, 4), torch.nan, requires_grad=True)
    mask = torch.zeros(rows, 4)
    for count in (reduction_count(mask, how, 4), 0.0, 17.0):
        out = reduce(values, mask, how, count)
        assert out.item() == 0.0
        (gradient,) = torch.autograd.grad(out, values)
        assert gradient.shape == values.shape
        assert not gradient.any()


def test_a_masked_value_reaches_nothing() -> None:
    values = torch.tensor([[1.0, torch.inf, torch.nan]], requires_grad=True)
    out = reduce(values, torch.tensor([[1.0, 0.0, 0.0]]), "token", 1.0)
    out.backward()
    assert out.item() == 1.0
    assert values.grad.tolist() == [[1.0, 0.0, 0.0]]


def test_scores_by_hand() -> None:
    # Logits (0, ln 3): probabilities 1/4 and 3/4.
    at = torch.tensor([[[0.0, math.log(3.0)]]])
    assert selected_logps(at, torch.tensor([[1]])).item() == pytest.approx(math.log(0.75))
    assert mean_logps(at).item() == pytest.approx((math.log(0.25) + math.log(0.75)) / 2)
    assert token_entropy(at).item() == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))
    # Temperature 1/2 doubles the logits: (0, ln 9), probabilities 1/10 and 9/10.
    assert selected_logps(at, torch.tensor([[0]]), temperature=0.5).item() == pytest.approx(math.log(0.1))
    assert token_entropy(at, temperature=0.5).item() == pytest.approx(-0.1 * math.log(0.1) - 0.9 * math.log(0.9))


def test_entropy_of_the_uniform_and_of_the_certain() -> None:
    assert token_entropy(torch.full((1, 1, 50), 7.0)).item() == pytest.approx(math.log(50))
    assert token_entropy(torch.tensor([[[1000.0, 0.0, 0.0]]])).item() == 0.0


def test_a_switched_off_token_has_no_entropy() -> None:
    at = torch.tensor([[[0.0, 0.0, -torch.inf]]], requires_grad=True)
    entropy = token_entropy(at)
    entropy.sum().backward()
    assert entropy.item() == pytest.approx(math.log(2))
    assert at.grad.abs().max() < 1e-6


@pytest.mark.parametrize(("dtype", "wide"), [(torch.float64, torch.float64), (torch.bfloat16, torch.float32)])
def test_half_is_accumulated_in_single_and_double_stays_double(dtype, wide) -> None:
    at, ids = logits(2, 3, 40, dtype=dtype), torch.tensor([[0, 5, 39], [1, 2, 3]])
    reference = at.to(wide)
    logps = selected_logps(at, ids)
    assert logps.dtype == token_entropy(at).dtype == mean_logps(at).dtype == wide
    torch.testing.assert_close(logps, reference.log_softmax(-1).gather(-1, ids[..., None])[..., 0], rtol=0, atol=0)


def test_a_large_common_offset_costs_nothing() -> None:
    # Exact in float32: the offset and the logits are small integers.
    at = torch.tensor([[[0.0, 1.0, -4.0]]])
    ids = torch.tensor([[1]])
    assert selected_logps(at + 2**20, ids) == selected_logps(at, ids)
    assert token_entropy(at + 2**20) == token_entropy(at)


@pytest.mark.parametrize("score", ["selected", "mean", "entropy"])
def test_chunks_change_nothing(score, monkeypatch) -> None:
    ids = torch.arange(15).reshape(3, 5)
    scores = {
        "selected": lambda at: selected_logps(at, ids, temperature=0.7),
        "mean": lambda at: mean_logps(at, temperature=0.7),
        "entropy": lambda at: token_entropy(at, temperature=0.7),
    }
    whole, chunked = logits(3, 5, 20).requires_grad_(), logits(3, 5, 20).requires_grad_()
    expected = scores[score](whole)
    expected.square().sum().backward()
    monkeypatch.setattr(tensors, "CHUNK_ELEMENTS", 80)  # four tokens a chunk, three in the last
    found = scores[score](chunked)
    found.square().sum().backward()
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(chunked.grad, whole.grad, rtol=1e-12, atol=1e-14)


def test_all_together_are_each_apart() -> None:
    ids = torch.arange(6).reshape(2, 3)
    together, apart = logits(2, 3, 20).requires_grad_(), logits(2, 3, 20).requires_grad_()
    *found, firsts = tensors.logit_scores(together, ids, temperature=0.7, entropy=True, mean=True, first=True)
    assert firsts is not None
    assert not firsts.requires_grad
    assert torch.equal(firsts, (together.argmax(-1) == ids).float())
    assert tensors.logit_scores(together, together.argmax(-1), first=True)[3].min() == 1
    expected = [
        selected_logps(apart, ids, temperature=0.7),
        token_entropy(apart, temperature=0.7),
        mean_logps(apart, temperature=0.7),
    ]
    for weight, one, other in zip((1.0, 0.1, 0.3), found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
        (weight * one.square().sum()).backward(retain_graph=True)
        (weight * other.square().sum()).backward()
    torch.testing.assert_close(together.grad, apart.grad, rtol=1e-13, atol=1e-14)
    assert tensors.logit_scores(together, ids)[1:] == (None, None, None)


def test_autocast_leaves_them_in_single_precision() -> None:
    at, ids = logits(2, 3, 40, dtype=torch.float32), torch.zeros(2, 3, dtype=torch.long)
    expected = tensors.logit_scores(at, ids, entropy=True, mean=True, first=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = tensors.logit_scores(at, ids, entropy=True, mean=True, first=True)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_no_second_copy_of_the_logits_is_kept_for_the_backward(monkeypatch) -> None:
    at = logits(4, 8, 64, dtype=torch.bfloat16).requires_grad_()
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    monkeypatch.setattr(tensors, "CHUNK_ELEMENTS", 2 * 64)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        selected_logps(at, torch.zeros(4, 8, dtype=torch.long))
        token_entropy(at)
    kept.pop(at.untyped_storage().data_ptr(), None)
    assert sum(kept.values()) < 4 * 8 * 64 * 4 / 4  # well under one float32 copy


def test_an_empty_batch_of_logits() -> None:
    at = torch.zeros(0, 3, 7, requires_grad=True)
    for out in (selected_logps(at, torch.zeros(0, 3, dtype=torch.long)), token_entropy(at), mean_logps(at)):
        assert out.shape == (0, 3)
        assert out.requires_grad
