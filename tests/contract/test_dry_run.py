"""`amft train RECIPE --dry-run` on every shipped recipe, and against the trainer that the same recipe makes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("math_verify")
pytest.importorskip("pebble")
pytest.importorskip("peft")

from amft.assembly.training import build_trainer
from amft.cli import main
from amft.models.load import NANO
from amft.planning.dry_run import dry_run
from amft.settings.recipe import load_recipe
from amft.step.optimizers import SharedOptimizer

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "recipes").glob("*.yaml"))
SMALL = ["max_steps=2", "sft_warmup_steps=0", "num_demos=4", "num_prompts=2", "eval.problems=4", "eval.test_problems=4"]


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def without_weights(tmp_path: Path) -> Path:
    """The nano base, config and tokenizer alone: whoever reads a weight fails."""
    model = tmp_path / "model"
    shutil.copytree(NANO, model, ignore=shutil.ignore_patterns("*.safetensors"))
    return model


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_recipe_for_a_hub_model_is_built_from_its_config(path, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-cache"))
    assert main(["train", str(path), "--dry-run"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "AdamW, state" in said
    assert "is not on this disk, and a dry run fetches nothing" in said
    assert everything(tmp_path) == set()


def test_a_shadow_is_counted(without_weights, tmp_path, capsys) -> None:
    asked = [*SMALL, f"model={without_weights}", f"output_dir={tmp_path / 'run'}", "balance.rule=bridge"]
    found = dry_run(load_recipe("general_points", asked))
    assert found.optimizer_bytes is not None
    assert found.optimizer_bytes > 1.9 * found.bytes
    assert found.shadow_bytes == found.bytes + found.optimizer_bytes
    assert main(["train", "general_points", "--dry-run", *(word for each in asked for word in ("--set", each))]) == 0
    assert "shadow 41 MiB" in " ".join(capsys.readouterr().out.split())


def test_a_model_in_the_hubs_cache_is_read_there(without_weights, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"), raising=False)
    home = tmp_path / "cache/models--owner--name"
    (home / "refs").mkdir(parents=True)
    (home / "refs/main").write_text("1" * 40)
    shutil.copytree(without_weights, home / "snapshots" / ("1" * 40))
    recipe = load_recipe("general_points", [*SMALL, "model=owner/name", f"output_dir={tmp_path / 'run'}"])
    found = dry_run(recipe.model_copy(update={"allow_download": True}))
    assert found.tokenizer > 1000
    assert not found.unchecked


def test_the_demonstrations_recipe_is_built_whole(without_weights, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    before = everything(tmp_path)
    assert main(["train", "general_points", "--dry-run", "--set", "model=model"]) == 0
    said = capsys.readouterr().out
    (unchecked,) = [line for line in said.splitlines() if line.startswith("unchecked")]
    assert "the verdicts on" in unchecked
    assert "rewards     of 8 demonstrations: 5, 5, 5, 5, 5, 5, 5, 5" in said
    assert "4 prompts of 55 to 55 tokens x 8 answers of at most 320" in " ".join(said.split())
    assert everything(tmp_path) == before


@pytest.mark.parametrize("recipe", ["own_data", "sums"])
def test_recipes_with_own_rows_are_built_whole(recipe, without_weights, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    if recipe == "sums":
        script = ROOT / "recipes/smollm2/sums.py"
        subprocess.run([sys.executable, str(script), "sums"], check=True)
        asked = [str(script.with_name("sums.yaml")), "--set", f"data.rewards=[{json.dumps(f'{script}:right')}]"]
    else:
        Path("data").mkdir()
        for name in ("train", "demos", "test"):
            rows = [{"prompt": f"{name} {i}:", "completion": " 7", "answer": "7"} for i in range(40)]
            Path(f"data/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        Path("rewards.py").write_text("def correct(completions, **columns):\n    return [1.0 for _ in completions]\n")
        asked = ["own_data"]
    before = everything(tmp_path)
    assert main(["train", *asked, "--dry-run", "--set", "model=model"]) == 0
    said = capsys.readouterr().out
    (unchecked,) = [line for line in said.splitlines() if line.startswith("unchecked")]
    assert "the verdicts on" in unchecked
    assert "rewards     of 8 demonstrations: 1, 1, 1, 1, 1, 1, 1, 1" in said
    assert {name for name in everything(tmp_path) - before if "__pycache__" not in name} == set()


@pytest.mark.parametrize("rule", ["amft", "brake", "sft"])
def test_eight_demonstrations_are_graded_not_all(rule, without_weights, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    for name in ("train", "demos", "test"):
        rows = [{"prompt": f"{name} {i}:", "completion": " 7", "answer": str(i % 3)} for i in range(200)]
        Path(f"data/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("rewards.py").write_text(
        "def correct(completions, answer, **columns):\n"
        "    with open('graded', 'a') as file:\n"
        "        file.write('x' * len(completions))\n"
        "    return [float(said == '0') for said in answer]\n"
    )
    changes = [f"balance={{rule: {rule}}}", "demonstrations.filter=verified"]
    assert main(["train", "own_data", "--dry-run", "--set", "model=model", *_set(changes)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "demonstrations: 8 graded: 3 right, 5 wrong, 0 silent" in said
    assert "unchecked the verdicts on 192 more demonstrations" in said
    assert "demonstrations 200" in said
    # eight for their verdicts, eight for their rewards, and for the rule that measures held-out ones up to eight more
    assert len(Path("graded").read_text()) == (24 if rule == "brake" else 16)


def _set(changes: list[str]) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


@pytest.mark.parametrize("change", [[], ["lora={r: 2}"], ["balance=rl", "optim=sgd", "sgd_momentum=0.9"]])
def test_it_says_what_the_trainer_is(change, tmp_path) -> None:
    recipe = load_recipe("general_points", [*SMALL, *change, f"output_dir={tmp_path / 'run'}"])
    found, trainer = dry_run(recipe), build_trainer(recipe)
    parameters = list(trainer.model.parameters())
    assert found.parameters == sum(p.numel() for p in parameters)
    assert found.trained == sum(p.numel() for p in parameters if p.requires_grad)
    assert found.bytes == sum(p.nbytes for p in parameters)
    assert found.rows["prompts"] == len(trainer.sources.prompts.rows)
    assert found.rows["demonstrations"] == len(trainer.sources.demonstrations.encoded.rows)
    lengths = [len(trainer.sources.prompts.ids[i]) for i in trainer.sources.prompts.stream.take(2)]
    assert found.batches["exploration"].startswith(f"2 prompts of {min(lengths)} to {max(lengths)} tokens x 8")
    for p in parameters:
        p.grad = p.detach().clone() if p.requires_grad else None
    optimizer: SharedOptimizer = trainer.learner.optimizer
    optimizer.step(imitates=False)
    assert found.optimizer_bytes == sum(t.nbytes for t in optimizer.tensors()["optimizer"].values())
    buffers = trainer.learner.mix is not None
    assert found.buffer_bytes == (2 * sum(p.nbytes for p in parameters if p.requires_grad) if buffers else 0)


def test_mistakes_are_one_line_each(without_weights, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/general_points/checkpoints/step-1").mkdir(parents=True)
    for asked, word in (
        (["general_points"], "already exists"),
        (["general_points", "--resume"], "leave out --resume"),
        (["general_points", "--output-dir", "b", "--set", "model=nowhere"], "no directory nowhere"),
        (["general_points", "--output-dir", "b", "--set", "max_prompt_length=20"], "20"),
        (["own_data", "--output-dir", "b", "--set", "model=model"], "no such file"),
        (["general_points", "--output-dir", "b", "--set", "lora.target_modules=[nothing]"], "target_modules"),
    ):
        assert main(["train", *asked, "--dry-run"]) == 2, asked
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert line.startswith("amft: error: ")
        assert word in line
    shutil.copy(NANO / "model.safetensors", "model")
    config = json.loads(Path("model/config.json").read_text())
    Path("model/config.json").write_text(json.dumps(config | {"intermediate_size": 40 * config["intermediate_size"]}))
    assert main(["train", "general_points", "--output-dir", "b", "--set", "model=model", "--dry-run"]) == 2
    assert "do not belong together" in capsys.readouterr().err
