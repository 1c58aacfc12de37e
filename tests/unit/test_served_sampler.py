"""The engine `vllm` against a local server with its endpoints over a real small model: pushes, restarts, refusals."""

import asyncio
import os
import signal
import socket
import sys
import threading
import time

import pytest
import torch
from served_policies import (
    MODEL_BYTES,
    PROMPTS,
    SAMPLING,
    learn,
    policy,
    running,
    sampler,
    seeded,
    serve_locally,
    worst_difference,
)

from amft.errors import ConfigError, EngineError, ModelError
from amft.models.lora import add_lora
from amft.rollout.decode import DecodeSampler
from amft.rollout.server_key import RequireKey
from amft.rollout.vllm_client import LostServerError, VllmClient
from amft.rollout.vllm_server import RunningServer, serve_arguments, serve_environment
from amft.types import Sampling


@pytest.fixture(scope="module")
def engine():
    with pytest.MonkeyPatch.context() as patch:
        serve_locally(patch)
        made = sampler(policy())
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _first_weights(engine):
    learn(engine.policy.model, 0)


def test_log_probs_are_those_of_the_present_weights(engine):
    for seed in (0, 1, 2):
        learn(engine.policy.model, seed)
        assert worst_difference(engine.policy.model, engine.generate(PROMPTS, SAMPLING, seeded())) < 1e-4


def test_without_a_push_the_check_fails(engine):
    engine.generate(PROMPTS, SAMPLING, seeded())
    learn(engine.policy.model, 1)
    engine.policy.pushed = engine.policy.source.state  # as if they had been sent
    assert worst_difference(engine.policy.model, engine.generate(PROMPTS, SAMPLING, seeded())) > 0.1


def test_weights_are_sent_once_for_each_change(engine):
    engine.generate(PROMPTS, SAMPLING, seeded())
    engine.figures()
    for seed in (1, 2):
        learn(engine.policy.model, seed)
        for _ in range(3):
            engine.generate(PROMPTS, SAMPLING, seeded())
        assert engine.figures()["sampling/bytes_pushed"] == MODEL_BYTES
    engine.generate(PROMPTS, SAMPLING, seeded())
    assert engine.figures() == {"sampling/engine_restarts": 0, "sampling/bytes_pushed": 0, "sampling/ahead": 0}
    told = (engine.place.folder / "pushes").read_text().split()
    assert len(set(told)) == len(told) == engine.policy.pushes


def test_greedy_is_that_of_decode(engine):
    sampling = Sampling(max_new_tokens=12, temperature=0.0)
    decode = DecodeSampler(engine.policy.model, pad_id=0, eos_ids=[3])
    ours, theirs = (e.generate(PROMPTS, sampling, seeded()) for e in (decode, engine))
    assert ours == theirs


def test_draws_come_from_the_generator_alone(engine):
    before = torch.random.get_rng_state()
    first, again, other = (engine.generate(PROMPTS, SAMPLING, seeded(s)) for s in (1, 1, 2))
    assert first == again != other
    assert len({t.completion_ids for t in first[:4]}) > 1
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_no_engine_samples_is_refused(engine):
    assert engine.generate([], SAMPLING, seeded()) == []
    with pytest.raises(
        ConfigError, match="^max_new_tokens: prompt and completion may take 700 tokens, the model has 512"
    ):
        engine.generate([[1] * 300], Sampling(max_new_tokens=400), seeded())
    with pytest.raises(ModelError, match="no pictures"):
        engine.generate(PROMPTS, SAMPLING, seeded(), torch.zeros(3, 3, 2, 2))


def test_a_killed_and_a_stopped_server_are_started_again(monkeypatch):
    serve_locally(monkeypatch)
    made = sampler(timeout=5.0)
    try:
        expected = made.generate(PROMPTS, SAMPLING, seeded())
        for number, sign in enumerate((signal.SIGKILL, signal.SIGSTOP), 1):
            os.kill(made.server.process.pid, sign)
            begun = time.monotonic()
            assert made.generate(PROMPTS, SAMPLING, seeded()) == expected
            assert made.figures()["sampling/engine_restarts"] == number
            assert time.monotonic() - begun < 2 * 5 + 60
    finally:
        made.close()
    with pytest.raises(ProcessLookupError):
        os.kill(made.server.process.pid, 0)


