"""Spoiled model directories: each is refused on one line, none is trained in part, no code of theirs runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_mutations import MUTATIONS, mutate

from amft.cli import main

SEVERAL = {"drop": 6, "rename": 3, "reshape": 3, "nan": 3, "cut weights": 3, "index of nothing": 3}
"""Mutations that are drawn more than once."""

CASES = [(name, seed) for name in MUTATIONS for seed in range(SEVERAL.get(name, 1))]
RECIPE = """
model: mutant
data: {train: rows.jsonl, rewards: ['reward.py:length']}
max_steps: 1
num_prompts: 2
num_generations: 2
num_demos: 2
max_completion_length: 8
eval: {steps: 0}
balance: {rule: fixed, mu: 0.5}
threads: 1
"""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    row = '{"prompt": [{"role": "user", "content": "3"}], "completion": [{"role": "assistant", "content": "5"}]}\n'
    (tmp_path / "rows.jsonl").write_text(row * 2)
    (tmp_path / "reward.py").write_text("def length(completions, **columns):\n    return [1.0 for _ in completions]\n")
    (tmp_path / "run.yaml").write_text(RECIPE)
    return tmp_path


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 70


def test_the_sound_model_trains(workplace: Path, small_model: Path) -> None:
    (workplace / "mutant").symlink_to(small_model)
    assert main(["train", "run.yaml", "--output-dir", "run"]) == 0


@pytest.mark.parametrize(("name", "seed"), CASES)
def test_a_spoiled_model_is_refused_on_one_line(
    workplace: Path, small_model: Path, name: str, seed: int, capfd: pytest.CaptureFixture[str]
) -> None:
    mutate(small_model, workplace / "mutant", name, seed)
    for command in (["train", "run.yaml", "--output-dir", "run"], ["eval", "mutant", "--task", "general_points-v1"]):
        code = main([*command, *(["--problems", "2", "--split", "id"] if command[0] == "eval" else [])])
        error = capfd.readouterr().err
        assert code == 2, error
        lines = error.splitlines()
        assert [line for line in lines if line.startswith("amft: error: ")] == lines[-1:], error
        assert all(line.startswith("amft: ") for line in lines), error  # what is being done, then the error
        assert len(lines[-1]) < 600
    assert not (workplace / "run").exists()
    assert not (workplace / "unpickled").exists()
    assert not (workplace / "executed").exists()
