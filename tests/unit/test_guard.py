"""Non-finite steps are skipped, recorded and counted; stop signals wait for the step to end."""

import json
import math
import os
import signal
import threading
from pathlib import Path

import pytest

from amft.errors import NonFiniteError
from amft.training.guard import NonFiniteGuard, StopSignals

NAN, INF = math.nan, math.inf


def test_finite_steps_pass_and_write_nothing(tmp_path: Path) -> None:
    guard = NonFiniteGuard(2, tmp_path)
    assert guard.check(1, {"loss": 0.5, "grad_norm": 1e30}, lambda: pytest.fail("bundle asked for"))
    assert not (tmp_path / "incidents").exists()


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("name", ["loss", "grad_norm"])
def test_a_bad_step_is_skipped_with_a_bundle(tmp_path: Path, bad: float, name: str) -> None:
    guard = NonFiniteGuard(2, tmp_path)
    bundle = {"texts": ["2+2"], "ids": [[1, 2]], "stats": {"max": INF, "rows": (1.5, NAN)}}
    assert guard.check(7, {"loss": 0.5, "grad_norm": 1.0, name: bad}, lambda: bundle) is False

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    saved = json.loads((tmp_path / "incidents" / "step-7.json").read_text(), parse_constant=refuse)
    assert saved["step"] == 7
    assert saved["values"][name] == str(bad)
    assert saved["texts"] == ["2+2"]
    assert saved["stats"] == {"max": "inf", "rows": [1.5, "nan"]}


def test_only_steps_in_a_row_end_the_run(tmp_path: Path) -> None:
    guard = NonFiniteGuard(3, tmp_path)
    pattern = [NAN, NAN, 1.0, NAN, NAN, 1.0]
    assert [guard.check(step, {"loss": value}, dict) for step, value in enumerate(pattern)] == [
        math.isfinite(value) for value in pattern
    ]
    guard.check(6, {"loss": NAN}, dict)
    guard.check(7, {"loss": NAN}, dict)
    with pytest.raises(NonFiniteError, match=r"step 8: loss nan; 3 such steps in a row.*incidents/step-8\.json"):
        guard.check(8, {"loss": NAN, "grad_norm": 1.0}, dict)
    assert (tmp_path / "incidents" / "step-8.json").is_file()


def test_the_count_survives_a_resume(tmp_path: Path) -> None:
    guard = NonFiniteGuard(2, tmp_path)
    guard.check(1, {"loss": NAN}, dict)
    resumed = NonFiniteGuard(2, tmp_path)
    resumed.load_state_dict(json.loads(json.dumps(guard.state_dict())))
    with pytest.raises(NonFiniteError):
        resumed.check(2, {"loss": NAN}, dict)


def test_a_bundle_that_cannot_be_written_does_not_hide_the_reason(tmp_path: Path) -> None:
    (tmp_path / "incidents").write_text("a file is in the way")
    with pytest.raises(NonFiniteError, match=r"loss nan.*could not be written"):
        NonFiniteGuard(1, tmp_path).check(1, {"loss": NAN}, dict)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_a_flag_and_the_old_handler_comes_back(number: signal.Signals) -> None:
    old = signal.getsignal(number)
    with StopSignals() as stop:
        assert stop.received is None
        os.kill(os.getpid(), number)
        assert stop.received == number.name
    assert signal.getsignal(number) is old


def test_the_second_interrupt_raises_and_terminations_do_not() -> None:
    old = signal.getsignal(signal.SIGINT)
    with StopSignals() as stop:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert stop.received == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is old


def test_handlers_come_back_after_an_error() -> None:
    old = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError, match="step"), StopSignals():
        raise RuntimeError("step")
    assert signal.getsignal(signal.SIGTERM) is old


def test_an_ignored_signal_stays_ignored() -> None:
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.received is None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, old)


def test_it_can_be_opened_again() -> None:
    stop = StopSignals()
    for _ in range(2):
        with stop:
            assert stop.received is None
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.received == "SIGINT"


def test_silent_outside_the_main_thread() -> None:
    seen: list[object] = []

    def work() -> None:
        before = signal.getsignal(signal.SIGTERM)
        with StopSignals() as stop:
            seen.extend([stop.received, signal.getsignal(signal.SIGTERM) is before])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None, True]
