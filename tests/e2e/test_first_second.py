"""What is seen from the first second: a line before anything slow, one every half minute, lists that fit a terminal."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import build, zero

from amft import progress_bar
from amft.balance.describe import describe
from amft.cli import main, status
from amft.cli.units import in_bytes, in_parameters, in_seconds

TRAIN = ["train", "general_points", "--set", "max_steps=1", "--set", "sft_warmup_steps=0", "--set", "lr_warmup_steps=0",
         "--set", "num_prompts=1", "--set", "num_generations=2", "--set", "num_demos=1", "--set", "eval.steps=0",
         "--set", "eval.test_problems=1", "--set", "max_completion_length=256"]  # fmt: skip


def test_training_says_at_once_what_it_does_and_then_each_part(tmp_path: Path) -> None:
    started = time.monotonic()
    command = [sys.executable, "-m", "amft", *TRAIN, "--output-dir", str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        first = run.stderr.readline()
        waited = time.monotonic() - started
        out, rest = run.communicate(timeout=300)
    assert run.returncode == 0, rest
    assert first == "amft: loading nano ...\n"
    assert waited < 6, "two seconds on an idle machine"
    told = [line for line in rest.splitlines() if line.startswith("amft: ") and not line.endswith("so far")]
    assert told == [
        "amft: scoring the model as it came",
        "amft: training, step 0 of 1",
        "amft: scoring the trained model",
    ]
    assert out.startswith("recipe    general_points\n")
    assert max(map(len, out.splitlines())) <= 80 or "report:" in out.splitlines()[-1]


def test_a_banner_comes_only_after_the_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused = main([*TRAIN, "--set", "model=nowhere", "--output-dir", str(tmp_path / "run")])
    assert refused == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[0].startswith("amft: error: model: no directory nowhere"), "told alone, at once"


def test_without_a_terminal_a_line_comes_every_half_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_bar, "SILENCE", 0.02)
    build(tmp_path / "often", "fixed", max_steps=5).train()
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("amft: step ")]
    assert {line.split(",")[0] for line in told} <= {f"amft: step {step} of 5" for step in range(6)}
    assert any("min left" in line and "mu 0.50" in line for line in told)
    monkeypatch.setattr(progress_bar, "SILENCE", 30.0)
    build(tmp_path / "seldom", "fixed", max_steps=3).train()
    assert "amft: step " not in capsys.readouterr().err


def test_what_is_slow_without_steps_says_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_bar, "SILENCE", 0.02)
    with progress_bar.waiting("scoring the model as it came"):
        time.sleep(0.15)
    first, *others = capsys.readouterr().err.splitlines()
    assert first == "amft: scoring the model as it came"
    assert len(others) > 1
    assert set(others) == {"amft: scoring the model as it came, 0.0 min so far"}
    time.sleep(0.1)
    assert capsys.readouterr().err == "", "it stops when that is over"


def test_an_evaluation_says_how_long_it_will_take(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_bar, "SILENCE", 0.02)
    small = ["--problems", "12", "--batch", "4", "--max-tokens", "24"]
    assert main(["eval", "nano", "--task", "general_points-v1", "--split", "id", *small]) == 0
    told = capsys.readouterr().err.splitlines()
    assert any(re.match(r"amft: problem (4|8) of 12, split id, about \d+\.\d min left", line) for line in told)


def test_on_a_terminal_a_bar_is_drawn_and_no_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_bar, "SILENCE", 0.01)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress_bar.progress_bar(2, "step") as bar:
        bar.move(1, {"mu": "0.50"})
        time.sleep(0.05)
        bar.move(1, {"mu": "0.40"})
    drawn = capsys.readouterr().err
    assert "2/2" in drawn
    assert "mu=0.40" in drawn
    assert "amft:" not in drawn


def test_rules_are_one_a_line_and_one_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-2]] == [rule["rule"] for rule in describe()]
    assert max(map(len, lines)) <= 80
    assert main(["rules", "chord-mu"]) == 0
    card = capsys.readouterr().out
    assert card.startswith("chord-mu\n")
    assert "settings (balance.NAME in a recipe)" in card
    assert max(map(len, card.splitlines())) <= 80
    assert main(["rules", "amtf"]) == 2
    assert "did you mean 'amft'?" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["plan", "general_points", "--gpu", "cpu"], ["tasks"]])
def test_what_is_printed_fits_a_terminal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_the_doctor_fits_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path / "run", "fixed", zero, max_steps=3).train()
    capsys.readouterr()
    assert main(["doctor", str(tmp_path / "run")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("    ") for line in lines), "something is long enough to be wrapped"
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("said", "call"),
    [
        ("1.5 GiB", lambda: in_bytes(1.5 * 2**30)),
        ("12 MiB", lambda: in_bytes(12 * 2**20)),
        ("3 KiB", lambda: in_bytes(3 * 2**10)),
        ("13 s", lambda: in_seconds(13.3)),
        ("1.8 s", lambda: in_seconds(1.84)),
        ("40 ms", lambda: in_seconds(0.04)),
        ("7.6 B", lambda: in_parameters(7.6e9)),
        ("3.6 M", lambda: in_parameters(3.56e6)),
        ("800", lambda: in_parameters(800)),
    ],
)
def test_units_suit_the_size(said: str, call: Any) -> None:
    assert call() == said


def test_an_evaluation_and_answers_say_at_once_what_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(status, "PATIENCE", 0.0)
    small = ["--problems", "1", "--max-tokens", "4"]
    assert main(["eval", "nano", "--task", "general_points-v1", "--split", "id", *small]) == 0
    assert capsys.readouterr().err.startswith("amft: loading nano, then answering ...\n")
    assert main(["sample", "nano", "--prompt", "How many are left? " * 9, "--max-tokens", "4"]) == 0
    shown = capsys.readouterr()
    assert shown.err.startswith("amft: loading nano, then answering ...\n")
    assert max(map(len, shown.out.splitlines())) <= 80


def test_a_long_list_of_choices_is_cut_and_a_last_part_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "clip_max"]) == 2
    assert "did you mean 'importance_sampling.clip_max'?" in capsys.readouterr().err
    assert main(["settings", "zzzz"]) == 2
    told = capsys.readouterr().err
    assert re.search(r" and \d+ more$", told.strip())
    assert told.count(",") < 45
