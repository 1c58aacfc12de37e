"""Checkpoints of a whole run: what is saved, when, and how it comes back bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError
from ..models.load import load_model
from ..runs import RunDirectory
from .checkpoint import load_checkpoint, newest_checkpoint, prune, save_checkpoint
from .guard import NonFiniteGuard

if TYPE_CHECKING:
    from .trainer import AMFTTrainer

FREE_TO_CHANGE = {"output_dir", "report_to", "save_total_limit", "threads", "max_seconds"}
"""Settings that may differ on resume; another difference would make another run."""


class Snapshots:
    """Saves and restores everything a trainer's next step depends on."""

    def __init__(self, trainer: AMFTTrainer, run: RunDirectory, guard: NonFiniteGuard):
        self.trainer, self.run, self.guard = trainer, run, guard
        self.last: int | None = None
        """Step of the last checkpoint written or read."""

    def save(self) -> None:
        """Write `checkpoints/step-N` and drop the oldest ones beyond the limit; the best one stays."""
        trainer = self.trainer
        rollouts, window = trainer.collector.state_dict()
        state = {
            "step": trainer.step,
            "balance": trainer.balance_state,
            "entropy_target": trainer.entropy_target,
            "best": trainer.best,
            "guard": self.guard.state_dict(),
            "streams": {name: stream.state_dict() for name, stream in self._streams().items()},
            **window,
        }
        tensors = {**trainer.learner.state_dict(), "rollouts": rollouts}
        save_checkpoint(self._path(trainer.step), tensors, state, self._export)
        self.last = trainer.step
        protect = [self._path(int(trainer.best["step"]))] if trainer.best and trainer.config.keep_best else []
        prune(self.run.checkpoints, trainer.config.save_total_limit, protect)

    def restore(self) -> None:
        """Continue from the newest sound checkpoint; without one, start over from step 0.

        Raises:
            CheckpointError: the recipe differs, or every checkpoint is damaged.
        """
        self._same_recipe()
        newest = newest_checkpoint(self.run.checkpoints)
        if newest.path is None:
            if newest.skipped:
                raise CheckpointError(f"no checkpoint can be read; the newest: {newest.skipped[0].reason}")
            self.run.truncate(-1)
            return
        tensors, state = load_checkpoint(newest.path)
        trainer = self.trainer
        self._load_weights(newest.path)
        trainer.learner.load_state_dict(tensors)
        trainer.collector.load_state_dict(tensors["rollouts"], state)
        trainer.step = trainer.recorder.at = state["step"]
        trainer.balance_state = state["balance"]
        trainer.entropy_target = state["entropy_target"]
        trainer.best = state["best"]
        self.guard.load_state_dict(state["guard"])
        for name, stream in self._streams().items():
            stream.load_state_dict(state["streams"][name])
        self.last = trainer.step
        self.run.truncate(trainer.step)
        for skipped in newest.skipped:
            trainer.recorder.event(trainer.step, "checkpoint", f"passed over: {skipped.reason}")

    def load_policy(self, step: int) -> None:
        """The weights of `checkpoints/step-N` alone."""
        self._load_weights(self._path(step))

    def _load_weights(self, checkpoint: Path) -> None:
        saved = load_model(str(checkpoint / "model"), next(self.trainer.model.parameters()).dtype)
        self.trainer.model.load_state_dict(saved.state_dict())

    def _export(self, directory: Path) -> None:
        self.trainer.model.save_pretrained(directory)
        self.trainer.tokenizer.save_pretrained(directory)

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
