"""Users' code raises, exits, hangs and moves away: each ends in one line that names it, in time."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import build

from amft.data.isolated_reward import IsolatedReward
from amft.data.rewards import FunctionReward
from amft.errors import AMFTError, ConfigError, CutShortError, RewardError
from amft.guests import HOST, guest, is_guest
from amft.training.guard import StopSignals


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("amft.guests.GRACE", 0.3)
    monkeypatch.setattr("amft.guests._AGAIN", 0.1)
    kept = vars(HOST).copy()
    yield
    vars(HOST).update(kept)


def reward(function: Callable[..., Any]) -> list[float]:
    return FunctionReward([function]).score([{"prompt": "a"}], ["b"], [[1]]).rewards


def leave(**_: Any) -> None:
    sys.exit(0)


async def leave_async(**_: Any) -> None:
    sys.exit(0)


async def cancel(**_: Any) -> None:
    raise asyncio.CancelledError


def leave_hard(**_: Any) -> None:
    os._exit(0)


def unprintable(**_: Any) -> None:
    class Error(Exception):
        def __str__(self) -> str:
            raise ValueError

    raise Error


def deep(**_: Any) -> None:
    def deeper() -> None:  # CPython 3.13.0 sets no limit to functions that take any keyword
        deeper()

    deeper()


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (leave, r"'leave' raised SystemExit: 0 at test_guest_calls\.py:\d+"),
        (leave_async, r"'leave_async' raised SystemExit: 0"),
        (leave_hard, r"'leave_hard' raised SystemExit: 0"),
        (cancel, r"'cancel' raised CancelledError"),
        (unprintable, r"'unprintable' raised Error: no message"),
        (deep, r"'deep' raised RecursionError"),
    ],
)
def test_whatever_it_raises_is_one_line_that_names_it(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(RewardError, match=said) as caught:
        reward(function)
    assert "\n" not in str(caught.value)
    assert reward(lambda **_: [1.0]) == [1.0]  # the event loop lives on


def sleep(**_: Any) -> list[float]:
    time.sleep(60)
    return [0.0]


def stubborn(**_: Any) -> list[float]:
    for _ in range(100):
        try:
            time.sleep(60)
        except Exception:
            continue
        except BaseException:
            time.sleep(60)
    return [0.0]


def spin(**_: Any) -> list[float]:
    while True:
        pass


def explode(**_: Any) -> list[float]:
    import re

    return [float(re.match(r"(a+)+$", "a" * 40 + "b") is None)]


def wait(**_: Any) -> list[float]:
    threading.Event().wait(60)
    return [0.0]


async def sleep_async(**_: Any) -> list[float]:
    await asyncio.sleep(60)
    return [0.0]


async def block_async(**_: Any) -> list[float]:
    spin_until = time.monotonic() + 3
    while time.monotonic() < spin_until:
        pass
    return [0.0]


@pytest.mark.parametrize("function", [sleep, stubborn, spin, explode, wait, sleep_async, block_async])
def test_a_call_ends_after_its_time(function: Callable[..., Any]) -> None:
    HOST.call_seconds, begun = 0.3, time.monotonic()
    with pytest.raises(RewardError, match=rf"'{function.__name__}' did not return within 0\.3 s \(reward_timeout\)"):
        reward(function)
    assert time.monotonic() - begun < 2
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_a_call_may_end_in_its_time_and_the_alarm_is_off() -> None:
    HOST.call_seconds = 5
    handler = signal.getsignal(signal.SIGALRM)
    assert reward(lambda **_: [1.0]) == [1.0]
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert signal.getsignal(signal.SIGALRM) is handler


def test_somebody_elses_alarm_stays_theirs() -> None:
    signal.setitimer(signal.ITIMER_REAL, 100)
    try:
        assert reward(lambda **_: [1.0]) == [1.0]
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 99
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_stop_signal_cuts_a_guest_after_its_grace(name: str) -> None:
    number = getattr(signal, name)
    with StopSignals() as stop:
        threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
        begun = time.monotonic()
        with pytest.raises(CutShortError, match=f"{name} came while reward function 'sleep' was still") as caught:
            reward(sleep)
        assert stop.received == caught.value.signal == name
    assert 0.4 < time.monotonic() - begun < 3


def test_a_guest_that_is_usually_slow_has_a_longer_grace() -> None:
    def slow(**_: Any) -> list[float]:
        time.sleep(0.6)
        return [1.0]

    with StopSignals() as stop:
        assert reward(slow) == [1.0]
        os.kill(os.getpid(), signal.SIGTERM)
        assert reward(slow) == [1.0]  # twice as long as the first, though the grace alone is 0.3 s
        assert stop.received == "SIGTERM"


def test_the_time_of_a_run_cuts_a_guest() -> None:
    with StopSignals() as stop, stop.within(0.2), pytest.raises(CutShortError, match="max_seconds is over") as caught:
        reward(sleep)
    assert caught.value.signal is None
    assert HOST.ends is None


def test_what_a_guest_carries_off_is_put_back(tmp_path: Path) -> None:
    def thief(**_: Any) -> list[float]:
        os.chdir(tmp_path)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return [1.0]

    here, handler = os.getcwd(), signal.getsignal(signal.SIGTERM)
    assert reward(thief) == [1.0]
    assert os.getcwd() == here
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_guest_inside_a_guest_keeps_its_own_name_and_time() -> None:
    HOST.call_seconds = 0.2
    inner = guest("inner", RewardError)
    with pytest.raises(RewardError, match="^inner did"), guest("outer", ConfigError, timed=False), inner:
        time.sleep(10)


def test_our_own_errors_and_interrupts_pass() -> None:
    with pytest.raises(AMFTError, match="^mine$"), guest("who", RewardError):
        raise ConfigError("mine")
    with pytest.raises(KeyboardInterrupt), guest("who", RewardError):
        raise KeyboardInterrupt


def test_who_is_a_guest() -> None:
    from amft.tasks.registry import build_task

    class Mine:
        pass

    assert is_guest(Mine())
    assert not is_guest(build_task("general_points-v1"))


ISOLATED = """
import os, sys, time, subprocess
calls = 0
def good(completions, answer, **columns):
    global calls
    calls += 1
    print("noise")
    return [None if a is None else float(c == a) + calls for c, a in zip(completions, answer)]
