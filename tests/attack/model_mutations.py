"""One way at a time to spoil a model directory, drawn by a seed: every mutant must be refused, or be harmless."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Mutation = Callable[[Path, random.Random], None]
WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"


def mutate(base: Path, target: Path, name: str, seed: int) -> None:
    """Copy the sound model `base` to `target` and spoil it by the mutation `name`, drawn with `seed`."""
    shutil.copytree(base, target)
    MUTATIONS[name](target, random.Random(f"{name} {seed}"))


def tensors(change: Callable[[dict[str, torch.Tensor], str, random.Random], None]) -> Mutation:
    """A mutation of the weights, given them and the name of one."""

    def apply(path: Path, draw: random.Random) -> None:
        state = load_file(path / WEIGHTS)
        change(state, draw.choice(sorted(state)), draw)
        save_file(state, path / WEIGHTS, {"format": "pt"})

    return apply


def config(**changes: Any) -> Mutation:
    """A mutation of config.json; a callable is given the value that was there."""

    def apply(path: Path, draw: random.Random) -> None:
        written = json.loads((path / CONFIG).read_text())
        for key, value in changes.items():
            written[key] = value(written.get(key)) if callable(value) else value
        (path / CONFIG).write_text(json.dumps(written))

    return apply


def file(name: str, content: bytes) -> Mutation:
    return lambda path, draw: (path / name).write_bytes(content) and None


def cut(name: str) -> Mutation:
    def apply(path: Path, draw: random.Random) -> None:
        content = (path / name).read_bytes()
        (path / name).write_bytes(content[: draw.randrange(len(content))])

    return apply


def flip(name: str) -> Mutation:
    """Spoil bytes of a file's beginning, where its structure is."""

    def apply(path: Path, draw: random.Random) -> None:
        content = bytearray((path / name).read_bytes())
        for _ in range(8):
            content[draw.randrange(min(200, len(content)))] = draw.randrange(256)
        (path / name).write_bytes(content)

    return apply


def drop(state: dict[str, torch.Tensor], name: str, draw: random.Random) -> None:
    for gone in draw.sample(sorted(state), draw.randint(1, 12)):
        del state[gone]


def rename(state: dict[str, torch.Tensor], name: str, draw: random.Random) -> None:
    state[f"{name}_old"] = state.pop(name)


def reshape(state: dict[str, torch.Tensor], name: str, draw: random.Random) -> None:
    shape = list(state[name].shape)
    shape[draw.randrange(len(shape))] += draw.choice([-1, 1, 7])
    state[name] = torch.zeros(shape)


def add(state: dict[str, torch.Tensor], name: str, draw: random.Random) -> None:
    state[draw.choice(["model.layers.99.self_attn.q_proj.weight", "score.weight", "extra"])] = torch.zeros(3)


def poison(value: float) -> Callable[[dict[str, torch.Tensor], str, random.Random], None]:
    def change(state: dict[str, torch.Tensor], name: str, draw: random.Random) -> None:
        flat = state[name].view(-1)
        flat[draw.randrange(len(flat))] = value

    return change


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch unpickled",)


def pickled(path: Path) -> None:
    torch.save(load_file(path / WEIGHTS), path / "pytorch_model.bin")
    (path / WEIGHTS).unlink()


def only_pickle(path: Path, draw: random.Random) -> None:
    pickled(path)


def pickle_behind_index(path: Path, draw: random.Random) -> None:
    names = sorted(load_file(path / WEIGHTS))
    pickled(path)
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "pytorch_model.bin")}
    (path / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


def bomb_behind_index(path: Path, draw: random.Random) -> None:
    pickle_behind_index(path, draw)
    (path / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))


def pickle_by_config(path: Path, draw: random.Random) -> None:
    pickled(path)
    config(transformers_weights="pytorch_model.bin")(path, draw)


def pickle_behind_own_index(path: Path, draw: random.Random) -> None:
    pickle_behind_index(path, draw)
    (path / f"{WEIGHTS}.index.json").rename(path / "other.safetensors.index.json")
    config(transformers_weights="other.safetensors.index.json")(path, draw)


