"""The trainer as Python users meet it: made from a model, settings and data; asked to train, to evaluate, to save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ..balance.base import Balance
from ..balance.method import Method
from ..checkpoints.export_model import save_policy
from ..errors import ConfigError
from ..experience.data_sources import OwnData
from ..models.hub import push_folder
from ..settings.config import AMFTConfig
from ..tasks.base import Task
from ..types import RewardFunction
from .arguments import refuse_others, settled_config, settled_model
from .callbacks import Callbacks
from .foundation import lay_foundation
from .out_of_memory import memory_named
from .result import facts_of, html_table
from .training_run import TrainingRun


class AMFTTrainer(TrainingRun):
    """Trains a policy with imitation and exploration in one stage, under a balance rule.

    Args:
        model: `nano`, a model directory, or a loaded model (then give `processing_class`).
        config: settings; `args` is another name for it, as in TRL.
        task: a task of `amft.tasks`, which brings problems, demonstrations and rewards; then leave out the next five.
        train_dataset: rows in TRL's formats: a path, a `datasets.Dataset` or a list of dicts.
        reward_funcs: one or more functions with TRL's signature.
        demonstrations: rows with `prompt` and `completion`; default: those of `train_dataset` that have both.
        val_dataset: rows to validate on (default: one prompt in ten of `train_dataset`, at most 64).
        eval_dataset: rows scored before and after. Their prompts, and those of validation, are taken out of training.
        processing_class: the tokenizer or processor; default: the one saved with the model.
        peft_config: of peft, for a LoRA adapter; the same as `config.lora`.
        callbacks: of transformers, as in its `Trainer`.
        balance: a rule of one's own, or a method joined from parts, instead of `config.balance`.
        recipe: what to write into the run's config.json; default: the config.

    Raises:
        ConfigError, DataError, ModelError, TaskError: one line that names the field and the fix.
    """

    def __init__(
        self,
        model: str | Path | PreTrainedModel,
        config: AMFTConfig | None = None,
        *,
        args: AMFTConfig | None = None,
        task: Task | None = None,
        train_dataset: Any = None,
        reward_funcs: Sequence[RewardFunction] | RewardFunction | None = None,
        demonstrations: Any = None,
        val_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        peft_config: Any = None,
        callbacks: Sequence[Any] = (),
        balance: Balance | Method | None = None,
        recipe: Mapping[str, Any] | None = None,
        **others: Any,
    ):
        refuse_others(others)
        config, model = settled_config(config, args, peft_config), settled_model(model)
        own = OwnData(train_dataset, reward_funcs, demonstrations, val_dataset, eval_dataset)
        if task is not None and any(value is not None for value in vars(own).values()):
            raise ConfigError("task: it brings its own data; give a task, or train_dataset and what belongs to it")
        with memory_named(config):
            self.foundation = lay_foundation(
                config,
                balance,
                model,
                base=None if recipe is None else recipe.get("model"),
                processing_class=processing_class,
                data=own if task is None else task,
            )
        self.config = self.foundation.config
        self.recipe = dict(recipe or self.config.model_dump()) | {
            name: getattr(self.config, name) for name in ("dtype", "max_steps")
        }
        self.step, self.best = 0, None
        self.callbacks = Callbacks(
            callbacks,
            self.config,
            {"model": self.foundation.model, "processing_class": self.foundation.tokenizer},
            is_main=self.foundation.parallel.ranks.is_main,
        )
        self.build()

    def evaluate(self) -> dict[str, float]:
        """Success of the policy as it is, by split: `eval/SPLIT/success` of the test splits, or of validation.

        Nothing is written; validation of this kind chooses no checkpoint.

        Raises:
            ConfigError: nothing is held out.
        """
        found = self.held_out.rates(self.step)
        self.callbacks.evaluated(found, self.best)
        return found

    def save_model(self, output_dir: str | Path) -> Path:
        """Write the policy as it is and its tokenizer, as `from_pretrained` reads them; with lora the adapter alone.

        Args:
            output_dir: a directory.

        Returns:
            The directory.

        Raises:
            RunError: the disk is full or refuses.
        """
        target = Path(output_dir)
        save_policy(self.model, self.foundation.processing_class, self.ranks, target)
        return target

    @property
    def log_history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl so far, one a step."""
        return list(self.run_logger.run.rows("metrics"))

    def __repr__(self) -> str:
        return f"AMFTTrainer({', '.join(f'{name} {value}' for name, value in self._facts().items())})"

    def _repr_html_(self) -> str:
        """For notebooks."""
        facts = self._facts()
        return html_table(["AMFTTrainer", ""], list(facts.items()))

    def _facts(self) -> dict[str, Any]:
        return facts_of(self.config, self.model, self.sources) | {"step": f"{self.step} of {self.config.max_steps}"}

    def push_to_hub(self, target: str, private: bool | None = None) -> str:
        """Push the final model with its card, after `train`; see `models.hub.push_folder`."""
        return push_folder(self.run_logger.run.path / "model", target, private)
