"""The audit on trainers of TRL as they are, and with a bug planted in each place that it looks at."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("trl")
from datasets import Dataset
from test_trl_adapter import PROMPTS, arguments, residue
from transformers import Trainer
from trl import GRPOTrainer, SFTConfig, SFTTrainer

from amft.audit.trl import audit_trl_trainer
from amft.errors import ConfigError
from amft.models.load import load_model, load_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore")

DEMOS = [
    {"prompt": f"make {n} from 1 2 3: ", "completion": " + ".join(["1"] * (n % 5 + 1)) + f" = {n}"} for n in range(12)
]


def sft(folder: Any, **settings: Any) -> SFTTrainer:
    args = SFTConfig(
        **{"output_dir": str(folder), "report_to": "none", "use_cpu": True, "bf16": False, "max_length": 64, **settings}
    )
    rows = Dataset.from_list(DEMOS)
    return SFTTrainer(load_model("nano"), args=args, train_dataset=rows, processing_class=load_tokenizer("nano"))


def grpo(folder: Any, rows: Any = None, **settings: Any) -> GRPOTrainer:
    given = {"num_generations": 2, "max_completion_length": 8, "beta": 0.0, **settings}
    return GRPOTrainer(
        load_model("nano"),
        args=arguments(folder, **given),
        reward_funcs=residue,
        train_dataset=Dataset.from_list(rows or [{"prompt": prompt} for prompt in PROMPTS]),
        processing_class=load_tokenizer("nano"),
    )


def rulings(trainer: Any) -> dict[str, str]:
    return {answer.check: answer.ruling for answer in audit_trl_trainer(trainer)}


def test_trl_as_it_is_passes(tmp_path: Any) -> None:
    found = audit_trl_trainer(sft(tmp_path / "sft"))
    assert {answer.ruling for answer in found} == {"ok"}, found
    found = rulings(grpo(tmp_path / "grpo"))
    assert found.pop("prompts") == "none"
    assert set(found.values()) == {"ok"}


def test_a_mean_of_micro_batch_means_is_found(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, own = sft(tmp_path), Trainer.training_step
    monkeypatch.setattr(SFTTrainer, "training_step", lambda self, model, inputs, items: own(self, model, inputs, None))
    assert rulings(trainer)["micro-batches"] == "wrong"


def test_a_gradient_that_is_forgotten_is_found(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, own = grpo(tmp_path), GRPOTrainer.training_step

    def training_step(self: Any, model: Any, inputs: Any, items: Any) -> torch.Tensor:
        model.zero_grad()
        return own(self, model, inputs, items)

    monkeypatch.setattr(GRPOTrainer, "training_step", training_step)
    assert rulings(trainer)["arrivals"] == "wrong"


def test_loss_on_prompts_and_cut_demonstrations_are_found(tmp_path: Any) -> None:
    found = rulings(sft(tmp_path, completion_only_loss=False, max_length=20))
    assert (found["mask"], found["demonstrations"]) == ("wrong", "wrong")


def test_a_first_token_without_loss_is_found(tmp_path: Any) -> None:
    trainer = sft(tmp_path)

    def skips_it(row: dict[str, Any]) -> dict[str, Any]:
        first = next(i for i, label in enumerate(row["labels"]) if label != -100)
        return {"labels": [-100 if i == first else label for i, label in enumerate(row["labels"])]}

    trainer.train_dataset = trainer.train_dataset.map(skips_it)
    assert rulings(trainer)["first-token"] == "wrong"


def test_answers_in_prompts_are_found(tmp_path: Any) -> None:
    answer = "six times six is thirty-six"
    rows = [{"prompt": f"Say {answer}", "completion": answer}] * 4
    assert rulings(grpo(tmp_path, rows=rows))["prompts"] == "wrong"


def test_what_cannot_be_audited_is_refused(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match="not a str"):
        audit_trl_trainer("trainer")
    with pytest.raises(ConfigError, match="set it to 2 or 3"):
        audit_trl_trainer(grpo(tmp_path, num_generations=4))
