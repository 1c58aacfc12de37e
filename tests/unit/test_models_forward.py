from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from amft.batch import Batch, pad_batch
from amft.losses.sft import sft_loss
from amft.models.forward import token_scores

VOCABULARY = 23
PROMPTS = [[5, 6, 7], [8]]
COMPLETIONS = [[11, 2], [12, 13, 14, 2]]


def qwen(attention: str = "sdpa") -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=None,
        initializer_range=0.2,
        attn_implementation=attention,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Qwen2ForCausalLM(config)


class Table(nn.Module):
    """A model whose logits are a parameter, so that their gradient shows which positions were trained."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        noise = torch.randn(rows, width, VOCABULARY, generator=torch.Generator().manual_seed(0))
        self.table = nn.Parameter(noise)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.table)


def test_the_logits_that_predict_each_answer_token_are_trained_and_no_others() -> None:
    # [5 6 7 | 11  2  .  .]   trained at the positions of 7 and 11
    # [. . 8 | 12 13 14  2]   trained at the positions of 8, 12, 13 and 14
    batch = pad_batch(PROMPTS, COMPLETIONS, 0)
    model = Table(2, 7)
    sft_loss(token_scores(model, batch).logps, batch.completion_mask, count=6.0).loss.backward()
    trained = model.table.grad.abs().sum(-1) != 0
    assert trained.int().tolist() == [[0, 0, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1, 0]]
    # softmax minus one-hot, over the count
    expected = (model.table[1, 3].softmax(-1) - nn.functional.one_hot(torch.tensor(13), VOCABULARY)) / 6
    torch.testing.assert_close(model.table.grad[1, 3], expected.detach())


def test_the_loss_mask_decides() -> None:
    batch = pad_batch(PROMPTS, COMPLETIONS, 0)
    batch.completion_mask[1, 1] = 0.0
    model = Table(2, 7)
    sft_loss(token_scores(model, batch).logps, batch.completion_mask, count=5.0).loss.backward()
    assert (model.table.grad[1].abs().sum(-1) != 0).int().tolist() == [0, 0, 1, 0, 1, 1, 0]


def test_log_probabilities_are_those_of_an_unpadded_forward() -> None:
    model = qwen().double()
    scores = token_scores(model, pad_batch(PROMPTS, COMPLETIONS, 0))
    for row, (prompt, completion) in enumerate(zip(PROMPTS, COMPLETIONS, strict=True)):
        logits = model(input_ids=torch.tensor([prompt + completion])).logits[0]
        for t, token in enumerate(completion):
            expected = logits[len(prompt) + t - 1].log_softmax(-1)[token]
            assert scores.logps[row, t].item() == pytest.approx(expected.item(), rel=1e-6)


def wider(batch: Batch, left: int, right: int, pad: int) -> Batch:
    """The same rows with more padding on both sides."""
    widen = nn.functional.pad
    return Batch(
        ids=widen(batch.ids, (left, right), value=pad),
        attention_mask=widen(batch.attention_mask, (left, right)),
        completion_mask=widen(batch.completion_mask, (0, right)),
    )


# transformers' eager attention takes its softmax in float32, where float64's mask value is -inf: padding turns NaN.
@pytest.mark.parametrize(("attention", "dtype", "precision"), [("sdpa", "float64", 1e-6), ("eager", "float32", 1e-5)])
@pytest.mark.parametrize(("left", "right"), [(3, 0), (0, 2), (4, 3)])
def test_padding_changes_nothing(left, right, attention, dtype, precision) -> None:
    batch = pad_batch(PROMPTS, COMPLETIONS, 0)
    plain, padded = (qwen(attention).to(getattr(torch, dtype)) for _ in range(2))
    expected = token_scores(plain, batch, entropy="graph")
    found = token_scores(padded, wider(batch, left, right, pad=20), entropy="graph")
    at = batch.completion_mask == 1
    torch.testing.assert_close(found.logps[:, :4][at], expected.logps[at], rtol=precision, atol=precision)
    torch.testing.assert_close(found.entropy[:, :4][at], expected.entropy[at], rtol=precision, atol=precision)
    (found.logps[:, :4] * batch.completion_mask).sum().backward()
    (expected.logps * batch.completion_mask).sum().backward()
    for name, parameter in padded.named_parameters():
        torch.testing.assert_close(
            parameter.grad, plain.get_parameter(name).grad, rtol=0, atol=10 * precision, msg=name
        )
    # token 20 is padding and nothing else
    assert not padded.model.embed_tokens.weight.grad[20].any()


def test_the_head_runs_on_the_completion_only() -> None:
    model, seen = qwen(), []
    model.lm_head.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    token_scores(model, pad_batch(PROMPTS, COMPLETIONS, 0))
    assert seen == [4 + 1]


def test_temperature_divides_the_logits() -> None:
    batch, model = pad_batch(PROMPTS, COMPLETIONS, 0), Table(2, 7)
    scores = token_scores(model, batch, temperature=2.0, entropy="value", smoothing=True)
    logps = (model.table / 2.0).log_softmax(-1)[:, 2:-1]
    torch.testing.assert_close(scores.logps, logps.gather(-1, batch.completion_ids[..., None])[..., 0])
    torch.testing.assert_close(scores.entropy, -(logps.exp() * logps).sum(-1))
    torch.testing.assert_close(scores.mean_logps, logps.mean(-1))


def test_accuracy_is_the_first_choice() -> None:
    batch, model = pad_batch(PROMPTS, COMPLETIONS, 0), Table(2, 7)
    with torch.no_grad():
        model.table[0, 2, 11] = model.table[1, 4, 14] = 50.0  # the logits that predict 11, and the second row's 14
        model.table[0, 3, 3] = model.table[1, [2, 3, 5], 3] = 50.0
    correct = token_scores(model, batch, accuracy=True).correct
    assert (correct * batch.completion_mask).tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]


def test_what_is_computed_is_what_was_asked() -> None:
    batch, model = pad_batch(PROMPTS, COMPLETIONS, 0), qwen()
    plain = token_scores(model, batch)
    assert plain.entropy is None
    assert plain.mean_logps is None
    assert plain.correct is None
    value = token_scores(model, batch, entropy="value").entropy
    graph = token_scores(model, batch, entropy="graph").entropy
    assert not value.requires_grad
    assert graph.requires_grad
    assert torch.equal(value, graph)
    with torch.no_grad():
        assert not token_scores(model, batch, entropy="graph").entropy.requires_grad


def test_a_row_with_an_empty_completion_has_no_gradient() -> None:
    batch, model = pad_batch([[5, 6], [7]], [[], []], 0), qwen()
    out = sft_loss(token_scores(model, batch).logps, batch.completion_mask, count=0.0)
    out.loss.backward()
    assert out.loss.item() == 0.0
    assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)


def test_a_batch_without_prompts_is_refused() -> None:
    with pytest.raises(AssertionError, match="prompt"):
        token_scores(qwen(), pad_batch([[], []], COMPLETIONS, 0))
