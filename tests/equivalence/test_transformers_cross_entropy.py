"""Our imitation loss is transformers' own `model(labels=...)`: same loss and gradient."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import Tensor, nn

from amft.batch import Batch, pad_batch
from amft.losses.sft import sft_loss
from amft.models.forward import token_scores
from amft.tensors import reduction_count

PROMPTS = [[5, 6, 7], [8], [9, 10]]
DEMONSTRATIONS = [[11, 12, 2], [13, 14, 15, 16, 2], [2]]


def tiny_model(family: str, dtype: torch.dtype) -> nn.Module:
    config = getattr(transformers, f"{family}Config")(
        vocab_size=29,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=4,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return getattr(transformers, f"{family}ForCausalLM")(config).to(dtype)


def labels(batch: Batch) -> Tensor:
    width = batch.ids.shape[1] - batch.completion_mask.shape[1]
    counted = torch.cat([torch.zeros_like(batch.ids[:, :width]), batch.completion_mask.long()], dim=1)
    return batch.ids.masked_fill(counted == 0, -100)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("family", ["Qwen2", "Qwen3", "Llama"])
def test_sft_loss_is_the_models_own(family: str, dtype: torch.dtype) -> None:
    batch = pad_batch(PROMPTS, DEMONSTRATIONS, 0)
    theirs, ours = tiny_model(family, dtype), tiny_model(family, dtype)
    positions = (batch.attention_mask.cumsum(-1) - 1).clamp(min=0)
    their_loss = theirs(
        input_ids=batch.ids, attention_mask=batch.attention_mask, position_ids=positions, labels=labels(batch)
    ).loss
    their_loss.backward()

    mask = batch.completion_mask
    logps = token_scores(ours, batch).logps
    our_loss = sft_loss(logps, mask, count=reduction_count(mask, "token", 0)).loss
    our_loss.backward()

    assert our_loss.item() == pytest.approx(their_loss.item(), rel=1e-6)
    expected, found = gradients(theirs), gradients(ours)
    assert found.keys() == expected.keys()
    scale = max(g.abs().max().item() for g in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-6 * scale, msg=name)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_smoothing_is_torchs(smoothing: float) -> None:
    batch = pad_batch(PROMPTS, DEMONSTRATIONS, 0)
    model, mask = tiny_model("Qwen2", torch.float64), batch.completion_mask
    scores = token_scores(model, batch, smoothing=True)
    ours = sft_loss(
        scores.logps, mask, count=float(mask.sum()), label_smoothing=smoothing, mean_logps=scores.mean_logps
    ).loss
    logits = model(
        input_ids=batch.ids,
        attention_mask=batch.attention_mask,
        position_ids=(batch.attention_mask.cumsum(-1) - 1).clamp(min=0),
    ).logits
    theirs = nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]), labels(batch)[:, 1:].reshape(-1), label_smoothing=smoothing
    )
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
