"""Tokens a CPU second of the engine `decode`: from float32 weights and from a bfloat16 copy of them, in turns.

python benchmarks/half_copy.py            # a table, about three minutes; CPU seconds of the process, one thread
"""

from __future__ import annotations

import statistics
import time

import torch

from amft.models.half_copy import HalfCopy
from amft.models.tiny import tiny_model
from amft.rollout.registry import build_sampler
from amft.types import Sampling

ROUNDS, PROMPTS, GROUP, PROMPT = 3, 4, 8, 18
CASES = {
    "3.7 M, vocabulary 2k, 128 tokens": (128, {"vocab_size": 2048, "hidden_size": 256, "layers": 4}),
    "11 M, vocabulary 32k, 64 tokens": (64, {"vocab_size": 32768, "hidden_size": 256, "layers": 4}),
    "31 M, vocabulary 2k, 64 tokens": (64, {"vocab_size": 2048, "hidden_size": 640, "layers": 7, "heads": 10}),
}


def main() -> None:
    torch.set_num_threads(1)
    print("| model | float32 | bfloat16 copy | ratio |\n|---|---|---|---|")
    for case, (length, sizes) in CASES.items():
        model = tiny_model(**sizes)
        prompts = torch.randint(0, 2048, (PROMPTS, PROMPT), generator=torch.Generator().manual_seed(0)).tolist()
        samplers = [build_sampler("decode", model, pad_id=0, eos_ids=[], half=half) for half in (None, HalfCopy(model))]
        rounds = []
        for _ in range(ROUNDS + 1):
            speeds = []
            for sampler in samplers:
                started = time.process_time()
                drawn = sampler.generate(prompts, Sampling(GROUP, length), torch.Generator().manual_seed(1))
                speeds.append(sum(len(sample.completion_ids) for sample in drawn) / (time.process_time() - started))
            rounds.append(speeds)
        plain, half = (statistics.median(column) for column in zip(*rounds[1:]))
        ratio = statistics.median(after / before for before, after in rounds[1:])
        print(f"| {case} | {plain:,.0f} tokens/s | {half:,.0f} tokens/s | {ratio:.2f} x |", flush=True)


if __name__ == "__main__":
    main()
