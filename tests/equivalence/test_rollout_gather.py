"""Rollouts under fsdp2 that gather one layer at a time: the same run, to the byte, as with the model gathered whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from rank_team import ROWS, join, odd, save_model, start
from torch.distributed.fsdp import FSDPModule

from amft.errors import ConfigError
from amft.settings.config import AMFTConfig

STEPS = 2
SETTINGS = {
    "max_steps": STEPS,
    "num_prompts": 3,  # one of 4 ranks has none, and goes along with the others
    "num_generations": 3,
    "num_demos": 5,
    "max_completion_length": 8,
    "learning_rate": 1e-3,
    "balance": {"rule": "amft", "meta_skip": 0},
    "parallel": "fsdp2",
    "eval": {"steps": 1, "problems": 3},
    "sample_steps": 0,
    "checkpoint": {"steps": STEPS},
}
RUNS = {
    "decode": {"beta": 0.05},
    "half": {"dtype": "bfloat16", "cpu_offload": True},
    "adapter": {"lora": {"r": 2, "alpha": 4.0, "target_modules": "all-linear"}, "gradient_checkpointing": True},
    "copies": {"replicate": 2},
    "hf": {"engine": "hf", "num_prompts": 5, "eval": {"steps": 1, "problems": 6}},  # uneven shares
}


def trainer(base: Path, directory: Path, **changes):
    from amft.training.trainer import AMFTTrainer

    config = AMFTConfig(output_dir=str(directory), **(SETTINGS | changes))
    return AMFTTrainer(str(base), config, train_dataset=ROWS, reward_funcs=odd)


def rank_of_four(rank: int, base: Path, out: Path) -> None:
    from amft.models.load import NANO, load_tokenizer
    from amft.training import foundation
    from amft.types import Sampling

    join(rank, 4, out)
    for name, changes in RUNS.items():
        trainer(base, out / name, **changes).train()
        trainer(base, out / f"{name}-layer", rollout_gather="layer", **changes).train()
    built = trainer(base, out / "watched", rollout_gather="layer")
    most = watched(built, Sampling(n=2, max_new_tokens=4, temperature=0.0), load_tokenizer(str(NANO)))
    assert most == [1, 0]
    foundation.load_processing_class = lambda *_: (load_tokenizer(str(NANO)), "reads pictures")
    with pytest.raises(ConfigError, match="rollout_gather: layer is not for models that read pictures"):
        trainer(base, out / "pictures", rollout_gather="layer")


def watched(built, sampling, tokenizer) -> list[int]:
    """Blocks that were gathered at once during a generation, and afterwards; the root is not counted."""
    import torch

    model, counts = built.model, [0]
    blocks = [module for module in model.modules() if isinstance(module, FSDPModule) and module is not model]

    def gathered() -> int:
        from torch.distributed.tensor import DTensor

        return sum(not isinstance(next(block.parameters()), DTensor) for block in blocks)

    hooks = [
        module.register_forward_hook(lambda *_: counts.append(gathered()))
        for block in blocks
        for module in block.modules()
        if not list(module.children())
    ]
    prompts = [tokenizer(row["prompt"]).input_ids for row in ROWS[:5]]
    built.foundation.sampler.generate(prompts, sampling, torch.Generator().manual_seed(0))
    for hook in hooks:
        hook.remove()
    return [max(counts), gathered()]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("gather")
    base = save_model(out / "base")
    assert start(4, rank_of_four, base, out) == [0] * 4
    return out


@pytest.mark.parametrize("name", RUNS)
def test_gathering_layer_by_layer_changes_no_byte(name, runs):
    whole, layered = runs / name, runs / f"{name}-layer"
    files = ["metrics.jsonl", *(str(file.relative_to(whole)) for file in whole.glob("model/*.safetensors"))]
    assert len(files) == 2
    for file in files:
        assert (layered / file).read_bytes() == (whole / file).read_bytes()


def test_layers_are_gathered_only_where_something_is():
    with pytest.raises(ConfigError, match="rollout_gather: layer needs parallel: fsdp2"):
        AMFTConfig(rollout_gather="layer")
    with pytest.raises(ConfigError, match="rollout_gather: layer is for the engines decode and hf"):
        AMFTConfig(rollout_gather="layer", parallel="fsdp2", engine="vllm")
