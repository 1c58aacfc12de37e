"""Trackers: TensorBoard in every test run, the others wherever they are installed; all offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from accelerate.tracking import LOGGER_TYPE_TO_CLASS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_runs import ROWS, build, parity, tiny_model, tiny_tokenizer

from amft.errors import ConfigError
from amft.runs import RunDirectory
from amft.settings.config import AMFTConfig
from amft.training.tracking import ARGUMENTS, Trackers, flat, markdown_table
from amft.training.trainer import AMFTTrainer

MODULES = {name: name for name in ARGUMENTS}
OFFLINE = {
    "CLEARML_OFFLINE_MODE": "1",
    "COMET_START_ONLINE": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "SWANLAB_MODE": "offline",
    "WANDB_MODE": "offline",
    "HF_HUB_OFFLINE": "1",
}

RUN = """
import sys
from amft.settings.config import AMFTConfig
from amft.training.tracking import Trackers
if __name__ == "__main__":
    trackers = Trackers(AMFTConfig(output_dir="runs/one", report_to=[sys.argv[1]], balance={"rule": "fixed"}))
    trackers.open()
    failed = [trackers.log(step, {"phase": "mix", "mix/mu_number": step / 8, "many": 3}) for step in (1, 2)]
    assert failed == [[], []], failed
    assert trackers.close() == []
