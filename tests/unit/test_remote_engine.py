"""An engine in another process, dead, stuck and refusing; the engine itself is a fake."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from fake_engine_worker import FakeEngine

from amft.errors import ConfigError, EngineError, ModelError
from amft.rollout.protocol import Connection
from amft.rollout.remote import KEY, RemoteEngine
from amft.rollout.vllm_worker import Service, listen
from amft.rollout.watchdog import time_limit
from amft.rollout.worker_process import Server, Worker, endpoint_of

FAKE = str(Path(__file__).with_name("fake_engine_worker.py"))
REQUEST = {"seeds": [10, 20], "max_tokens": 3}
# 0.5 * 4 + 2 = 4, so rows begin at 14 and 24.
WEIGHTS = [("a", torch.full((2, 2), 0.5)), ("b", torch.tensor(2.0, dtype=torch.bfloat16))]
EXPECTED = [([14, 15, 16], False, [-0.1] * 3), ([24, 25, 26], False, [-0.1] * 3)]


def starts(folder):
    return [int(path.read_text()) for path in sorted(folder.glob("*.pid"))]


def test_killed_and_stopped_workers_are_started_again(tmp_path):
    start = {"config": {"folder": str(tmp_path)}}
    remote = RemoteEngine(Worker(torch.device("cpu"), [FAKE]), start, timeout=2.0, start_timeout=60.0, patience=2)
    try:
        assert remote.longest == 50
        assert remote.sample(lambda: WEIGHTS, REQUEST) == EXPECTED
        for number, sign in enumerate((signal.SIGKILL, signal.SIGSTOP), 1):
            os.kill(starts(tmp_path)[-1], sign)
            assert remote.sample(lambda: WEIGHTS, REQUEST) == EXPECTED  # with the same weights, pushed again
            assert (remote.restarts, len(starts(tmp_path))) == (number, number + 1)
        with pytest.raises(ModelError, match="cannot be pushed"):
            remote.sample(lambda: [("bad", torch.zeros(3)), *WEIGHTS], REQUEST)
        assert remote.sample(lambda: WEIGHTS, REQUEST) == EXPECTED  # a refusal is no failure of the engine
        assert remote.restarts == 2
    finally:
        remote.close()
    for pid in starts(tmp_path):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_after_so_many_starts_in_a_row_it_is_one_clear_error(tmp_path):
    script = tmp_path / "speaks.py"
    script.write_text(
        "import os, pathlib, sys\n"
        "pathlib.Path(__file__).with_name(f'{os.getpid()}.pid').write_text(str(os.getpid()))\n"
        "sys.exit('no room on the device')"
    )
    words = r"failed 3 times in a row.*connection is lost.*its last words: no room on the device;.*decode or hf"
    with pytest.raises(EngineError, match=words) as caught:
        RemoteEngine(Worker(torch.device("cpu"), [str(script)]), {}, timeout=60, start_timeout=60, patience=2)
    assert "\n" not in str(caught.value)
    assert len(starts(tmp_path)) == 3


class Served:
    """A place whose engine is in a thread of this process."""

    def __init__(self, service):
        self.service, self.reached, self.threads = service, 0, []

    def reach(self, seconds):
        self.reached += 1
        ours, theirs = socket.socketpair()
        self.threads.append(threading.Thread(target=self.service.serve, args=[theirs]))
        self.threads[-1].start()
        return Connection(ours)

    def last_words(self):
        return ""

    def close(self):
        for thread in self.threads:
            thread.join(10)


def test_a_refusal_is_not_tried_again(tmp_path):
    place = Served(Service(FakeEngine, ""))
    start = {"config": {"folder": str(tmp_path), "refuses": True}}
    with pytest.raises(ModelError, match="it is a fake"):
        RemoteEngine(place, start, timeout=5, start_timeout=5, patience=3)
    assert place.reached == 1
    assert not place.threads[0].is_alive()


@pytest.fixture
def server(tmp_path):
    """A running server, its port, and the key in this process too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY, "a word")
        process = subprocess.Popen([sys.executable, FAKE, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        yield int(process.stdout.readline().rpartition(":")[2]), process, patch
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_server_is_shared_by_who_knows_the_key_and_outlives_them(server, tmp_path):
    port, process, patch = server
    start = {"config": {"folder": str(tmp_path)}}

    def join(start=start):
        return RemoteEngine(
            endpoint_of(f"127.0.0.1:{port}", torch.device("cpu")), start, timeout=9, start_timeout=9, patience=0
        )

    for _ in range(2):
        remote = join()
        assert remote.sample(lambda: WEIGHTS, REQUEST) == EXPECTED
        remote.close()
    assert len(starts(tmp_path)) == 1
    with pytest.raises(ModelError, match="holds another model"):
        join({"config": {"folder": str(tmp_path), "other": 1}})
    patch.setenv(KEY, "a guess")
    with pytest.raises(ConfigError, match=KEY):
        join()
    assert process.poll() is None


def frame(text):
    return struct.pack(">Q", len(text)) + text


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 8,
        frame(b'{"key":"\\ud800"}'),
        frame(b"[" * 500_000),
        frame(b"{" * 20),
        frame(b"7"),
        frame(b"\xff\xfe"),
        frame(b'{"key": 5}'),
        frame(b'{"key": "a word"}'),
        frame(b'{"key": "a word", "start": 5}'),
        frame(b'{"key": "a word", "start": {"nonsense": 1}}'),
        frame(b'{"key": "a word", "start": {"config": 7}}'),
    ],
)
def test_a_server_outlives_strangers_and_nonsense(said, server, tmp_path):
    port, process, _ = server
    with socket.create_connection(("127.0.0.1", port), timeout=9) as stranger:
        stranger.sendall(said)
        with contextlib.suppress(OSError):  # the server may have hung up
            stranger.shutdown(socket.SHUT_WR)
            while stranger.recv(4096):
                pass
    start = {"config": {"folder": str(tmp_path)}}
    where = endpoint_of(f"127.0.0.1:{port}", torch.device("cpu"))
    remote = RemoteEngine(where, start, timeout=9, start_timeout=9, patience=0)
    assert remote.sample(lambda: WEIGHTS, REQUEST) == EXPECTED
    remote.close()
    assert process.poll() is None


