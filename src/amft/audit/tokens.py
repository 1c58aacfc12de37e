"""Which tokens of our own trainer's losses count, and how they are averaged, against a forward pass made by hand."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..batch import Batch
from ..models.picture_inputs import picture_inputs
from .answer import TOLERANCE, AuditAnswer, ruled
from .gradients import MICRO, relative_distance
from .rehearsal import Rehearsal, word


def check_mask(on: Rehearsal) -> AuditAnswer:
    """Nothing but the answer's tokens carries loss: not the prompt, not what fills a row up, not what is masked."""
    wrong, told = [], []
    for branch in on.branches:
        batch = branch.batch
        assert batch is not None
        numbers, whole = range(len(batch)), on.gradient(branch, range(len(batch)), len(batch))
        columns = batch.completion_mask.shape[1]
        padding = (batch.completion_mask * (1 - batch.attention_mask[:, -columns:])).sum()
        if padding:
            wrong.append(f"{word(branch)}: {padding:.0f} tokens that only fill rows up carry loss")
        silent = replace(branch, batch=replace(batch, completion_mask=torch.zeros_like(batch.completion_mask)))
        if on.gradient(silent, numbers, len(batch)).any():
            wrong.append(f"{word(branch)}: with every token masked there is still a gradient")
        other = replace(branch, batch=_refilled(batch))
        if (off := relative_distance(on.gradient(other, numbers, len(batch)), whole)) > TOLERANCE:
            wrong.append(f"{word(branch)}: another padding token moves the gradient by {off:.0%}")
        told.append(f"{word(branch)}: loss on {batch.tokens} of {batch.ids.numel()} places")
    return AuditAnswer(
        "mask", "Does loss fall on the answers' tokens only?", ruled(not wrong), "; ".join(wrong or told)
    )


def _refilled(batch: Batch) -> Batch:
    """The same rows with another token where nothing is read."""
    return replace(batch, ids=torch.where(batch.attention_mask > 0, batch.ids, torch.ones_like(batch.ids)))


def check_token_mean(on: Rehearsal) -> AuditAnswer:
    """The imitation loss is one mean over all tokens (eq 2 of arXiv 2508.06944): each row's part is by its length."""
    question = "Does every demonstration token weigh the same?"
    if on.imitation is None:
        return AuditAnswer("token-mean", question, "none", "this recipe has no demonstrations")
    batch = on.imitation.batch
    assert batch is not None
    parts = [on.add(on.imitation, [i], MICRO) for i in range(len(batch))]
    on.learner.clear()
    rows = [_losses_by_hand(on, batch, i) for i in range(len(batch))]
    tokens = sum(map(len, rows))
    mean, means = float(torch.cat(rows).mean()), float(torch.stack([row.mean() for row in rows]).mean())
    off = max(abs(part - float(row.sum()) / tokens) for part, row in zip(parts, rows, strict=True)) * len(rows)
    evidence = (
        f"rows of {min(map(len, rows))} to {max(map(len, rows))} tokens; the trainer says {sum(parts):.4f}, "
        f"the mean over tokens made by hand is {mean:.4f}, the mean of the rows' means {means:.4f}"
    )
    if off > TOLERANCE * mean:
        evidence += f"; a row's part of the loss is off by up to {off / mean:.0%}"
    return AuditAnswer("token-mean", question, ruled(off <= TOLERANCE * mean), evidence)


@torch.no_grad()
def _losses_by_hand(on: Rehearsal, batch: Batch, i: int) -> Tensor:
    """[tokens] minus log-likelihood in nats of one row's answer, without padding, label smoothing as configured."""
    read = batch.attention_mask[i] > 0
    ids, columns = batch.ids[i][read], batch.completion_mask.shape[1]
    answer = int(batch.attention_mask[i, -columns:].sum())
    asked, seen = ids[None].to(on.learner.parallel.device), batch.pixel_values
    options = picture_inputs(on.learner.model, None if seen is None else seen[i : i + 1], asked)
    logits = on.learner.model(input_ids=asked, use_cache=False, **options).logits[0].float().cpu()
    logps = logits[-answer - 1 : -1].log_softmax(-1)
    smoothing = on.learner.config.label_smoothing
    chosen = logps.gather(-1, ids[-answer:, None])[:, 0]
    return -((1.0 - smoothing) * chosen + smoothing * logps.mean(-1))


def check_first_token(on: Rehearsal) -> AuditAnswer:
    """With the loss on first tokens alone there is a gradient."""
    wrong: list[str] = []
    told: list[str] = []
    for branch in on.branches:
        batch = branch.batch
        assert batch is not None
        first = torch.zeros_like(batch.completion_mask)
        first[:, 0] = batch.completion_mask[:, 0]
        only = replace(branch, batch=replace(batch, completion_mask=first))
        norm = float(on.gradient(only, range(len(batch)), len(batch)).norm())
        (told if norm else wrong).append(f"{word(branch)}: the first tokens alone give a gradient of norm {norm:.2g}")
    return AuditAnswer(
        "first-token", "Is the first token of an answer trained?", ruled(not wrong), "; ".join(wrong or told)
    )
