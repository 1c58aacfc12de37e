"""Whole runs through vLLM: killed, stopped, with an adapter, on two ranks with one server. `make test-vllm`."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_vllm_engine import SAMPLING, policy, seeded, served, worst_difference

from amft.errors import ConfigError
from amft.rollout.vllm_server import COMMAND, serve_arguments, serve_environment
from amft.settings.config import AMFTConfig
from amft.tasks.registry import build_task
from amft.training.trainer import AMFTTrainer

SOURCE = str(Path(__file__).parents[2] / "src")
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


def trainer(folder, **changes):
    config = AMFTConfig(output_dir=str(folder), **{**SETTINGS, **changes})
    return AMFTTrainer("nano", config, task=build_task("general_points-v1"))


def metrics(folder):
    """Restarts, bytes, and the rest."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    counted = [[row.pop(name) for row in rows] for name in ("sampling/engine_restarts", "sampling/bytes_pushed")]
    return *counted, rows


def test_a_kill_and_a_stop_change_no_number(tmp_path):
    made = trainer(tmp_path / "plain")
    made.train()
    made.foundation.sampler.close()
    size = sum(4 * p.numel() for p in made.model.parameters())
    plain = metrics(tmp_path / "plain")
    assert plain[:2] == ([0] * 4, [size] * 4)
    assert max(row["sampling/logp_difference_max"] for row in plain[2]) < 1e-4

    made = trainer(tmp_path / "run", engine_options={"timeout": 600.0})
    sampler = made.foundation.sampler
    answers, plan, calls = sampler._answers, {2: signal.SIGKILL, 4: signal.SIGSTOP}, []

    def disturbed(client, requests):
        calls.append(client)
        if sign := plan.get(len(calls)):
            os.killpg(sampler.server.process.pid, sign)
            client.timeout = 10.0  # a stopped one is given up after this, however slow the machine is
        return answers(client, requests)

    sampler._answers = disturbed  # call 1 of step 1, 2 of step 2 is killed, 3 again; 4 of step 3 is stopped, 5 again
    made.train()
    sampler.close()
    restarts, _, rows = metrics(tmp_path / "run")
    assert restarts == [0, 1, 2, 2]
    assert rows == plain[2]


