"""Checkpoints of a whole run: what is saved, when, and how it comes back bit for bit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor
from transformers import PreTrainedModel

from ..data.streams import RowStream
from ..disk import disk_guard
from ..distributed.ranks import Ranks
from ..distributed.whole_state import load_full_state
from ..errors import AMFTError, CheckpointError
from ..models.load import load_model
from ..models.lora import adapter_state, has_adapter
from ..runs import RunDirectory
from ..settings.config import AMFTConfig
from ..tensors import TensorGroups
from .background import Contents, writer_for
from .checkpoint import load_checkpoint, save_checkpoint
from .checkpoint_retention import check_whole, clean_leftovers, is_resumable, newest_checkpoint, prune
from .export_model import adapter_names, export_model, policy_weights
from .saved_state import saved_state_of
from .shards import apart, load_shards, save_shards

SHARDS = "shards"


class JsonState(Protocol):
    """Something whose memory is JSON."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class TensorState(Protocol):
    """Something whose memory is groups of named tensors."""

    def state_dict(self) -> dict[str, dict[str, Tensor]]: ...
    def load_state_dict(self, tensors: dict[str, dict[str, Tensor]]) -> None: ...


class WindowState(Protocol):
    """Something whose memory is tensors and JSON."""

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]: ...
    def load_state_dict(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None: ...


class Progress(Protocol):
    """How far a run has come."""

    step: int
    """Optimizer steps done."""
    best: dict[str, float] | None
    """`step` and `score` of the best validation so far."""

    def event(self, step: int, kind: str, message: str) -> None:
        """Write down something that a reader of the run should know."""
        ...


@dataclass
class TrainerState:
    """Saves and restores everything a run's next step depends on."""

    run: RunDirectory
    config: AMFTConfig
    ranks: Ranks
    model: PreTrainedModel
    processing_class: Any
    """What is saved beside the model: a tokenizer, or what reads pictures."""
    learner: TensorState
    implicit_reward: TensorState
    collector: WindowState
    balancer: JsonState
    guard: JsonState
    lr_schedule: JsonState
    streams: Mapping[str, RowStream]
    """By name: the orders in which rows are drawn."""
    progress: Progress
    last: int | None = None
    """Step of the last checkpoint written or read."""

    def __post_init__(self) -> None:
        self.writer = writer_for(self.config, self.ranks)
        self.frozen = self.writer.frozen(self.model, self.processing_class)

    def save(self) -> None:
        """Write `checkpoints/step-N` and drop the oldest ones beyond the limit; the best one stays.

        Raises:
            CheckpointError: this one cannot be written, or with `checkpoint.async_save` the one before.
        """
        self.finish()
        step, best = self.progress.step, self.progress.best
        rollouts, window = self.collector.state_dict()
        state = {
            "step": step,
            **self.balancer.state_dict(),
            "best": best,
            "guard": self.guard.state_dict(),
            "lr_schedule": self.lr_schedule.state_dict(),
            "streams": {name: stream.state_dict() for name, stream in self.streams.items()},
            **window,
            "written": self.ranks.from_main(self.run.settle),  # on the disk before the checkpoint is
        }
        groups = (
            {}
            if self.config.checkpoint.only_model
            else {
                **self.learner.state_dict(),
                **self.implicit_reward.state_dict(),
                "rollouts": rollouts,
            }
        )
        protect = [self._path(int(best["step"]))] if best and self.config.checkpoint.keep_best else []
        weights = policy_weights(self.model, self.ranks)
        self.writer.begin(self._write, Contents(self._path(step), groups, weights, state, protect))
        self.last = step

    def finish(self) -> None:
        """Every checkpoint that was begun is on the disk.

        Raises:
            CheckpointError: one cannot be written.
        """
        self.writer.finish()

    def close(self) -> None:
        """Nothing of this rank writes any more."""
        self.writer.close()

    def restore(self) -> None:
        """Continue from the newest sound checkpoint; without one, start over from step 0.

        Data of another length, which the user has accepted, begins a new epoch.

        Raises:
            CheckpointError: every checkpoint is damaged, or the newest holds the model only.
        """
        step, skipped = self.ranks.from_main(self._find)
        if step is None:
            return
        with _fitting(self._path(step)):
            state = self._load(step)
        self.progress.step, self.progress.best, self.last = state["step"], state["best"], state["step"]
        for reason in skipped:
            self.progress.event(state["step"], "checkpoint", f"passed over: {reason}")

    def load_policy(self, step: int) -> None:
        """The weights of `checkpoints/step-N` alone."""
        self._load_weights(self._path(step))

    def _load(self, step: int) -> dict[str, Any]:
        """Put everything back; returns the JSON."""
        tensors, state = load_checkpoint(self._path(step))
        if (self._path(step) / SHARDS).is_dir():
            parameters = dict(self.model.named_parameters())
            for group, named in load_shards(self._path(step) / SHARDS, parameters, self.ranks).items():
                tensors[group] |= named
        self._load_weights(self._path(step))
        self.learner.load_state_dict(tensors)
        self.implicit_reward.load_state_dict(tensors)
        other = [name for name, stream in self.streams.items() if state["streams"][name]["n_rows"] != stream.n_rows]
        # What waits in a buffer is named by its place in the data.
        self.collector.load_state_dict(tensors["rollouts"], state | ({"buffer": [], "flight": None} if other else {}))
        self.balancer.load_state_dict(state)
        self.guard.load_state_dict(state["guard"])
        self.lr_schedule.load_state_dict(state["lr_schedule"])
        for name, stream in self.streams.items():
            saved = state["streams"][name]
            if name in other:
                stream.begin_epoch(saved["epoch"] + 1)
            else:
                stream.load_state_dict(saved)
        return state

    def _load_weights(self, checkpoint: Path) -> None:
        model = self.model
        saved: dict[str, Tensor] = {}

        def read() -> None:
            if has_adapter(model):
                saved.update(adapter_state(checkpoint / "model"))
                if saved.keys() != adapter_names(model):
                    raise CheckpointError(f"{checkpoint}: its adapter has other modules than this run's")
            else:
                saved.update(load_model(str(checkpoint / "model"), next(model.parameters()).dtype).state_dict())

        self.ranks.from_main(read)
        load_full_state(model, saved, self.ranks)

    def _find(self) -> tuple[int | None, list[str]]:
        """Step of the newest sound checkpoint, and why newer ones are not; the streams are cut back to it."""
        with disk_guard(self.run.checkpoints):
            clean_leftovers(self.run.checkpoints)
        newest = newest_checkpoint(self.run.checkpoints, self._is_sound)
        if newest.path is None and newest.skipped:
            raise CheckpointError(f"no checkpoint can be read; the newest: {newest.skipped[0].reason}")
        if newest.path is not None and not is_resumable(newest.path):
            raise CheckpointError(
                f"{newest.path}: holds the model only (checkpoint.only_model, or a finished run of a study), so there "
                f"is nothing to resume; begin a new run, with model: {self.run.path} or from scratch"
            )
        if newest.path is None:
            self.run.cut_back(-1, {})
            return None, []
        step = int(newest.path.name.removeprefix("step-"))
        self.run.cut_back(step, saved_state_of(newest.path).model_dump()["written"])
        return step, [skipped.reason for skipped in newest.skipped]

    def _is_sound(self, checkpoint: Path) -> None:
        missing = self.run.unsettled(check_whole(checkpoint).model_dump()["written"])
        if missing is not None:
            raise CheckpointError(f"{checkpoint}: {missing}; use an older checkpoint")

    def _write(self, contents: Contents, ranks: Ranks) -> None:
        """Reads nothing that training changes; all ranks take part."""
        tensors, shards = apart(contents.groups)
        folders = self._write_shards(shards, ranks) if shards else {}

        def write() -> None:
            save_checkpoint(contents.directory, tensors, contents.state, export, folders)
            prune(self.run.checkpoints, self.config.checkpoint.total_limit, contents.protect)

        def export(directory: Path) -> None:
            export_model(*self.frozen, contents.weights, directory)

        ranks.from_main(write)

    def _write_shards(self, shards: TensorGroups, ranks: Ranks) -> dict[str, Path]:
        """Every rank writes its part beside the checkpoint to be; a folder left by a killed save is taken away."""
        folder = self.run.checkpoints / f".{SHARDS}"

        def make_room() -> None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()

        ranks.from_main(make_room)
        save_shards(folder, shards, ranks)
        return {SHARDS: folder}

    def _path(self, step: int) -> Path:
        return self.run.checkpoints / f"step-{step}"


@contextmanager
def _fitting(checkpoint: Path) -> Iterator[None]:
    """Whatever goes wrong with a state that is whole: it is of another model or version, or made by hand."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError, OverflowError) as error:
        if isinstance(error, AMFTError):
            raise
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise CheckpointError(f"{checkpoint}: does not fit this run ({what}); delete it to use an older one") from error