def test_a_server_that_does_not_start_is_one_clear_line(monkeypatch, tmp_path):
    serve_locally(monkeypatch)
    script = tmp_path / "speaks.py"
    script.write_text("import sys; open(__file__ + '.log', 'a').write('x'); sys.exit('no room on the device')")
    monkeypatch.setattr("served_policies.LOCAL", [sys.executable, str(script)])
    serve_locally(monkeypatch)
    words = r"failed 3 times in a row.*exit code 1; its last words: no room on the device; see.*decode or hf"
    with pytest.raises(EngineError, match=words) as caught:
        sampler()
    assert "\n" not in str(caught.value)
    assert (tmp_path / "speaks.py.log").read_text() == "xxx"


def test_an_adapter_is_sent_as_an_adapter(monkeypatch):
    pytest.importorskip("peft")
    serve_locally(monkeypatch)
    model = policy()
    add_lora(model, r=2, alpha=4.0, target_modules="all-linear", seed=0, base="none")
    made = sampler(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    try:
        for _ in range(2):
            with torch.no_grad():
                for p in trained:
                    p.add_(0.05 * torch.randn(p.shape, generator=seeded()))
            assert worst_difference(model, made.generate(PROMPTS, SAMPLING, seeded())) < 1e-4
            sent = made.figures()["sampling/bytes_pushed"]
            assert sent == 4 * sum(p.numel() for p in trained) < MODEL_BYTES
    finally:
        made.close()


def test_a_running_server_is_shared_by_who_knows_the_key(monkeypatch, tmp_path):
    policy().config.save_pretrained(tmp_path)
    with running(tmp_path) as (url, process):
        monkeypatch.setenv("VLLM_API_KEY", "a word")
        first, second = sampler(policy(0), where=url, restarts=0), sampler(policy(1), where=url, restarts=1)
        assert worst_difference(first.policy.model, first.generate(PROMPTS, SAMPLING, seeded())) < 1e-4
        assert worst_difference(second.policy.model, second.generate(PROMPTS, SAMPLING, seeded())) < 1e-4
        with pytest.raises(EngineError, match="it sampled from weights"):  # the other one pushed meanwhile
            first.generate(PROMPTS, SAMPLING, seeded())
        monkeypatch.setenv("VLLM_API_KEY", "a guess")
        begun = time.monotonic()
        with pytest.raises(ConfigError, match="wants another key than VLLM_API_KEY"):
            sampler(where=url)
        assert time.monotonic() - begun < 5
        assert process.poll() is None


def test_no_server_is_an_error_in_time():
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(EngineError, match=r"failed 2 times in a row, the last time as not up in 0.5 s .*lost"):
        sampler(where=f"http://127.0.0.1:{port}", timeout=1.0, start_timeout=0.5, restarts=1)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    "where", ["worker", "http://host", "ftp://host:80", "http://host:port", "http://h:0/x", "h:80"]
)
def test_a_place_that_is_none_is_said(where):
    with pytest.raises(ConfigError, match=r"^engine_options\.where"):
        RunningServer(where)


