"""Hostile recipes: reading, planning and starting each gives one line, and no traceback."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hostile_recipes import ARGUMENTS, DATA, FILES, PARTS, rows, started, sweep

from amft.cli import main

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_model: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, content in rows().items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo("fifo.jsonl")
    os.mkfifo("fifo.yaml")
    Path("loop.yaml").symlink_to("loop.yaml")
    small = "num_prompts: 2\nnum_generations: 2\nnum_demos: 2\nmax_completion_length: 4\neval: {steps: 0}\n"
    own = f"model: {small_model}\ndata: {{train: rows.jsonl, rewards: ['own.py:reward']}}\n"
    Path("good.yaml").write_text(DATA + small + "balance: {rule: fixed, mu: 0.5}\n" + own)
    return tmp_path


def run(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> int:
    """Exit code of a command that said one line if it failed."""
    begun = time.monotonic()
    code = main(arguments)
    error = capfd.readouterr().err
    assert time.monotonic() - begun < 30
    assert code in (0, 2), error
    assert "Traceback" not in error, error
    if code:
        lines = error.splitlines()
        assert [line for line in lines if line.startswith("amft: error: ")] == lines[-1:], error
        assert len(lines[-1]) < 1500, error
    return code


def test_there_are_enough_of_them() -> None:
    assert len(FILES) + len(PARTS) + len(ARGUMENTS) >= 110


def test_the_good_one_starts(workplace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "good.yaml"], capfd) == 0


@pytest.mark.parametrize("command", ["plan", "train"])
@pytest.mark.parametrize("name", FILES)
def test_a_spoiled_file(workplace: Path, name: str, command: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("r.yaml").write_bytes(FILES[name])
    assert run([command, "r.yaml"], capfd) == 2
    assert not Path("executed").exists()
    assert not Path("runs").exists()


@pytest.mark.parametrize("command", ["plan", "train"])
@pytest.mark.parametrize("name", PARTS)
def test_a_spoiled_part(workplace: Path, name: str, command: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("r.yaml").write_text(PARTS[name])
    code = run([command, "r.yaml"], capfd)
    assert code == 2 or command == "plan"


@pytest.mark.parametrize("command", ["plan", "train"])
@pytest.mark.parametrize("arguments", ARGUMENTS, ids=lambda words: repr(" ".join(words)[:30]))
def test_a_spoiled_argument(
    workplace: Path, arguments: list[str], command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if command == "plan" and "--output-dir" in arguments:
        pytest.skip("a plan writes nothing")
    assert run([command, *arguments], capfd) == 2


def test_every_setting_with_every_value_is_planned_or_refused(
    workplace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    codes = [run(["plan", "good.yaml", "--set", f"{name}={value}"], capfd) for name, value in sweep()]
    assert len(codes) > 1500
    assert codes.count(2) > len(codes) / 2
    assert codes.count(0) > 50


@pytest.mark.parametrize(("name", "value"), started())
def test_a_setting_is_refused_or_the_run_ends(
    workplace: Path, name: str, value: str, capfd: pytest.CaptureFixture[str]
) -> None:
    run(["train", "good.yaml", "--set", f"{name}={value}"], capfd)
