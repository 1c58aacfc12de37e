"""A run from first step to last: phases, steps, evaluation, checkpoints. It knows no rule and no task by name."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Any

from ..checkpoints.trainer_state import TrainerState
from ..errors import RewardNotFiniteError
from ..evaluation.score import before_after_rows
from ..settings.config import AMFTConfig
from ..step.warmup import warmup
from .assemble import build_organs
from .callbacks import Callbacks
from .check_sources import check_sources
from .final_model import check_target, place_final_model, push_final_model
from .foundation import Foundation
from .guard import AbstentionGuard, NonFiniteGuard, StopSignals
from .held_out import HeldOutScores
from .out_of_memory import memory_named
from .result import TrainResult
from .same_run import check_accepted, same_run


class TrainingRun:
    """What a trainer does, once it is made: steps, validation, checkpoints, and the final model."""

    foundation: Foundation
    config: AMFTConfig
    recipe: dict[str, Any]
    """What config.json says."""
    step: int
    """Optimizer steps done, warm-up included."""
    best: dict[str, float] | None
    """`step` and `score` of the best validation so far."""
    callbacks: Callbacks

    def build(self) -> None:
        """Make everything that trains, anew, on the foundation as it is."""
        self.model, self.tokenizer = self.foundation.model, self.foundation.tokenizer
        self.ranks, self.sources = self.foundation.parallel.ranks, self.foundation.sources
        self.warmup_steps = self.config.sft_warmup_steps if self.foundation.method.requirements.warmup else 0
        self.organs = build_organs(self.foundation, self.config.max_steps - self.warmup_steps)
        self.learner, self.run_logger = self.organs.learner, self.organs.run_logger
        self.held_out = HeldOutScores(self.foundation, lambda batch: self.learner.logps(self.model, batch, 1.0))
        self.abstentions = AbstentionGuard()

    def train(self, resume: bool = False, accept_changes: Collection[str] = ()) -> TrainResult:
        """Run to `max_steps`, or to a stop signal; then score the test splits.

        Args:
            resume: continue the run in `output_dir` from its newest sound checkpoint, bit for bit on a CPU. After a
                restart by torchrun it is done anyhow.
            accept_changes: what may have changed since the run began, of `content.PARTS_OF_A_RUN`; written to events.

        Raises:
            RankError: another rank is gone.
            RunError: `output_dir` is occupied, or holds no run to resume.
            CheckpointError: no checkpoint can be read, or it is of another recipe, or made of other things.
            ConfigError: there is no such thing to accept.
            NonFiniteError: too many non-finite steps in a row.
            RewardError, ConfigError, TaskError: code of your own failed, or did not return in time.
            DeviceMemoryError: memory is not enough; names the settings that take less.
            CutShortError: the run should have stopped, and code of your own did not return; go on with `resume`.
        """
        balancer, schedule = self.organs.balancer, self.learner.schedule
        check_sources(self.config, self.foundation.method, self.sources, balancer, schedule, self.warmup_steps)
        run, described = self.run_logger.run, self.recipe | {"content": self.foundation.content}
        check_accepted(accept_changes, resume)
        stopping = StopSignals(self.config.reward_timeout)
        guard = NonFiniteGuard(self.config.max_bad_steps, run.path if self.ranks.is_main else None)
        with (
            self.ranks.contact(),
            memory_named(self.config),
            stopping as stop,
            closing(self.run_logger),
            closing(self._state(guard)) as state,
        ):
            self.ranks.from_main(lambda: check_target(self.config))
            is_there = self.ranks.from_main(lambda: self.run_logger.open(described, self.model, resume))
            if is_there:
                accepted = self.ranks.from_main(lambda: same_run(run, described, accept_changes))
                state.restore()
                self.run_logger.at = self.step
                for changed in accepted:
                    self.run_logger.event(self.step, "accepted", f"changed since the run began: {changed}")
            if self.step == 0:
                for kind, note in self.foundation.notes:
                    self.run_logger.note(kind, note)
            before = self._before() if self.step == 0 else self.run_logger.scores("base")
            self.callbacks.state.global_step = self.step
            self.callbacks.tell("on_train_begin")
            interrupted = self._loop(state, guard, stop)
            if state.last != self.step:
                self._save(state)
            state.finish()
            self.callbacks.tell("on_train_end")
            if interrupted:
                return TrainResult(run.path, [], interrupted)
            final = self.step
            if self.config.checkpoint.keep_best and self.best is not None and self.best["step"] != self.step:
                final = int(self.best["step"])
                state.load_policy(final)
            table = before_after_rows(before, self._test("policy", "scoring the trained model"))
            model = Path(self.ranks.from_main(lambda: str(place_final_model(run, final))))
            pushed = self.ranks.from_main(lambda: push_final_model(model, self.config, self.run_logger.event))
            return TrainResult(run.path, table, model=model, pushed=pushed)

    def _loop(self, state: TrainerState, guard: NonFiniteGuard, stop: StopSignals) -> str | None:
        started, first = time.perf_counter(), self.step
        limit, received = self.config.max_seconds, None
        with self.run_logger.bar(self.step) as bar, stop.within(limit):
            while self.step < self.config.max_steps and not (received := self.ranks.first(stop.received)):
                begun = time.perf_counter()
                self.callbacks.begin_step(self.step)
                row, timings = self.one_step(guard)
                timings["time/step"] = time.perf_counter() - begun
                self.step += 1
                self.callbacks.end_step(self.step)
                every = self.config.eval.steps
                if self._asked("should_evaluate") or (every and self.step % every == 0):
                    row |= self._validate()
                self.run_logger.step(self.step, row, timings, bar)
                self.callbacks.log(row)
                if self._asked("should_save") or self._save_is_due():
                    self._save(state)
                if self._asked("should_training_stop"):
                    self.run_logger.event(self.step, "callback", "stopped by a callback")
                    break
                if limit and self.ranks.first(time.perf_counter() - started > limit or None) and self.step > first:
                    self.run_logger.event(self.step, "time", f"stopped after max_seconds {limit:g}")
                    break
        return received or self.ranks.first(stop.received)

    def _asked(self, request: str) -> bool:
        """Whether a callback on any rank asks for it, so that all ranks do it."""
        if not self.callbacks.callbacks:
            return False
        return bool(self.ranks.first(getattr(self.callbacks.control, request) or None))

    def _save(self, state: TrainerState) -> None:
        state.save()
        self.callbacks.tell("on_save")

    def _save_is_due(self) -> bool:
        best, every = self.best, self.config.checkpoint.steps
        is_best = best is not None and best["step"] == self.step and self.config.checkpoint.keep_best
        return is_best or bool(every and self.step % every == 0)

    def one_step(self, guard: NonFiniteGuard) -> tuple[dict[str, Any], dict[str, float]]:
        """One optimizer step of either phase; metrics and seconds."""
        organs, done = self.organs, self.step - self.warmup_steps
        seconds, phase = organs.collector.backend.start_clock(), "warmup" if done < 0 else "mix"
        organs.backend.step = self.step
        organs.backend.accept = lambda values: guard.check(self.step + 1, values, self.run_logger.bundle)
        if done == 0:
            organs.implicit_reward.begin()
        try:
            if done >= 0 and (missing := organs.meta_signals.begin(organs.balancer)):
                self.run_logger.event(self.step + 1, "beginning", missing)
            begun, seconds = time.perf_counter(), organs.collector.backend.start_clock()
            organs.implicit_reward.start_step(self.step + 1)
            made = warmup(organs.backend) if done < 0 else organs.take_step(organs.backend, organs.balancer, done)
        except RewardNotFiniteError as error:
            self._skip(guard, error)
            return {"phase": phase}, {f"time/{name}": value for name, value in seconds.items()}
        organs.balancer.remember(made)
        while self.learner.rows.news:
            self.run_logger.event(self.step + 1, "rows", self.learner.rows.news.pop(0))
        if guard.bad_in_a_row:
            what = f"step skipped: {made.losses} grad_norm {made.grad_norm}"
            self.run_logger.event(self.step + 1, "non-finite", what)
        made.row |= organs.implicit_reward.found
        made.row |= {
            "phase": phase,
            "grad_norm": made.grad_norm,
            "learning_rate": self.learner.learning_rate,
        }
        made.row |= self.foundation.sampler.figures()
        timings = {f"time/{name}": value for name, value in seconds.items()}
        timings["time/backward"] = time.perf_counter() - begun - sum(timings.values())
        row = made.metrics
        self.abstentions.check(self.step + 1, row)
        return row, timings

    def _skip(self, guard: NonFiniteGuard, error: RewardNotFiniteError) -> None:
        """A step whose rewards cannot be computed with: nothing moves, and what was rewarded is kept."""
        self.learner.clear()
        if self.learner.mix is not None:
            self.learner.mix.discard()
        self.run_logger.event(self.step + 1, "non-finite", f"step skipped: {error}")
        guard.check(self.step + 1, {"reward": math.inf}, lambda: error.bundle)

    def _before(self) -> list[dict[str, Any]]:
        """The model as it came: its scores on the test splits, and on validation where there is one."""
        rows = self._test("base", "scoring the model as it came")
        if self.config.eval.steps and self.sources.val is not None:
            with self.run_logger.during("validating the model as it came"):
                found = self.held_out.validate(0)
            self.run_logger.first_validation(found["eval/val/success"])
        return rows

    def _test(self, model: str, doing: str) -> list[dict[str, Any]]:
        if not self.sources.tests:
            return []
        with self.run_logger.during(doing):
            rows = self.held_out.test(model, self.step)
        self.run_logger.write_scores(rows)
        return rows

    def _validate(self) -> dict[str, float]:
        found = self.held_out.validate(self.step)
        if not found:
            return {}
        score = found["eval/val/success"]
        if self.best is None or score > self.best["score"]:
            self.best = {"step": self.step, "score": score}
        self.learner.schedule.observe(score)
        self.callbacks.evaluated(found, self.best)
        return found

    def event(self, step: int, kind: str, message: str) -> None:
        """Write one line of events.jsonl."""
        self.run_logger.event(step, kind, message)

    def _state(self, guard: NonFiniteGuard) -> TrainerState:
        organs = self.organs
        return TrainerState(
            self.run_logger.run,
            self.config,
            self.ranks,
            self.model,
            self.foundation.processing_class,
            organs.learner,
            organs.implicit_reward,
            organs.collector,
            organs.balancer,
            guard,
            organs.learner.schedule,
            self.sources.streams,
            progress=self,
        )
