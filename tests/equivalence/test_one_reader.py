"""Rank 0 alone reads the weights; the other has a directory without any, and the run is the same to the byte."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rank_team import ROWS, join, odd, save_model, start
from safetensors.torch import load_file
from transformers import PreTrainedModel

from amft.distributed.parallel import build_parallel
from amft.errors import ModelError, RankError
from amft.models.load import NANO, load_model, load_outline, load_tokenizer
from amft.models.tiny import tiny_model
from amft.settings.config import AMFTConfig
from amft.tasks.grading.sandbox import peak_memory_mb

STEPS = 2
LORA = {"lora": {"r": 2, "alpha": 4.0, "target_modules": "all-linear"}}
RUNS = {
    "float64": {"dtype": "float64", "beta": 0.05},
    "half": {"dtype": "bfloat16"},
    "adapter": LORA,
    "offload": {"cpu_offload": True},
    "whole": {"parallel": "ddp", "dtype": "float64", "beta": 0.05},
    "whole half": {"parallel": "ddp", "dtype": "bfloat16"},
    "whole adapter": {"parallel": "ddp", **LORA},
}
WIDE = {"vocab_size": 4096, "hidden_size": 512, "layers": 16, "heads": 4}
"""Of a model of about 260 MB in float32; no tensor is more than 8 MB."""


def trainer(model, directory: Path, **changes):
    from amft.training.trainer import AMFTTrainer

    settings = {
        "max_steps": STEPS,
        "num_prompts": 2,
        "num_generations": 2,
        "num_demos": 4,
        "max_completion_length": 4,
        "learning_rate": 1e-3,
        "balance": {"rule": "amft", "meta_skip": 0},
        "parallel": "fsdp2",
        "eval": {"steps": 0},
        "sample_steps": 0,
        "checkpoint": {"steps": 1},
    }
    own = {} if isinstance(model, str) else {"processing_class": load_tokenizer(str(NANO))}
    config = AMFTConfig(output_dir=str(directory), **(settings | changes))
    return AMFTTrainer(model, config, train_dataset=ROWS, reward_funcs=odd, **own)


def both(rank: int, out: Path) -> None:
    from amft.checkpoints import trainer_state

    join(rank, 2, out)
    for name, changes in RUNS.items():
        base = out / ("untied" if name == "offload" else "tied")
        trainer(str(base if rank == 0 else out / f"{base.name}-bare"), out / name, **changes).train()
        trainer(
            load_model(str(base), torch.float64 if changes.get("dtype") == "float64" else torch.float32),
            out / f"{name}-given",
            **changes,
        ).train()
    cut = out / "float64-resumed"
    if rank == 0:
        shutil.copytree(out / "float64", cut)
        shutil.rmtree(cut / "checkpoints" / f"step-{STEPS}")
    else:
        trainer_state.load_model = None  # only rank 0 reads a checkpoint's weights
    torch.distributed.barrier()
    trainer(str(out / ("tied" if rank == 0 else "tied-bare")), cut, **RUNS["float64"]).train(resume=True)
    with pytest.raises(ModelError if rank == 0 else RankError, match="is not finite; the files are damaged") as told:
        trainer(str(out / ("damaged" if rank == 0 else "tied-bare")), out / "never")
    assert rank == 0 or told.value.told
    base = str(out / ("wide" if rank == 0 else "wide-bare"))
    before = peak_memory_mb()
    built = trainer(base, out / "wide-run")
    (out / f"memory-{rank}").write_text(str(int(2**20 * (peak_memory_mb() - before))))
    assert sum(p.to_local().nbytes for p in built.model.parameters()) < size_of(out / "wide") * 0.51


def bare(directory: Path) -> None:
    """A copy without weights beside a model."""
    shutil.copytree(directory, f"{directory}-bare", ignore=shutil.ignore_patterns("*.safetensors"))


def size_of(directory: Path) -> int:
    return (directory / "model.safetensors").stat().st_size


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("reader")
    save_model(out / "tied")
    tokenizer = load_tokenizer(str(NANO))
    for name, sizes in (("untied", {"vocab_size": len(tokenizer), "hidden_size": 16, "heads": 2}), ("wide", WIDE)):
        tiny_model("llama", tie=False, **sizes).save_pretrained(out / name)
        tokenizer.save_pretrained(out / name)
    for name in ("tied", "untied", "wide"):
        bare(out / name)
    damaged = load_model(str(out / "tied"))
    damaged.model.norm.weight.data[0] = torch.nan
    damaged.save_pretrained(out / "damaged")
    tokenizer.save_pretrained(out / "damaged")
    assert start(2, both, out) == [0, 0]
    return out


def written(run: Path) -> dict[str, bytes]:
    """Metrics and every tensor of every checkpoint; in a file of shards they may lie in any order."""
    found = {"metrics": (run / "metrics.jsonl").read_bytes()}
    for file in [*run.glob("checkpoints/*/model/*.safetensors"), *run.glob("checkpoints/*/shards/*")]:
        found |= {f"{file.relative_to(run)} {key}": value.numpy().tobytes() for key, value in load_file(file).items()}
    return found


@pytest.mark.parametrize("name", RUNS)
def test_a_rank_without_weight_files_gets_them_from_rank_0(name, out):
    found, wanted = written(out / name), written(out / f"{name}-given")
    assert found == wanted
    assert any(key.startswith(f"checkpoints/step-{STEPS}/shards/") for key in found) == (not name.startswith("whole"))


def test_rank_0_alone_reads_a_checkpoint(out):
    assert written(out / "float64-resumed") == written(out / "float64")


def test_the_other_rank_never_has_the_whole_model_in_memory(out):
    whole = size_of(out / "wide")
    main, other = (int((out / f"memory-{rank}").read_text()) for rank in (0, 1))
    assert main > 0.9 * whole
    assert other < 0.75 * whole  # half of it are its shards


def disagreeing() -> tuple[Callable[[], PreTrainedModel], Callable[[], PreTrainedModel]]:
    """Weights of a model, and the outline of another."""
    sizes = {"vocab_size": 32, "hidden_size": 16, "heads": 2}
    return lambda: tiny_model(layers=1, **sizes), lambda: tiny_model(layers=2, **sizes)


def test_weights_of_another_model_than_the_config_says_are_refused_in_shards():
    sharded = build_parallel(AMFTConfig(output_dir="never", max_steps=1, parallel="fsdp2"))
    with pytest.raises(ModelError, match="another model than config.json describes"):
        sharded.load(*disagreeing())


def refused(rank: int, out: Path) -> None:
    join(rank, 2, out)
    layout = build_parallel(AMFTConfig(output_dir="never", max_steps=1, parallel="ddp"))
    model = layout.load(*disagreeing())
    layout.wrap(model)
    (out / f"sum-{rank}").write_text(repr(sum(float(p.sum()) for p in model.parameters())))
    assert model.config.num_hidden_layers == 1, "every rank read the weights"


def test_under_ddp_every_rank_reads_weights_that_the_config_does_not_describe(tmp_path):
    assert start(2, refused, tmp_path) == [0, 0]
    assert (tmp_path / "sum-0").read_text() == (tmp_path / "sum-1").read_text()


def test_an_outline_is_the_model_without_its_weights(out):
    whole, outline = load_model(str(out / "tied"), torch.float64), load_outline(str(out / "tied-bare"), torch.float64)
    assert type(whole) is type(outline)
    assert outline.training is whole.training is False
    assert outline.config.to_diff_dict() == whole.config.to_diff_dict()
    assert {p.device.type for p in outline.parameters()} == {"meta"}
    assert outline.get_output_embeddings().weight is outline.get_input_embeddings().weight