def test_the_server_ends_with_a_trainer_that_is_killed():
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from test_vllm_engine import policy, served
sampler = served(policy(True))
print(sampler.server.process.pid, flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    server = int(process.stdout.readline())
    assert len(group(server)) > 1  # with its engine
    process.kill()
    process.wait()
    until = time.monotonic() + 15
    while time.monotonic() < until:
        if not group(server):
            return
        time.sleep(0.2)
    pytest.fail("the server outlived its trainer by 15 s")


def group(leader):
    """Living processes of the leader's process group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, number = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(number) == leader and state != "Z":
            found.append(int(path.parent.name))
    return found


def test_an_adapter_is_sent_as_an_adapter(tmp_path):
    pytest.importorskip("peft")
    made = trainer(tmp_path / "run", lora={"r": 4, "alpha": 8.0}, learning_rate=1e-2)
    made.train()
    _, sent, rows = metrics(tmp_path / "run")
    assert sent == [sum(4 * p.numel() for p in made.model.parameters() if p.requires_grad)] * 4
    assert max(row["sampling/logp_difference_max"] for row in rows) < 1e-4
    found = made.foundation.sampler.generate([[5, 6, 7]], SAMPLING, seeded())
    assert worst_difference(made.model, found) < 1e-4
    made.foundation.sampler.close()


@contextmanager
def serving(folder, key, **options):
    """A server that somebody else started; its url."""
    asked = {"dtype": "float32", "max_batch": 64, "gpu_memory": None, "sleep": False, "lora_rank": None, "more": {}}
    port = 5000 + os.getpid() % 20000
    told = serve_arguments(folder, **{**asked, "backend": "file", **options})
    process = subprocess.Popen(
        [*COMMAND, *told, "--host", "127.0.0.1", "--port", str(port)],
        env=serve_environment(os.environ, None) | {"VLLM_API_KEY": key},
        start_new_session=True,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_one_server_for_two_ranks(tmp_path, monkeypatch):
    from amft.models.load import NANO

    monkeypatch.setenv("VLLM_API_KEY", "a word")
    with serving(NANO, "a word") as url:
        for layout in ("ddp", "fsdp2"):
            settings = SETTINGS | {
                "engine_options": {"where": url},
                "parallel": layout,
                "model": "nano",
                "max_steps": 2,
            }
            settings |= {"task": {"id": "general_points-v1"}, "output_dir": str(tmp_path / layout), "threads": 1}
            (tmp_path / "two.yaml").write_text(json.dumps(settings), encoding="utf-8")
            command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "amft"]
            done = subprocess.run(
                [sys.executable, *command, "train", str(tmp_path / "two.yaml")],
                capture_output=True, text=True, timeout=900, check=False, cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": SOURCE},
            )  # fmt: skip
            assert done.returncode == 0, done.stderr[-2000:]
            restarts, sent, rows = metrics(tmp_path / layout)
            assert restarts == [0, 0]
            assert sent[0] == sent[1] > 0
            assert max(row["sampling/logp_difference_max"] for row in rows) < 1e-4
        monkeypatch.setenv("VLLM_API_KEY", "a guess")
        begun = time.monotonic()
        with pytest.raises(ConfigError, match="wants another key than VLLM_API_KEY"):
            served(policy(True), where=url)
        assert time.monotonic() - begun < 10


@pytest.fixture
def smollm2():
    model = os.environ.get("AMFT_SMOLLM2") or str(Path(__file__).parents[2] / "smollm2")
    if not Path(model).is_dir():
        pytest.skip("no weights: `amft fetch smollm2` fetches them")
    return model


QUESTIONS = [
    {
        "prompt": [{"role": "user", "content": f"What is {a} plus {b}? Reply with the number only."}],
        "completion": [{"role": "assistant", "content": str(a + b)}],
        "answer": str(a + b),
    }
    for a in range(11, 15)
    for b in (23, 45)
]


def right(completions, answer, **_):
    return [float(a in c[0]["content"]) for a, c in zip(answer, completions)]


def test_amft_eval_of_a_real_model_gives_the_answers_of_decode(tmp_path, smollm2):
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, QUESTIONS)), encoding="utf-8")
    answers = {}
    for engine in ("vllm", "decode"):
        command = ["-m", "amft", "eval", smollm2, "--data", "rows.jsonl", "--reward", f"{__file__}:right"]
        command += ["--max-tokens", "12", "--engine", engine, "--dtype", "float32", "--output", f"{engine}.jsonl"]
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, timeout=900, check=False, cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([SOURCE, str(Path(__file__).parent)])},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        answers[engine] = (tmp_path / f"{engine}.jsonl").read_text(encoding="utf-8")
    assert len(answers["vllm"].splitlines()) == len(QUESTIONS)
    assert answers["vllm"] == answers["decode"]


def test_a_real_model_is_sent_once_a_step_and_sampled_with_its_weights(tmp_path, smollm2):
    few = {"max_steps": 2, "num_prompts": 1, "num_demos": 1, "max_completion_length": 8, "micro_batch_size": 2}
    config = AMFTConfig(output_dir=str(tmp_path / "run"), **{**SETTINGS, **few})
    made = AMFTTrainer(smollm2, config, train_dataset=QUESTIONS, val_dataset=QUESTIONS[:1], reward_funcs=right)
    made.train()
    made.foundation.sampler.close()
    _, sent, rows = metrics(tmp_path / "run")
    assert sent == [sum(4 * p.numel() for p in made.model.parameters())] * 2
    assert max(row["sampling/logp_difference_max"] for row in rows) < 1e-3
