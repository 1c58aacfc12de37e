"""`dtype: auto`: what it becomes, and that a run says so."""

import json
from types import SimpleNamespace

import pytest
import torch
from plan_shapes import SMALL
from study_dirs import study_file

from amft.errors import AMFTError
from amft.planning.devices import find_device
from amft.planning.plan import load_of
from amft.settings import precision
from amft.settings.config import AMFTConfig
from amft.settings.precision import native_dtype, settled_dtype
from amft.study.plan import plan_runs
from amft.training.trainer import AMFTTrainer

CPU = torch.device("cpu")
ROWS = [{"prompt": f"say {i}", "completion": f"{i}", "answer": f"{i}"} for i in range(20)]


def units(monkeypatch, **found):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, "bfloat16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bfloat16"),
        ({"avx512_f": True, "avx512_bf16": False}, "float32"),
        ({}, "float32"),
    ],
)
def test_a_cpu_needs_units_of_its_own(found, expected, monkeypatch):
    units(monkeypatch, **found)
    assert native_dtype(CPU) == expected
    assert settled_dtype(AMFTConfig(dtype="auto"), CPU).dtype == expected


def test_a_torch_that_cannot_say_counts_as_without(monkeypatch):
    monkeypatch.setattr(precision.torch, "cpu", SimpleNamespace())
    assert native_dtype(CPU) == "float32"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_a_named_type_stays(dtype, monkeypatch):
    units(monkeypatch, avx512_bf16=dtype != "bfloat16")
    assert settled_dtype(AMFTConfig(dtype=dtype), CPU).dtype == dtype


def run(base, directory, dtype, steps=1, resume=False):
    def right(prompts, completions, answer, **columns):
        return [float(text.strip() == one) for text, one in zip(completions, answer, strict=True)]

    settings = {
        "num_prompts": 2,
        "num_generations": 2,
        "num_demos": 2,
        "max_completion_length": 4,
        "eval": {"steps": 0},
    }
    config = AMFTConfig(output_dir=str(directory), max_steps=steps, checkpoint={"steps": 1}, dtype=dtype, **settings)
    recipe = {"model": str(base), **config.model_dump()}
    AMFTTrainer(str(base), config, train_dataset=ROWS, reward_funcs=[right], recipe=recipe).train(resume=resume)
    return json.loads((directory / "config.json").read_text())["dtype"], (directory / "metrics.jsonl").read_bytes()


def test_a_run_computes_and_records_what_auto_became(tiny_base, tmp_path, monkeypatch):
    made = {}
    for dtype, unit in (("bfloat16", True), ("float32", False)):
        units(monkeypatch, avx512_bf16=unit)
        made[dtype] = run(tiny_base, tmp_path / dtype, "auto")
        assert made[dtype] == run(tiny_base, tmp_path / f"named-{dtype}", dtype)
        assert made[dtype][0] == dtype
    assert made["bfloat16"][1] != made["float32"][1]


def test_a_run_is_not_resumed_in_another_type(tiny_base, tmp_path, monkeypatch):
    units(monkeypatch, avx512_bf16=True)
    run(tiny_base, tmp_path / "run", "auto")
    run(tiny_base, tmp_path / "run", "auto", resume=True)
    units(monkeypatch, avx512_bf16=False)
    with pytest.raises(AMFTError, match="dtype"):
        run(tiny_base, tmp_path / "run", "auto", resume=True)


@pytest.mark.parametrize(("device", "half"), [("h100", True), ("cpu", False)])
def test_a_plan_takes_auto_for_bfloat16_on_gpus_and_float32_on_cpus(device, half):
    load = load_of(AMFTConfig(dtype="auto").model_dump(), SMALL, find_device(device), 1, None)
    assert load.half is half


def test_a_study_goes_on_with_runs_whose_auto_is_settled(tmp_path):
    study = study_file(settings={"dtype": "auto"})
    made = plan_runs(study, tmp_path)[0]
    saved = made.load().model_dump() | {"seed": made.seed, "dtype": "float32"}
    made.path.mkdir(parents=True)
    (made.path / "config.json").write_text(json.dumps(saved))
    assert plan_runs(study, tmp_path)[0] == made
    with pytest.raises(AMFTError, match="dtype"):
        plan_runs(study_file(settings={"dtype": "bfloat16"}), tmp_path)
