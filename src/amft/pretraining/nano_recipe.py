"""How the nano base is made: `python -m amft.pretraining.nano_recipe --output DIR`.

A Llama-type model of under 5 M parameters, pretrained by plain next-token prediction on the answers of
`nano_corpus`, saved in the ordinary Hugging Face layout with bfloat16 weights (under 10 MB). Needs torch 2.9 (Muon).
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.nn import functional
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ..models.tokenizer import train_tokenizer
from .nano_corpus import conversations

STAGES = ((2000, 2400, 3e-3), (800, 800, 2e-3))
"""Steps, length of the learning rate's cosine and its peak, of one training after the other."""

POOL = 32
"""Batches drawn ahead and sorted by length, so that little is padding."""


def nano_model(vocab: int, pad_id: int, eos_id: int, *, hidden: int = 256, layers: int = 4) -> LlamaForCausalLM:
    """A Llama-type model with random weights from the current torch generator."""
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=max(1, hidden // 128),
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=pad_id,
        bos_token_id=None,
        eos_token_id=eos_id,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config)


def pretrain(
    *,
    steps: int,
    decay_steps: int | None = None,
    batch_size: int = 32,
    learning_rate: float = 3e-3,
    seed: int = 0,
    hidden: int = 256,
    layers: int = 4,
    tokenizer_sample: int = 4000,
    progress: bool = True,
    on_step: Callable[[int, LlamaForCausalLM], None] | None = None,
    start: tuple[LlamaForCausalLM, PreTrainedTokenizerFast] | None = None,
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Make a base from nothing (tokenizer, model, training), or train one further.

    Args:
        steps: optimizer steps of `batch_size` conversations.
        decay_steps: length of the learning rate's cosine; more than `steps` stops before the rate has decayed, which
            leaves the base ready to learn on. Default: `steps`.
        learning_rate: peak of the cosine with 3 % warm-up.
        tokenizer_sample: conversations the tokenizer is learned from.
        on_step: called with the step just done and the model, for trainer_state and tests.
        start: what is trained further, in place; `hidden`, `layers` and `tokenizer_sample` play no part then.
    """
    model, tokenizer = start or _fresh(seed, hidden, layers, tokenizer_sample)
    optimizers = _optimizers(model, learning_rate)
    decay_steps = decay_steps or steps
    warmup = max(1, decay_steps * 3 // 100)
    bar = tqdm(_batches(tokenizer, seed + 1, batch_size, steps), total=steps, disable=not progress, unit="step")
    for step, (ids, labels) in enumerate(bar):
        rate = (
            (step + 1) / warmup
            if step < warmup
            else 0.5 * (1 + math.cos(math.pi * (step - warmup) / (decay_steps - warmup)))
        )
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = learning_rate * max(rate, 0.02)
        wanted = labels[:, 1:]
        with torch.autocast("cpu", torch.bfloat16):
            states = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
            logits = model.lm_head(states[wanted >= 0])
        loss = functional.cross_entropy(logits.float(), wanted[wanted >= 0])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad()
        if step % 20 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")
        if on_step:
            on_step(step + 1, model)
    return model, tokenizer


def _fresh(
    seed: int, hidden: int, layers: int, tokenizer_sample: int
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    sample = itertools.islice(conversations(seed), tokenizer_sample)
    tokenizer = train_tokenizer(message["content"] for talk in sample for message in talk)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nano_model(len(tokenizer), tokenizer.pad_token_id, tokenizer.eos_token_id, hidden=hidden, layers=layers)
    return model, tokenizer


def _optimizers(model: LlamaForCausalLM, learning_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, which needs half of AdamW's steps here; AdamW for the rest."""
    blocks = [p for p in model.model.layers.parameters() if p.dim() > 1]
    taken = {id(p) for p in blocks}
    others = [p for p in model.parameters() if id(p) not in taken]
    return [
        torch.optim.Muon(blocks, lr=learning_rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    """Write the Hugging Face layout: bfloat16 safetensors, config, tokenizer, chat template."""
    model.to(torch.bfloat16).save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _batches(
    tokenizer: PreTrainedTokenizerFast, seed: int, batch_size: int, steps: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Right-padded ids and labels (-100 outside the answers)."""
    stream = conversations(seed)
    made = 0
    while made < steps:
        talks = list(itertools.islice(stream, POOL * batch_size))
        rows = sorted((_encode(tokenizer, talk) for talk in talks), key=lambda row: len(row[0]))
        order = torch.randperm(POOL, generator=torch.Generator().manual_seed(seed + made)).tolist()
        for place in order[: steps - made]:
            yield _pad(rows[place * batch_size : (place + 1) * batch_size], tokenizer.pad_token_id)
            made += 1


def _encode(tokenizer: PreTrainedTokenizerFast, talk: list[dict[str, str]]) -> tuple[list[int], int]:
    prompt = tokenizer.apply_chat_template(talk[:1], add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(talk, tokenize=False)
    return tokenizer.encode(whole), len(tokenizer.encode(prompt))


def _pad(rows: list[tuple[list[int], int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), width), pad_id)
    labels = torch.full((len(rows), width), -100)
    for i, (row, prompt) in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        labels[i, prompt : len(row)] = ids[i, prompt : len(row)]
    return ids, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    base = None
    for place, (steps, decay_steps, learning_rate) in enumerate(STAGES):
        seed = arguments.seed + 100 * place
        base = pretrain(steps=steps, decay_steps=decay_steps, learning_rate=learning_rate, seed=seed, start=base)
    assert base
    save(*base, arguments.output)


if __name__ == "__main__":
    main()
