"""What a Python user meets: what is shown, callbacks, names of TRL and transformers, and mistakes told in one line."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from tiny_runs import ROWS, build, one, parity, tiny_model, tiny_tokenizer
from transformers import AutoModelForCausalLM, EarlyStoppingCallback, TrainerCallback, TrainingArguments

from amft import AMFTConfig, AMFTTrainer
from amft.balance import Requirements
from amft.errors import AMFTError, CheckpointError, ConfigError, RewardError
from amft.report.doctor import diagnose
from amft.settings.borrowed_names import BORROWED, INSTEAD
from amft.training.arguments import lora_of
from amft.training.callbacks import callback_arguments
from amft.training.guard import AbstentionGuard
from amft.training.result import TrainResult

TEST = [{"prompt": f"{a} m", "completion": f" m {a} ."} for a in "abcdef"]
SMALL: dict[str, Any] = {
    "balance": {"rule": "fixed"}, "max_steps": 4, "num_prompts": 2, "num_generations": 2, "num_demos": 2,
    "max_completion_length": 5, "learning_rate": 1e-2, "checkpoint": {"steps": 0}, "sample_steps": 0,
    "eval": {"steps": 2},
}  # fmt: skip


def trainer(
    folder: Any, /, callbacks: Any = (), reward: Any = parity, rows: Any = ROWS, **settings: Any
) -> AMFTTrainer:
    config = AMFTConfig(output_dir=folder, **{**SMALL, **settings})
    return AMFTTrainer(
        tiny_model(),
        config,
        train_dataset=list(rows),
        eval_dataset=TEST,
        reward_funcs=reward,
        processing_class=tiny_tokenizer(),
        callbacks=callbacks,
    )


def refusal(call: Any, *given: Any, **settings: Any) -> str:
    with pytest.raises(AMFTError) as caught:
        call(*given, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# what is shown


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[AMFTTrainer, TrainResult]:
    made = trainer(tmp_path_factory.mktemp("shown") / "run")
    return made, made.train()


def test_a_result_prints_as_its_table(
    done: tuple[AMFTTrainer, TrainResult], capsys: pytest.CaptureFixture[str]
) -> None:
    result = done[1]
    print(result)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "held-out success [95 % interval]"
    assert lines[1].split() == ["split", "before", "after", "answers", "clusters"]
    assert lines[2].startswith("eval ")
    assert max(map(len, lines)) <= 80
    assert repr(result).startswith(f"TrainResult({result.run}: eval ")
    shown = result._repr_html_()
    assert f"<td>{result.table[0]['n']}</td>" in shown
    picture = base64.b64decode(shown.partition("base64,")[2].partition('"')[0]).decode()
    assert picture.startswith("<svg ")
    assert "weight of imitation" in picture
    assert "svg{background:#fff}" in picture, "readable on a page of any colour"


def test_a_result_knows_its_model_and_its_page(done: tuple[AMFTTrainer, TrainResult]) -> None:
    made, result = done
    loaded = AutoModelForCausalLM.from_pretrained(result.model_path)
    for ours, theirs in zip(made.model.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert result.report() == result.run / "report.html"
    assert result.report().read_text(encoding="utf-8").startswith("<!doctype html>")


def test_an_interrupted_result_says_so(tmp_path: Path) -> None:
    result = TrainResult(tmp_path, [], "SIGTERM")
    assert str(result) == f"{tmp_path}: stopped by SIGTERM; train(resume=True) goes on"
    assert "stopped by SIGTERM" in repr(result)
    assert "stopped by SIGTERM" in result._repr_html_()
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match="no complete checkpoint yet"):
        _ = result.model_path


def test_a_trainer_shows_what_it_trains(done: tuple[AMFTTrainer, TrainResult]) -> None:
    made = done[0]
    assert re.fullmatch(
        r"AMFTTrainer\(model your own, prompts 33, demonstrations 33, rule fixed, run .*, step 4 of 4\)", repr(made)
    )
    assert "<td>demonstrations</td>" in made._repr_html_()


def test_a_page_of_a_run_escapes_what_it_shows(tmp_path: Path) -> None:
    row = {"split": "<b>", "n": 1, "clusters": 1}
    row |= {f"{when}{end}": 0.5 for when in ("before", "after") for end in ("", "_low", "_high")}
    assert "<b>" not in TrainResult(tmp_path, [row])._repr_html_()


def test_the_log_history_is_the_metrics_file(done: tuple[AMFTTrainer, TrainResult]) -> None:
    made, result = done
    lines = (result.run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert made.log_history == [json.loads(line) for line in lines]
    assert len(lines) == 4


def test_evaluate_scores_the_policy_as_it_is(done: tuple[AMFTTrainer, TrainResult]) -> None:
    made, result = done
    assert made.evaluate() == {"eval/eval/success": result.table[0]["after"]}


def test_evaluate_without_anything_held_out_is_refused(tmp_path: Path) -> None:
    made = build(tmp_path, "fixed", rows=ROWS[:5])
    assert refusal(made.evaluate).startswith("evaluate: nothing is held out")


def test_a_saved_model_is_the_policy(done: tuple[AMFTTrainer, TrainResult], tmp_path: Path) -> None:
    made = done[0]
    loaded = AutoModelForCausalLM.from_pretrained(made.save_model(tmp_path / "deep" / "model"))
    assert all(torch.equal(a, b) for a, b in zip(made.model.parameters(), loaded.parameters(), strict=True))


# callbacks


class Recorder(TrainerCallback):
    """Writes down every event; asks for what it is told to ask for."""

    def __init__(self, **requests: int):
        self.events: list[tuple[str, int]] = []
        self.requests = requests
        self.logs: list[dict[str, Any]] = []
        self.metrics: list[dict[str, Any]] = []

    def _note(self, event: str, state: Any) -> None:
        self.events.append((event, state.global_step))

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._note("train_begin", state)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._note("step_begin", state)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> Any:
        assert model is not None
        self._note("step_end", state)
        for request, step in self.requests.items():
            setattr(control, request, state.global_step == step)
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self._note("log", state)
        self.logs.append(logs)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        self._note("evaluate", state)
        self.metrics.append(metrics)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._note("save", state)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._note("train_end", state)


def test_callbacks_hear_of_everything_in_order(tmp_path: Path) -> None:
    heard = Recorder()
    trainer(tmp_path / "run", [heard], max_steps=2, logging_steps=2, checkpoint={"steps": 1}).train()
    assert heard.events == [
        ("train_begin", 0), ("step_begin", 0), ("step_end", 1), ("save", 1),
        ("step_begin", 1), ("step_end", 2), ("evaluate", 2), ("log", 2), ("save", 2), ("train_end", 2),
    ]  # fmt: skip
    assert heard.logs[0]["phase"] == "mix"
    assert heard.metrics[0]["eval_success"] == heard.metrics[0]["eval/val/success"]


def test_callbacks_change_no_number(tmp_path: Path) -> None:
    trainer(tmp_path / "with", [Recorder]).train()
    trainer(tmp_path / "without").train()
    one, other = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("with", "without"))
    assert one == other


def test_what_callbacks_ask_for_is_done(tmp_path: Path) -> None:
    asked = Recorder(should_save=1, should_evaluate=3, should_log=1)
    trainer(tmp_path / "run", [asked], logging_steps=4).train()
    assert [step for event, step in asked.events if event == "save"] == [1, 4]
    assert [step for event, step in asked.events if event == "evaluate"] == [2, 3, 4]
    assert [step for event, step in asked.events if event == "log"] == [1, 4]


def test_a_callback_stops_the_run_and_the_end_is_scored(tmp_path: Path) -> None:
    made = trainer(tmp_path / "run", [Recorder(should_training_stop=2)])
    result = made.train()
    assert made.step == 2
    assert result.interrupted is None
    assert result.table
    assert "A callback ended the run" in [finding.title for finding in diagnose(result.run)]


def test_early_stopping_of_transformers_stops_when_validation_stands_still(tmp_path: Path) -> None:
    made = trainer(tmp_path / "run", [EarlyStoppingCallback(2)], reward=one, max_steps=30, eval={"steps": 1})
    made.train()
    assert made.step == 3, "the first score is the best, and two more are no better"


def test_callbacks_read_the_arguments_of_transformers() -> None:
    read = callback_arguments(AMFTConfig(output_dir="runs/x", learning_rate=0.5, report_to="none"))
    names = {field.name for field in dataclasses.fields(TrainingArguments)}
    assert names - vars(read).keys() <= {"output_dir"} | {
        field.name for field in dataclasses.fields(TrainingArguments) if field.default is dataclasses.MISSING
    }
    assert (read.output_dir, read.learning_rate, read.greater_is_better) == ("runs/x", 0.5, True)


def test_what_is_no_callback_is_refused(tmp_path: Path) -> None:
    assert "a dict is no transformers.TrainerCallback" in refusal(trainer, tmp_path, [{}])


# names


def test_names_of_trl_mean_what_they_mean_there() -> None:
    borrowed = AMFTConfig(
        output_dir=Path("runs") / "x", bf16=True, report_to="tensorboard", optim="adamw_torch", scale_rewards=False,
        per_device_train_batch_size=8, gradient_accumulation_steps=4, num_generations=4, eval_steps=3,
        save_steps=5, save_total_limit=2, save_only_model=True, load_best_model_at_end=True, warmup_steps=6,
        ddp_timeout=60, use_vllm=False, fp16=None,
    )  # fmt: skip
    own = AMFTConfig(
        output_dir="runs/x", dtype="bfloat16", report_to=["tensorboard"], optim="adamw", scale_rewards="none",
        num_prompts=8, micro_batch_size=8, num_generations=4, eval={"steps": 3}, lr_warmup_steps=6, rank_timeout=60.0,
        checkpoint={"steps": 5, "total_limit": 2, "only_model": True, "keep_best": True},
    )  # fmt: skip
    assert borrowed == own
    assert AMFTConfig(report_to="none") == AMFTConfig(report_to=None) == AMFTConfig()
    assert AMFTConfig(scale_rewards=True).scale_rewards == "group"


@pytest.mark.parametrize("name", INSTEAD)
def test_other_names_are_refused_with_what_to_use(name: str) -> None:
    assert refusal(AMFTConfig, **{name: "x"}) == f"{name}: {INSTEAD[name]}"
    assert AMFTConfig(**{name: False}) == AMFTConfig()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"bf16": True, "dtype": "float32"}, "bf16: the same as dtype, which is given too; leave one out"),
        ({"eval_steps": 1, "eval": {"steps": 2}}, "eval_steps: the same as eval.steps, which is given too"),
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps: give per_device_train_batch_size too"),
        ({"per_device_train_batch_size": 3}, "per_device_train_batch_size: 3 x 1 completions are no whole groups"),
        ({"per_device_train_batch_size": "8"}, "whole numbers from 1 on, got '8', 1"),
        ({"per_device_train_batch_size": 8, "num_prompts": 2}, "the same as num_prompts, which is given too"),
        ({"report_to": "all"}, "report_to.0: expected a list"),
        ({"save_steps": 0.5}, "checkpoint.steps: expected a whole number >= 0, got 0.5"),
    ],
)
def test_names_that_clash_are_refused(settings: dict[str, Any], line: str) -> None:
    assert line in refusal(AMFTConfig, **settings)


def test_batches_by_device_are_refused_on_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "give num_prompts and micro_batch_size" in refusal(AMFTConfig, per_device_train_batch_size=8)


def test_a_group_keeps_what_else_it_says() -> None:
    config = AMFTConfig(eval_steps=3, eval={"problems": 9})
    assert (config.eval.steps, config.eval.problems) == (3, 9)
    assert set(BORROWED) & AMFTConfig.model_fields.keys() == set()


def test_epochs_are_counted_over_the_prompts(tmp_path: Path) -> None:
    made = trainer(tmp_path, num_train_epochs=2)  # 33 prompts, 2 a step
    assert made.config.max_steps == made.recipe["max_steps"] == 33
    assert trainer(tmp_path, num_train_epochs=0.5, num_iterations=2).config.max_steps == 18
    alone = build(tmp_path, "sft", reward=None, num_train_epochs=1)  # 33 demonstrations, 4 a step
    assert alone.config.max_steps == 9
    assert "fewer than sft_warmup_steps" in refusal(trainer, tmp_path, num_train_epochs=0.1, sft_warmup_steps=3)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"args": AMFTConfig()}, "args: the same as config, which is given too; leave one out"),
        ({"optimizers": (None, None)}, "optimizers: choose one with optim and lr_scheduler_type in the config"),
        ({"learning_rate": 1.0}, "learning_rate: a setting; give it to AMFTConfig(learning_rate=...)"),
        ({"reward_func": one}, "reward_func: unknown argument; did you mean 'reward_funcs'?"),
    ],
)
def test_arguments_that_are_not_ours(given: dict[str, Any], line: str) -> None:
    assert refusal(AMFTTrainer, "nano", AMFTConfig(), **given) == line


def test_settings_of_another_library_are_refused() -> None:
    assert "a dict cannot be read here; write amft.AMFTConfig(...)" in refusal(AMFTTrainer, "nano", args={"seed": 1})
    assert "not a int" in refusal(AMFTTrainer, 3)


def test_an_adapter_of_peft_is_taken(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    made = AMFTTrainer(
        tiny_model(),
        args=AMFTConfig(output_dir=tmp_path, **SMALL),
        peft_config=peft.LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj"]),
        train_dataset=ROWS,
        reward_funcs=parity,
        processing_class=tiny_tokenizer(),
    )
    assert made.config.lora is not None
    assert (made.config.lora.r, made.config.lora.alpha, made.config.lora.target_modules) == (2, 6.0, ["q_proj"])
    assert all("lora_" in name for name, p in made.model.named_parameters() if p.requires_grad)
    assert "peft_config.lora_dropout: 0.1 is not supported" in refusal(lora_of, peft.LoraConfig(lora_dropout=0.1))
    assert "a IA3Config" in refusal(lora_of, peft.IA3Config())


def test_paths_are_taken_wherever_a_path_is_meant(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    config = AMFTConfig(output_dir=tmp_path / "run", **SMALL)
    made = AMFTTrainer(tmp_path / "model", config, train_dataset=tmp_path / "rows.jsonl", reward_funcs=parity)
    assert made.config.output_dir == str(tmp_path / "run")
    assert len(made.sources.prompts.rows) == 33  # type: ignore[union-attr]


# rewards and rules


def exact(prompts: Any, completions: Any, answer: Any, **columns: Any) -> list[float]:
    return [0.0 for _ in answer]


def narrow(completions: Any) -> list[float]:
    return [0.0 for _ in completions]


def abstains(completions: Any, **columns: Any) -> list[None]:
    return [None for _ in completions]


@pytest.mark.parametrize(
    ("reward", "line"),
    [
        ("some/reward-model", "reward_funcs: 'some/reward-model' is the name of a model"),
        (["some/reward-model"], "reward_funcs: 'some/reward-model' is the name of a model"),
        (torch.nn.Linear(2, 2), "reward_funcs: a Linear is no function"),
        (exact, "reward `exact` needs column `answer`; rows of train_dataset have prompt, completion"),
        (narrow, "reward `narrow` does not take `prompts`, which it is given; end it with **columns"),
    ],
)
def test_a_reward_that_cannot_work_is_refused_at_construction(tmp_path: Path, reward: Any, line: str) -> None:
    assert line in refusal(trainer, tmp_path, reward=reward)


def test_a_column_that_only_the_test_rows_lack_is_named(tmp_path: Path) -> None:
    rows = [{**row, "answer": "x"} for row in ROWS]
    assert "rows of eval_dataset have prompt, completion" in refusal(trainer, tmp_path, reward=exact, rows=rows)


def test_a_reward_that_only_abstains_ends_the_run(tmp_path: Path) -> None:
    made = trainer(tmp_path / "run", reward=abstains, max_steps=50, eval={"steps": 0, "test_splits": []})
    made.sources.tests = {}
    line = refusal(made.train)
    assert line.startswith("step 3: no completion of the last 3 generations got a reward")


def test_rewards_that_come_again_start_the_count_anew() -> None:
    guard = AbstentionGuard()
    for share in (1.0, 1.0, 0.9, 1.0, 1.0):
        guard.check(1, {"frac_reward_abstained": share})
        guard.check(1, {"policy_loss": 0.0})
    with pytest.raises(RewardError):
        guard.check(1, {"frac_reward_abstained": 1.0})


@dataclass(frozen=True)
class Half:
    requirements: ClassVar[Requirements] = Requirements()

    def init(self) -> dict[str, Any]:
        return {}

    def update(self, state: Any, signals: Any) -> Any:
        return 0.5


def test_a_rule_that_returns_a_float_is_told_what_to_return(tmp_path: Path) -> None:
    made = AMFTTrainer(
        tiny_model(),
        AMFTConfig(output_dir=tmp_path / "run", **SMALL),
        train_dataset=ROWS,
        reward_funcs=parity,
        processing_class=tiny_tokenizer(),
        balance=Half(),
    )
    with pytest.raises(ConfigError, match=r"return \(Weights, state, metrics\), for example \(Weights.convex\(0.5\)"):
        made.train()
