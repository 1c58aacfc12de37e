"""A model of a few hundred parameters and sixteen words, to train under every rule."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from amft.settings.config import AMFTConfig
from amft.training.trainer import AMFTTrainer

WORDS = [".", "_", *"abcdefghijklmn"]
ROWS = [{"prompt": f"{a} {b}", "completion": f" {b} {a} {a} {b} ."} for a in "abcdef" for b in "ghijkl"]


def parity(prompts, completions, completion_ids, **columns):
    """1 for an even first token."""
    return [float(ids[0] % 2 == 0) for ids in completion_ids]


def zero(prompts, completions, completion_ids, **columns):
    return [0.0] * len(completion_ids)


def one(prompts, completions, completion_ids, **columns):
    return [1.0] * len(completion_ids)


def tiny_model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(WORDS),
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            eos_token_id=0,
            pad_token_id=1,
            bos_token_id=None,
        )
        return LlamaForCausalLM(config)


def tiny_tokenizer():
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="_"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=".", pad_token="_", unk_token="_")


def build(directory, balance, reward=parity, rows=ROWS, **changes):
    spec = {"rule": balance} if isinstance(balance, str) else balance
    if spec["rule"].startswith("amft"):
        often = {} if spec["rule"] == "amft" else {"meta_every": 5}
        spec = {"meta_skip": 1, **often, **spec}
    settings = {
        "output_dir": str(directory),
        "balance": spec,
        "max_steps": 20,
        "num_prompts": 2,
        "num_generations": 4,
        "num_demos": 4,
        "max_completion_length": 5,
        "learning_rate": 1e-2,
        "eval": {"steps": 0, "test_splits": []},
        "sample_steps": 0,
        "checkpoint": {"steps": 0},
        "seed": 1,
    }
    model = tiny_model()
    config = AMFTConfig(**(settings | changes))
    if config.dtype == "float64":
        model = model.double()
    return AMFTTrainer(model, config, train_dataset=list(rows), reward_funcs=reward, processing_class=tiny_tokenizer())


def train(directory, balance, reward=parity, rows=ROWS, resume=False, **changes):
    trainer = build(directory, balance, reward, rows, **changes)
    trainer.train(resume=resume)
    return trainer


def parameters(trainer):
    return torch.cat([p.detach().double().flatten() for p in trainer.model.parameters()])
