"""A resumed run is made of what it was made of, and of all that it wrote (scenario B7)."""

import json
import shutil
from pathlib import Path

import pytest
from tiny_runs import ROWS, tiny_model, tiny_tokenizer

from amft.data.rewards import load_reward
from amft.errors import CheckpointError, ConfigError
from amft.runs import RunDirectory
from amft.settings.config import AMFTConfig
from amft.training.trainer import AMFTTrainer

REWARD = """
EVEN = 0

def parity(prompts, completions, completion_ids, **columns):
    return [float(ids[0] % 2 == EVEN) for ids in completion_ids]
"""
STEPS = 6


class Made:
    """Everything that a run is made of, to change a part of it."""

    def __init__(self, home: Path):
        self.home = home
        self.train = [dict(row, answer=number) for number, row in enumerate(ROWS)]
        self.demonstrations = [dict(row) for row in ROWS]
        self.tests = [dict(row) for row in ROWS[:5]]
        self.reward, self.balance, self.model, self.tokenizer = REWARD, "amft", tiny_model(), tiny_tokenizer()

    def run(self, directory, steps=STEPS, **options):
        file = self.home / "reward.py"
        file.write_text(self.reward)
        config = AMFTConfig(
            output_dir=str(directory), balance={"rule": self.balance, "meta_skip": 1}, max_steps=STEPS, num_prompts=2,
            num_generations=4, num_demos=4, max_completion_length=5, learning_rate=1e-2, sample_steps=2, seed=1,
            checkpoint={"steps": 2, "total_limit": 9}, eval={"steps": 2},
        )  # fmt: skip
        trainer = AMFTTrainer(
            self.model, config, train_dataset=self.train, demonstrations=self.demonstrations, eval_dataset=self.tests,
            reward_funcs=load_reward(f"{file}:parity"), processing_class=self.tokenizer,
        )  # fmt: skip
        return trainer.train(**options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    home = tmp_path_factory.mktemp("whole")
    Made(home).run(home / "run")
    return home / "run"


@pytest.fixture
def cut(whole, tmp_path):
    """The run, stopped after step 4."""
    shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-6")
    return tmp_path / "run"


def answers(made):
    made.train[3]["answer"] = -1


def prompts(made):
    made.demonstrations[0]["prompt"] = "a m"


def order(made):
    made.train.reverse()


def eval_rows(made):
    made.tests.pop()


def reward(made):
    made.reward = REWARD.replace("EVEN = 0", "EVEN = 1")


def weights(made):
    next(made.model.parameters()).data[0, 0] += 1e-3


def template(made):
    made.tokenizer.chat_template = "{{ messages[0].content }}"


def vocabulary(made):
    made.tokenizer.add_tokens(["new"], special_tokens=True)  # beyond the vocabulary, where nothing writes it


CHANGES = {
    answers: ("data", "train_dataset"), prompts: ("data", "demonstrations"), order: ("data", "train_dataset"),
    eval_rows: ("data", "eval_dataset"), reward: ("rewards", "1 parity"), weights: ("model", "weights"),
    template: ("tokenizer", "chat_template"), vocabulary: ("tokenizer", "vocabulary"),
}  # fmt: skip


def test_what_is_the_same_goes_on_to_the_byte(whole, cut, tmp_path):
    Made(tmp_path).run(cut, resume=True)
    for name in ("metrics.jsonl", "scores.jsonl", "samples.jsonl"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes()


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_is_refused_by_name_and_nothing_is_touched(change, cut, tmp_path):
    made, (group, part) = Made(tmp_path), CHANGES[change]
    before = {path: path.read_bytes() for path in cut.rglob("*") if path.is_file() and path.name != "run.lock"}
    change(made)
    said = rf"not what the run began with: {group} \({part}\); .* --accept-changes {group}$"
    with pytest.raises(CheckpointError, match=said):
        made.run(cut, resume=True)
    assert before == {path: path.read_bytes() for path in before}


def test_what_is_accepted_is_written_down_and_asked_once(cut, tmp_path):
    made = Made(tmp_path)
    made.train, made.demonstrations = made.train[:20], made.demonstrations[5:]
    reward(made)
    with pytest.raises(CheckpointError, match=r"data \(demonstrations, train_dataset\); rewards \(1 parity\)"):
        made.run(cut, resume=True)
    with pytest.raises(CheckpointError, match=r"began with: rewards"):
        made.run(cut, resume=True, accept_changes=["data"])
    made.run(cut, resume=True, accept_changes=["data", "rewards"])
    accepted = [row for row in RunDirectory(cut).rows("events") if row["kind"] == "accepted"]
    assert [row["step"] for row in accepted] == [4, 4]
    assert "data (demonstrations, train_dataset)" in accepted[0]["message"]
    shutil.rmtree(cut / "checkpoints" / "step-6")
    made.model = tiny_model()  # that one has been trained
    made.run(cut, resume=True)


def test_only_what_there_is_can_be_accepted(cut, tmp_path):
    with pytest.raises(ConfigError, match="no 'rows'; choose from data, rewards"):
        Made(tmp_path).run(cut, resume=True, accept_changes=["rows"])
    with pytest.raises(ConfigError, match="for a run that is resumed"):
        Made(tmp_path).run(tmp_path / "new", accept_changes=["data"])


@pytest.mark.parametrize("stream", ["metrics", "scores", "samples", "events"])
@pytest.mark.parametrize("damage", ["torn", "missing", "altered"])
def test_a_checkpoint_whose_records_are_gone_is_passed_over(damage, stream, whole, cut, tmp_path):
    """Step 4's are damaged after what step 2 had; the run goes on from there and ends the same."""
    path = cut / f"{stream}.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    of_step_2 = json.loads((cut / "checkpoints/step-2/state.json").read_text())["written"][stream]["bytes"]
    of_step_4 = json.loads((cut / "checkpoints/step-4/state.json").read_text())["written"][stream]["bytes"]
    data = path.read_bytes()
    if of_step_2 == of_step_4:  # nothing was written between them: neither checkpoint is sound without it
        path.write_bytes(data[: of_step_2 - 1])
        with pytest.raises(CheckpointError, match=f"{stream}.jsonl has .* when the checkpoint was written"):
            Made(tmp_path).run(cut, resume=True)
        return
    middle = (of_step_2 + of_step_4) // 2
    changed = {"torn": data[:middle], "missing": data[:of_step_2], "altered": data[:middle] + b"7" + data[middle + 1 :]}
    path.write_bytes(changed[damage])
    Made(tmp_path).run(cut, resume=True)
    assert len(lines) == len(path.read_text().splitlines()) - (stream == "events")
    for name in ("metrics.jsonl", "scores.jsonl", "samples.jsonl"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    assert "passed over" in (cut / "events.jsonl").read_text()
