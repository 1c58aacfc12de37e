"""Pushing a final model: to a directory, to a hub on this machine, and what happens when the hub refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_hub import FakeHub, fake_hub

from amft.cli import main
from amft.models.load import NANO

RECIPE = """
model: {model}
task: {{id: general_points-v1, cards: 3, demonstrations: answer}}
output_dir: run
max_steps: 1
num_demos: 2
max_completion_length: 64
eval: {{steps: 0, test_splits: []}}
checkpoint: {{steps: 0}}
balance: sft
threads: 1
"""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_directory: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(RECIPE.format(model=tiny_directory))
    return tmp_path


def amft(hub: FakeHub | SimpleNamespace, *words: str, token: str = "hf_test") -> tuple[int, str, str]:
    """Exit code, stdout and the error lines of ours; the address of a hub is read when its library is imported."""
    environment = os.environ | {"HF_ENDPOINT": hub.address, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0"}
    program = [sys.executable, "-m", "amft", *words]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=240)
    return done.returncode, done.stdout, "\n".join(x for x in done.stderr.splitlines() if x.startswith("amft:"))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.usefixtures("workplace")
def test_a_directory_stands_in_for_a_hub(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "run.yaml"]) == 0
    capsys.readouterr()
    assert main(["push", "run", "./hub/me/model"]) == 0
    assert capsys.readouterr().out == "hub/me/model\n"
    assert files(Path("hub/me/model")) == files(Path("run/model"))
    assert "README.md" in files(Path("hub/me/model"))
    assert main(["push", "run", "./hub/me/model"]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.usefixtures("workplace")
def test_a_recipe_pushes_at_its_end_and_looks_for_room_at_its_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "run.yaml", "--set", "push_to_hub=true", "--set", "hub_model_id=./hub/m"]
    assert main(words) == 0
    assert "pushed: hub/m" in capsys.readouterr().out.splitlines()
    assert files(Path("hub/m")) == files(Path("run/model"))
    assert main([*words, "--output-dir", "again"]) == 2
    assert "./hub/m: exists already" in capsys.readouterr().err
    assert not Path("again/metrics.jsonl").exists()


@pytest.mark.usefixtures("workplace")
def test_the_hub_gets_the_model_and_its_card() -> None:
    assert main(["train", "run.yaml"]) == 0
    with fake_hub() as hub:
        code, said, _ = amft(hub, "push", "run", "me/model", "--private")
        assert (code, said) == (0, f"{hub.address}/me/model\n")
        assert hub.repositories == {"me/model": files(Path("run/model"))}
        assert hub.private == {"me/model": "private"}
        assert amft(hub, "push", "run", "me/model")[0] == 0  # once more, into the same repository
        code, _, error = amft(hub, "push", "run", "me/model", token="hf_other")
    assert code == 2
    assert error.startswith("amft: error: me/model: cannot be pushed to the hub")
    assert "hf auth login" in error


@pytest.mark.usefixtures("workplace")
def test_without_a_network_it_is_one_line() -> None:
    away = SimpleNamespace(address="http://127.0.0.1:9")  # where nobody listens
    code, out, error = amft(away, "push", str(NANO), "me/model")
    assert (code, out) == (2, "")
    assert error.startswith("amft: error: me/model: cannot be pushed to the hub (")
    assert error.endswith("check the name and the network")


@pytest.mark.usefixtures("workplace")
def test_a_run_without_the_right_to_push_stops_before_its_first_step() -> None:
    with fake_hub() as hub:
        hub.refuses = True
        code, _, error = amft(hub, "train", "run.yaml", "--set", "push_to_hub=true", "--set", "hub_model_id=me/m")
    assert code == 2
    assert "me/m: cannot be pushed to the hub" in error
    assert not Path("run/metrics.jsonl").exists()


@pytest.mark.usefixtures("workplace")
def test_a_push_that_fails_at_the_end_leaves_the_run_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("full").write_text("")  # a file where a folder should be
    assert main(["train", "run.yaml", "--set", "push_to_hub=true", "--set", "hub_model_id=./full/m"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert any(line.startswith("not pushed: full/m: cannot be written") for line in printed)
    assert printed[-1] == "report: run/report.html"
    events = [json.loads(line) for line in Path("run/events.jsonl").read_text().splitlines()]
    assert [event["message"][:8] for event in events if event["kind"] == "hub"] == ["full/m: "]
    assert Path("run/model/config.json").is_file()


@pytest.mark.usefixtures("workplace")
def test_nothing_is_pushed_unasked_and_an_unfinished_run_not_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    Path("open/checkpoints").mkdir(parents=True)
    Path("open/config.json").write_text("{}")
    assert main(["push", "open", "./x"]) == 2
    assert "open: the run is not over" in capsys.readouterr().err
    assert main(["push", "nowhere", "./x"]) == 2
    assert not Path("x").exists()
