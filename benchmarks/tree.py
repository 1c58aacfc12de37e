"""One forward and backward pass over the answers of some prompts: padded rows, rows end to end, and a prefix tree.

    python benchmarks/tree.py                   # all cases in float32 and bfloat16, about eight minutes
    python benchmarks/tree.py "prompt 512"      # one case

The three take turns in one process, on one thread; CPU seconds of the process, so that other programs count little.
`end to end` is the tree with nothing in common. The memory of each is measured in a process of its own.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from amft.tasks.grading.sandbox import peak_memory_mb

GROUP, ROUNDS = 8, 5
CASES: dict[str, tuple[int, int, Callable[[random.Random], int], int]] = {
    "prompt 40, answers 16 to 320": (8, 40, lambda draw: draw.randint(16, 320), 2048),
    "prompt 100, answers 64": (8, 100, lambda _: 64, 2048),
    "prompt 512, answers 128": (4, 512, lambda _: 128, 2048),
    "prompt 18, answers 48": (8, 18, lambda _: 48, 2048),
    "prompt 18, answers 48, vocabulary 32k": (8, 18, lambda _: 48, 32768),
}
"""Prompts of a micro-batch with GROUP answers each, tokens of a prompt, tokens of an answer, vocabulary."""
WAYS, DTYPES = ("padded", "end to end", "tree"), ("float32", "bfloat16")


def build(case: str) -> tuple[Any, Any]:
    """A model of 3.7 million parameters (more with a wide vocabulary) and a micro-batch of random tokens."""
    import torch

    from amft.batch import pad_batch
    from amft.models.tiny import tiny_model

    torch.set_num_threads(1)
    number, prompt, answer, vocabulary = CASES[case]
    draw = random.Random(0)
    prompts = [[draw.randrange(vocabulary) for _ in range(prompt)] for _ in range(number)]
    answers = [[draw.randrange(vocabulary) for _ in range(answer(draw))] for _ in range(number * GROUP)]
    batch = pad_batch([prompts[i // GROUP] for i in range(len(answers))], answers, 0)
    return tiny_model(vocab_size=vocabulary, hidden_size=256, layers=4, heads=4, kv_heads=2, max_positions=1024), batch


def run(model: Any, batch: Any, way: str, dtype: str) -> float:
    """CPU seconds of one pass."""
    import torch

    from amft.models import prefix_tree
    from amft.models.attention import attention
    from amft.models.forward import token_scores
    from amft.models.tree_attention import TREE

    shortest, prefix_tree.SHORTEST = prefix_tree.SHORTEST, 10**9 if way == "end to end" else prefix_tree.SHORTEST
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    started = time.process_time()
    with attention(model, "eager" if way == "padded" else TREE):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            scores = token_scores(model, batch, entropy="value")
        (scores.logps * batch.completion_mask).sum().backward()
    prefix_tree.SHORTEST = shortest
    return time.process_time() - started


def added_memory(case: str, way: str, dtype: str) -> float:
    """MiB that two passes add to what stood before."""
    model, batch = build(case)
    before = peak_memory_mb()
    for _ in range(2):
        run(model, batch, way, dtype)
    return peak_memory_mb() - before


def main() -> None:
    if len(sys.argv) == 4:
        print(added_memory(*sys.argv[1:]))
        return
    wanted = [case for case in CASES if case.startswith(sys.argv[1] if len(sys.argv) > 1 else "")]
    memory = {  # before this process grows, since a child's peak begins with its parent's
        (case, dtype): [
            subprocess.check_output([sys.executable, __file__, case, way, dtype], text=True) for way in WAYS
        ]
        for case in wanted
        for dtype in DTYPES
    }
    print("| case | padded | end to end | tree | MiB padded | end to end | tree |\n|---|---|---|---|---|---|---|")
    for case in wanted:
        model, batch = build(case)
        for dtype in DTYPES:
            rounds = [[run(model, batch, way, dtype) for way in WAYS] for _ in range(ROUNDS + 1)][1:]
            padded = statistics.median(each[0] for each in rounds)
            ratios = [statistics.median(each[i] / each[0] for each in rounds) for i in (1, 2)]
            cells = [f"{padded * 1e3:,.0f} ms", *(f"{ratio:.2f} x" for ratio in ratios)]
            cells += [f"{float(mib):,.0f}" for mib in memory[case, dtype]]
            print(f"| {case}, {dtype} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
