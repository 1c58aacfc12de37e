"""Speed and peak memory of one forward and backward pass over a micro-batch, its rows padded and laid end to end.

python benchmarks/packed.py            # a table; every cell is a process of its own, about two minutes
"""

from __future__ import annotations

import random
import resource
import statistics
import subprocess
import sys
import time

ROWS, VOCAB, REPEATS = 32, 2048, 5
LENGTHS = {
    "all alike": lambda _: (32, 128),
    "8 to 248": lambda draw: (32, draw.randrange(8, 249)),
    "few long": lambda draw: (32, 480 if draw.random() < 0.1 else draw.randrange(16, 81)),
}
"""Tokens of a prompt and its completion."""


def measure(mix: str, how: str) -> tuple[float, float]:
    """Tokens that are no padding per second, the median of some passes; MiB added to what stood before the first."""
    import torch

    from amft.batch import pad_batch
    from amft.models.attention import attention
    from amft.models.forward import token_scores
    from amft.models.packed import PACKED
    from amft.models.tiny import tiny_model

    torch.set_num_threads(1)
    draw = random.Random(0)
    sizes = [LENGTHS[mix](draw) for _ in range(ROWS)]
    prompts, completions = ([[draw.randrange(VOCAB) for _ in range(n)] for n in part] for part in zip(*sizes))
    batch = pad_batch(prompts, completions, 0)
    model = tiny_model(vocab_size=VOCAB, hidden_size=256, layers=4, heads=4, kv_heads=2)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    before, seconds = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for _ in range(REPEATS):
        started = time.process_time()  # of this process alone, on one thread: other programs do not count
        with attention(model, {"padded": "eager", "packed": PACKED}[how]):
            scores = token_scores(model, batch, entropy="value")
            (scores.logps * batch.completion_mask).sum().backward()
        seconds.append(time.process_time() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return float(batch.attention_mask.sum()) / statistics.median(seconds), peak / 1024


def main() -> None:
    if len(sys.argv) > 1:
        print(*measure(sys.argv[1], sys.argv[2]))
        return
    print("completions   padded  packed  (tokens/s)   padded  packed  (MiB)")
    for mix in LENGTHS:
        found = []
        for how in ("padded", "packed"):
            command = [sys.executable, __file__, mix, how]
            found.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
        (slow, high), (fast, low) = ([float(cell) for cell in pair] for pair in found)
        print(f"{mix:12} {slow:8.0f} {fast:7.0f} {fast / slow:9.2f} x {high:10.0f} {low:7.0f}")


if __name__ == "__main__":
    main()
