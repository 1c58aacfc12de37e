"""`amft eval` and `amft sample` on a run with rows of its own: as the run answered, with prompts and answers."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from amft.cli import main

RECIPE = """
model: base
data: {train: rows.jsonl, test: test.jsonl, rewards: [right.py:right], columns: {prompt: question}}
output_dir: run
max_steps: 60
num_prompts: 2
num_generations: 2
num_demos: 16
max_completion_length: 5
temperature: 0.6
learning_rate: 3e-3
eval: {steps: 0}
checkpoint: {steps: 0}
balance: sft
threads: 1
"""
REWARD = """
def right(prompts, completions, answer, **columns):
    return [float(text.strip() == right) for text, right in zip(completions, answer)]


def length(prompts, completions, **columns):
    return [float(len(text)) for text in completions]
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned part of its rows."""
    from amft.models.tiny import tiny_model
    from amft.models.tokenizer import train_tokenizer

    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        pairs = [(a, b) for a in range(10) for b in range(10)]
        random.Random(0).shuffle(pairs)
        rows = [{"question": f"max {a} {b}:", "completion": f"{max(a, b)}", "answer": f"{max(a, b)}"} for a, b in pairs]
        tokenizer = train_tokenizer([row["question"] for row in rows], words=20)
        tiny_model("qwen3", vocab_size=len(tokenizer)).save_pretrained("base")
        tokenizer.save_pretrained("base")
        for name, part in (("rows", rows[:82]), ("test", rows[82:])):
            Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
        Path("right.py").write_text(REWARD)
        Path("run.yaml").write_text(RECIPE)
        assert main(["train", "run.yaml"]) == 0
    return folder


@pytest.fixture
def here(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    return trained


def lines(path: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def scores(model: str) -> list[dict[str, Any]]:
    drop = ("model", "step")
    rows = [row for row in lines("run/scores.jsonl") if row["model"] == model]
    return [{name: value for name, value in row.items() if name not in drop} for row in rows]


@pytest.mark.usefixtures("here")
def test_a_run_is_scored_again_exactly_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "run", "--output", str(tmp_path / "rows.jsonl"), "--json"]) == 0
    found = lines(tmp_path / "rows.jsonl")
    assert found == scores("policy")
    (row,) = json.loads(capsys.readouterr().out)
    right = sum(line["correct"] for line in found)
    assert (row["split"], row["n"], row["rate"]) == ("eval", 18, right / 18)
    assert 3 < right < 18
    assert [line["prompt"] for line in found] == [row["question"] for row in lines("test.jsonl")]
    assert all(line["reward"] == float(line["answer"].strip() == max(line["prompt"][4:-1].split())) for line in found)
    assert main(["eval", "base", "--data", "test.jsonl", "--reward", "right.py:right"]) == 2
    assert "no column 'prompt'" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_batches_do_not_change_greedy_answers(tmp_path: Path) -> None:
    for batch in ("3", "64"):
        assert main(["eval", "run", "--batch", batch, "--output", str(tmp_path / batch)]) == 0
    assert lines(tmp_path / "3") == lines(tmp_path / "64")
    assert [row["problem"] for row in lines(tmp_path / "3")] == list(range(18))


@pytest.mark.usefixtures("here")
def test_other_rows_and_another_reward(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.jsonl").write_text('{"question": "max 1 3:", "problem": "a word"}\n')
    words = ["eval", "run", "--data", "mine.jsonl", "--reward", "right.py:length", "--max-tokens", "1"]
    assert main([*words, "--output", str(tmp_path / "rows.jsonl"), "--json"]) == 0
    (row,) = lines(tmp_path / "rows.jsonl")
    assert row["reward"] == len(row["answer"]) > 0
    assert json.loads(capsys.readouterr().out)[0]["split"] == "mine.jsonl"


@pytest.mark.usefixtures("here")
def test_it_asks_as_the_run_did_unless_told_otherwise() -> None:
    from amft.assembly.evaluation import Asked, asking_of, run_config

    config = run_config("run")
    as_it_was = asking_of(config, Asked()).sampling
    assert (as_it_was.n, as_it_was.max_new_tokens, as_it_was.temperature) == (1, 5, 0.0)
    several = asking_of(config, Asked(samples=4)).sampling
    assert (several.n, several.temperature) == (4, 0.6)
    told = asking_of(config, Asked(samples=2, max_tokens=9, temperature=0.3, engine="hf"))
    assert (told.sampling.max_new_tokens, told.sampling.temperature, told.engine) == (9, 0.3, "hf")
    stranger = asking_of({}, Asked(samples=2)).sampling
    assert (stranger.max_new_tokens, stranger.temperature) == (256, 1.0)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["base"], "--task: give a task's id, or rows with --data"),
        (["base", "--data", "test.jsonl"], "--reward: give path/to/file.py:function"),
        (["run", "--split", "id"], "--split: rows of your own have none"),
        (["run", "--data", "test.jsonl", "--task", "general_points-v1"], "--data: rows of your own have no task"),
        (["run", "--task", "general_points-v1", "--reward", "right.py:right"], "--reward: it scores rows of your own"),
        (["run", "--output", "run.yaml"], "--output: run.yaml exists already"),
        (["run", "--data", "none.jsonl"], "none.jsonl: no such file"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("here")
def test_two_models_answer_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "base", "run", "-n", "4"]) == 0
    blocks = capsys.readouterr().out.strip().split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == [row["question"] for row in lines("test.jsonl")[:4]]
    for block, row in zip(blocks, scores("policy")):
        left, _, right = block.splitlines()[1].partition(" | ")
        assert left.strip() == "[base, reward 0]"
        assert right == f"[run, reward {row['reward']:g}]"
        assert block.splitlines()[2].rpartition("|")[2].strip() == row["answer"].strip()


@pytest.mark.usefixtures("here")
def test_what_is_typed_is_answered_without_a_score(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("max 1 3:\n\nmax 1 4:\n"))
    assert main(["sample", "run", "--prompt", "-", "--plain", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["prompt"], row["reward"]) for row in found] == [("max 1 3:", None), ("max 1 4:", None)]
    assert main(["sample", "run", "--prompt", "a", "--task", "general_points-v1"]) == 2
    assert "--prompt: it takes the place of" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_a_task_is_graded_for_any_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "nano", "--task", "general_points-v1", "-n", "2", "--max-tokens", "8", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(found) == 2
    assert all(row["outcome"] for row in found)


def test_columns_wrap_and_control_characters_are_shown() -> None:
    from amft.cli.columns import side_by_side

    shown = side_by_side(["a", "b"], ["one two three four five six", "\x1b[2Jred"], width=43)
    assert shown.splitlines() == [
        "[a]                  | [b]",
        "one two three four   | \\u001b[2Jred",
        "five six             |",
    ]


@pytest.mark.usefixtures("here")
def test_a_terminal_sees_how_far_it_is_from_the_beginning_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    assert main(["eval", "run", "--batch", "4"]) == 0
    shown = screen.getvalue()
    assert "0/18" in shown
    assert "18/18" in shown
