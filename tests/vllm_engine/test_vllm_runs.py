"""Whole runs through vLLM in a worker process: killed, stopped, with an adapter, on two ranks. `make test-vllm`."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from test_vllm_engine import PROMPTS, SAMPLING, learn, policy, seeded, worst_difference

from amft.errors import EngineError
from amft.rollout.remote import KEY
from amft.rollout.vllm import VllmSampler
from amft.settings.config import AMFTConfig
from amft.tasks.registry import build_task
from amft.training.trainer import AMFTTrainer

SETTINGS = {
    "max_steps": 4,
    "num_prompts": 2,
    "num_generations": 2,
    "num_demos": 4,
    "max_completion_length": 64,
    "learning_rate": 1e-4,
    "eval": {"steps": 0, "test_splits": []},
    "checkpoint": {"steps": 0},
    "sample_steps": 0,
    "entropy_target": 1.0,
    "balance": {"rule": "amft", "meta_skip": 0},
    "engine": "vllm",
}
WORKER = {"where": "worker", "timeout": 600.0, "start_timeout": 600.0, "restarts": 1}


def trainer(folder, **changes):
    config = AMFTConfig(output_dir=str(folder), **{**SETTINGS, "engine_options": WORKER, **changes})
    return AMFTTrainer("nano", config, task=build_task("general_points-v1"))


def home_of(made):
    return made.foundation.sampler.sampler.home


def metrics(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row.pop("sampling/engine_restarts") for row in rows], rows


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    made = trainer(folder)
    made.train()
    home_of(made).close()
    return metrics(folder)


def disturb(monkeypatch, engine, plan):
    """Send the signals of `plan` (call -> signal) once weights and request are in the worker's hands."""
    answer, calls = engine._answer, []

    def disturbed(connection):
        calls.append(time.monotonic())
        if len(calls) in plan:
            os.kill(engine.endpoint.process.pid, plan[len(calls)])
            connection.within(5)  # a stopped one is given up after this, however slow the machine is
        return answer(connection)

    monkeypatch.setattr(engine, "_answer", disturbed)


def test_a_worker_killed_and_another_stopped_change_no_number(monkeypatch, tmp_path, undisturbed):
    made = trainer(tmp_path / "run")
    # Calls: 1 of step 1, 2 of step 2 is killed, 3 a start, 4 and 5 of steps 2 and 3, where it is stopped.
    disturb(monkeypatch, home_of(made), {2: signal.SIGKILL, 5: signal.SIGSTOP})
    made.train()
    restarts, rows = metrics(tmp_path / "run")
    assert restarts == [0, 1, 2, 2]
    assert undisturbed[0] == [0, 0, 0, 0]
    assert rows == undisturbed[1]
    home_of(made).close()


def test_a_worker_that_dies_again_and_again_ends_the_run_with_one_line(monkeypatch, tmp_path):
    made = trainer(tmp_path / "run")
    monkeypatch.setattr(home_of(made), "patience", 0)
    disturb(monkeypatch, home_of(made), {1: signal.SIGKILL})
    with pytest.raises(EngineError, match="failed 1 times in a row"):
        made.train()


def test_the_worker_ends_with_a_trainer_that_is_killed():
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from test_vllm_engine import policy
from amft.rollout.vllm import VllmSampler
sampler = VllmSampler(policy(True), 0, [3], where="worker")
print(sampler.engine.endpoint.process.pid, flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    os.kill(worker, 0)
    process.kill()
    process.wait()
    until = time.monotonic() + 10
    while time.monotonic() < until:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.2)
    pytest.fail("the worker outlived its trainer by 10 s")


def test_an_adapter_is_sampled_with_its_weights(tmp_path):
    pytest.importorskip("peft")
    made = trainer(tmp_path / "run", lora={"r": 4, "alpha": 8.0}, learning_rate=1e-2)
    made.train()
    rows = metrics(tmp_path / "run")[1]
    assert max(row["sampling/logp_difference_max"] for row in rows) < 1e-4
    prompts = [[5, 6, 7]]
    found = made.foundation.sampler.sampler.home.sample(
        made.foundation.sampler.sampler.weights,
        {"rows": prompts, "seeds": [1], "max_tokens": 8, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "stop": [],
         "logps": True},
    )  # fmt: skip
    assert isinstance(made.foundation.sampler.sampler, VllmSampler)
    ids = torch.tensor([[*prompts[0], *found[0][0]]])
    with torch.no_grad():
        forward = made.model(ids).logits[0, 2:-1].log_softmax(-1).gather(1, ids[0, 3:, None]).squeeze(1)
    assert float((forward - torch.tensor(found[0][2])).abs().max()) < 1e-4
    home_of(made).close()


@pytest.mark.parametrize("layout", ["ddp", "fsdp2"])
def test_two_ranks_have_a_worker_each(tmp_path, layout):
    settings = {**SETTINGS, "max_steps": 2, "engine_options": WORKER, "parallel": layout, "model": "nano"}
    settings |= {"task": {"id": "general_points-v1"}, "output_dir": str(tmp_path / "run"), "threads": 1}
    (tmp_path / "two.yaml").write_text(json.dumps(settings), encoding="utf-8")
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "amft"]
    done = subprocess.run(
        [sys.executable, *command, "train", str(tmp_path / "two.yaml")],
        capture_output=True, text=True, timeout=900, check=False, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    restarts, rows = metrics(tmp_path / "run")
    assert restarts == [0, 0]
    assert max(row["sampling/logp_difference_max"] for row in rows) < 1e-4


def serve(port):
    """A server of vLLM on this machine, and its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "amft.rollout.vllm_worker", "--listen", f"127.0.0.1:{port}"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline().rpartition(":")[2])


def test_a_server_that_comes_back_gives_the_same_tokens(monkeypatch):
    monkeypatch.setenv(KEY, "a word")
    process, port = serve(0)
    try:
        where = f"127.0.0.1:{port}"
        first = VllmSampler(policy(True), 0, [3], where=where, timeout=600, start_timeout=600, restarts=1)
        found = first.generate(PROMPTS, SAMPLING, seeded())
        assert worst_difference(first.model, found) < 1e-4
        first.engine.close()
        second = VllmSampler(policy(True, seed=1), 0, [3], where=where, timeout=600, start_timeout=600, restarts=1)
        assert worst_difference(second.model, second.generate(PROMPTS, SAMPLING, seeded())) < 1e-4
        process.kill()
        process.wait()
        learn(second, 0)
        process, _ = serve(port)
        assert second.generate(PROMPTS, SAMPLING, seeded()) == found
        assert second.restarts == 1
        second.engine.close()
    finally:
        process.kill()
        process.wait()
