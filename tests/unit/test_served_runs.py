"""Whole runs through a server with vLLM's endpoints: bytes once a step, kills that change no number, two ranks."""

import os
import signal
import threading

import pytest
from served_policies import serve_locally
from tiny_runs import build, tiny_model

SETTINGS = {"max_steps": 4, "engine": "vllm", "balance": {"rule": "amft", "meta_skip": 0}, "entropy_target": 1.0}
OPTIONS = {"timeout": 60.0, "start_timeout": 60.0, "restarts": 1}
BYTES = 4 * sum(p.numel() for p in tiny_model().parameters())
COUNTERS = ("sampling/engine_restarts", "sampling/bytes_pushed")


def run(folder, disturb=lambda sampler: None, **changes):
    """Metrics without counters, and the counters."""
    changes = {"engine_options": OPTIONS, **SETTINGS, **changes}
    trainer = build(folder, changes.pop("balance"), **changes)
    disturb(trainer.foundation.sampler)
    trainer.train()
    trainer.foundation.sampler.close()
    rows = trainer.log_history
    return rows, [[row.pop(name) for row in rows] for name in COUNTERS]


@pytest.fixture
def _local(monkeypatch):
    serve_locally(monkeypatch)


@pytest.mark.usefixtures("_local")
def test_a_kill_in_the_middle_of_a_run_changes_no_number(tmp_path):
    def kill_at_the_third(sampler):
        calls, answers = [], sampler._answers

        def killed(client, requests):
            calls.append(client)
            if len(calls) == 3:
                threading.Timer(0.0, os.kill, [sampler.server.process.pid, signal.SIGKILL]).start()
                sampler.server.process.wait()
            return answers(client, requests)

        sampler._answers = killed

    plain, (restarts, sent) = run(tmp_path / "plain")
    assert restarts == [0, 0, 0, 0]
    assert sent == [BYTES] * 4
    assert all(row["sampling/logp_difference_max"] < 1e-5 for row in plain)
    killed, (restarts, sent) = run(tmp_path / "killed", kill_at_the_third)
    assert restarts == [0, 0, 1, 1]
    assert sent[0] == sent[3] == BYTES
    assert killed == plain


@pytest.mark.usefixtures("_local")
def test_validation_sends_nothing_twice_and_bfloat16_sends_half(tmp_path):
    _, (_, sent) = run(tmp_path / "run", eval={"steps": 1, "test_splits": []}, dtype="bfloat16", max_steps=2)
    assert sent == [BYTES // 2] * 2
