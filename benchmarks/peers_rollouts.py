"""Tokens a CPU second of every way to draw completions, in turns in one process; started by `peers.py`.

`bare loop` is a loop over the model's own forward with a cache that grows, a draw, and nothing else: no row leaves, no
end is looked for, so of uneven answers it counts the tokens before their ends only where it stops a row itself.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from peers_arms import Turns, trl_trainer, uniforms_with_ends
from peers_cases import LARGE, SMALL, WIDE, Case, Work, work_of
from transformers import DynamicCache

CASES = {
    "3.7 M, 256 tokens": Case(SMALL, "bfloat16", 4, 18, 256),
    "3.7 M, uneven, at most 256": Case(SMALL, "bfloat16", 4, 18, 256, ends="chance"),
    "3.7 M, 1,024 tokens": Case(SMALL, "bfloat16", 2, 18, 1024),
    "11 M, vocabulary 32k, 64 tokens": Case(WIDE, "bfloat16", 4, 18, 64),
    "31 M, 64 tokens": Case(LARGE, "bfloat16", 4, 18, 64),
    "31 M, uneven, at most 256": Case(LARGE, "bfloat16", 2, 18, 256, ends="chance"),
}


@torch.no_grad()
def bare_loop(model: Any, prompts: list[list[int]], case: Case, lengths: list[int]) -> int:
    """Tokens drawn. Rows are sorted by length, and the longest ones go on alone: the least a loop can do."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    ids = torch.tensor([prompts[row // case.group] for row in order])
    cache, drawn = DynamicCache(config=model.config), 0
    draws = torch.Generator().manual_seed(0)
    for step in range(max(lengths)):
        going = sum(length > step for length in lengths)
        if going < len(ids):
            ids = ids[:going]
            cache.batch_select_indices(torch.arange(going))
        logits = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
        ids = torch.multinomial(logits.float().softmax(-1), 1, generator=draws)
        drawn += going
    return drawn


def ways(work: Work, folder: str) -> dict[str, Callable[[], int]]:
    """Each draws the answers of one step and returns how many tokens they have."""
    import copy

    from amft.models.half_copy import HalfCopy
    from amft.rollout import decode
    from amft.rollout.registry import build_sampler
    from amft.types import Sampling

    case, lengths = work.case, work.case.lengths(0)
    decode._uniforms = uniforms_with_ends(work, lambda: lengths)
    prompts = work.tokenizer([row["prompt"] for row in work.prompts])["input_ids"]
    half = copy.deepcopy(work.model).to(torch.bfloat16)
    turns = Turns(sys.stderr)
    turns.step = 0
    samplers = {
        name: build_sampler("decode", work.model, pad_id=0, eos_ids=[work.end], half=copied)
        for name, copied in (("decode", None), ("decode, bf16 copy", HalfCopy(work.model)))
    }
    trainer = trl_trainer(work, turns, folder, _grpo())  # gives `generate` of the model the ends

    def ours(name: str) -> int:
        drawn = samplers[name].generate(prompts, Sampling(case.group, case.answer), torch.Generator().manual_seed(0))
        return sum(len(sample.completion_ids) for sample in drawn)

    def hf_generate() -> int:
        rows = torch.tensor([prompts[i // case.group] for i in range(len(lengths))])
        work.model.eval()
        with torch.no_grad():
            work.model.generate(
                input_ids=rows,
                attention_mask=torch.ones_like(rows),
                max_new_tokens=case.answer,
                do_sample=True,
                top_k=0,
                pad_token_id=0,
                eos_token_id=work.end,
            )
        return sum(lengths)

    def of_trl() -> int:
        rows = [prompts[i // case.group] for i in range(len(lengths))]
        return sum(map(len, trainer._generate_single_turn(rows, None, {}, case.group)[0]))

    return {
        "TRL": of_trl,
        "hf generate": hf_generate,
        "bare loop": lambda: bare_loop(work.model.eval(), prompts, case, lengths),
        "decode": lambda: ours("decode"),
        "bare loop, bf16 weights": lambda: bare_loop(half.eval(), prompts, case, lengths),
        "decode, bf16 copy": lambda: ours("decode, bf16 copy"),
    }


def _grpo() -> type:
    from trl import GRPOTrainer

    return GRPOTrainer


def main() -> None:
    torch.set_num_threads(1)
    rounds, found = int(sys.argv[1]), {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            engines = ways(work_of(case), folder)
            speeds: dict[str, list[float]] = {engine: [] for engine in engines}
            for number in range(rounds + 1):
                for engine, draw in engines.items():
                    started = time.process_time()
                    tokens = draw()
                    seconds = time.process_time() - started
                    assert tokens == sum(case.lengths(0)), f"{engine}: {tokens} tokens, not {sum(case.lengths(0))}"
                    if number:
                        speeds[engine].append(tokens / seconds)
            found[name] = speeds
    print(json.dumps(found))


if __name__ == "__main__":
    main()
