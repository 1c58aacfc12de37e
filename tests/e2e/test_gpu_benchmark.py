"""`benchmarks/gpu.py` where there is no GPU: the script itself, on a tiny model."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch):
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


def test_it_checks_measures_and_writes(script, monkeypatch, tmp_path, capsys):
    output = tmp_path / "gpu.json"
    options = ["--device", "cpu", "--size", "tiny", "--steps", "1", "--prompts", "1", "--output", str(output)]
    monkeypatch.setattr(script, "WARM", 0)
    monkeypatch.setattr(sys, "argv", ["gpu.py", *options])
    assert script.main() == 0
    found = json.loads(output.read_text(encoding="utf-8"))
    assert json.loads(capsys.readouterr().out) == found
    assert found["passed"]
    assert found["checks"]["logp_error"] < 1e-4
    assert found["checks"]["meta_gradient_error"] < 1e-5
    for arm in ("fixed", "amft"):
        speed = found["speed"][arm]
        assert speed["mfu"] is None  # no data sheet for this CPU
        phases = speed["seconds_generate"] + speed["seconds_reward"] + speed["seconds_backward"]
        assert 0 < phases <= speed["seconds_step"]


def test_a_check_that_fails_is_the_exit_code(script, monkeypatch):
    monkeypatch.setattr(script, "train", lambda options: {arm: [ROW] for arm in script.ARMS})
    monkeypatch.setattr(script, "logp_error", lambda *_: 1e-3)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--size", "tiny"])
    assert script.main() == 1


ROW = {
    "sft/loss": 1.0, "mix/mu": 0.5, "tokens/rollout": 40.0, "tokens/rollout_prompt": 60.0, "tokens/demo": 30.0,
    "tokens/demo_prompt": 20.0, "time/step": 4.0, "time/generate": 1.0, "time/reward": 0.5, "time/backward": 2.0,
}  # fmt: skip


def test_share_of_the_arithmetic(script):
    # N = 10: 6 * 10 * (60 + 20 + 40 + 30) = 9000 to train, 2 * 10 * (40 + 60) = 2000 to sample; peak 10^4 a second.
    found = script.speed([ROW, ROW], 10, 1e4)
    assert found["mfu"] == pytest.approx(11000 / 4 / 1e4)
    assert found["mfu_training"] == pytest.approx(9000 / 2 / 1e4)
    assert found["sampled_tokens_per_second"] == pytest.approx(40.0)
    assert found["trained_tokens_per_second"] == pytest.approx(75.0)
