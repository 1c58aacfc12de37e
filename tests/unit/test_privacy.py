"""What leaves the machine with a run, and what does not (scenario D4)."""

from __future__ import annotations

import getpass
import json
import socket
import tarfile
from pathlib import Path

import pytest
from tiny_runs import build

from amft.cli import main
from amft.errors import RunError
from amft.privacy import HIDDEN, anonymous, private, private_command, without_home
from amft.report.bundle import write_bundle

KEY = "hf_AbCdEfGhIjKlMnOpQrStUvWx"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home" / "nobody"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    return folder


def test_the_home_directory_is_a_tilde(home: Path) -> None:
    assert without_home(f"{home}/runs, {home}") == "~/runs, ~"
    assert without_home(f"{home}2/runs") == f"{home}2/runs"
    assert private({"model": f"{home}/m", "deep": [{"a": str(home)}], "n": 3}) == {
        "model": "~/m",
        "deep": [{"a": "~"}],
        "n": 3,
    }


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["amft", "train", "x.yaml", "--set", "hub_token=abc"], f"amft train x.yaml --set hub_token={HIDDEN}"),
        (["amft", "--api-key", "abc", "train"], f"amft --api-key {HIDDEN} train"),
        (["amft", "--wandb.api_key=abc"], f"amft --wandb.api_key={HIDDEN}"),
        (["amft", "--max-tokens", "5", "--set", "max_tokens=5"], "amft --max-tokens 5 --set max_tokens=5"),
        (["amft", "--set", "trust_special_tokens=true"], "amft --set trust_special_tokens=true"),
        (["amft", "--set", f"model={KEY}"], f"amft --set model={HIDDEN}"),
    ],
)
def test_secrets_of_a_command_line_are_hidden(words: list[str], shown: str) -> None:
    assert private_command(words) == shown


def test_names_that_say_secret_hide_their_value() -> None:
    hidden = {"token": "a", "x": {"aws_secret": "b", "api-key": "c"}, "tokens": "d", "key": "e"}
    assert private(hidden) == {
        "token": HIDDEN,
        "x": {"aws_secret": HIDDEN, "api-key": HIDDEN},
        "tokens": "d",
        "key": "e",
    }


def test_a_word_of_the_environment_is_hidden_where_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PASSWORD", "swordfish")
    monkeypatch.setenv("MY_TOKEN", "x")
    text = anonymous(f"x swordfish {socket.gethostname()} {getpass.getuser()}")
    assert "swordfish" not in text
    assert text.startswith(f"x {HIDDEN}")
    assert text.endswith("[machine] [user]")


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_TOKEN", KEY)
    monkeypatch.setenv("SOME_PASSWORD", "swordfish")
    trainer = build(home / "run", "amft", max_steps=3, sample_steps=1, checkpoint={"steps": 1})
    trainer.train()
    trainer.event(3, "note", f"{home}/x swordfish on {socket.gethostname()} by {getpass.getuser()} with {KEY}")
    (home / "run" / "incidents").mkdir()
    bundle = {"step": 2, "values": {"loss": "nan"}, "texts": ["a g b"], "ids": [[1]], "where": str(home)}
    (home / "run" / "incidents" / "step-2.json").write_text(json.dumps(bundle))
    return home / "run"


def test_what_a_run_writes_about_itself_names_no_home(run: Path, home: Path) -> None:
    for name in ("config.json", "env.json"):
        assert str(home) not in (run / name).read_text()
    assert json.loads((run / "config.json").read_text())["output_dir"] == "~/run"


@pytest.mark.parametrize("with_texts", [False, True])
def test_a_bundle_holds_numbers_and_no_secrets(with_texts: bool, run: Path, home: Path, tmp_path: Path) -> None:
    target, names = write_bundle(run, tmp_path / "b.tar.gz", with_texts)
    with tarfile.open(target) as archive:
        content = {entry.name: archive.extractfile(entry).read().decode() for entry in archive}
    assert set(content) == {f"bundle/{name}" for name in names}
    wanted = {"config.json", "env.json", "metrics.jsonl", "events.jsonl", "incidents/step-2.json"}
    assert wanted | {"checkpoints/step-3/state.json", "checkpoints/step-3/manifest.json"} <= set(names)
    assert content["bundle/metrics.jsonl"] == (run / "metrics.jsonl").read_text()
    for text in content.values():
        for word in (str(home), KEY, "swordfish", socket.gethostname()):
            assert word not in text
    assert "[machine] by [user]" in content["bundle/events.jsonl"]
    assert ("samples.jsonl" in names) == with_texts
    assert ("a g b" in content["bundle/incidents/step-2.json"]) == with_texts
    assert not any("safetensors" in name for name in names)
    with pytest.raises(RunError, match="exists already"):
        write_bundle(run, target)


def test_the_command_says_what_is_in_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", str(run)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert "metrics.jsonl" in said
    assert said[-1].startswith(f"bundle: {run.parent.resolve()}/run-bundle.tar.gz (look into it")
    assert main(["bundle", str(run.parent)]) == 2
    assert "not a run directory" in capsys.readouterr().err


def test_an_event_names_no_home(run: Path, home: Path) -> None:
    assert str(home) not in (run / "events.jsonl").read_text()
    assert "~/x swordfish" in (run / "events.jsonl").read_text()
