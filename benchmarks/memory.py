"""Peak memory of real steps on this machine, beside what `amft plan` says. Each case runs in a process of its own.

python benchmarks/memory.py            # all cases, a table; about five minutes on an idle machine
python benchmarks/memory.py small      # one case, JSON

Freed memory is kept, as `amft train` keeps it; not with AMFT_MALLOC=plain.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from amft.tasks.grading.sandbox import peak_memory_mb
from amft.types import Grade, Message, Problem

SIZES: dict[str, dict[str, Any]] = {
    "mini": {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 8, "vocab_size": 4096},
    "small": {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 6, "vocab_size": 8192},
    "medium": {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8, "vocab_size": 16384},
    "large": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "vocab_size": 32768},
}
COMMON = {"num_attention_heads": 8, "num_key_value_heads": 4, "tie_word_embeddings": True}
SETTINGS: dict[str, Any] = {
    "num_prompts": 2,
    "num_generations": 4,
    "num_demos": 8,
    "micro_batch_size": 8,
    "max_prompt_length": 64,
    "max_completion_length": 128,
    "max_steps": 2,
    "prefix_tree": False,
    "balance": {"rule": "amft-scalar", "meta_skip": 0},
    "eval": {"steps": 0},
    "checkpoint": {"steps": 0},
    "sample_steps": 0,
}
UNEVEN = {
    "num_prompts": 4,
    "num_demos": 16,
    "micro_batch_size": 16,
    "max_completion_length": 96,
    "entropy_target": 1.0,
}
"""16 rows in a micro-batch."""
STOPS = 32
"""One token in so many ends an answer of an uneven case: a random model answers with 30 tokens on average."""
PICTURE, PATCH = 224, 14
PICTURES = {"max_prompt_length": 320, "max_completion_length": 64, "entropy_target": 1.0}
"""256 tokens of a prompt are the picture's."""
BEHIND_THE_TOWER = {"r": 8, "target_modules": ["o_proj", "gate_proj", "up_proj", "down_proj"]}
"""Modules of the decoder only: the tower is frozen."""


@dataclass(frozen=True)
class Scene:
    """What is trained, on what."""

    model: Any
    processing: Any
    data: dict[str, Any]
    """Arguments of the trainer."""


@dataclass(frozen=True)
class Case:
    """How a scene is made, and the settings that differ."""

    make: Callable[[], Scene]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def all_settings(self) -> dict[str, Any]:
        return {**SETTINGS, **self.settings}


@dataclass(frozen=True)
class Grey:
    """A task whose every prompt is a grey picture with the same words."""

    id: ClassVar[str] = "grey-v1"
    splits: ClassVar[dict[str, str]] = {}
    test_splits: ClassVar[tuple[str, ...]] = ()
    word: str
    picture: Any

    def problems(self, split: str, *, seed: int = 0, n: int | None = None) -> list[Problem]:
        return [Problem(self.id, split, f"{split}-{seed}-{i}") for i in range(n or 1)]

    def prompt(self, problem: Problem) -> list[Message]:  # noqa: ARG002
        words = {"type": "text", "text": self.word * 60}
        return [{"role": "user", "content": [{"type": "image", "image": self.picture}, words]}]

    def grade(self, problem: Problem, answer: str) -> Grade:  # noqa: ARG002
        return Grade("read", float(len(answer) % 5), len(answer) % 5 == 4)

    def demonstrate(self, problem: Problem) -> str:  # noqa: ARG002
        return self.word * 62


