"""Checkpoints of a whole run: what is saved, when, and how it comes back bit for bit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoints.checkpoint import load_checkpoint, save_checkpoint
from ..checkpoints.checkpoint_retention import is_resumable, newest_checkpoint, prune
from ..checkpoints.shards import Groups, apart, load_shards, save_shards
from ..distributed.parallel import full_state, load_full_state
from ..errors import CheckpointError
from ..models.load import load_model
from ..models.lora import adapter_state, has_adapter, save_adapter
from ..runs import RunDirectory
from .guard import NonFiniteGuard

if TYPE_CHECKING:
    from .trainer import AMFTTrainer

SHARDS = "shards"

LAYOUT = {"parallel", "cpu_offload", "gradient_checkpointing", "rank_timeout"}
"""How the work lies on the machine; the numbers stay."""

FREE_TO_CHANGE = {"output_dir", "report_to", "save_total_limit", "save_only_model", "threads", "max_seconds"} | LAYOUT
"""Settings that may differ on resume; another difference would make another run."""


class TrainerState:
    """Saves and restores everything a trainer's next step depends on."""

    def __init__(self, trainer: AMFTTrainer, run: RunDirectory, guard: NonFiniteGuard):
        self.trainer, self.run, self.guard, self.ranks = trainer, run, guard, trainer.ranks
        self.last: int | None = None
        """Step of the last checkpoint written or read."""

    def save(self) -> None:
        """Write `checkpoints/step-N` and drop the oldest ones beyond the limit; the best one stays."""
        trainer = self.trainer
        rollouts, window = trainer.collector.state_dict()
        state = {
            "step": trainer.step,
            **trainer.mixing.state_dict(),
            "best": trainer.best,
            "lr_schedule": trainer.learner.schedule.state_dict(),
            "guard": self.guard.state_dict(),
            "streams": {name: stream.state_dict() for name, stream in self._streams().items()},
            **window,
        }
        groups = {} if trainer.config.save_only_model else {**trainer.learner.state_dict(), "rollouts": rollouts}
        tensors, shards = apart(groups)
        folders = self._write_shards(shards) if shards else {}
        weights = full_state(trainer.model, self.ranks, self._adapter_names())

        def export(directory: Path) -> None:
            if has_adapter(trainer.model):
                save_adapter(trainer.model, directory, weights)
            else:
                trainer.model.save_pretrained(directory, state_dict=weights)
            (trainer.tokenizer.save_pretrained if trainer.pictures is None else trainer.pictures.save)(directory)

        def write() -> None:
            save_checkpoint(self._path(trainer.step), tensors, state, export, folders)
            protect = [self._path(int(trainer.best["step"]))] if trainer.best and trainer.config.keep_best else []
            prune(self.run.checkpoints, trainer.config.save_total_limit, protect)

        self.ranks.from_main(write)
        self.last = trainer.step

    def restore(self) -> None:
        """Continue from the newest sound checkpoint; without one, start over from step 0.

        Raises:
            CheckpointError: the recipe differs, every checkpoint is damaged, or the newest holds the model only.
        """
        step, skipped = self.ranks.from_main(self._find)
        if step is None:
            return
        tensors, state = load_checkpoint(self._path(step))
        trainer = self.trainer
        if (self._path(step) / SHARDS).is_dir():
            parameters = dict(trainer.model.named_parameters())
            for group, named in load_shards(self._path(step) / SHARDS, parameters, self.ranks).items():
                tensors[group] |= named
        self._load_weights(self._path(step))
        trainer.learner.load_state_dict(tensors)
        trainer.collector.load_state_dict(tensors["rollouts"], state)
        trainer.step = trainer.run_logger.at = state["step"]
        trainer.mixing.load_state_dict(state)
        trainer.best = state["best"]
        trainer.learner.schedule.load_state_dict(state["lr_schedule"])
        self.guard.load_state_dict(state["guard"])
        for name, stream in self._streams().items():
            stream.load_state_dict(state["streams"][name])
        self.last = trainer.step
        for reason in skipped:
            trainer.run_logger.event(trainer.step, "checkpoint", f"passed over: {reason}")

    def load_policy(self, step: int) -> None:
        """The weights of `checkpoints/step-N` alone."""
        self._load_weights(self._path(step))

    def _load_weights(self, checkpoint: Path) -> None:
        model = self.trainer.model
        if has_adapter(model):
            saved = adapter_state(checkpoint / "model")
            if saved.keys() != self._adapter_names():
                raise CheckpointError(f"{checkpoint}: its adapter has other modules than this run's")
        else:
            saved = load_model(str(checkpoint / "model"), next(model.parameters()).dtype).state_dict()
        load_full_state(model, saved)

    def _adapter_names(self) -> set[str] | None:
        """What is trained, when that is an adapter; a checkpoint holds nothing else."""
        model = self.trainer.model
        return {name for name, p in model.named_parameters() if p.requires_grad} if has_adapter(model) else None

    def _find(self) -> tuple[int | None, list[str]]:
        """Step of the newest sound checkpoint, and why newer ones are not; the streams are cut back to it."""
        self._same_recipe()
        newest = newest_checkpoint(self.run.checkpoints)
        if newest.path is None and newest.skipped:
            raise CheckpointError(f"no checkpoint can be read; the newest: {newest.skipped[0].reason}")
        if newest.path is not None and not is_resumable(newest.path):
            raise CheckpointError(
                f"{newest.path}: holds the model only (save_only_model, or a finished run of a study), so there is "
                f"nothing to resume; begin a new run, with model: {self.run.path} or from scratch"
            )
        step = None if newest.path is None else int(newest.path.name.removeprefix("step-"))
        self.run.truncate(-1 if step is None else step)
        return step, [skipped.reason for skipped in newest.skipped]

    def _write_shards(self, shards: Groups) -> dict[str, Path]:
        """Every rank writes its part beside the checkpoint to be; a folder left by a killed save is taken away."""
        folder = self.run.checkpoints / f".{SHARDS}"

        def make_room() -> None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()

        self.ranks.from_main(make_room)
        save_shards(folder, shards, self.ranks)
        return {SHARDS: folder}

    def _streams(self) -> dict[str, Any]:
        sources = self.trainer.sources
        found = [sources.prompts, sources.demonstrations, sources.meta, sources.meta_demonstrations]
        return {source.stream.name: source.stream for source in found if source is not None}

    def _same_recipe(self) -> None:
        saved, ours = self.run.read("config"), self.trainer.recipe
        names = sorted((saved.keys() | ours.keys()) - FREE_TO_CHANGE)
        differ = [
            f"{name} was {saved.get(name)!r}, is {ours.get(name)!r}"
            for name in names
            if saved.get(name) != ours.get(name)
        ]
        if differ:
            raise CheckpointError(f"{self.run.path}: the recipe has changed since the run began: {'; '.join(differ)}")

    def _path(self, step: int) -> Path:
        return self.run.checkpoints / f"step-{step}"