GENERATED = (
    b'{"choices": [{"index": 0, "finish_reason": "stop", "token_ids": [1], "weight_versions": %s, "logprobs": %s}]}'
)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"", "lost"),
        (b"\xff\xfe nonsense\r\n\r\n", "lost"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "lost"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000, "would not"),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", "would not"),
        (b"HTTP/1.1 200 OK\r\n\r\n7", "would not"),
        (b'HTTP/1.1 200 OK\r\n\r\n{"choices": []}', "0 completions of 1"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + GENERATED % (b"null", b"null"), "sampled from weights"),
        (
            b"HTTP/1.1 200 OK\r\n\r\n" + GENERATED % (b'[{"version": "0"}]', b'{"content": [{"token_id": 2}]}'),
            "other tokens",
        ),
        (b"HTTP/1.1 500 Oh\r\n\r\n\xff", "error inside the server"),
        (b"HTTP/1.1 503 Oh\r\n\r\n{}", "error inside the server"),
    ],
)
def test_nonsense_is_a_lost_server_in_one_line(said, words):
    with socket.create_server(("127.0.0.1", 0)) as door:

        def answer():
            sock, _ = door.accept()
            with sock:
                asked = b""
                while not asked.endswith(b'"policy"}'):
                    asked += sock.recv(65536)
                sock.sendall(said)

        threading.Thread(target=answer).start()
        client = VllmClient(f"http://127.0.0.1:{door.getsockname()[1]}", "", timeout=5)
        with pytest.raises(LostServerError, match=words) as caught:
            client.complete([{"token_ids": [1], "sampling_params": {"n": 1}}])
    assert "\n" not in str(caught.value)


def test_every_endpoint_wants_the_key(monkeypatch):
    async def app(scope, receive, send):
        await send("the app")

    async def ask(path, given, kind="http"):
        said = []

        async def send(message):
            said.append(message)

        headers = [] if given is None else [(b"authorization", given)]
        await RequireKey(app)({"type": kind, "path": path, "headers": headers}, None, send)
        return said[0]

    monkeypatch.setenv("VLLM_API_KEY", "a word")
    for path in ("/v1/models", "/update_weights", "/health"):
        assert asyncio.run(ask(path, b"Bearer a word")) == "the app"
        for given in (None, b"", b"a word", b"Bearer a", b"Bearer a word2", b"\xff"):
            assert asyncio.run(ask(path, given))["status"] == 401
    assert asyncio.run(ask("/", None, "websocket"))["type"] == "websocket.close"
    assert asyncio.run(ask("/", None, "lifespan")) == "the app"
    monkeypatch.delenv("VLLM_API_KEY")
    with pytest.raises(ValueError, match="VLLM_API_KEY"):
        RequireKey(app)


def test_what_the_server_is_told(tmp_path):
    same = {"dtype": "bfloat16", "max_batch": 8, "sleep": False}
    told = serve_arguments(
        tmp_path, **same, backend="nccl", lora_rank=None, gpu_memory=0.5,
        more={"max_model_len": 99, "enable_prefix_caching": False, "hf_overrides": {"a": 1}},
    )  # fmt: skip
    text = " ".join(told)
    assert told[0] == str(tmp_path)
    for part in (
        "--dtype bfloat16", "--load-format dummy", '--weight-transfer-config {"backend": "nccl"}', "--max-model-len 99",
        "--no-enable-prefix-caching", '--hf-overrides {"a": 1}', "--gpu-memory-utilization 0.5", "--tokens-only",
    ):  # fmt: skip
        assert part in text
    assert "--worker-extension-cls" not in text
    adapted = " ".join(serve_arguments(tmp_path, **same, backend=None, lora_rank=9, gpu_memory=None, more={}))
    assert "--enable-lora --max-lora-rank 16" in adapted
    assert "dummy" not in adapted


def test_the_servers_surroundings():
    own = {"WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x", "PYTHONPATH": "mine", "VLLM_LOGGING_LEVEL": "INFO"}
    on_gpu, on_cpu = serve_environment(own, "4"), serve_environment(own, None)
    assert not {"WORLD_SIZE", "TORCHELASTIC_RUN_ID"} & on_gpu.keys()
    assert on_gpu["CUDA_VISIBLE_DEVICES"] == "4"
    assert on_gpu["PYTHONPATH"].endswith(f"src{os.pathsep}mine")
    assert on_gpu["VLLM_LOGGING_LEVEL"] == "INFO"
    assert "CUDA_VISIBLE_DEVICES" not in on_cpu
    assert "VLLM_ALLOW_INSECURE_SERIALIZATION" not in on_cpu