def text(size: str, rows: Callable[[str], list[dict[str, str]]]) -> Scene:
    """A random model of text, paid by the sum of its tokens."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from amft.models.load import load_tokenizer

    tokenizer = load_tokenizer("nano")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen3ForCausalLM(Qwen3Config(**SIZES[size], **COMMON))

    def paid(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [float(sum(ids) % 5) for ids in completion_ids]

    return Scene(model, tokenizer, {"train_dataset": rows(tokenizer.decode(5)), "reward_funcs": paid})


def even(word: str) -> list[dict[str, str]]:
    """Rows that are all as long as is allowed."""
    prompt, completion = SETTINGS["max_prompt_length"], SETTINGS["max_completion_length"]
    return [{"prompt": word * prompt, "completion": word * (completion - 1)}] * 8


def of_two_sources(word: str) -> list[dict[str, str]]:
    """The same rows; a rule over classes tells the sources apart."""
    return [{**row, "source": "ab"[i % 2]} for i, row in enumerate(even(word))]


def drawn(word: str) -> list[dict[str, str]]:
    """Rows of 16 to 64 tokens and 2 to 60."""
    draw = random.Random(0)
    sizes = [(draw.randrange(16, 65), draw.randrange(1, 60)) for _ in range(64)]
    return [{"prompt": word * p, "completion": word * c} for p, c in sizes]


def uneven() -> Scene:
    """Answers end at one token in `STOPS`."""
    scene = text("mini", drawn)
    scene.model.generation_config.eos_token_id = list(range(0, scene.model.config.vocab_size, STOPS))
    return scene


def pictures() -> Scene:
    """A SigLIP tower before a decoder, both narrow."""
    from PIL import Image

    from amft.models.load import load_tokenizer
    from amft.models.tiny_vision import tiny_vision_model, tiny_vision_processor

    processor = tiny_vision_processor(load_tokenizer("nano"), image_size=PICTURE, patch_size=PATCH)
    model = tiny_vision_model(processor, hidden_size=128, layers=4, vision_size=128, vision_layers=6, heads=8)
    task = Grey(processor.tokenizer.decode(5), Image.new("RGB", (PICTURE, PICTURE)))
    return Scene(model, processor, {"task": task})


def two_classes(size: str, effect_dtype: str) -> Case:
    """A micro-batch of demonstrations in each of two classes."""
    rule = {"rule": "amft", "meta_skip": 0, "effect_dtype": effect_dtype}
    return Case(lambda: text(size, of_two_sources), {"balance": rule, "num_demos": 16})


CASES = {
    "small": Case(lambda: text("small", even)),
    "medium": Case(lambda: text("medium", even)),
    "large": Case(lambda: text("large", even)),
    **{
        f"{size}, two classes, {dtype}": two_classes(size, dtype)
        for size in ("small", "medium")
        for dtype in ("float32", "bfloat16")
    },
    "uneven, padded": Case(uneven, UNEVEN),
    "uneven, tree": Case(uneven, {**UNEVEN, "prefix_tree": True}),
    "pictures": Case(pictures, PICTURES),
    "pictures, frozen tower": Case(pictures, {**PICTURES, "lora": BEHIND_THE_TOWER}),
}


def measure(case: Case) -> dict[str, Any]:
    """Peak resident bytes before and after some steps, weights random; tokens of rows; what is planned for them."""
    from amft.cli.freed_memory import keep_freed_memory
    from amft.planning.shape import shape_of
    from amft.settings.config import AMFTConfig
    from amft.training.guard import NonFiniteGuard
    from amft.training.trainer import AMFTTrainer

    keep_freed_memory()
    scene = case.make()
    shape = shape_of(scene.model.config.to_dict(), "model")
    with tempfile.TemporaryDirectory() as folder:
        config = AMFTConfig(output_dir=folder + "/run", threads=1, **case.all_settings)
        Path(config.output_dir).mkdir()  # nobody opens the run here, but the check of the tree writes an event
        trainer = AMFTTrainer(
            scene.model,
            config,
            processing_class=scene.processing,
            **scene.data,
        )
        batches = _watched(trainer.learner)
        guard, before = NonFiniteGuard(5, None), resident()
        for _ in range(config.max_steps):
            trainer.one_step(guard)
            trainer.step += 1
    peak = resident()
    rows = [row for batch in batches for row in batch]
    longest = [max(column) for column in zip(*rows)]
    mean, fullest = _mean(rows), _mean(max(batches, key=lambda batch: sum(map(sum, batch))))
    names = ("max_prompt_length", "max_completion_length")
    seen = AMFTConfig(**{**config.model_dump(), **dict(zip(names, longest))})
    return {
        "measured": peak,
        "branches": list(trainer.learner.mix.observed),
        "before": before,
        "planned": planned(seen, shape, None),
        "at_mean": planned(seen, shape, mean) if config.prefix_tree else None,
        "at_fullest": planned(seen, shape, fullest) if config.prefix_tree else None,
        "longest": longest,
        "mean": mean,
        "fullest": fullest,
    }


def _mean(rows: list[tuple[int, int]]) -> tuple[float, float]:
    prompts, completions = (sum(column) / len(rows) for column in zip(*rows))
    return prompts, completions


def resident() -> float:
    """Bytes, at most so far."""
    return peak_memory_mb() * 2**20


def _watched(learner: Any) -> list[list[tuple[int, int]]]:
    """Tokens of prompt and completion of the rows that gradients are taken of from now on, a micro-batch each time."""
    batches, gradient = [], learner.gradient

    def watched(loss: Any, batch: Any, *others: Any, **named: Any) -> Any:
        width = batch.completion_mask.shape[1]
        prompts, completions = (batch.attention_mask[:, part].sum(1) for part in (slice(-width), slice(-width, None)))
        batches.append(list(zip(prompts.tolist(), completions.tolist())))
        return gradient(loss, batch, *others, **named)

    learner.gradient = watched
    return batches


def planned(config: Any, shape: Any, mean: tuple[float, float] | None) -> float:
    """What `amft plan --gpu cpu` says."""
    from amft.planning.devices import find_device
    from amft.planning.plan import plan_step

    return plan_step(config, shape, find_device("cpu"), 1, mean).memory.peak


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(CASES[sys.argv[1]])))
        return
    for name in CASES:
        done = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        told, whole = row["at_mean"] or row["planned"], row["planned"]
        (p, c), (mean_p, mean_c) = row["longest"], row["mean"]
        print(f"{name:22} {row['measured'] / 2**20:8.0f} MiB measured {told / 2**20:8.0f} planned "
              f"{told / row['measured'] - 1:+.1%}, rows of {mean_p:.0f} + {mean_c:.0f} tokens, "
              f"{whole / 2**20:.0f} planned if all were as the longest, {p} + {c}")  # fmt: skip


if __name__ == "__main__":
    main()
