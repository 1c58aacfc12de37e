"""The same questions to `GRPOTrainer`, `SFTTrainer` and what is derived from them. Needs `amft[trl]`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data.encoding import encode_prompt
from ..errors import ConfigError
from .answer import AuditAnswer, ruled
from .gradients import AuditedLoss, check_arrivals, check_micro_batches, sampled_gradient
from .rows import LOOKED_AT, gives_away

TRL_ROWS = 6
"""Rows of a rehearsal; 1, 2 and 3 divide it, since a mean over rows in TRL needs micro-batches of one size."""

NO_LOSS = -100
"""Label of a token without loss, in transformers."""


@dataclass(frozen=True)
class TRLRows:
    """Rows as TRL feeds them to its model."""

    inputs: Callable[[Sequence[int]], Mapping[str, Any]]
    """A micro-batch of the rows with these numbers."""
    lengths: list[int]
    """Tokens of each row's answer, padding apart."""
    counted: Tensor
    """[B, T] bool, where loss falls."""
    read: Tensor
    """[B, T] bool, False on padding."""
    answers_from: list[int]
    """Column of each row's first answer token."""


def audit_trl_trainer(trainer: Any) -> list[AuditAnswer]:
    """Try a TRL trainer's accounts on six of its rows before `train()`; it is not trained.

    A `GRPOTrainer` generates for these rows and calls its reward functions once.

    Args:
        trainer: a `trl.GRPOTrainer` or `trl.SFTTrainer` (or a class derived from one) of one process, in float32.

    Raises:
        ConfigError: it is neither, or has too few rows.
    """
    from trl import GRPOTrainer, SFTTrainer

    if isinstance(trainer, GRPOTrainer):
        name, rows = "exploration", _rollouts(trainer)
    elif isinstance(trainer, SFTTrainer):
        name, rows = "imitation", _demonstrations(trainer)
    else:
        raise ConfigError(f"audit: give a GRPOTrainer or an SFTTrainer of TRL, not a {type(trainer).__name__}")
    loss = AuditedLoss(name, TRL_ROWS, lambda numbers, size: _gradient(trainer, rows, numbers, size))
    data = _check_prompts(trainer) if name == "exploration" else _check_whole(trainer)
    return [check_micro_batches([loss]), check_arrivals([loss]), _check_mask(rows), _check_first(rows), data]