def index_elsewhere(path: Path, draw: random.Random) -> None:
    names = sorted(load_file(path / WEIGHTS))
    (path / WEIGHTS).rename(path.parent / "outside.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, "../outside.safetensors")}
    (path / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


def index_of_nothing(path: Path, draw: random.Random) -> None:
    (path / WEIGHTS).unlink()
    (path / f"{WEIGHTS}.index.json").write_text(draw.choice(["{}", "[]", '{"weight_map": {"a": 1}}', "{", ""]))


def fifo(path: Path, draw: random.Random) -> None:
    (path / WEIGHTS).unlink()
    os.mkfifo(path / WEIGHTS)


def directory(path: Path, draw: random.Random) -> None:
    (path / WEIGHTS).unlink()
    (path / WEIGHTS).mkdir()


def more_tokens(path: Path, draw: random.Random) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.add_tokens([f"word{i}" for i in range(draw.randint(1, 500))])
    tokenizer.save_pretrained(path)


def no_end(path: Path, draw: random.Random) -> None:
    written = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(json.dumps({**written, "eos_token": None}))


def foreign_adapter(path: Path, draw: random.Random) -> None:
    """An adapter on itself."""
    for each in (CONFIG, WEIGHTS):
        (path / each).unlink()
    (path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(path), "peft_type": "LORA"}))


def remote_code(path: Path, draw: random.Random) -> None:
    (path / "evil.py").write_text("open('executed', 'w')\n")
    config(model_type="evil", auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"})(path, draw)


NAN, INF = float("nan"), float("inf")
MUTATIONS: dict[str, Mutation] = {
    "drop": tensors(drop),
    "rename": tensors(rename),
    "reshape": tensors(reshape),
    "add": tensors(add),
    "nan": tensors(poison(NAN)),
    "inf": tensors(poison(-INF)),
    "cut weights": cut(WEIGHTS),
    "flip weights": flip(WEIGHTS),
    "empty weights": file(WEIGHTS, b""),
    "long header": file(WEIGHTS, b"\xff" * 8 + b"{"),
    "only pickle": only_pickle,
    "pickle behind index": pickle_behind_index,
    "bomb behind index": bomb_behind_index,
    "pickle by config": pickle_by_config,
    "pickle behind own index": pickle_behind_own_index,
    "index elsewhere": index_elsewhere,
    "index of nothing": index_of_nothing,
    "fifo": fifo,
    "directory": directory,
    "bert": config(model_type="bert"),
    "gpt2": config(model_type="gpt2"),
    "mamba": config(model_type="mamba"),
    "t5": config(model_type="t5"),
    "llama": config(model_type="llama"),
    "qwen2": config(model_type="qwen2"),
    "nonsense": config(model_type="nonsense"),
    "no type": config(model_type=None),
    "architectures": config(architectures=["GPT2LMHeadModel"]),
    "rope nan": config(rope_parameters={"rope_type": "default", "rope_theta": NAN}),
    "rope inf": config(rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 0.0}),
    "rope word": config(rope_parameters={"rope_type": "spiral", "rope_theta": 1e4}),
    "norm nan": config(rms_norm_eps=NAN),
    "norm below zero": config(rms_norm_eps=-1e9),
    "wider": config(hidden_size=lambda was: was * 2),
    "vast": config(hidden_size=2**40),
    "narrow": config(intermediate_size=lambda was: was // 2),
    "deeper": config(num_hidden_layers=lambda was: was + 1),
    "abyss": config(num_hidden_layers=10**9, layer_types=None),
    "shallow": config(num_hidden_layers=1),
    "no heads": config(num_attention_heads=0),
    "odd head": config(head_dim=7),
    "vocabulary": config(vocab_size=2**31),
    "no vocabulary": config(vocab_size=0),
    "below zero": config(vocab_size=-5),
    "word for number": config(hidden_size="many"),
    "activation": config(hidden_act="nonsense"),
    "untied": config(tie_word_embeddings=False),
    "dtype": config(dtype="nonsense"),
    "quantized": config(quantization_config={"quant_method": "gptq", "bits": 4}),
    "config not json": file(CONFIG, b"{"),
    "config list": file(CONFIG, b"[1]"),
    "config nested": file(CONFIG, b"[" * 100_000),
    "config bytes": file(CONFIG, b"\xff\xfe\x00"),
    "config empty": file(CONFIG, b""),
    "cut config": cut(CONFIG),
    "cut tokenizer": cut(TOKENIZER),
    "tokenizer nested": file(TOKENIZER, b"[" * 100_000),
    "tokenizer empty": file(TOKENIZER, b""),
    "more tokens": more_tokens,
    "no end": no_end,
    "template": file("chat_template.jinja", b"{% for x in %}"),
    "template raises": file("chat_template.jinja", b"{{ raise_exception('no') }}"),
    "own adapter": foreign_adapter,
    "remote code": remote_code,
}
