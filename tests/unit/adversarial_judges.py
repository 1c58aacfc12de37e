"""Judges that do what a grader must never do; run in grading processes by test_grading_pool.py."""

import os
import socket
import subprocess
import time
from pathlib import Path


def double(x: int) -> int:
    return 2 * x


def sleep(_: int = 0) -> None:
    time.sleep(600)


def spin(_: int = 0) -> int:
    return 9**9**9  # one C call that no Python signal handler interrupts


def eat(_: int = 0) -> int:
    return len(bytearray(10 << 30))


def eat_slowly_and_hide_it(_: int = 0) -> str:
    kept = []
    try:
        while True:
            kept.append(bytearray(b"x") * (16 << 20))
    except Exception:
        return "wrong"


def die(_: int = 0) -> None:
    os.abort()


def leave(_: int = 0) -> None:
    raise SystemExit(3)


def complain(_: int = 0) -> None:
    raise ValueError("a message\nof two lines")


def attempt(what: str, where: str) -> object:
    """Something forbidden; the exception, if any, ends the judge."""
    path = Path(where)
    return {
        "fork": lambda: os.fork(),
        "system": lambda: os.system(f"touch {path}"),
        "spawn": lambda: subprocess.run(["touch", str(path)], check=True),
        "write": lambda: path.write_text("x"),
        "raw write": lambda: os.open(path, os.O_WRONLY | os.O_CREAT),
        "remove": lambda: path.parent.joinpath("victim").unlink(),
        "connect": lambda: socket.create_connection(("127.0.0.1", 9), 1),
        "kill": lambda: os.kill(os.getppid(), 9),
        "read": lambda: path.parent.joinpath("victim").read_text(),
    }[what]()


def main_file() -> str:
    """The script that this process believes to be its main one."""
    import __main__

    return str(getattr(__main__, "__file__", ""))


def pid() -> int:
    return os.getpid()


def double_or_die(x: int, dies: bool) -> int:
    if dies:
        os.abort()
    return 2 * x


def either(kind: str, answer: str) -> float:
    """The length of an answer, or something that a judge must never do."""
    if kind == "length":
        return len(answer) / 100
    if kind == "fork":
        os.fork()
    {"sleep": sleep, "spin": spin, "eat": eat, "die": die}[kind]()
    return 0.0
