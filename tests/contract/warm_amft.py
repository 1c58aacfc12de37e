"""An `amft` that is forked from one process which has imported everything: the commands of the pages start at once.

A command spends five CPU seconds on importing torch and transformers, and the pages have some forty. What a new process
does is tested in tests/e2e. `python warm_amft.py SOCKET` serves; `install` writes the `amft` that asks it.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

MOST = 1 << 20
"""Bytes of a request."""

CLIENT = """#!{python} -IS
import json, os, socket, sys
if any(name.startswith("HF_") for name in os.environ):  # read while importing, so too late for a fork
    os.execv({amft!r}, [{amft!r}, *sys.argv[1:]])
asked = socket.socket(socket.AF_UNIX)
asked.connect({address!r})
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(asked, [request], [0, 1, 2])
asked.shutdown(socket.SHUT_WR)
sys.exit(int(asked.recv(16) or 70))
"""


def install(folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the server and write `folder/amft`; the caller kills the server."""
    address = folder / "socket"
    server = subprocess.Popen([sys.executable, __file__, str(address)], env=environment, stdout=subprocess.PIPE)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    amft = str(Path(sys.executable).with_name("amft"))
    script = folder / "amft"
    script.write_text(CLIENT.format(python=sys.executable, amft=amft, address=str(address)), encoding="utf-8")
    script.chmod(0o755)
    return server


def serve(address: str) -> None:
    """Fork for each request until killed."""
    import transformers.models.llama.modeling_llama
    import transformers.models.qwen3.modeling_qwen3  # noqa: F401

    import amft.assembly.training
    import amft.cli  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        print("ready", flush=True)
        while True:
            asked, _ = door.accept()
            if os.fork() == 0:
                door.close()
                become(asked)
                break
            asked.close()


def become(asked: socket.socket) -> None:
    """Be the command that was asked for; its exit code is sent when all else has ended."""
    from amft.cli import main

    codes = [70]
    atexit.register(lambda: asked.sendall(str(codes[-1]).encode()))  # the first to be registered runs last
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, streams, *_ = socket.recv_fds(asked, MOST, 3)
    while more := asked.recv(MOST):
        request += more
    arguments, folder, environment = json.loads(request)
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["amft", *arguments]
    codes.append(main())


if __name__ == "__main__":
    serve(sys.argv[1])
