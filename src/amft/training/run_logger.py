"""What a run writes about itself: metrics, timings, samples, scores, events, and the progress bar."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import transformers
from tqdm import tqdm
from transformers import PreTrainedModel

from .. import __version__
from ..batch import Batch
from ..data.prompt_text import prompt_text
from ..demo_mixing.generation import Generation
from ..distributed.ranks import restarted
from ..evaluation.score import summary
from ..experience.sampling_context import Prompts
from ..experience.sources import Sources
from ..privacy import private, private_command, without_home
from ..progress_bar import Bar, in_notebook, progress_bar, say, waiting
from ..run_lock import RunLock
from ..runs import RunDirectory
from ..settings.config import AMFTConfig
from .tracking import Trackers

SHOWN_PROMPTS = 2
"""Prompts written to samples.jsonl each time."""


def environment(seed: int) -> dict[str, Any]:
    """Versions, hardware, command and seed."""
    return {
        "amft": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "platform": platform.platform(),
        "hardware": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores",
        "threads": torch.get_num_threads(),
        "command": "in a notebook"
        if in_notebook()
        else private_command([os.path.basename(sys.argv[0]), *sys.argv[1:]]),
        "seed": seed,
    }


class RunLogger:
    """Writes the run directory's streams as training goes."""

    def __init__(self, run: RunDirectory, tokenizer: Any, config: AMFTConfig, sources: Sources):
        self.run, self.tokenizer, self.config, self.sources = run, tokenizer, config, sources
        self.batch: Batch | None = None
        """The last rollouts, for the bundle of a non-finite step."""
        self.at = 0
        """Step that is being made; samples carry it."""
        self.trackers = Trackers(config)
        self.lock = RunLock(run.path)

    def open(self, recipe: Mapping[str, Any], model: PreTrainedModel, resume: bool) -> bool:
        """Open or make the run directory, and be the only one who writes there; whether there is something to resume.

        Args:
            recipe: written to config.json.
            model: counted.
            resume: as asked by the user; a process that torchrun has started again resumes anyhow.

        Raises:
            RunError: it is occupied, holds no run to resume, or another process writes there.
        """
        if (resume and not restarted()) or (restarted() and (self.run.path / "config.json").is_file()):
            RunDirectory.open(self.run.path)
            self._be_sole_writer()
            self.trackers.open()
            return True
        RunDirectory.create(self.run.path)
        self._be_sole_writer()
        self.run.write("config", private(dict(recipe)))
        parameters = sum(parameter.numel() for parameter in model.parameters())
        self.run.write("env", environment(self.config.seed) | {"parameters": parameters})
        self.trackers.open()
        return False

    def close(self) -> None:
        """Finish the trackers, and let another process write in the run directory."""
        for failure in self.trackers.close():
            self.event(self.at, "tracker", failure)
        self.lock.release()

    def _be_sole_writer(self) -> None:
        remark = self.lock.take()
        if remark is not None:
            say(remark)
            self.event(0, "lock", remark)

    def during(self, doing: str) -> AbstractContextManager[None]:
        """Lines about what goes on, on stderr."""
        return waiting(doing)

    def bar(self, step: int) -> AbstractContextManager[Bar]:
        """The progress bar of a run that is at this step."""
        say(f"training, step {step} of {self.config.max_steps}")
        return progress_bar(self.config.max_steps, "step", step)

    def step(self, step: int, row: Mapping[str, Any], timings: dict[str, float], bar: Bar) -> None:
        """One line of metrics, one of timings, one move of the bar."""
        tokens = row.get("tokens/rollout", 0.0) + row.get("tokens/demo", 0.0)
        timings["tokens_per_second"] = tokens / timings["time/step"]
        finite = {name: value for name, value in row.items() if not isinstance(value, float) or value - value == 0}
        self.run.append("metrics", {"step": step, **finite})
        self.run.append("timings", {"step": step, **timings})
        if step % self.config.logging_steps == 0:
            for failure in self.trackers.log(step, {**finite, **timings}):
                self.event(step, "tracker", failure)
        shown = {name: row.get(key) for name, key in (("mu", "mix/mu"), ("reward", "reward"), ("H", "entropy"))}
        told = {name: f"{value:.2f}" for name, value in shown.items() if value is not None}
        bar.move(1, {**told, "tok/s": f"{timings['tokens_per_second']:.0f}"})
        if "eval/val/success" in row:
            mu = f", mu {row['mix/mu']:.2f}" if "mix/mu" in row else ""
            tqdm.write(f"step {step}: validation success {row['eval/val/success']:.1%}{mu}")
        self.at = step

    def remember(self, batch: Batch) -> None:
        """Keep the rollouts for `bundle`."""
        self.batch = batch

    def samples(self, prompts: Prompts, generation: Generation) -> None:
        """Rollouts of the first prompts, beside a demonstration where there is one."""
        every, window = self.config.sample_steps, self.config.steps_per_generation * self.config.num_iterations
        if not every or -self.at % every >= window:  # none of the steps that use this generation is due
            return
        shown = [self._sample(prompts, generation, place) for place in range(len(generation.chosen[:SHOWN_PROMPTS]))]
        for sample in shown:
            self.run.append("samples", sample)
        told = [
            {"prompt": sample["prompt"], "demonstration": sample["demonstration"], **completion}
            for sample in shown
            for completion in sample["completions"]
        ]
        for failure in self.trackers.table(self.at + 1, "samples", told):
            self.event(self.at + 1, "tracker", failure)

    def _sample(self, prompts: Prompts, generation: Generation, place: int) -> dict[str, Any]:
        index = generation.chosen[place]
        row = prompts.rows[index]
        problem = row.get("problem")
        return {
            "step": self.at + 1,
            "key": problem.key if problem is not None else str(index),
            "prompt": prompt_text(row["prompt"]),
            "demonstration": prompt_text(self._demonstration(row)),
            "completions": [
                {
                    "text": line.text,
                    "reward": line.reward if line.reward == line.reward else None,
                    "outcome": line.outcome,
                }
                for line in generation.rollouts[place]
            ],
        }

    def _demonstration(self, row: Mapping[str, Any]) -> Any:
        task = getattr(self.sources.scorer, "task", None)
        return task.demonstrate(row["problem"]) if task is not None else row.get("completion")

    def first_validation(self, success: float) -> None:
        """Success on validation before the first step: an event, since metrics.jsonl begins with step 1."""
        message = f"success before the first step: {success:.1%}"
        self.run.append("events", {"step": 0, "kind": "validation", "message": message, "success": success})

    def write_scores(self, rows: list[dict[str, Any]]) -> None:
        """Graded answers of the model as it came or as it is now; trackers get the success of each split."""
        for row in rows:
            self.run.append("scores", row)
        when = {"base": "before", "policy": "after"}
        rates = {f"test/{line['split']}/{when[rows[0]['model']]}": line["rate"] for line in summary(rows)}
        for failure in self.trackers.log(self.at, rates) if rates else ():
            self.event(self.at, "tracker", failure)

    def scores(self, model: str) -> list[dict[str, Any]]:
        """The graded answers already written for `base` or `policy`."""
        return [row for row in self.run.rows("scores") if row["model"] == model]

    def event(self, step: int, kind: str, message: str) -> None:
        self.run.append("events", {"step": step, "kind": kind, "message": without_home(message)})

    def note(self, kind: str, message: str) -> None:
        """An event that is said aloud as well."""
        self.event(self.at, kind, message)
        tqdm.write(f"{kind:9} {message}", file=sys.stderr)

    def bundle(self) -> dict[str, Any]:
        """The last rollouts, for a person who looks into a non-finite step."""
        if self.batch is None:
            return {}
        ids = self.batch.ids.tolist()
        advantages = None if self.batch.advantages is None else self.batch.advantages.tolist()
        return {"ids": ids, "texts": self.tokenizer.batch_decode(ids), "advantages": advantages}


class SilentRunLogger(RunLogger):
    """The run_logger of the ranks that write nothing and say nothing."""

    def __init__(self, run: RunDirectory, tokenizer: Any, config: AMFTConfig, sources: Sources):
        super().__init__(run, tokenizer, config.model_copy(update={"report_to": []}), sources)

    def bar(self, step: int) -> AbstractContextManager[Any]:  # noqa: ARG002
        return nullcontext()

    def step(self, step: int, row: Mapping[str, Any], timings: dict[str, float], bar: Any) -> None:  # noqa: ARG002
        self.at = step

    def during(self, doing: str) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def samples(self, prompts: Prompts, generation: Generation) -> None:
        pass

    def first_validation(self, success: float) -> None:
        pass

    def write_scores(self, rows: list[dict[str, Any]]) -> None:
        pass

    def event(self, step: int, kind: str, message: str) -> None:
        pass

    def note(self, kind: str, message: str) -> None:
        pass
