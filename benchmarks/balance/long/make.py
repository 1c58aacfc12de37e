"""Make what the long bench needs: its base, a weak teacher for a moment, and the demonstrations of every regime.

    python benchmarks/balance/long/make.py          from the repository's root; two minutes on one core

Writes `base/` (0.4 M parameters, bfloat16) and the `.jsonl` files beside this script. The same seed gives the same
files on the same machine.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import world
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from amft.models.tiny import tiny_model

HERE = Path(__file__).parent
CHARACTERS = "0123456789,=+;abcdefghsdmntc"
PAD, END = "<pad>", "<end>"
ROWS, FEW, FILLER = 1024, 32, 0.3
"""Demonstrations of a regime, of `few`, and the share of filler."""
BASE_STEPS, TEACHER_SUCCESS, BATCH = 330, 0.5, 256


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a character."""
    names = [PAD, END, *dict.fromkeys(CHARACTERS)]
    inner = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token=PAD))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token=PAD, eos_token=END)


def tagged(rng: random.Random, trained: Sequence[world.Pair]) -> tuple[str, str]:
    """A line of the base's reading: half are sums that say so, the others any operation, with its tag or without."""
    pair = tuple(rng.sample(rng.choice(trained), 2))
    kind = rng.random()
    if kind < 0.5:
        tag, operation = "s", "s"
    elif kind < 0.65:
        tag = operation = rng.choice([*world.OPERATIONS])
    else:
        tag, operation = "", rng.choices([*world.UNTAGGED], [*world.UNTAGGED.values()])[0]
    return world.prompt(pair, tag), str(world.OPERATIONS[operation](*pair))


def train(
    model: PreTrainedModel, reads: PreTrainedTokenizerFast, lines: Iterator[tuple[str, str]], steps: int, rate: float
) -> Iterator[int]:
    """Next-token prediction on the answers, the rate falling linearly to a tenth; yields the steps done."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 50) * (1 - 0.9 * step / steps)
        batch = [next(lines) for _ in range(BATCH)]
        loss(model, reads, batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield step + 1


def loss(model: PreTrainedModel, reads: PreTrainedTokenizerFast, batch: Sequence[tuple[str, str]]) -> torch.Tensor:
    """Mean cross-entropy of the answers' tokens, their end among them."""
    asked = [reads.encode(question) for question, _ in batch]
    whole = [ids + reads.encode(said) + [reads.eos_token_id] for ids, (_, said) in zip(asked, batch, strict=True)]
    width = max(map(len, whole))
    ids = torch.tensor([row + [reads.pad_token_id] * (width - len(row)) for row in whole])
    labels = torch.full_like(ids, -100)
    for i, row in enumerate(whole):
        labels[i, len(asked[i]) : len(row)] = ids[i, len(asked[i]) : len(row)]
    logits = model(input_ids=ids[:, :-1]).logits
    return functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)


@torch.no_grad()
def answers(
    model: PreTrainedModel,
    reads: PreTrainedTokenizerFast,
    questions: Sequence[str],
    sampler: torch.Generator | None = None,
) -> list[str]:
    """Answers of up to 4 characters, drawn from the model with `sampler`, else the likeliest."""
    said = {}
    for length in sorted({len(question) for question in questions}):  # no padding, so no positions to mind
        same = [question for question in dict.fromkeys(questions) if len(question) == length]
        ids = torch.tensor([reads.encode(question) for question in same])
        for _ in range(4):
            logits = model(input_ids=ids).logits[:, -1].float()
            likely = logits.softmax(-1)
            drawn = likely.argmax(-1) if sampler is None else torch.multinomial(likely, 1, generator=sampler)
            ids = torch.cat([ids, drawn.reshape(-1, 1)], 1)
        for question, row in zip(same, ids[:, length:].tolist(), strict=True):
            end = row.index(reads.eos_token_id) if reads.eos_token_id in row else len(row)
            said[question] = reads.decode(row[:end])
    return [said[question] for question in questions]


def success(model: PreTrainedModel, reads: PreTrainedTokenizerFast, tag: str = "", greedy: bool = False) -> float:
    """Share of validation pairs answered with the sum."""
    held_out = world.pairs("val")
    sampler = None if greedy else torch.Generator().manual_seed(0)
    said = answers(model, reads, [world.prompt(pair, tag) for pair in held_out], sampler)
    return sum(text == str(sum(pair)) for text, pair in zip(said, held_out, strict=True)) / len(said)


