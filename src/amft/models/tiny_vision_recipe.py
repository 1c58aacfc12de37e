"""Makes the tiny vision-language models of the benchmarks: `python -m amft.models.tiny_vision_recipe --output DIR`.

Nothing is trained here. The decoder is the nano base, or random with a tokenizer learned from a task's own training
texts where the nano base lacks the words.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import LlavaForConditionalGeneration, LlavaProcessor

from ..tasks.base import Task
from ..tasks.registry import build_task
from .load import load_model, load_tokenizer
from .tiny_vision import tiny_vision_model, tiny_vision_processor, with_eyes
from .tokenizer import train_tokenizer

SAMPLE = 400
"""Training problems that a tokenizer is learned from."""


def on_base(
    name: str, *, image_size: int, patch_size: int, vision_size: int, seed: int
) -> tuple[LlavaProcessor, LlavaForConditionalGeneration]:
    """A random tower in front of a text model: `nano` or a model directory."""
    processor = tiny_vision_processor(load_tokenizer(name), image_size=image_size, patch_size=patch_size)
    return processor, with_eyes(load_model(name), processor, vision_size=vision_size, seed=seed)


def for_task(
    task: Task,
    *,
    image_size: int,
    patch_size: int,
    hidden_size: int,
    layers: int,
    vision_size: int,
    words: int,
    seed: int,
) -> tuple[LlavaProcessor, LlavaForConditionalGeneration]:
    """A random model whose tokenizer knows the words of a task's training prompts and demonstrations.

    Raises:
        ModelError: the sizes do not divide.
    """
    tokenizer = train_tokenizer(_texts(task, seed), words=words)
    processor = tiny_vision_processor(tokenizer, image_size=image_size, patch_size=patch_size)
    return processor, tiny_vision_model(
        processor, hidden_size=hidden_size, layers=layers, vision_size=vision_size, vision_layers=2, seed=seed
    )


def _texts(task: Task, seed: int) -> Iterator[str]:
    for problem in task.problems("train", seed=seed, n=SAMPLE):
        for message in task.prompt(problem):
            yield from _parts(message["content"])
        yield task.demonstrate(problem)


def _parts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    else:
        yield from (part["text"] for part in content if part["type"] == "text")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--task", help="a random decoder with this task's words; default: the nano base")
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--patch-size", type=int, default=14)
    parser.add_argument("--vision-size", type=int, default=96)
    parser.add_argument("--hidden-size", type=int, default=128, help="with --task")
    parser.add_argument("--layers", type=int, default=3, help="with --task")
    parser.add_argument("--words", type=int, default=300, help="with --task: learned word pieces")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    shape = {name: getattr(given, name) for name in ("image_size", "patch_size", "vision_size", "seed")}
    if given.output.exists():
        parser.error(f"--output: {given.output} exists already; choose another directory")
    if given.task is None:
        processor, model = on_base("nano", **shape)
    else:
        own = {name: getattr(given, name) for name in ("hidden_size", "layers", "words")}
        processor, model = for_task(build_task(given.task), **shape, **own)
    processor.save_pretrained(given.output)
    model.save_pretrained(given.output)
    print(f"{given.output}: {sum(parameter.numel() for parameter in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