def test_a_server_without_a_key_does_not_start():
    with pytest.raises(ConfigError, match=KEY):
        listen(Service(FakeEngine, ""), "127.0.0.1", 0)


def test_no_server_is_an_error_in_time():
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    begun = time.monotonic()
    with pytest.raises(EngineError, match="connection is lost"):
        RemoteEngine(Server("127.0.0.1", port), {}, timeout=1, start_timeout=0.5, patience=1)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("where", ["nowhere", "host:", ":80", "host:port", "host:0", "host:70000"])
def test_a_place_that_is_none_is_said(where):
    with pytest.raises(ConfigError, match=r"^engine_options\.where"):
        endpoint_of(where, torch.device("cpu"))


def pair():
    return [Connection(sock) for sock in socket.socketpair()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_tensors_arrive_as_they_were_sent(dtype):
    ours, theirs = pair()
    sent = [("x", torch.arange(6).reshape(2, 3).t().to(dtype)), ("none", torch.zeros(0, 4, dtype=dtype))]
    thread = threading.Thread(target=ours.send_tensors, args=[sent])
    thread.start()
    found = list(theirs.receive_tensors())
    thread.join()
    assert [name for name, _ in found] == ["x", "none"]
    for (_, before), (_, after) in zip(sent, found, strict=True):
        assert after.dtype == dtype
        assert torch.equal(before, after)
        assert before.untyped_storage().resizable()  # as FSDP2 needs it
    ours.close()
    theirs.close()


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\0\0\0\0\2hi", b"\0\0\0\0\0\0\0\2[]"])
def test_another_protocol_is_refused(said):
    ours, theirs = pair()
    ours.sock.sendall(said)
    with pytest.raises(ConnectionError, match="protocol"):
        theirs.receive()
    ours.close()
    theirs.close()


def test_a_silent_end_is_given_up_and_a_full_one_too():
    ours, theirs = pair()
    begun = time.monotonic()
    ours.within(0.1)
    with pytest.raises(TimeoutError):
        ours.receive()
    ours.within(0.3)
    with pytest.raises(TimeoutError):  # nobody reads, so the buffers fill
        ours.send_tensors([("big", torch.zeros(2**22))])
    assert time.monotonic() - begun < 15
    theirs.close()
    ours.within(1.0)
    with pytest.raises(ConnectionError):
        ours.receive()
    ours.close()


def test_the_workers_surroundings(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    found = Worker(torch.device("cuda", 1)).environment
    assert not {"WORLD_SIZE", "TORCHELASTIC_RUN_ID"} & found.keys()
    assert found["CUDA_VISIBLE_DEVICES"] == "6"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert Worker(torch.device("cuda", 1)).environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in Worker(torch.device("cpu")).environment


def test_a_call_stuck_in_this_process_ends_it():
    code = "import time\nfrom amft.rollout.watchdog import time_limit\nwith time_limit(0.2, 'stuck'): time.sleep(60)"
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.returncode == 2
    assert done.stderr.strip() == "amft: stuck; the run stops here, continue with --resume"
    assert time.monotonic() - begun < 30
    with time_limit(0.01, "not stuck"):
        pass
    time.sleep(0.05)  # and this process is still here
