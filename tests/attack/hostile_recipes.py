"""Recipes that no sane person writes: settings of every kind with values of every other, and spoiled files."""

from __future__ import annotations

import itertools
import json
from typing import Any

from amft.errors import AMFTError
from amft.settings.config import AMFTConfig
from amft.settings.recipe import Recipe
from amft.settings.recipe_file import override
from amft.settings.strict_model import StrictModel

VALUES = (
    ".nan", "-.inf", "-1", "0", "1.0e+308", "1.0e-308", "1" + "0" * 30, "2147483648", "'text'", "[]", "{}", "[1, 2]",
    "{a: 1}", "null", "true", "'a\\0b'", "\"a\\0b\"", "''", "2020-01-01", "'" + "x" * 5000 + "'",
)  # fmt: skip
KEPT = {
    "model",
    "data",
    "output_dir",
    "threads",
    "max_steps",
    "num_train_epochs",
    "reward_timeout",
    "engine",
    "allow_download",
}
"""Settings that the started recipes need as they are, or that would reach for something outside."""


def settings() -> list[str]:
    """Every setting of a recipe, dotted."""
    names = []
    for name, field in Recipe.model_fields.items():
        group = field.default if isinstance(field.default, StrictModel) else None
        names += [name] if group is None else [f"{name}.{key}" for key in type(group).model_fields]
    return names


def sweep() -> list[tuple[str, str]]:
    """Every setting with every value."""
    return list(itertools.product(settings(), VALUES))