def _gradient(trainer: Any, rows: TRLRows, numbers: Sequence[int], size: int) -> Tensor:
    """[N]; by the trainer's own training step."""
    model = trainer.model
    items = rows.counted.sum()
    model.zero_grad(set_to_none=True)
    with _one_step(trainer, -(-TRL_ROWS // size)), trainer.accelerator.no_sync(model):
        for i in range(0, len(numbers), size):
            _step(trainer)(trainer, model, rows.inputs(numbers[i : i + size]), items)
    found = sampled_gradient(model)
    model.zero_grad(set_to_none=True)
    return found


def _step(trainer: Any) -> Callable[..., Any]:
    """The training step; in our adapter TRL's, for ours mixes what it leaves with imitation."""
    from trl import GRPOTrainer

    from ..integrations.trl import AMFTGRPOTrainer

    kind = GRPOTrainer if isinstance(trainer, AMFTGRPOTrainer) else type(trainer)
    step: Callable[..., Any] = kind.training_step
    return step


@contextmanager
def _one_step(trainer: Any, parts: int) -> Iterator[None]:
    """While open, `parts` micro-batches are one optimizer step; a training step takes its inputs as they are."""
    # GRPO counts tokens over a generation, which may feed several steps: here it feeds this one.
    steps = getattr(trainer.args, "steps_per_generation", None)
    trainer.args.steps_per_generation = trainer.current_gradient_accumulation_steps = parts
    trainer._prepare_inputs = lambda inputs: {
        name: value.to(trainer.args.device) if isinstance(value, Tensor) else value for name, value in inputs.items()
    }
    try:
        with torch.random.fork_rng():
            yield
    finally:
        del trainer._prepare_inputs
        trainer.args.steps_per_generation = steps


def _demonstrations(trainer: Any) -> TRLRows:
    """Rows of the prepared dataset, from the shortest to the longest."""
    data = trainer.train_dataset
    if data is None or len(data) < TRL_ROWS:
        raise ConfigError(f"audit: the trainer's train_dataset needs at least {TRL_ROWS} rows")
    by_length = sorted(range(len(data)), key=lambda i: len(data[i]["input_ids"]))
    chosen = [data[by_length[(len(data) - 1) * i // (TRL_ROWS - 1)]] for i in range(TRL_ROWS)]

    def inputs(numbers: Sequence[int]) -> Mapping[str, Any]:
        found: Mapping[str, Any] = trainer.data_collator([chosen[i] for i in numbers])
        return found

    whole = inputs(range(TRL_ROWS))
    read, counted = whole["attention_mask"] > 0, whole["labels"] != NO_LOSS
    tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
    starts = [len(encode_prompt(tokenizer, row["prompt"])) if "prompt" in row else 0 for row in chosen]
    return TRLRows(inputs, read.sum(1).tolist(), counted, read, starts)


def _rollouts(trainer: Any) -> TRLRows:
    """Completions of the policy for rows of the dataset, scored as in training."""
    data, group = trainer.train_dataset, trainer.num_generations
    examples = [data[i // group % len(data)] for i in range(TRL_ROWS)]
    if TRL_ROWS % group:
        raise ConfigError(f"audit: num_generations must divide {TRL_ROWS}; set it to 2 or 3 for the audit")
    trainer.model.train()
    with torch.random.fork_rng():
        made = trainer._generate_and_score_completions(examples)
    made["advantages"] = torch.tensor([1.0, -1.0] * TRL_ROWS)[:TRL_ROWS].to(made["completion_ids"].device)

    def inputs(numbers: Sequence[int]) -> Mapping[str, Any]:
        index = list(numbers)
        return {name: value[index] if _is_of_rows(value) else value for name, value in made.items()}

    read = torch.cat([made["prompt_mask"], made["completion_mask"]], 1) > 0
    silent = torch.zeros_like(made["prompt_mask"])
    counted = torch.cat([silent, made["completion_mask"]], 1) > 0
    start = made["prompt_mask"].shape[1]
    return TRLRows(inputs, made["completion_mask"].sum(1).tolist(), counted, read, [start] * TRL_ROWS)


def _is_of_rows(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0 and len(value) == TRL_ROWS


def _check_mask(rows: TRLRows) -> AuditAnswer:
    filled = int((rows.counted & ~rows.read).sum())
    before = sum(int(row[:start].sum()) for row, start in zip(rows.counted, rows.answers_from, strict=True))
    wrong = [f"{filled} tokens that only fill rows up carry loss"] if filled else []
    wrong += [f"{before} tokens of prompts carry loss"] if before else []
    told = f"loss on {int(rows.counted.sum())} of {rows.counted.numel()} places"
    return AuditAnswer(
        "mask", "Does loss fall on the answers' tokens only?", ruled(not wrong), "; ".join(wrong) or told
    )


def _check_first(rows: TRLRows) -> AuditAnswer:
    # The logits of column t - 1 predict column t, so column 0 has none.
    missing = [
        number
        for number, (row, start) in enumerate(zip(rows.counted, rows.answers_from, strict=True))
        if not row[max(start, 1)]
    ]
    told = f"the first answer token of {TRL_ROWS - len(missing)} of {TRL_ROWS} rows carries loss"
    return AuditAnswer("first-token", "Is the first token of an answer trained?", ruled(not missing), told)


def _check_prompts(trainer: Any) -> AuditAnswer:
    question, data = "Are the demonstrations absent from the rollouts' prompts?", trainer.train_dataset
    rows = [data[i] for i in range(0, len(data), max(1, len(data) // LOOKED_AT))][:LOOKED_AT]
    shown = [row for row in rows if row.get("completion")]
    if not shown:
        return AuditAnswer("prompts", question, "none", "the rows have no column completion to look for")
    leaks = sum(map(gives_away, shown))
    return AuditAnswer("prompts", question, ruled(not leaks), f"{leaks} of {len(shown)} prompts hold their own answer")


def _check_whole(trainer: Any) -> AuditAnswer:
    question, data, longest = "Is every demonstration whole?", trainer.train_dataset, trainer.args.max_length
    tokenizer = getattr(trainer.processing_class, "tokenizer", trainer.processing_class)
    cut = sum(len(row["input_ids"]) == longest and row["input_ids"][-1] != tokenizer.eos_token_id for row in iter(data))
    told = f"{cut} of {len(data)} rows are cut at max_length {longest}" if cut else f"none of {len(data)} rows is cut"
    return AuditAnswer("demonstrations", question, ruled(not cut), told)
