"""Micro-batches cut by tokens: by hand, against the layouts they are for, balanced, and alike on all ranks."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from amft.batch import Batch, pad_batch
from amft.distributed.micro_batch_limit import RowLimit, TokenLimit
from amft.distributed.rank_partition import micro_batches, prompt_groups
from amft.errors import ConfigError
from amft.models.layout import branched
from amft.settings.config import AMFTConfig


def drawn(groups: int, size: int, seed: int = 0) -> Batch:
    """Groups of `size` rows with a prompt of 10 to 20 tokens and unlike answers of 1 to 60."""
    draw = random.Random(seed)
    prompts = [[1000 + i] * draw.randint(10, 20) for i in range(groups)]
    answers = [[draw.randrange(900) for _ in range(draw.randint(1, 60))] for _ in range(groups * size)]
    return pad_batch([prompts[i // size] for i in range(len(answers))], answers, 0)


def ranks(size: int, rank: int = 0) -> Any:
    return SimpleNamespace(size=size, rank=rank)


def laid(part: Batch) -> int:
    """Tokens that the layers compute on, with the last one of every row, which a tree leaves out."""
    return len(branched(part).inputs["input_ids"][0]) + len(part)


def test_by_hand() -> None:
    """Prompts of 2 and answers of 1, 1 | 4 | 3: in a tree 4, 6 and 5 tokens; padded rows of 3, 3, 6 and 5."""
    batch = pad_batch([[7, 7], [7, 7], [8, 8], [9, 9]], [[1], [2], [1, 2, 3, 4], [1, 2, 3]], 0)
    groups = prompt_groups(batch)
    assert groups == [[0, 1], [2], [3]]
    assert TokenLimit(11, is_tree=True).cut(batch, groups) == [[2], [0, 1, 3]]  # 6 and 9, not 11 and 4
    assert TokenLimit(15, is_tree=True).cut(batch, groups) == [[0, 1, 2, 3]]
    assert TokenLimit(12, is_tree=False).cut(batch, groups) == [[2, 3], [0, 1]]
    assert TokenLimit(1, is_tree=True).cut(batch, groups) == [[2], [3], [0], [1]]
    assert RowLimit(2).cut(batch, groups) == [[0, 1], [2, 3]]


@pytest.mark.parametrize("is_tree", [True, False])
@pytest.mark.parametrize("limit", [100, 333, 1000])
def test_every_row_once_within_the_limit_in_few_and_even_parts(is_tree: bool, limit: int) -> None:
    batch = drawn(8, 6)
    parts = micro_batches(batch, TokenLimit(limit, is_tree), ranks(1))
    assert sorted(row for rows, _ in parts for row in rows) == list(range(len(batch)))
    tokens = [laid(part) if is_tree else part.ids.numel() for _, part in parts]
    assert max(tokens) <= limit
    assert len(parts) <= 1.5 * sum(tokens) / limit + 1
    if len(parts) > 2:
        assert max(tokens) <= 1.5 * sum(tokens) / len(tokens)
    if is_tree:
        whole = [group for group in prompt_groups(batch) if laid(batch.take(group)) <= limit / 2]
        for group in whole:
            assert any(set(group) <= set(rows) for rows, _ in parts), "a group that fits is not cut"


@pytest.mark.parametrize("is_tree", [True, False])
def test_ranks_agree_on_the_number_of_micro_batches(is_tree: bool) -> None:
    batch = drawn(5, 4, seed=1)
    limit = TokenLimit(120, is_tree)
    found = [micro_batches(batch, limit, ranks(3, rank)) for rank in range(3)]
    assert len({len(parts) for parts in found}) == 1
    assert sorted(row for parts in found for rows, _ in parts for row in rows) == list(range(len(batch)))
    assert all(rows or not part.completion_mask.any() for parts in found for rows, part in parts)


def test_rows_and_tokens_are_not_both_given() -> None:
    assert AMFTConfig(micro_batch_tokens=5).micro_batch_tokens == 5
    with pytest.raises((ConfigError, ValidationError), match="micro_batch_tokens stands in its place; leave one out"):
        AMFTConfig(micro_batch_tokens=5, micro_batch_size=4)
