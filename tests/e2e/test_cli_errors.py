"""The command line met by a careless user: exit code 2, one line on stderr, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from amft.cli import main
from amft.errors import AMFTError


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_directory: Path) -> Path:
    """A current directory with a good recipe, several bad ones, a directory that is no run and an occupied one."""
    monkeypatch.chdir(tmp_path)
    files = {
        "good.yaml": f"task: general_points-v1\nmodel: {tiny_directory}\nmax_steps: 2\n",
        "syntax.yaml": "task: [1\n",
        "twice.yaml": "seed: 1\nseed: 2\n",
        "list.yaml": "- 1\n",
        "empty.yaml": "",
        "unknown.yaml": "task: general_points-v1\nlerning_rate: 1e-4\n",
        "type.yaml": "task: general_points-v1\nmax_steps: many\n",
        "range.yaml": "task: general_points-v1\ntop_p: 2.0\n",
        "task.yaml": "task: nonsense\n",
        "rule.yaml": "task: general_points-v1\nbalance: nonsense\n",
        "split.yaml": "task: general_points-v1\neval: {test_splits: [nonsense]}\n",
        "model.yaml": "task: general_points-v1\nmodel: nowhere/at-all\n",
        "data.yaml": f"model: {tiny_directory}\ndata: {{train: nowhere.jsonl}}\n",
        "rows.jsonl": '{"prompt": "a", "completion": "b"}\n',
        "reward.yaml": f"model: {tiny_directory}\ndata: {{train: rows.jsonl, rewards: ['nowhere.py:f']}}\n",
        "column.yaml": f"model: {tiny_directory}\ndata: {{train: rows.jsonl, columns: {{prompt: question}}}}\n",
        "occupied/file": "",
        "broken_run/config.json": "{",
        "no_run/readme": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


MISTAKES = [
    (["trian"], ["'trian'", "'train'"]),
    (["--frobnicate"], ["--frobnicate", "amft --help"]),
    (["train"], ["RECIPE", "amft train --help"]),
    (["train", "good.yaml", "extra"], ["extra"]),
    (["train", "good.yaml", "--resum"], ["--resum", "did you mean --resume?"]),
    (["train", "good.yaml", "--learning-rate", "1"], ["--learning-rate", "--set learning_rate=VALUE"]),
    (["train", "good.yaml", "--set"], ["--set"]),
    (["train", "good.yaml", "--set", "seed"], ["--set seed", "key=value"]),
    (["train", "good.yaml", "--set", "sed=1"], ["sed", "'seed'"]),
    (["train", "good.yaml", "--set", "seed=[1"], ["--set seed=[1", "YAML"]),
    (["train", "good.yaml", "--set", "seed=one"], ["seed", "'one'", "a whole number >= 0"]),
    (["train", "good.yaml", "--set", "task=nonsense"], ["nonsense", "general_points-v1"]),
    (["train", "good.yaml", "--set", "task.nonsense=1"], ["task.nonsense"]),
    (["train", "good.yaml", "--set", "balance.rule=nonsense"], ["nonsense"]),
    (["train", "good.yaml", "--output-dir", ""], ["output_dir", "non-empty"]),
    (["train", "nowhere.yaml"], ["nowhere.yaml", "no such"]),
    (["train", "general_pointz"], ["'general_points'"]),
    (["train", "occupied"], ["occupied", "directory"]),
    (["train", "syntax.yaml"], ["syntax.yaml, line 2, column 1"]),
    (["train", "twice.yaml"], ["twice.yaml, line 2", "'seed'"]),
    (["train", "list.yaml"], ["list.yaml", "mapping"]),
    (["train", "empty.yaml"], ["empty.yaml", "mapping"]),
    (["train", "unknown.yaml"], ["lerning_rate", "'learning_rate'"]),
    (["train", "type.yaml"], ["max_steps", "'many'"]),
    (["train", "range.yaml"], ["top_p", "2.0", "<= 1"]),
    (["train", "task.yaml"], ["nonsense", "general_points-v1"]),
    (["train", "rule.yaml"], ["nonsense", "amft"]),
    (["train", "split.yaml"], ["nonsense", "rule_ood"]),
    (["train", "model.yaml"], ["nowhere/at-all", "allow_download"]),
    (["train", "data.yaml"], ["nowhere.jsonl"]),
    (["train", "reward.yaml"], ["nowhere.py"]),
    (["train", "column.yaml"], ["rows.jsonl", "'question'", "data.columns.prompt"]),
    (["train", "good.yaml", "--output-dir", "occupied"], ["occupied", "already exists", "--resume"]),
    (["train", "good.yaml", "--output-dir", "good.yaml"], ["good.yaml", "already exists"]),
    (["train", "good.yaml", "--output-dir", "nothing_here", "--resume"], ["nothing_here"]),
    (["train", "good.yaml", "--output-dir", "no_run", "--resume"], ["no_run"]),
    (["eval", "nano"], ["--task"]),
    (["eval", "nano", "--task", "nonsense"], ["nonsense", "general_points-v1"]),
    (["eval", "nano", "--task", ""], ["task"]),
    (["eval", "nano", "--task", "general_points-v1", "--split", "ids"], ["'ids'", "'id'"]),
    (["eval", "nano", "--task", "general_points-v1", "--samples", "0"], ["--samples"]),
    (["eval", "nano", "--task", "general_points-v1", "--samples", "x"], ["--samples"]),
    (["eval", "nano", "--task", "general_points-v1", "--problems", "-1"], ["--problems"]),
    (["eval", "nano", "--task", "general_points-v1", "--seed", "-1"], ["--seed"]),
    (["eval", "nowhere", "--task", "general_points-v1"], ["nowhere"]),
    (["eval", "no_run", "--task", "general_points-v1"], ["no_run"]),
    (["eval", "good.yaml", "--task", "general_points-v1"], ["good.yaml"]),
    (["report"], ["RUN"]),
    (["report", "nowhere"], ["nowhere", "not a run"]),
    (["report", "no_run"], ["no_run", "not a run"]),
    (["report", "good.yaml"], ["good.yaml", "not a run"]),
    (["report", "broken_run"], ["broken_run"]),
    (["doctor", "nowhere"], ["nowhere", "not a run"]),
    (["doctor", "no_run", "--json"], ["no_run", "not a run"]),
    (["doctor", "broken_run"], ["broken_run"]),
    (["tasks", "extra"], ["extra"]),
    (["rules", "--jsonn"], ["--jsonn", "--json"]),
]


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(("arguments", "parts"), MISTAKES, ids=lambda value: " ".join(value)[:60])
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(arguments)
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("amft: error: ")
    assert error.count("\n") == 1
    assert error.endswith("\n")
    assert all(part in error for part in parts), error


def test_a_mistake_leaves_nothing_behind(workplace: Path) -> None:
    before = sorted(workplace.rglob("*"))
    assert main(["train", "good.yaml", "--set", "seed=one", "--output-dir", "new"]) == 2
    assert main(["train", "model.yaml", "--output-dir", "new"]) == 2
    assert main(["report", "no_run"]) == 2
    assert sorted(workplace.rglob("*")) == before


def test_a_message_of_several_lines_is_still_printed_on_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise AMFTError("first\n  second")

    monkeypatch.setattr("amft.settings.recipe.read_recipe", refuse)
    assert main(["train", "general_points"]) == 2
    assert capsys.readouterr().err == "amft: error: first second\n"


def test_our_own_defects_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("amft.settings.recipe.read_recipe", defect)
    with pytest.raises(ZeroDivisionError):
        main(["train", "general_points"])


def test_an_early_interrupt_is_one_line_and_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("amft.settings.recipe.read_recipe", interrupt)
    assert main(["train", "general_points"]) == 130
    assert capsys.readouterr().err == "amft: interrupted\n"


def test_the_installed_command_reports_and_exits_the_same(workplace: Path) -> None:
    command = Path(sys.executable).with_name("amft")
    result = subprocess.run([command, "train", "type.yaml"], cwd=workplace, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert result.stderr == "amft: error: max_steps: expected a whole number >= 1, got 'many'\n"
    assert result.stdout == ""


def test_a_closed_pipe_is_silent() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    code = "import sys; from amft.cli import main; sys.exit(main(['tasks']))"
    result = subprocess.run([sys.executable, "-c", code], stdout=write_end, stderr=subprocess.PIPE, timeout=60)
    os.close(write_end)
    assert (result.returncode, result.stderr) == (141, b"")


@pytest.mark.parametrize("arguments", [["tasks"], ["rules"]])
def test_lists_name_everything_in_text_and_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert main(arguments) == 0
    text = capsys.readouterr().out
    names = [entry.get("id") or entry.get("rule") for entry in described]
    assert names
    assert all(name in text for name in names)


@pytest.mark.parametrize(("words", "code", "said"), [(["rules"], 0, "amft-paper"), (["eval", "nowhere"], 2, "nowhere")])
def test_one_of_several_ranks_ends_with_its_words_and_its_exit_code(words: list[str], code: int, said: str) -> None:
    """It ends without taking the interpreter down, which would flush and pass the code on."""
    environment = os.environ | {"WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "amft", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert said in done.stdout + done.stderr
