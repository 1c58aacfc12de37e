"""One score of logits at a time."""

from __future__ import annotations

import torch

from amft.tensors import logit_scores


def selected_logps(logits, ids, **options):
    return logit_scores(logits, ids, **options)[0]


def token_entropy(logits, **options):
    ids = torch.zeros(logits.shape[:-1], dtype=torch.long)
    return logit_scores(logits, ids, entropy=True, **options)[1]


def mean_logps(logits, **options):
    ids = torch.zeros(logits.shape[:-1], dtype=torch.long)
    return logit_scores(logits, ids, mean=True, **options)[2]
