"""Tokens per second of 1 rank on 1 core and of 2 on 2, the same step: a model large enough that compute dominates.

python benchmarks/ranks.py             # needs two idle cores; about six minutes
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS, STEPS, WARM = 3, 8, 2
RECIPE = """
model: {folder}/model
data: {{train: {folder}/rows.jsonl, demonstrations: {folder}/rows.jsonl, rewards: ["{folder}/rewards.py:odd"]}}
max_steps: {steps}
num_prompts: 16
num_generations: 8
num_demos: 64
max_completion_length: 48
eval:
  steps: 0
sample_steps: 0
checkpoint:
  steps: 0
entropy_target: 1.0
threads: 1
"""
REWARD = "def odd(completion_ids, **_):\n    return [sum(t % 2 for t in ids) / len(ids) for ids in completion_ids]\n"


def prepare(folder: Path) -> None:
    """A random Qwen3-type model of 3 M parameters that hardly ever ends an answer, and rows of demonstrations."""
    from amft.models.load import load_tokenizer
    from amft.models.tiny import tiny_model

    tokenizer = load_tokenizer("nano")
    model = tiny_model(vocab_size=len(tokenizer), hidden_size=256, layers=4, heads=4, kv_heads=2)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    rows = [{"prompt": f"{n} + {n * n} =", "completion": " 1" * 20} for n in range(10, 400)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "rewards.py").write_text(REWARD, encoding="utf-8")
    (folder / "recipe.yaml").write_text(RECIPE.format(folder=folder, steps=STEPS), encoding="utf-8")


def tokens_per_second(folder: Path, ranks: int, layout: str) -> float:
    """Median over the steps after the first ones."""
    run = Path(tempfile.mkdtemp(dir=folder)) / "run"
    amft = ["-m", "amft", "train", f"{folder}/recipe.yaml", "--output-dir", str(run), "--set", f"parallel={layout}"]
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    subprocess.run(
        [sys.executable, *start, *amft], check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    rows = [json.loads(line) for line in (run / "timings.jsonl").read_text(encoding="utf-8").splitlines()]
    return statistics.median(row["tokens_per_second"] for row in rows[WARM:])


def main() -> None:
    ratios: dict[str, list[float]] = {"ddp": [], "fsdp2": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for _ in range(ROUNDS):
            one = tokens_per_second(folder, 1, "single")
            print(f"1 rank           {one:8.0f} tokens/s", flush=True)
            for layout, found in ratios.items():
                two = tokens_per_second(folder, 2, layout)
                found.append(two / one)
                print(f"2 ranks, {layout:6}  {two:8.0f} tokens/s, {two / one:.2f} times", flush=True)
    for layout, found in ratios.items():
        print(f"{layout}: median of {ROUNDS} rounds {statistics.median(found):.2f} times")


if __name__ == "__main__":
    main()