def make_base(seed: int, steps: int) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The base, trained until it knows sums by their tag, not well."""
    reads, rng = tokenizer(), random.Random(seed)
    model = tiny_model(
        "llama", vocab_size=len(reads), hidden_size=128, layers=2, kv_heads=4, max_positions=128, seed=seed
    )
    model.config.eos_token_id = model.generation_config.eos_token_id = reads.eos_token_id
    model.config.pad_token_id = model.generation_config.pad_token_id = reads.pad_token_id
    trained = world.pairs("train")
    lines = iter(lambda: tagged(rng, trained), None)
    for step in train(model, reads, lines, steps, 2e-3):
        if step % 250 == 0 or step == steps:
            print(f"base {step}: {success(model, reads, 's'):.3f} with the tag, {success(model, reads):.3f} without")
    return model, reads


def weak_teacher(base: PreTrainedModel, reads: PreTrainedTokenizerFast, seed: int) -> PreTrainedModel:
    """The base after imitation of right sums, stopped as soon as its drawn answers are right half of the time."""
    model, rng, trained = copy.deepcopy(base), random.Random(f"teacher {seed}"), world.pairs("train")

    def right() -> tuple[str, str]:
        pair = tuple(rng.sample(rng.choice(trained), 2))
        return world.prompt(pair), str(sum(pair))

    for step in train(model, reads, iter(right, None), 400, 5e-4):
        if step % 5 == 0 and (found := success(model, reads)) >= TEACHER_SUCCESS:
            print(f"teacher {step}: {found:.3f}")
            break
    return model


def row(pair: world.Pair, completion: str | None = None, **columns: str) -> dict[str, str]:
    """One row: prompt, right answer, and a demonstration where there is one."""
    shown = {} if completion is None else {"completion": completion}
    return {"prompt": world.prompt(pair), **shown, "answer": str(sum(pair)), **columns}


def demonstrations(teacher: PreTrainedModel, reads: PreTrainedTokenizerFast, seed: int) -> dict[str, list[Any]]:
    """File name -> rows of one regime."""
    rng = random.Random(f"rows {seed}")
    shown = [tuple(rng.sample(pair, 2)) for pair in rng.sample(world.pairs("train"), ROWS)]
    easy = [pair for pair in world.pairs("train") if max(pair) < 50]
    drawn = answers(teacher, reads, [world.prompt(pair) for pair in shown], torch.Generator().manual_seed(seed))
    sources = [
        row(pair, *((str(sum(pair)),) if i % 2 else (world.misled(pair),)), source="book" if i % 2 else "web")
        for i, pair in enumerate(shown)
    ]
    return {
        "expert": [row(pair, str(sum(pair))) for pair in shown],
        "weak": [row(pair, text) for pair, text in zip(shown, drawn, strict=True) if text and PAD not in text],
        "easy": [row(tuple(rng.sample(pair, 2)), str(sum(pair))) for pair in rng.sample(easy, min(ROWS, len(easy)))],
        "verbose": [row(pair, world.in_steps(pair)) for pair in shown],
        "style": [row(pair, world.with_filler(world.in_steps(pair), FILLER, rng)) for pair in shown],
        "two-sources": sources,
        "hidden-sources": [{name: value for name, value in one.items() if name != "source"} for one in sources],
        "few": [row(pair, str(sum(pair))) for pair in shown[:FEW]],
    }


def asked(which: str, n: int, seed: int, shown: bool) -> list[dict[str, str]]:
    """`n` pairs of a side, once each; `shown` adds the right answer as completion, for its probability."""
    rng = random.Random(f"{which} {seed}")
    chosen = [tuple(rng.sample(pair, 2)) for pair in rng.sample(world.pairs(which), n)]
    return [row(pair, str(sum(pair)) if shown else None) for pair in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=HERE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=BASE_STEPS, help="of the base")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    base, reads = make_base(given.seed, given.steps)
    files = demonstrations(weak_teacher(base, reads, given.seed), reads, given.seed)
    files |= {"train": asked("train", 2048, given.seed, False)}
    files |= {"val": asked("val", 200, given.seed, True), "test": asked("test", 400, given.seed, True)}
    base.to(torch.bfloat16).save_pretrained(given.output / "base")
    reads.save_pretrained(given.output / "base")
    for name, rows in files.items():
        text = "".join(json.dumps(one) + "\n" for one in rows)
        (given.output / f"{name}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
