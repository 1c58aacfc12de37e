"""A saved model that answers: on the device at hand, by any engine, in batches small enough to see it go on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from ..data.encoding import encode_prompts, pixels_of
from ..data.rewards import RewardBatch, Scorer
from ..data.row_set import RowSet
from ..data.streams import derive_seed
from ..distributed.ranks import Ranks, local_device
from ..distributed.served_sampler import ServedSampler
from ..models.load import lend_template, load_model, load_pictures, load_tokenizer, stop_ids
from ..models.whole import check_tokenizer
from ..progress_bar import progress_bar
from ..rollout.base import Sampler
from ..rollout.registry import build_sampler
from ..settings.groups import EngineSettings
from ..settings.precision import native_dtype
from ..types import Answer, Row, Sampling
from .answers import answer

FIRST_BATCH = 8
"""Problems answered first: the bar knows soon how long the rest will take."""


@dataclass(frozen=True)
class Asking:
    """How a saved model is asked."""

    sampling: Sampling
    engine: str = "auto"
    engine_options: Mapping[str, Any] | None = None
    dtype: str = "auto"
    """`float32`, `bfloat16`, or `auto`: bfloat16 on a GPU with units for it; on a CPU float32, in which runs sample."""
    batch: int = 64
    """Problems answered together."""
    max_prompt_length: int | None = None
    """Tokens; a longer prompt is an error. None: any."""
    trusted: bool = False
    """Strings of special tokens in prompts are those tokens; as `trust_special_tokens` in a recipe."""
    seed: int = 0
    """Of the draws."""


class Unscored:
    """A scorer for prompts that have no right answer: every one is an abstention."""

    def score(
        self,
        rows: Sequence[Row],  # noqa: ARG002
        texts: Sequence[Answer],
        completion_ids: Sequence[Sequence[int]],  # noqa: ARG002
    ) -> RewardBatch:
        """See `data.rewards.Scorer`."""
        return RewardBatch([math.nan] * len(texts), {})


def answer_splits(
    model: str, splits: Mapping[str, Sequence[Row]], scorer: Scorer, asking: Asking
) -> list[dict[str, Any]]:
    """Answer every row of every split with a saved model, a progress bar on the terminal.

    Args:
        model: `nano` or a model directory.
        splits: name -> rows with `prompt`; of a task, with `problem`.
        scorer: of their answers.
        asking: how.

    Returns:
        Score rows, with `split`; see `answers.answer`.

    Raises:
        ModelError, ConfigError: the model cannot be loaded, or the engine does not take it.
        DataError: a prompt cannot be encoded.
    """
    tokenizer, pictures = load_tokenizer(model), load_pictures(model)
    lend_template(tokenizer, pictures)
    policy = _loaded(model, asking.dtype)
    check_tokenizer(model, tokenizer, policy)
    stops = stop_ids(policy, tokenizer)
    sampler = _sampler(asking, policy, tokenizer.pad_token_id, stops)
    out = []
    with progress_bar(sum(map(len, splits.values())), "problem") as bar:
        for split, rows in splits.items():
            limit = asking.max_prompt_length or 2**31
            ids = encode_prompts(
                tokenizer,
                RowSet.whole(split, rows),
                max_prompt_length=limit,
                pictures=pictures,
                trusted=asking.trusted,
            )
            generator = torch.Generator().manual_seed(derive_seed(asking.seed, "eval", split))
            for part in _batches(len(rows), asking.batch):
                found = answer(
                    sampler,
                    tokenizer,
                    scorer,
                    rows[part],
                    ids[part],
                    sampling=asking.sampling,
                    generator=generator,
                    pixels=pixels_of([row["prompt"] for row in rows[part]], pictures),
                    first=part.start,
                )
                out += [{"split": split, **row} for row in found]
                bar.move(part.stop - part.start, {"split": split})
    return out


def _sampler(asking: Asking, policy: PreTrainedModel, pad_id: int, stops: Sequence[int]) -> Sampler:
    if asking.engine != "vllm":
        return build_sampler(asking.engine, policy, pad_id=pad_id, eos_ids=stops)
    return ServedSampler(policy, Ranks(), stops, policy.dtype, EngineSettings(**(asking.engine_options or {})))


def _loaded(model: str, dtype: str) -> Any:
    device = local_device()
    if dtype == "auto":
        dtype = native_dtype(device) if device.type == "cuda" else "float32"
    policy = load_model(model, torch.bfloat16 if dtype == "bfloat16" else torch.float32).to(device)
    if device.type == "cpu":
        policy.set_attn_implementation("eager")  # as a run has it, so that its answers are these
    return policy


def _batches(n: int, size: int) -> Iterator[slice]:
    start, stop = 0, min(FIRST_BATCH, size, n)
    while start < n:
        yield slice(start, stop)
        start, stop = stop, min(stop + size, n)
