"""What the cases know of the tree: names, settings, the layout of a run; and the hashes of what a run wrote."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "src"))

NAMES: dict[str, list[str]] = {
    "AMFTConfig": ["amft:AMFTConfig"],
    "AMFTTrainer": ["amft:AMFTTrainer"],
    "Recipe": ["amft:Recipe"],
    "build_trainer": ["amft:build_trainer"],
    "build_task": ["amft:build_task"],
    "main": ["amft.cli:main"],
    "model_directory": ["amft.recipe:model_directory", "amft.assembly.models:model_directory"],
    "RULES": ["amft.balance.registry:RULES"],
    "AMFTGRPOTrainer": ["amft.integrations.trl:AMFTGRPOTrainer"],
    "tiny_vision_model": ["amft.models.tiny_vision:tiny_vision_model"],
    "tiny_vision_processor": ["amft.models.tiny_vision:tiny_vision_processor"],
}
SETTINGS: dict[str, str] = {
    "gamma": "ppo.gamma",
    "lam": "ppo.lam",
    "vf_coef": "ppo.vf_coef",
    "cliprange_value": "ppo.cliprange_value",
    "value_trunk": "ppo.value_trunk",
    "value_learning_rate": "ppo.value_learning_rate",
    "vllm_importance_sampling_correction": "importance_sampling.correction",
    "vllm_importance_sampling_mode": "importance_sampling.mode",
    "vllm_importance_sampling_clip_max": "importance_sampling.clip_max",
    "vllm_importance_sampling_clip_min": "importance_sampling.clip_min",
    "eval_steps": "eval.steps",
    "eval_problems": "eval.problems",
    "test_splits": "eval.test_splits",
    "test_problems": "eval.test_problems",
    "test_samples": "eval.test_samples",
    "save_steps": "checkpoint.steps",
    "save_total_limit": "checkpoint.total_limit",
    "save_only_model": "checkpoint.only_model",
    "keep_best": "checkpoint.keep_best",
    "meta_every": "balance.meta_every",
    "meta_skip": "balance.meta_skip",
}
METRICS: dict[str, str] = {}


def named(name: str) -> Any:
    """The class or function that the cases call `name`."""
    for place in NAMES[name]:
        module, _, attribute = place.partition(":")
        with contextlib.suppress(ImportError, AttributeError):
            return getattr(importlib.import_module(module), attribute)
    raise LookupError(f"NAMES[{name!r}]: none of {', '.join(NAMES[name])} exists in this tree")


def make_config(flat: dict[str, Any]) -> dict[str, Any]:
    """Settings under their old names as the tree wants them: renamed and nested."""
    known = named("Recipe").model_fields
    renamed = SETTINGS if any("." not in old and old not in known for old in SETTINGS) else {}
    tree: dict[str, Any] = {}
    flat = {"balance": {"rule": "amft"}, **flat}
    learns = str(flat.get("balance", {}).get("rule", "amft")).startswith("amft")
    for name, value in leaves(flat):
        if name in ("meta_every", "meta_skip") and not learns:  # settings of the rules that read them
            continue
        *parents, last = renamed.get(name, name).split(".")
        at = tree
        for parent in parents:
            at = at.setdefault(parent, {})
        at[last] = value
    return tree


def trl_balance(balance: Any) -> Any:
    """A balance of the adapter that observes from the second optimizer step on."""
    spec = {"rule": balance} if isinstance(balance, str) else dict(balance)
    return {**spec, "meta_skip": 1} if spec["rule"].startswith("amft") else spec


def leaves(tree: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    for name, value in tree.items():
        inner = isinstance(value, dict) and value and name != "columns"
        out += leaves(value, f"{before}{name}.") if inner else [(before + name, value)]
    return out


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted((run / "checkpoints").glob("step-*"), key=lambda path: int(path.name.rpartition("-")[2]))


def weights_of(run: Path) -> dict[str, Any]:
    """Every tensor of the model, or adapter, of the last checkpoint, and of its value head."""
    from safetensors.torch import load_file

    last = checkpoints(run)[-1]
    found: dict[str, Any] = {}
    for file in sorted((last / "model").glob("*.safetensors")):
        found |= load_file(file)
    if (last / "critic.safetensors").is_file():
        critic = load_file(last / "critic.safetensors")
        found |= {f"critic.{name}": value for name, value in critic.items() if name.startswith("head.")}
    if not found:
        raise FileNotFoundError(f"no weights in {last}")
    return found


def metrics_of(run: Path) -> bytes:
    written = (run / "metrics.jsonl").read_bytes()
    if not METRICS:
        return written
    rows = [{METRICS.get(k, k): v for k, v in json.loads(line).items()} for line in written.splitlines()]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def train(run: Path, flat: dict[str, Any], model: Any, resume: bool = False, **given: Any) -> None:
    """One run through the Python interface, with a model or task that no recipe names."""
    config = named("AMFTConfig")(**make_config({"output_dir": str(run), **flat}))
    named("AMFTTrainer")(model, config, **given).train(resume=resume)


def train_recipe(run: Path, flat: dict[str, Any], resume: bool = False) -> None:
    """One run of a recipe."""
    recipe = named("Recipe")(**make_config({"output_dir": str(run), **flat}))
    named("build_trainer")(recipe).train(resume=resume)


def record(metrics: bytes, weights: dict[str, Any]) -> dict[str, str]:
    total = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        total.update(value.flatten().view(torch_uint8()).numpy().tobytes())
    lines = [hashlib.sha256(line).hexdigest()[:8] for line in metrics.splitlines()]
    return {
        "metrics": hashlib.sha256(metrics).hexdigest(),
        "weights": total.hexdigest(),
        "lines": " ".join(lines),
    }


def torch_uint8() -> Any:
    import torch

    return torch.uint8


def of_run(run: Path) -> dict[str, str]:
    return record(metrics_of(run), weights_of(run))


def as_lines(rows: list[dict[str, Any]]) -> bytes:
    """Rows of numbers as text that keeps every bit; nothing that a clock measured."""
    clock = ("time", "second", "flos", "step_time")
    kept = [{k: repr(v) for k, v in row.items() if not any(word in k for word in clock)} for row in rows]
    return "".join(json.dumps(row, sort_keys=True) + "\n" for row in kept).encode()


def last_line(out: Path) -> str:
    lines = (out / "log").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "nothing was said"