"""


def contents(folder: Path) -> Iterator[bytes]:
    """Every file and its path, also those in archives: some trackers name a file for each number."""
    for path in folder.rglob("*"):
        yield bytes(path)
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                yield from (archive.read(name) for name in archive.namelist())
        elif path.is_file():
            yield path.read_bytes()


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_a_tracker_keeps_settings_and_numbers_offline(name: str, tmp_path: Path) -> None:
    pytest.importorskip(MODULES[name])
    (tmp_path / "run.py").write_text(RUN)
    uri = {"MLFLOW_TRACKING_URI": f"file:{tmp_path}/mlruns", "COMET_OFFLINE_DIRECTORY": f"{tmp_path}/comet"}
    done = subprocess.run(
        [sys.executable, "run.py", name],
        cwd=tmp_path,
        env=os.environ | OFFLINE | uri | {"HOME": str(tmp_path), "TRACKIO_DIR": str(tmp_path / "trackio")},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (tmp_path / "run.py").unlink()
    kept = list(contents(tmp_path))
    assert any(b"mu_number" in data for data in kept)
    assert any(b"adam_beta1" in data for data in kept)  # Aim shortens the names after the first


def test_every_tracker_of_accelerate_is_a_setting_and_an_extra() -> None:
    names = get_args(get_args(AMFTConfig.model_fields["report_to"].annotation)[0])
    assert set(names) == set(LOGGER_TYPE_TO_CLASS) == set(ARGUMENTS)
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for name in names:
        assert f'\n{name} = ["{name.replace("_", "-")}>=' in project or f'\n{name} = ["{name}>=' in project
        assert "accelerate>=" in project.split(f"\n{name} = [")[1].split("]")[0]


def test_a_run_is_in_tensorboard(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    build(tmp_path / "run", "fixed", max_steps=3, report_to=["tensorboard"]).train()
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for name in ("grad_norm", "reward", "learning_rate"):
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert found == [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in lines]
    assert len(events.Scalars("time/step")) == 3
    assert "tracker" not in {row["kind"] for row in RunDirectory(tmp_path / "run").rows("events")}
    assert torch.get_num_threads() == threads


def test_a_tracker_gets_the_scores_before_and_after(tmp_path: Path) -> None:
    made = AMFTTrainer(
        tiny_model(),
        AMFTConfig(
            output_dir=tmp_path / "run", balance={"rule": "fixed"}, max_steps=2, num_prompts=2, num_generations=2,
            num_demos=2, max_completion_length=5, report_to="tensorboard",
        ),
        train_dataset=ROWS,
        eval_dataset=[{"prompt": f"{a} m", "completion": " m ."} for a in "abc"],
        reward_funcs=parity,
        processing_class=tiny_tokenizer(),
    )  # fmt: skip
    (row,) = made.train().table
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    for when, step in (("before", 0), ("after", 2)):
        (found,) = events.Scalars(f"test/eval/{when}")
        assert (found.step, found.value) == (step, pytest.approx(row[when]))
    assert sorted(events.Tags()["scalars"])[0] == "amft/mu"
    assert [event.value for event in events.Scalars("amft/mu")] == [event.value for event in events.Scalars("mix/mu")]


def test_a_tracker_gets_a_table_of_samples(tmp_path: Path) -> None:
    build(tmp_path / "run", "fixed", max_steps=2, sample_steps=1, report_to=["tensorboard"]).train()
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    first, second = events.Tensors("samples/text_summary")
    assert (first.step, second.step) == (1, 2)
    lines = first.tensor_proto.string_val[0].decode().splitlines()
    assert lines[0] == "| prompt | demonstration | text | reward | outcome |"
    samples = [row for row in RunDirectory(tmp_path / "run").rows("samples") if row["step"] == 1]
    told = [done["text"] for row in samples for done in row["completions"]]
    assert len(lines) == 2 + len(told)
    assert all(f"| {text} |" in line for text, line in zip(told, lines[2:], strict=True))


def test_a_tracker_with_tables_gets_one() -> None:
    class Wide:
        name = "wide"

        def __init__(self) -> None:
            self.seen: list[object] = []

        def log_table(self, name: str, columns: list[str], data: list[list[str]], step: int) -> None:
            self.seen += [name, columns, data, step]

    trackers = Trackers(AMFTConfig())
    trackers.open_ones["wide"] = wide = Wide()
    assert trackers.table(3, "samples", [{"text": "a" * 600, "reward": 1.0}]) == []
    assert wide.seen == ["samples", ["text", "reward"], [["a" * 500 + " … (100 more characters)", "1.0"]], 3]
    assert trackers.table(3, "samples", []) == []


def test_a_cell_cannot_end_a_table() -> None:
    assert markdown_table(["a"], [["x | y\nz"]]) == "| a |\n| --- |\n| x \\| y z |"


def test_a_tracker_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.tracking._available_trackers", [])
    with pytest.raises(
        ConfigError, match=r"report_to: wandb or accelerate is not installed; pip install 'amft\[wandb\]'"
    ):
        Trackers(AMFTConfig(report_to=["wandb"]))
    monkeypatch.setitem(sys.modules, "accelerate.tracking", None)
    with pytest.raises(ConfigError, match=r"pip install 'amft\[tensorboard\]'"):
        Trackers(AMFTConfig(report_to=["tensorboard"]))


class Broken:
    """Takes the place of a hosted tracker whose server refuses."""

    def __init__(self, **options: Any): ...

    def start(self) -> None: ...

    def store_init_configuration(self, values: Any) -> None: ...

    def log(self, values: Any, step: int) -> None:
        raise RuntimeError(f"no\nanswer to {step}")

    def finish(self) -> None: ...


def test_a_tracker_that_fails_is_an_event_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "tensorboard", Broken)
    build(tmp_path / "run", "fixed", max_steps=3, report_to=["tensorboard"]).train()
    [event] = [row for row in RunDirectory(tmp_path / "run").rows("events") if row["kind"] == "tracker"]
    assert event == {
        "step": 1,
        "kind": "tracker",
        "message": "tensorboard failed and gets nothing more (no answer to 1)",
    }
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_tracker_that_does_not_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Broken, "start", lambda self: 1 / 0)
    with monkeypatch.context() as patched:
        patched.setitem(LOGGER_TYPE_TO_CLASS, "tensorboard", Broken)
        with pytest.raises(ConfigError, match=r"tensorboard does not start \(division by zero\).*--resume$") as caught:
            build(tmp_path / "run", "fixed", max_steps=3, report_to=["tensorboard"]).train()
    assert "\n" not in str(caught.value)
    build(tmp_path / "run", "fixed", max_steps=3, report_to=["tensorboard"]).train(resume=True)
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3


def test_settings_are_flat() -> None:
    nested = {"a": 1, "b": {"c": None, "d": {"e": [1, "x"]}}, "f": {}, "g": "text", "h": True}
    assert dict(flat(nested)) == {"a": 1, "b.c": "null", "b.d.e": '[1, "x"]', "f": "{}", "g": "text", "h": True}
