"""Our policy losses are TRL 1.16's `GRPOTrainer._compute_loss` (and RLOO's): same loss, gradient and metrics."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from amft.batch import Batch, pad_batch
from amft.losses.choices import POLICY_LOSSES, clip_range
from amft.losses.kl import kl_loss
from amft.losses.mismatch import sampling_weights
from amft.losses.policy import policy_loss
from amft.losses.ratio import importance_ratio
from amft.models.forward import token_scores
from amft.tensors import reduction_count

pytestmark = pytest.mark.filterwarnings("ignore")

VOCABULARY = 31
MAX_LENGTH = 7
CLIP = (0.2, 0.28)
TEMPERATURE = 0.9
PROMPTS = [[5, 6, 7], [8], [9, 10], [11, 12, 13], [6]]
COMPLETIONS = [[14, 15, 2], [16, 17, 18, 19, 2], [20], [21, 2], []]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def tiny_model(seed: int = 0) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        eos_token_id=2,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    words = {"<pad>": 0, "<unk>": 1, "<eos>": 2, **{f"w{i}": i for i in range(3, VOCABULARY)}}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )


def trl_trainer(kind: str, model: Qwen2ForCausalLM, directory: str, **settings: object):
    trl = pytest.importorskip("trl")  # not on Python 3.10
    from datasets import Dataset

    settings = {"epsilon": CLIP[0], "epsilon_high": CLIP[1]} | settings
    args = getattr(trl, f"{kind}Config")(
        output_dir=directory,
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=2,
        num_generations=2,
        max_completion_length=MAX_LENGTH,
        temperature=TEMPERATURE,
        **settings,
    )
    trainer = getattr(trl, f"{kind}Trainer")(
        model=model,
        args=args,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        processing_class=tiny_tokenizer(),
        train_dataset=Dataset.from_dict({"prompt": ["w3 w4", "w5"]}),
    )
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    return trainer


def rollouts() -> tuple[Batch, Tensor, Tensor, Tensor]:
    """Fixed rollouts of uneven lengths, one of them empty; advantages; old and reference log-probabilities."""
    batch = pad_batch(PROMPTS, COMPLETIONS, 0)
    with torch.no_grad():
        now = token_scores(tiny_model(), batch, temperature=TEMPERATURE).logps
    noise = torch.Generator().manual_seed(1)
    old = now + 0.35 * torch.randn(now.shape, generator=noise)
    ref = now + 0.5 * torch.randn(now.shape, generator=noise)
    return batch, torch.tensor([1.1, -0.7, 0.4, -1.3, 0.9]), old, ref


def trl_inputs(batch: Batch, advantages: Tensor) -> dict[str, Tensor]:
    width = batch.ids.shape[1] - batch.completion_mask.shape[1]
    return {
        "prompt_ids": batch.ids[:, :width],
        "prompt_mask": batch.attention_mask[:, :width],
        "completion_ids": batch.completion_ids,
        "completion_mask": batch.completion_mask.long(),
        "advantages": advantages,
        "num_items_in_batch": batch.completion_mask.sum(),
    }


def gradient(model: Qwen2ForCausalLM) -> Tensor:
    return torch.cat([p.grad.reshape(-1) for p in model.parameters() if p.grad is not None])


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    """To 1e-5 of the largest entry."""
    assert theirs.abs().max() > 0
    torch.testing.assert_close(ours, theirs, rtol=0.0, atol=1e-5 * theirs.abs().max().item())


GRPO_SETTINGS: dict[str, dict[str, object]] = {
    "grpo": {"loss_type": "grpo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "dapo": {"loss_type": "dapo"},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence"},
    "cispo": {"loss_type": "cispo", "epsilon_high": 1.28},
}


@pytest.mark.parametrize("name", GRPO_SETTINGS)
@pytest.mark.parametrize("on_policy", [True, False], ids=["on_policy", "off_policy"])
@pytest.mark.parametrize(("beta", "corrected"), [(0.0, False), (0.3, False), (0.3, True)])
def test_grpo_family(name: str, on_policy: bool, beta: float, corrected: bool, tmp_path) -> None:
    batch, advantages, old, ref = rollouts()
    theirs = tiny_model()
    # With beta > 0 at construction TRL loads a reference model by name; the loss only reads `beta`.
    settings = GRPO_SETTINGS[name] | {"use_bias_correction_kl": corrected}
    trainer = trl_trainer("GRPO", theirs, str(tmp_path), beta=0.0, **settings)
    trainer.beta = beta
    inputs = trl_inputs(batch, advantages) | {"ref_per_token_logps": ref}
    if not on_policy:
        inputs["old_per_token_logps"] = old
    their_loss = trainer._compute_loss(theirs, inputs)
    their_loss.backward()

    ours, choice, mask = tiny_model(), POLICY_LOSSES[name], batch.completion_mask
    logps = token_scores(ours, batch, temperature=TEMPERATURE).logps
    count = reduction_count(mask, choice.reduction, MAX_LENGTH)
    policy = policy_loss(
        logps,
        advantages,
        mask,
        count=count,
        reduction=choice.reduction,
        old_logps=None if on_policy else old,
        ratio=choice.ratio,
        clip=clip_range(choice.clip, CLIP[0], 1.28 if choice.clip == "ratio" else CLIP[1]),
        clipped="ratio" if choice.clip == "ratio" else "objective",
    )
    weights = importance_ratio(logps, None if on_policy else old, mask, choice.ratio) if corrected else None
    kl = kl_loss(logps, ref, mask, count=count, reduction=choice.reduction, weights=weights)
    our_loss = policy.loss + beta * kl.loss
    our_loss.backward()

    assert_close(our_loss.detach(), their_loss.detach())
    assert_close(gradient(ours), gradient(theirs))
    logged = trainer._metrics["train"]
    sums = policy.sums | kl.sums
    names = {n: n for n in ("clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean")}
    names = {"clip_ratio/high_mean": "cispo_clip_ratio"} if name == "cispo" else names
    names |= {"kl": "kl"} if beta else {}
    found = {n: sums[n][0] / sums[n][1] for n in names}
    assert found == pytest.approx({n: logged[theirs][-1] for n, theirs in names.items()}, rel=1e-5)
    if not on_policy:
        assert found["clip_ratio/high_mean"] > 0 or name == "gspo", "the case must reach the clipped region"


@pytest.mark.parametrize("on_policy", [True, False], ids=["on_policy", "off_policy"])
def test_rloo(on_policy: bool, tmp_path) -> None:
    batch, _, old, _ = rollouts()
    # No empty row: TRL's adds the constant -A to the loss, ours nothing; neither has a gradient.
    batch, advantages, old = batch.rows(0, 4), torch.tensor([1.1, -0.3, 0.4, -0.2]), old[:4]
    mask = batch.completion_mask
    theirs, ours = tiny_model(), tiny_model()
    trainer = trl_trainer("RLOO", theirs, str(tmp_path), beta=0.0)
    logps = token_scores(ours, batch, temperature=TEMPERATURE).logps
    then = logps.detach() if on_policy else 0.7 * logps.detach() + 0.3 * old
    inputs = trl_inputs(batch, advantages) | {"old_logps": (then * mask).sum(1)}
    their_loss = trainer._compute_loss(theirs, inputs)
    their_loss.backward()

    choice = POLICY_LOSSES["rloo"]
    out = policy_loss(
        logps,
        advantages,
        mask,
        count=reduction_count(mask, choice.reduction, MAX_LENGTH),
        reduction=choice.reduction,
        old_logps=None if on_policy else then,
        ratio=choice.ratio,
        clip=CLIP,
    )
    out.loss.backward()
    assert_close(out.loss.detach(), their_loss.detach())
    assert_close(gradient(ours), gradient(theirs))


def test_entropy_and_log_probabilities(tmp_path) -> None:
    batch, *_ = rollouts()
    model = tiny_model()
    ours = token_scores(model, batch, temperature=TEMPERATURE, entropy="value")
    trainer = trl_trainer("GRPO", model, str(tmp_path), beta=0.0)
    with torch.no_grad():
        logps, entropy, _ = trainer._get_per_token_logps_and_entropies(
            model, batch.ids, batch.attention_mask, batch.completion_mask.shape[1], compute_entropy=True
        )
    at = batch.completion_mask == 1
    assert_close(ours.logps.detach()[at], logps[at])
    assert_close(ours.entropy[at], entropy[at])


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("token_truncate", "dapo"),
        ("token_truncate", "gspo"),
        ("token_truncate", "cispo"),
        ("token_mask", "dapo"),
        ("sequence_truncate", "dr_grpo"),
        ("sequence_mask", "grpo"),
    ],
)
def test_sampling_weights(mode: str, name: str, tmp_path) -> None:
    """TRL's own path from an engine's log-probabilities to the loss; only the drawing is replaced."""
    batch, *_, old, _ = rollouts()
    batch, engine = batch.rows(0, 4), old[:4]
    mask = batch.completion_mask
    engine[2, 0] = torch.nan  # vLLM did not say
    low, high = 0.55, 2.7 if mode.startswith("sequence") else 1.4  # some ratios inside, some outside
    theirs, ours = tiny_model(), tiny_model()
    trainer = trl_trainer("GRPO", theirs, str(tmp_path), beta=0.0, **GRPO_SETTINGS[name])
    trainer.use_vllm, trainer.vllm_importance_sampling_mode = True, mode
    trainer.vllm_importance_sampling_clip_min, trainer.vllm_importance_sampling_clip_max = low, high
    said = [[*map(float, row[: len(ids)])] for row, ids in zip(engine, COMPLETIONS, strict=False)]
    texts = ["w3"] * 4
    trainer._generate = lambda _: (PROMPTS[:4], COMPLETIONS[:4], None, texts, said, {}, None, None)
    trainer._calculate_rewards = lambda *_: torch.tensor([[1.0], [0.2], [0.4], [-0.5]])
    inputs = trainer._generate_and_score_completions([{"prompt": "w3"} for _ in range(4)])
    inputs["num_items_in_batch"] = mask.sum()
    their_loss = trainer._compute_loss(theirs, inputs)
    their_loss.backward()

    choice = POLICY_LOSSES[name]
    logps = token_scores(ours, batch, temperature=TEMPERATURE).logps
    weights, sums = sampling_weights(
        logps.detach(), engine[:, : mask.shape[1]], mask, mode=mode, clip_min=low, clip_max=high
    )
    out = policy_loss(
        logps,
        inputs["advantages"],
        mask,
        count=reduction_count(mask, choice.reduction, MAX_LENGTH),
        reduction=choice.reduction,
        ratio=choice.ratio,
        clip=clip_range(choice.clip, CLIP[0], 1.28 if choice.clip == "ratio" else CLIP[1]),
        clipped="ratio" if choice.clip == "ratio" else "objective",
        weights=weights,
    )
    out.loss.backward()
    ratio = inputs["importance_sampling_ratio"].expand(mask.shape)
    said_there = (mask == 1) & ~engine[:, : mask.shape[1]].isnan()
    assert_close(weights[said_there], ratio[said_there])
    assert_close(out.loss.detach(), their_loss.detach())
    assert_close(gradient(ours), gradient(theirs))
    clipped, counted = sums["sampling/importance_sampling_ratio/frac_clipped"]
    assert 0 < clipped < counted