async def later(completions, **columns):
    return [2.0] * len(completions)
def leave(**columns):
    sys.exit(0)
def vanish(**columns):
    import ctypes
    ctypes.CDLL(None)._exit(0)
def crash(**columns):
    os.abort()
def hang(**columns):
    open("pid", "w").write(str(os.getpid()))
    subprocess.Popen(["sleep", "77"])
    pow(7, 10**9)
def nonsense(**columns):
    return [object()]
def endless(**columns):
    return [float("nan")]
constant = 1
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(ISOLATED)
    return "mine.py"


def test_an_isolated_reward_is_the_same_function_with_a_memory(file: str) -> None:
    function = IsolatedReward(f"{file}:good")
    rows = [{"prompt": "a", "answer": answer} for answer in ("b", "c", None)]
    for call in (1, 2):
        found = FunctionReward([function]).score(rows, ["b"] * 3, [[1]] * 3)
        assert found.rewards[:2] == [1.0 + call, 0.0 + call]
        assert found.abstained == 1
    assert list(found.parts) == ["good"]
    function.close()
    assert reward(IsolatedReward(f"{file}:later")) == [2.0]
    assert reward(IsolatedReward(f"{file}:endless")) == [float("inf")]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("leave", r"^reward function 'leave' raised SystemExit: 0 at mine\.py:\d+$"),
        ("vanish", r"^reward function 'vanish': its process ended with code 0 in the middle of a call"),
        ("crash", r"^reward function 'crash': its process ended with code -6"),
        ("nonsense", r"^reward function 'nonsense', row 1: returned object"),
        ("constant", "constant is a int, not a function"),
        ("missing", "has no function missing"),
    ],
)
def test_what_an_isolated_reward_does_is_one_line(file: str, name: str, said: str) -> None:
    with pytest.raises(RewardError, match=said) as caught:
        reward(IsolatedReward(f"{file}:{name}"))
    assert "\n" not in str(caught.value)


def test_an_isolated_reward_that_keeps_the_interpreter_to_itself_is_killed_with_all_it_started(file: str) -> None:
    function = IsolatedReward(f"{file}:hang", 0.5)
    with pytest.raises(RewardError, match=r"'hang' did not return within 0\.5 s \(reward_timeout\); it was killed"):
        reward(function)
    pid = int(Path("pid").read_text())
    assert not Path(f"/proc/{pid}").exists()
    assert "77" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout.split()


def test_an_isolated_reward_takes_json_only(file: str) -> None:
    with pytest.raises(RewardError, match=r"rewards\.isolate: a column is not JSON"):
        FunctionReward([IsolatedReward(f"{file}:good")]).score([{"prompt": "a", "answer": {1}}], ["b"], [[1]])
    with pytest.raises(RewardError, match="no such file"):
        IsolatedReward("nowhere.py:f")


def test_a_function_of_this_process_cannot_be_isolated(tmp_path: Path, file: str) -> None:
    with pytest.raises(ConfigError, match=r"rewards\.isolate: parity is a function of this process"):
        build(tmp_path / "run", "rl", rewards={"isolate": True})
    build(tmp_path / "run", "rl", IsolatedReward(f"{file}:good"), rewards={"isolate": True})


def test_a_decorator_may_hide_what_a_function_takes() -> None:
    def narrow(completions: list[str]) -> list[float]:
        return [1.0] * len(completions)

    @functools.wraps(narrow)
    def wide(completions: list[str], **_: Any) -> list[float]:
        return narrow(completions)

    assert reward(wide) == [1.0]
