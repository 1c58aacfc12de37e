"""What `amft train` prints and how it exits, with the training itself replaced; the real one is in test_cli_runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from amft.cli import main
from amft.training.result import TrainResult

TABLE = [
    {
        **{"split": "id", "n": 128, "clusters": 96},
        **{"before": 0.1, "before_low": 0.05, "before_high": 0.15, "after": 0.5, "after_low": 0.4, "after_high": 0.6},
    },
    {
        **{"split": "rule_ood", "n": 8, "clusters": 8},
        **{"before": 0.0, "before_low": 0.0, "before_high": 0.0, "after": 1.0, "after_low": 1.0, "after_high": 1.0},
    },
]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let training end as told; returns what the trainer was asked."""

    def _trained(interrupted: str | None = None) -> dict[str, Any]:
        asked: dict[str, Any] = {}

        class Trainer:
            def train(self, resume: bool, accept_changes: Sequence[str]) -> TrainResult:
                asked["resume"], asked["accepted"] = resume, list(accept_changes)
                return TrainResult(Path("runs/x"), TABLE, interrupted, Path("runs/x/model"))

        def build_trainer(recipe: Any) -> Trainer:
            asked["recipe"] = recipe
            return Trainer()

        monkeypatch.setattr("amft.assembly.training.build_trainer", build_trainer)
        monkeypatch.setattr("amft.cli.train._answers", lambda run: "")
        monkeypatch.setattr("amft.report.page.write_report", lambda run: run / "report.html")
        return asked

    return _trained


def test_facts_first_then_table_and_report(trained: Any, capsys: pytest.CaptureFixture[str]) -> None:
    asked = trained()
    assert main(["train", "general_points", "--set", "seed=3", "--set", "seed=4", "--output-dir", "runs/2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["recipe", "general_points"]
    assert lines[lines.index("held-out success [95 % interval]") + 1 :] == [
        "split     before              after                   answers  clusters",
        "id        10.0 % [5.0, 15.0]  50.0 % [40.0, 60.0]         128        96",
        "rule_ood  0.0 % [0.0, 0.0]    100.0 % [100.0, 100.0]        8         8",
        "",
        "model: runs/x/model",
        'model = transformers.AutoModelForCausalLM.from_pretrained("runs/x/model")',
        'tokenizer = transformers.AutoTokenizer.from_pretrained("runs/x/model")',
        "report: runs/x/report.html",
    ]
    assert (asked["recipe"].seed, asked["recipe"].output_dir, asked["resume"]) == (4, "runs/2", False)


def test_the_output_directory_flag_wins_and_is_never_read_as_yaml(trained: Any) -> None:
    asked = trained()
    assert main(["train", "general_points", "--set", "output_dir=a", "--output-dir", "2024-01-02: null"]) == 0
    assert asked["recipe"].output_dir == "2024-01-02: null"


@pytest.mark.parametrize(("signal", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_saved_interruption_says_how_to_resume(
    trained: Any, capsys: pytest.CaptureFixture[str], signal: str, code: int
) -> None:
    trained(interrupted=signal)
    assert main(["train", "general_points", "--set", "eval.test_splits=[id, seen]", "--output-dir", "a b"]) == code
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        f"amft: stopped by {signal}; the run is saved. Continue with:",
        "  amft train general_points --set 'eval.test_splits=[id, seen]' --output-dir 'a b' --resume",
    ]
    assert "report:" not in captured.out


def test_an_interruption_with_save_only_model_offers_no_resume(
    trained: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(interrupted="SIGTERM")
    assert main(["train", "general_points", "--set", "checkpoint.only_model=true"]) == 143
    error = capsys.readouterr().err
    assert error == "amft: stopped by SIGTERM; the model is saved. With checkpoint.only_model there is no going on\n"


def test_resume_reaches_the_trainer(trained: Any) -> None:
    asked = trained()
    assert main(["train", "general_points", "--resume"]) == 0
    assert (asked["resume"], asked["accepted"]) == (True, [])
    assert main(["train", "general_points", "--resume", "--accept-changes", "data", "--accept-changes", "rule"]) == 0
    assert asked["accepted"] == ["data", "rule"]
