"""The work that `peers.py` gives to each library: models, rows, and how long every answer is, to the token.

A case is the same for all: the same weights, prompts, demonstrations and lengths of answers. Answers are drawn by each
library itself; a token that ends an answer is drawn at the length set here and nowhere else (`peers_arms.py`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

SMALL = {"vocab_size": 2048, "hidden_size": 256, "layers": 4, "heads": 4, "kv_heads": 2}
WIDE = {**SMALL, "vocab_size": 32768}
LARGE = {"vocab_size": 2048, "hidden_size": 640, "layers": 7, "heads": 10, "kv_heads": 2}
NANO = {**SMALL, "family": "llama", "vocab_size": 1575}
SMOLLM2: dict[str, Any] = {}
"""No sizes: the weights are those of a directory."""

EXPLORE = ("trl", "amft rl")
MIXED = ("trl+sft", "amft fixed", "amft-scalar", "adapter")


@dataclass(frozen=True)
class Case:
    """One kind of step."""

    sizes: dict[str, Any]
    dtype: str
    prompts: int
    prompt: int
    """Tokens of a prompt."""
    answer: int
    """Tokens of the longest answer."""
    demos: int = 0
    ends: str = "even"
    """`even`: all answers have `answer` tokens; `uniform`: any length from 16 on alike; `chance`: every token is the
    last with one chance in a quarter of `answer`, so that a few run into the limit."""
    arms: tuple[str, ...] = MIXED
    group: int = 8

    def lengths(self, step: int, rows: int | None = None) -> list[int]:
        """Tokens of every answer of a step, in order."""
        draw = random.Random(f"{step} {self.ends}")
        rows = self.prompts * self.group if rows is None else rows
        if self.ends == "even":
            return [self.answer] * rows
        if self.ends == "uniform":
            return [draw.randint(16, self.answer) for _ in range(rows)]
        return [min(self.answer, 1 + int(draw.expovariate(4 / self.answer))) for _ in range(rows)]


def _both(name: str, sizes: dict[str, Any], demos: int, **others: Any) -> dict[str, Case]:
    return {
        f"{name}, {short}": Case(sizes, dtype, 8, 18, 48, demos, **others)
        for short, dtype in (("fp32", "float32"), ("bf16", "bfloat16"))
    }


ADDED = ("trl+sft", "amft fixed", "amft-scalar", "amft-scalar no trace", "adapter")
CASES: dict[str, Case] = {
    **_both("mixed 3.7 M", SMALL, 32),
    **_both("mixed 11 M vocabulary 32k", WIDE, 32, arms=ADDED),
    **_both("mixed 31 M", LARGE, 8),
    "mixed prompts of 512, answers of 128, fp32": Case(SMALL, "float32", 2, 512, 128, 8),
    "mixed prompts of 512, answers of 128, bf16": Case(SMALL, "bfloat16", 2, 512, 128, 8),
    "mixed uneven answers up to 1,024, fp32": Case(SMALL, "float32", 4, 64, 1024, 8, "chance"),
    "mixed uneven answers up to 1,024, bf16": Case(SMALL, "bfloat16", 4, 64, 1024, 8, "chance"),
    "mixed demonstration, bf16": Case(NANO, "bfloat16", 4, 60, 320, 16, "uniform"),
    "mixed SmolLM2-135M, bf16": Case(SMOLLM2, "bfloat16", 2, 32, 48, 8),
    "mixed SmolLM2-135M, fp32": Case(SMOLLM2, "float32", 2, 32, 48, 8),
    **_both("explore 3.7 M", SMALL, 0, arms=EXPLORE),
    **_both("explore 11 M vocabulary 32k", WIDE, 0, arms=EXPLORE),
    **_both("explore 31 M", LARGE, 0, arms=EXPLORE),
    **{f"length {n}": Case(SMALL, "float32", 2, 18, n, arms=("amft rl",)) for n in (32, 64, 128, 256, 512, 1024)},
    "tiny": Case({"vocab_size": 64}, "float32", 2, 12, 24, 4, "uniform", group=4),
}


@dataclass
class Work:
    """What a case is made of, built in the process that does it."""

    case: Case
    model: Any
    tokenizer: Any
    prompts: list[dict[str, str]]
    demonstrations: list[dict[str, str]]
    unseen: list[dict[str, str]] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The token that ends an answer: the last of the vocabulary."""
        return int(self.model.config.vocab_size) - 1


def work_of(case: Case, smollm2: str | None = None) -> Work:
    """Model, tokenizer and rows; a step takes every prompt and every demonstration once."""
    import torch

    from amft.models.load import load_model
    from amft.models.tiny import tiny_model

    if case.sizes:
        model = tiny_model(**{"max_positions": case.prompt + case.answer + 1, **case.sizes})
    else:
        assert smollm2 is not None, "give --smollm2 DIRECTORY, as `amft fetch smollm2` leaves it"
        model = load_model(smollm2, torch.float32)
    vocabulary = model.config.vocab_size
    tokenizer = words_only(vocabulary)
    for config in (model.config, model.generation_config):
        config.eos_token_id, config.pad_token_id, config.bos_token_id = vocabulary - 1, 0, None
    draw = random.Random(0)

    def text(tokens: int) -> str:
        return " ".join(f"w{draw.randrange(1, vocabulary - 1)}" for _ in range(tokens))

    prompts = [{"prompt": text(case.prompt)} for _ in range(case.prompts)]
    lengths = case.lengths(-1, case.demos)
    demonstrations = [{"prompt": text(case.prompt), "completion": " " + text(max(1, n - 1))} for n in lengths]
    return Work(case, model, tokenizer, prompts, demonstrations, [{"prompt": text(case.prompt)}])


def words_only(vocabulary: int) -> Any:
    """A tokenizer that knows `w1`, `w2`, ... by number; 0 is padding, the last token the end of an answer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", *(f"w{i}" for i in range(1, vocabulary - 1)), "<end>"]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
