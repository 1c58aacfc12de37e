"""What a study's models have forgotten: perplexity of plain text that nothing trains on.

    python recipes/smollm2/forgetting.py runs/smollm2-study

scores `recipes/smollm2/plain.txt` with the start model and with the model of every finished run that still has one,
writes `forgetting.json` into the run, deletes its weights, and prints the mean per regime and rule of all runs that
were ever measured. The text was written for this purpose.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXT = Path(__file__).with_name("plain.txt")


def perplexity(model: Any, ids: torch.Tensor) -> float:
    """`exp` of the mean NLL of every token but the first. Args: ids: [1, T]."""
    with torch.no_grad():
        logps = model(ids).logits[0, :-1].float().log_softmax(-1)
    return math.exp(-float(logps.gather(-1, ids[0, 1:, None]).mean()))


def load(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def measure(run: Path, before: dict[str, float]) -> None:
    """Perplexity of the start model, once a study, and of the run's own, whose weights then go."""
    start = json.loads((run / "config.json").read_text(encoding="utf-8"))["model"]
    ids = AutoTokenizer.from_pretrained(start)(TEXT.read_text(encoding="utf-8"), return_tensors="pt").input_ids
    if start not in before:
        before[start] = perplexity(load(start), ids)
    found = {"before": before[start], "after": perplexity(load(run / "model"), ids), "tokens": ids.shape[1]}
    (run / "forgetting.json").write_text(json.dumps(found), encoding="utf-8")
    for weights in ("model", "checkpoints"):
        shutil.rmtree(run / weights)
    (run / "checkpoints").mkdir()  # which makes the directory a run


def main(study: Path) -> None:
    before: dict[str, float] = {}
    for model in sorted(study.glob("runs/*/*/seed-*/model")):
        measure(model.parent, before)
    found: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    for file in sorted(study.glob("runs/*/*/seed-*/forgetting.json")):
        found[file.parts[-4], file.parts[-3]].append(json.loads(file.read_text(encoding="utf-8")))
    for (regime, rule), runs in found.items():
        start, end = (sum(run[name] for run in runs) / len(runs) for name in ("before", "after"))
        print(f"{regime:12} {rule:18} perplexity {start:.2f} -> {end:.2f} ({len(runs)} runs)")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
