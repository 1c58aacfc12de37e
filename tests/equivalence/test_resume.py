"""Resume is bit-exact on a CPU, from any step, inside and outside a rollout window (scenario B1)."""

import shutil

import pytest

from amft.checkpoints.checkpoint_retention import final_checkpoint, keep_model
from amft.errors import CheckpointError
from amft.runs import RunDirectory
from amft.settings.config import AMFTConfig
from amft.tasks.registry import build_task
from amft.training.trainer import AMFTTrainer

STEPS = 7


KEPT = {"steps": 1, "total_limit": 50, "keep_best": True}


def settings(directory, **changes):
    base = {
        "output_dir": str(directory),
        "max_steps": STEPS,
        "sft_warmup_steps": 1,
        "num_prompts": 2,
        "num_generations": 3,
        "num_demos": 4,
        "max_completion_length": 80,
        "learning_rate": 1e-3,
        "steps_per_generation": 2,
        "num_iterations": 2,
        "micro_batch_tokens": 300,
        "beta": 0.01,
        "balance": {"rule": "amft", "meta_skip": 1},
        "eval": {"steps": 3, "problems": 4, "test_splits": ["id"], "test_problems": 4},
        "sample_steps": 2,
        "checkpoint": KEPT,
        "seed": 3,
    }
    return AMFTConfig(**(base | changes))


def run(base, config, resume=False):
    trainer = AMFTTrainer(str(base), config, task=build_task("general_points", reward="binary"))
    return trainer.train(resume=resume)


def produced(directory):
    files = ["metrics.jsonl", "samples.jsonl", "scores.jsonl", f"checkpoints/step-{STEPS}/model/model.safetensors"]
    files += [f"checkpoints/step-{STEPS}/{name}.safetensors" for name in ("optimizer", "meta", "rollouts")]
    return {name: (directory / name).read_bytes() for name in files}


@pytest.fixture(scope="module")
def straight(tiny_base, tmp_path_factory):
    directory = tmp_path_factory.mktemp("straight") / "run"
    run(tiny_base, settings(directory))
    return directory


@pytest.mark.parametrize("step", [1, 2, 3, 4, 6])
def test_resume_at_any_step_gives_the_same_bytes(step, straight, tiny_base, tmp_path):
    # Windows last 4 steps here and begin at steps 1 and 5: a checkpoint after 2, 3 or 4 lies inside the first one.
    cut = tmp_path / "run"
    shutil.copytree(straight, cut)
    for later in range(step + 1, STEPS + 1):
        shutil.rmtree(cut / "checkpoints" / f"step-{later}")
    run(tiny_base, settings(cut), resume=True)
    assert produced(cut) == produced(straight)


def test_same_seed_same_bytes_other_seed_other_bytes(straight, tiny_base, tmp_path):
    run(tiny_base, settings(tmp_path / "again"))
    run(tiny_base, settings(tmp_path / "other", seed=4))
    assert produced(tmp_path / "again") == produced(straight)
    assert produced(tmp_path / "other")["metrics.jsonl"] != produced(straight)["metrics.jsonl"]


def test_resume_refuses_another_recipe(straight, tiny_base, tmp_path):
    cut = tmp_path / "run"
    shutil.copytree(straight, cut)
    with pytest.raises(CheckpointError, match=r"learning_rate was 0\.001, is 0\.002"):
        run(tiny_base, settings(cut, learning_rate=2e-3), resume=True)


def test_a_damaged_checkpoint_is_passed_over(straight, tiny_base, tmp_path):
    cut = tmp_path / "run"
    shutil.copytree(straight, cut)
    weights = cut / "checkpoints" / f"step-{STEPS}" / "model" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    run(tiny_base, settings(cut), resume=True)
    assert produced(cut) == produced(straight)
    assert "model.safetensors" in (cut / "events.jsonl").read_text()


def refused(base, directory):
    """A resume is refused and has changed nothing."""
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match=r"holds the model only \(checkpoint.only_model, .*nothing to resume"):
        run(base, settings(directory), resume=True)
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before


def test_save_only_model_leaves_out_the_rest_and_changes_no_number(straight, tiny_base, tmp_path):
    cut = tmp_path / "run"
    shutil.copytree(straight, cut)
    for later in (5, 6, 7):
        shutil.rmtree(cut / "checkpoints" / f"step-{later}")
    run(tiny_base, settings(cut, checkpoint=KEPT | {"only_model": True}), resume=True)
    last = cut / "checkpoints" / f"step-{STEPS}"
    assert sorted(path.name for path in last.iterdir()) == ["manifest.json", "model", "state.json"]
    for name in ("metrics.jsonl", "scores.jsonl", f"checkpoints/step-{STEPS}/model/model.safetensors"):
        assert (cut / name).read_bytes() == (straight / name).read_bytes()
    refused(tiny_base, cut)


def test_a_finished_run_of_a_study_is_not_resumed_and_keeps_its_scores(straight, tiny_base, tmp_path):
    cut = tmp_path / "run"
    shutil.copytree(straight, cut)
    model = final_checkpoint(RunDirectory(cut)) / "model" / "model.safetensors"
    before = model.read_bytes()
    keep_model(RunDirectory(cut))
    assert model.read_bytes() == before
    refused(tiny_base, cut)