def started() -> list[tuple[str, str]]:
    """Those that a reader of recipes accepts, so that a run must begin to find out what is wrong, if anything is."""
    found = []
    for name, value in sweep():
        tree: dict[str, Any] = {"task": "general_points-v1"}
        try:
            override(tree, f"{name}={value}")
            Recipe(**tree)
        except AMFTError:
            continue
        if name.partition(".")[0] not in KEPT:
            found.append((name, value))
    return found


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)
FILES: dict[str, bytes] = {
    "empty": b"",
    "spaces": b"   \n\n",
    "list": b"- 1\n- 2\n",
    "text": b"hello",
    "number": b"42",
    "null": b"null",
    "tab": b"max_steps:\t1\n\tseed: 1",
    "twice": b"seed: 1\nseed: 2",
    "bytes": bytes(range(256)),
    "zeros": b"\0" * 1000,
    "bom": b"\xff\xfem\0a\0x\0",
    "latin": b"model: caf\xe9",
    "nested": b"[" * 50_000,
    "nested map": b"a: {" * 5000,
    "open quote": b"model: 'nano",
    "python object": b"model: !!python/object/apply:os.system ['touch executed']",
    "python name": b"model: !!python/name:os.system",
    "own tag": b"model: !mine nano",
    "bomb": BOMB.encode(),
    "bomb in balance": BOMB.encode() + b"balance: {rule: fixed, mu: *i}\n",
    "bomb in task": BOMB.encode() + b"task: {id: general_points-v1, cards: *i}\n",
    "cycle": b"balance: &a {rule: *a}\n",
    "cycle in list": b"task: &a [*a]\n",
    "merge": b"a: &a {seed: 1}\n<<: *a\n",
    "documents": b"seed: 1\n---\nseed: 2\n",
    "number key": b"1: 2\n",
    "list key": b"? [1, 2]\n: 3\n",
    "null key": b"null: 1\n",
    "date": b"seed: 2020-01-01\n",
    "huge number": b"seed: " + b"9" * 10_000,
    "binary": b"model: !!binary aGVsbG8=\n",
    "set": b"model: !!set {a, b}\n",
    "directive": b"%YAML 9.9\n---\nseed: 1\n",
    "unknown alias": b"model: *nowhere\n",
    "control": b"model: \x07\n",
    "long line": b"# " + b"x" * 1_000_000 + b"\nseed: [",
}
TASK = "task: general_points-v1\nmodel: nano\nmax_steps: 1\n"
DATA = "max_steps: 1\noutput_dir: run\nthreads: 1\n"
PARTS: dict[str, str] = {
    "neither": "max_steps: 1\n",
    "both": TASK + "data: {train: rows.jsonl}\n",
    "task number": "task: 7\n",
    "task list": "task: [general_points-v1]\n",
    "task path": "task: '../../etc/passwd'\n",
    "task file": "task: 'nowhere.py:Mine'\n",
    "task no class": "task: '.py:'\n",
    "task option": TASK.replace("v1", "v1\ntask: {id: general_points-v1, cards: 1000000}", 1).partition("\n")[2],
    "task target": "task: {id: general_points-v1, target: -1}\n",
    "task null": "task: {id: null}\n",
    "task seed": "task: {id: general_points-v1, demonstrations: 7}\n",
    "split": TASK + "eval: {test_splits: ['../x']}\n",
    "rule file": TASK + "balance: 'nowhere.py:Rule'\n",
    "rule directory": TASK + "balance: '/tmp.py:Rule'\n",
    "rule empty": TASK + "balance: ''\n",
    "rule number": TASK + "balance: {rule: 7}\n",
    "rule no name": TASK + "balance: {}\n",
    "rule nan": TASK + "balance: {rule: fixed, mu: .nan}\n",
    "rule text": TASK + "balance: {rule: fixed, mu: much}\n",
    "rule list": TASK + "balance: {rule: fixed, mu: [0.5]}\n",
    "rule beyond": TASK + "balance: {rule: fixed, mu: 7}\n",
    "rule unknown": TASK + "balance: {rule: amft, nothing: 1}\n",
    "rule huge": TASK + "balance: {rule: amft, meta_every: 1000000000000000000000}\n",
    "rule zero": TASK + "balance: {rule: amft, meta_every: 0}\n",
    "mixer": TASK + "balance: {rule: amft, demo_mixer: nonsense}\n",
    "mixer file": TASK + "balance: {rule: amft, demo_mixer: 'x.py:Y'}\n",
    "weight list": TASK + "balance: {rule: amft, token_weight: [phi]}\n",
    "model directory": DATA + "model: .\ndata: {train: rows.jsonl, rewards: ['own.py:reward']}\n",
    "model nul": DATA + 'model: "a\\0b"\ndata: {train: rows.jsonl, rewards: ["own.py:reward"]}\n',
    "model hub": DATA + "model: owner/name\ndata: {train: rows.jsonl}\n",
    "model device": DATA + "model: /dev/zero\ndata: {train: rows.jsonl}\n",
    "train missing": DATA + "data: {train: nowhere.jsonl}\n",
    "train directory": DATA + "data: {train: .}\n",
    "train device": DATA + "data: {train: /dev/zero}\n",
    "train fifo": DATA + "data: {train: fifo.jsonl, rewards: ['own.py:reward']}\n",
    "train nul": DATA + 'data: {train: "a\\0b"}\n',
    "train long": DATA + f"data: {{train: {'x' * 5000}}}\n",
    "train memory": DATA + "data: {train: /proc/self/mem}\n",
    "train kind": DATA + "data: {train: own.py}\n",
    "train binary": DATA + "data: {train: binary.jsonl, rewards: ['own.py:reward']}\n",
    "train nested": DATA + "data: {train: nested.jsonl, rewards: ['own.py:reward']}\n",
    "train numbers": DATA + "data: {train: numbers.jsonl, rewards: ['own.py:reward']}\n",
    "train roles": DATA + "data: {train: roles.jsonl, rewards: ['own.py:reward']}\n",
    "train surrogate": DATA + "data: {train: surrogate.jsonl, rewards: ['own.py:reward']}\n",
    "train parquet": DATA + "data: {train: fake.parquet, rewards: ['own.py:reward']}\n",
    "train csv": DATA + "data: {train: fake.csv, rewards: ['own.py:reward']}\n",
    "columns": DATA + "data: {train: rows.jsonl, columns: {prompt: 7}}\n",
    "columns unknown": DATA + "data: {train: rows.jsonl, columns: {prompt: nothing}}\n",
    "reward missing": DATA + "data: {train: rows.jsonl, rewards: ['nowhere.py:f']}\n",
    "reward text": DATA + "data: {train: rows.jsonl, rewards: own.py}\n",
    "reward no colon": DATA + "data: {train: rows.jsonl, rewards: [own.py]}\n",
    "reward eval": DATA + "data: {train: rows.jsonl, rewards: ['own.py:os.system(1)']}\n",
    "reward nul": DATA + 'data: {train: rows.jsonl, rewards: ["own\\0.py:f"]}\n',
    "reward directory": DATA + "data: {train: rows.jsonl, rewards: ['.:f']}\n",
    "reward weights": DATA + "reward_weights: [1.0, 2.0]\ndata: {train: rows.jsonl, rewards: ['own.py:reward']}\n",
    "no reward": DATA + "balance: rl\ndata: {train: rows.jsonl}\n",
    "short answers": DATA + "max_completion_length: 1\nbalance: sft\ndata: {train: long.jsonl}\n",
    "short prompts": DATA + "max_prompt_length: 1\ndata: {train: rows.jsonl, rewards: ['own.py:reward']}\n",
    "output file": DATA + "output_dir: own.py/run\ndata: {train: rows.jsonl, rewards: ['own.py:reward']}\n",
    "output device": DATA + "output_dir: /dev/null/run\ndata: {train: rows.jsonl, rewards: ['own.py:reward']}\n",
    "output proc": DATA + "output_dir: /proc/run\ndata: {train: rows.jsonl, rewards: ['own.py:reward']}\n",
    "targets": DATA + "lora: {target_modules: [nothing]}\ndata: {train: rows.jsonl, rewards: ['own.py:reward']}\n",
    "scheduler": DATA
    + "lr_scheduler_type: polynomial\nlr_scheduler_kwargs: {power: much}\n"
    + "data: {train: rows.jsonl, rewards: ['own.py:reward']}\n",
    "tracker": DATA + "report_to: [nothing]\ndata: {train: rows.jsonl, rewards: ['own.py:reward']}\n",
    "engine": DATA + "engine: vllm\ndata: {train: rows.jsonl, rewards: ['own.py:reward']}\n",
    "engine options": DATA + "engine_options: {timeout: 0}\ndata: {train: rows.jsonl}\n",
    "fsdp offload": DATA + "cpu_offload: true\ndata: {train: rows.jsonl, rewards: ['own.py:reward']}\n",
}
ARGUMENTS: tuple[list[str], ...] = (
    ["a\0b"], ["x" * 5000], ["/" * 5000], ["."], ["/dev/zero"], ["/proc/self/mem"], ["fifo.yaml"], ["loop.yaml"], [""],
    ["good.yaml", "--set", "="], ["good.yaml", "--set", "a.b.c.d=1"], ["good.yaml", "--set", "seed.x=1"],
    ["good.yaml", "--set", "balance=[" * 2000], ["good.yaml", "--set", "seed=" + "[" * 20_000],
    ["good.yaml", "--set", "\0=1"], ["good.yaml", "--set", "output_dir=" + "x" * 300],
    ["good.yaml", "--output-dir", "a\0b"], ["good.yaml", "--output-dir", "x" * 300],
    ["good.yaml", "--output-dir", "/" * 9],
)  # fmt: skip


def rows() -> dict[str, bytes]:
    """Files of data that the recipes name."""
    row = {"prompt": [{"role": "user", "content": "3"}], "completion": [{"role": "assistant", "content": "5"}]}

    def lines(*objects: Any) -> bytes:
        return "".join(json.dumps(each) + "\n" for each in objects).encode()

    return {
        "rows.jsonl": lines(*[row] * 4),
        "binary.jsonl": bytes(range(256)) * 10,
        "nested.jsonl": b"[" * 100_000,
        "numbers.jsonl": lines({"prompt": 7}, {"prompt": 8}),
        "roles.jsonl": lines(*[{"prompt": [{"role": "user|>x<|assistant", "content": "3"}]}] * 4),
        "surrogate.jsonl": b'{"prompt": "\\ud800"}\n' * 4,
        "long.jsonl": lines(*[{**row, "completion": [{"role": "assistant", "content": "5" * 900}]}] * 4),
        "fake.parquet": b"PAR1nonsense",
        "fake.csv": b"a,b\n1,2\n",
        "own.py": b"def reward(completions, **columns):\n    return [1.0] * len(completions)\n",
    }


assert set(KEPT) <= set(AMFTConfig.model_fields) | set(Recipe.model_fields)
