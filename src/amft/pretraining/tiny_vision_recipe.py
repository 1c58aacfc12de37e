"""Makes the tiny vision-language models of the benchmarks.

    python -m amft.pretraining.tiny_vision_recipe --output DIR

Nothing is trained here. The decoder is the nano base; where a task needs words that the base spells letter by letter,
they become tokens.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken
from transformers import LlavaForConditionalGeneration, LlavaProcessor, PreTrainedModel

from ..models.load import load_model, load_tokenizer
from ..models.tiny_vision import tiny_vision_processor, with_eyes
from ..tasks.base import Task
from ..tasks.registry import build_task

_WORD = re.compile("[A-Za-z]+ ?")
"""A word with the space that follows it, as the nano base's tokenizer cuts it."""

SAMPLE = 400
"""Training problems that a tokenizer is learned from."""


def on_base(
    name: str,
    *,
    image_size: int,
    patch_size: int,
    vision_size: int,
    seed: int,
    task: Task | None = None,
    words: int = 0,
) -> tuple[LlavaProcessor, LlavaForConditionalGeneration]:
    """A random tower in front of a text model: `nano` or a model directory.

    Args:
        name: of the text model.
        task: whose frequent words become tokens of their own; None: the base keeps its tokens.
        words: how many at most. A new token begins as the mean of the tokens it was spelled with.
    """
    tokenizer, base = load_tokenizer(name), load_model(name)
    if task is not None:
        learn_words(tokenizer, base, _texts(task, seed), words)
    processor = tiny_vision_processor(tokenizer, image_size=image_size, patch_size=patch_size)
    return processor, with_eyes(base, processor, vision_size=vision_size, seed=seed)


@torch.no_grad()
def learn_words(tokenizer: Any, model: PreTrainedModel, texts: Iterable[str], words: int) -> None:
    """Add the words that cost a tokenizer most, in place; their embeddings are means of what they were spelled with.

    Args:
        tokenizer: changed.
        model: its embeddings are tied to its output layer.
        texts: where the words are counted.
        words: how many at most.
    """
    counts = Counter(piece for text in texts for piece in _WORD.findall(text))
    spelled = {piece: tokenizer(piece, add_special_tokens=False)["input_ids"] for piece in counts}
    saved = {piece: (len(ids) - 1) * counts[piece] for piece, ids in spelled.items() if len(ids) > 1}
    chosen = sorted(saved, key=lambda piece: (-saved[piece], piece))[:words]
    first = len(tokenizer)
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in chosen])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    table = model.get_input_embeddings().weight
    for place, piece in enumerate(chosen, first):
        table[place] = table[spelled[piece]].mean(0)


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
    parser.add_argument("--task", help="whose frequent words become tokens; default: none do")
    parser.add_argument("--words", type=int, default=120, help="with --task: how many at most")
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--patch-size", type=int, default=14)
    parser.add_argument("--vision-size", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.output.exists():
        parser.error(f"--output: {given.output} exists already; choose another directory")
    shape = {name: getattr(given, name) for name in ("words", "image_size", "patch_size", "vision_size", "seed")}
    processor, model = on_base("nano", task=build_task(given.task) if given.task else None, **shape)
    processor.save_pretrained(given.output)
    model.save_pretrained(given.output)
    print(f"{given.output}: {sum(parameter.numel() for parameter in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
