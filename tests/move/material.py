"""Tiny models, data and rewards of the cases: built by hand, so that no change of the tree's own can reach them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from adapter import named

WORDS = [".", "_", *"abcdefghijklmn"]
PAIRS = [{"prompt": f"{a} {b}", "completion": f" {b} {a} {a} {b} ."} for a in "abcdef" for b in "ghijkl"]
SUMS = [{"prompt": f"{n} + {n * n} =", "completion": f" {n + n * n}"} for n in range(1, 31)]
CARDS = [("1 2 3 4", "1*2*3*4"), ("2 3 4 5", "2*(3+4+5)"), ("5 5 5 1", "5*5-1"), ("6 6 6 6", "6+6+6+6")]
TRIES = {"id": "general_points-v1", "cards": 3, "demonstrations": "answer", "max_attempts": 3}
OFF = {"eval_steps": 0, "test_splits": [], "sample_steps": 0, "save_steps": 0}


def parity(prompts, completions, completion_ids, **columns):
    """1 for an even first token."""
    return [float(ids[0] % 2 == 0) for ids in completion_ids]


def odd(completion_ids, **columns):
    """The share of odd tokens: dense, so that every group of random answers has an advantage."""
    return [sum(token % 2 for token in ids) / len(ids) for ids in completion_ids]


def residue(completion_ids, **columns):
    """A reward that differs within almost every group."""
    return [float(sum(ids) % 5) for ids in completion_ids]


class Dense:
    """A task whose reward a random model does not always miss: the share of lower-case letters."""

    def __init__(self, name: str, **options: Any):
        self.task = named("build_task")(name, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def grade(self, problem: Any, answer: str) -> Any:
        found = self.task.grade(problem, answer)
        return dataclasses.replace(found, reward=sum(letter.islower() for letter in answer) / max(1, len(answer)))


def word_model() -> tuple[Any, Any]:
    """A model of a few hundred parameters and sixteen words, and its tokenizer: that of the conformance run."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="_"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(llama(len(WORDS), 8, 16, 1, eos_token_id=0, pad_token_id=1))
    return model, PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=".", pad_token="_", unk_token="_")


def llama(vocabulary: int, width: int, inner: int, layers: int, **more: Any) -> Any:
    from transformers import LlamaConfig

    shape = {"num_hidden_layers": layers, "num_attention_heads": 2, "num_key_value_heads": 2}
    sizes = {"vocab_size": vocabulary, "hidden_size": width, "intermediate_size": inner}
    return LlamaConfig(**sizes, **shape, tie_word_embeddings=True, bos_token_id=None, **more)


def saved_model(directory: Path) -> Path:
    """A random model of width 16 with the nano tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(named("model_directory")("nano"))
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(llama(len(tokenizer), 16, 48, 2, **ends)).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
