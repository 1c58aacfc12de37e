"""Peak memory of scoring completions over a vocabulary of 32768, the output layer whole and in chunks.

python benchmarks/head.py              # a table; every line is a process of its own
"""

from __future__ import annotations

import subprocess
import sys

from amft.tasks.grading.sandbox import peak_memory_mb

VOCAB, WIDTH, LENGTH = 32768, 128, 128


def measure(rows: int, whole: bool) -> float:
    """MiB that one forward and backward pass adds to what the model and the libraries take."""
    import torch

    from amft.batch import pad_batch
    from amft.models import head
    from amft.models.forward import token_scores
    from amft.models.tiny import tiny_model

    torch.set_num_threads(1)
    if whole:
        head.WIDE = VOCAB + 1
    model = tiny_model(vocab_size=VOCAB, hidden_size=WIDTH, layers=1)
    model.set_attn_implementation("sdpa")
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    before = peak_memory_mb()
    batch = pad_batch([[1, 2]] * rows, [[3] * LENGTH] * rows, 0)
    scores = token_scores(model, batch, entropy="value", accuracy=True)
    (scores.logps * batch.completion_mask).sum().backward()
    return peak_memory_mb() - before


def main() -> None:
    if len(sys.argv) > 1:
        print(measure(int(sys.argv[1]), sys.argv[2] == "whole"))
        return
    print("tokens    whole  chunks  (MiB)")
    for rows in (4, 8, 16, 32):
        command = [sys.executable, __file__, str(rows)]
        whole, chunks = (
            float(subprocess.run([*command, how], capture_output=True, text=True, check=True).stdout)
            for how in ("whole", "chunks")
        )
        print(f"{rows * LENGTH:6} {whole:8.0f} {chunks:7.0f}")


if __name__ == "__main__":
    main()
