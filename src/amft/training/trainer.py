"""The trainer: phases, steps, evaluation, checkpoints. It knows no rule and no task by name."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..balance.base import GRADIENTS, ROLLOUTS, Balance, Signals
from ..balance.method import Method
from ..balance.registry import build_method
from ..batch import Batch
from ..data.encoding import pixels_of
from ..data.streams import derive_seed
from ..distributed.parallel import build_parallel
from ..distributed.rank_partition import SplitSampler, SplitScorer
from ..distributed.ranks import local_device, restarted
from ..errors import ConfigError
from ..evaluation.answers import answer
from ..evaluation.score import before_after, success
from ..experience.rollouts import Collector
from ..experience.sampling_context import RolloutBackend
from ..experience.sources import Encoder, HeldOut, from_data, from_task
from ..losses.choices import POLICY_LOSSES
from ..meta import MixGrad
from ..models.load import load_model, stop_ids, turn_dropout_off
from ..models.lora import adapter_off, add_lora, has_adapter
from ..models.packed import check_packable
from ..rollout.registry import build_sampler
from ..runs import RunDirectory
from ..settings.config import AMFTConfig
from ..settings.precision import settled
from ..step.critic import Critic
from ..step.frozen_entries import FrozenEntries
from ..step.learner import Learner, build_optimizer
from ..step.meta_signals import Probes
from ..step.mixing import Mixing, means
from ..step.objective import Objective
from ..tasks.base import Task
from ..types import RewardFunction, Sampling
from .guard import NonFiniteGuard, StopSignals
from .processing_class import reading
from .run_logger import RunLogger, SilentRunLogger, environment
from .trainer_state import TrainerState

DTYPES = {"float32": torch.float32, "bfloat16": torch.float32, "float64": torch.float64}
"""Type of the master weights; bfloat16 is the type of the arithmetic only."""


@dataclass(frozen=True)
class TrainResult:
    """What a run came to."""

    run: Path
    table: list[dict[str, Any]]
    """Test splits before and after; see `evaluation.score.before_after`."""
    interrupted: str | None = None
    """Name of the signal that stopped the run, or None."""


class AMFTTrainer:
    """Trains a policy with imitation and exploration in one stage, under a balance rule.

    Args:
        model: `nano`, a model directory, or a loaded model (then give `processing_class`).
        config: settings.
        task: a task of `amft.tasks`; or else
        train_dataset: rows in TRL's formats (path, `datasets.Dataset` or list of dicts) with
        reward_funcs: one or more functions with TRL's signature, and
        demonstrations: rows with `prompt` and `completion` (default: those of `train_dataset` that have both).
        eval_dataset: rows scored before and after.
        processing_class: the tokenizer or processor; default: the one saved with the model.
        balance: a rule of one's own, or a method joined from parts, instead of `config.balance`.
        recipe: what to write into the run's config.json; default: the config.

    Raises:
        ConfigError, DataError, ModelError, TaskError: one line that names the field and the fix.
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        config: AMFTConfig,
        *,
        task: Task | None = None,
        train_dataset: Any = None,
        reward_funcs: Sequence[RewardFunction] | RewardFunction | None = None,
        demonstrations: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        balance: Balance | Method | None = None,
        recipe: Mapping[str, Any] | None = None,
    ):
        self.config = config = settled(config, local_device())
        self.recipe = dict(recipe or config.model_dump()) | {"dtype": config.dtype}
        self.method = build_method(dict(config.balance) if balance is None else balance)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.parallel = build_parallel(config)
        self.ranks = self.parallel.ranks
        self.tokenizer, self.pictures = reading(model, processing_class)
        self.model = self._load(model) if isinstance(model, str) else model
        with self.ranks.contact():
            self._prepare_model()
        stops = stop_ids(self.model, self.tokenizer)
        needs_answers = "answers" in self.method.demo_mixer.needs
        encoder = Encoder(self.tokenizer, config, stops, needs_answers, self.pictures)
        self.sources = (
            from_task(task, encoder)
            if task is not None
            else from_data(
                encoder,
                train_dataset=train_dataset,
                reward_funcs=reward_funcs,
                demonstrations=demonstrations,
                eval_dataset=eval_dataset,
            )
        )
        sampler = build_sampler(
            config.engine,
            self.model,
            pad_id=self.tokenizer.pad_token_id,
            eos_ids=stops,
            options=None if config.engine_options is None else config.engine_options.model_dump(),
        )
        self.sampler = SplitSampler(sampler, self.ranks, lambda: self.parallel.whole(self.model))
        if self.sources.scorer is not None:
            self.sources.scorer = SplitScorer(self.sources.scorer, self.ranks)
        self._build_learner()

    def _load(self, name: str) -> PreTrainedModel:
        lora = self.config.lora
        # What is frozen needs no master copy; but fsdp2 wants one type in a block, and casts by itself.
        half = lora is not None and self.config.dtype == "bfloat16" and self.config.parallel != "fsdp2"
        dtype = torch.bfloat16 if half else DTYPES[self.config.dtype]
        return load_model(name, dtype, four_bits=lora is not None and lora.load_in_4bit)

    def _adapt(self) -> None:
        lora = self.config.lora
        if lora is not None:
            base = str(self.recipe.get("model") or self.model.config._name_or_path)
            settings = lora.model_dump(exclude={"load_in_4bit"})
            add_lora(self.model, seed=derive_seed(self.config.seed, "lora"), base=base, **settings)
        elif has_adapter(self.model):
            raise ConfigError("model: it is an adapter on a base; make one model of the two with `amft merge`")

    def _prepare_model(self) -> None:
        """Everything that must be settled before the model is laid out; the reference policy is copied here."""
        turn_dropout_off(self.model)
        if self.parallel.device.type == "cpu" and self.config.dtype != "float64":
            # The fused kernel's backward is slow on a CPU. In float64 the eager one turns left padding into NaN.
            self.model.set_attn_implementation("eager")
        if self.config.padding_free:
            check_packable(self.model)
        self._adapt()
        wanted = (self.config.beta or self._weighs_reference) and self.config.lora is None
        self.reference = copy.deepcopy(self.model).requires_grad_(False) if wanted else None
        if self.config.gradient_checkpointing:
            older = self.model.gradient_checkpointing_enable  # the name until transformers 5.2x
            getattr(self.model, "activation_checkpointing_enable", older)({"use_reentrant": False})
            self.model.train()  # transformers checkpoints in this mode only; dropout is off in both
        for model in (self.model, self.reference):
            if model is not None:
                self.parallel.wrap(model)

    def _build_learner(self) -> None:
        config, method = self.config, self.method
        rule = method.rule
        has_values = POLICY_LOSSES[config.loss_type].baseline == "value"
        critic = Critic(self.model, config, self.parallel, build_optimizer) if has_values else None
        self.objective = Objective(config, method, critic)
        optimizer = build_optimizer(self.model, config)
        mix = None
        if rule.needs & GRADIENTS:
            mix = MixGrad(
                self.model.named_parameters(),
                optimizer,
                skip=config.meta_skip,
                horizon=getattr(rule, "horizon", 0.0),
                jacobian=getattr(rule, "jacobian", "exact"),
            )
        imitator = build_optimizer(self.model, config) if method.own_optimizer else None
        changes = None
        if method.freeze and config.parallel == "fsdp2":
            raise ConfigError("balance.freeze: not for parallel: fsdp2; choose ddp or single")
        if method.freeze:
            changes = FrozenEntries(self.model, method.freeze, getattr(rule, "history", 0.0))
        self.learner = Learner(self.model, optimizer, mix, config, self.parallel, critic, imitator, changes)
        run_logger = RunLogger if self.ranks.is_main else SilentRunLogger
        self.run_logger = run_logger(RunDirectory(config.output_dir), self.tokenizer, config, self.sources)
        self.collector = Collector(
            # Without a scorer nothing is collected.
            backend=RolloutBackend(self.sampler, self.sources.scorer, self.tokenizer, config, pictures=self.pictures),  # type: ignore[arg-type]
            config=config,
            score_old=lambda batch: self.learner.logps(self.model, batch),
            score_reference=self._reference_logps(config.temperature) if config.beta else None,
            generator=torch.Generator().manual_seed(derive_seed(config.seed, "rollouts")),
            score_values=None if critic is None else self.learner.values,
            demo_mixer=method.demo_mixer,
            show=self.run_logger.samples,
        )
        self.probes = Probes(self.learner, self.objective, self.collector, self.sources, rule)
        self.mixing = Mixing(
            self.learner,
            self.objective,
            self.collector,
            self.probes,
            self.sources,
            method,
            score_reference=self._reference_logps(1.0) if self._weighs_reference else None,
            seen=self.run_logger.remember,
            entropy_target=config.entropy_target,
        )
        self.step = 0
        self.best: dict[str, float] | None = None

    def train(self, resume: bool = False) -> TrainResult:
        """Run to `max_steps`, or to a stop signal; then score the test splits.

        Args:
            resume: continue the run in `output_dir` from its newest sound checkpoint, bit for bit on a CPU. After a
                restart by torchrun it is done anyhow.

        Raises:
            RankError: another rank is gone.
            RunError: `output_dir` is occupied, or holds no run to resume.
            CheckpointError: no checkpoint can be read, or it is of another recipe.
            NonFiniteError: too many non-finite steps in a row.
        """
        self._check_sources()
        with self.ranks.contact(), StopSignals() as stop:
            run = RunDirectory(self.config.output_dir)
            resume = self.ranks.from_main(lambda: self._open(run, resume or restarted()))
            self.ranks.from_main(self.run_logger.open)
            guard = NonFiniteGuard(self.config.max_bad_steps, run.path if self.ranks.is_main else None)
            self.trainer_state = TrainerState(self, run, guard)
            if resume:
                self.trainer_state.restore()
            before = self._test("base") if self.step == 0 else self.run_logger.scores("base")
            interrupted = self._loop(guard, stop)
            if self.trainer_state.last != self.step:
                self.trainer_state.save()
            if interrupted:
                return TrainResult(run.path, [], interrupted)
            if self.config.keep_best and self.best is not None and self.best["step"] != self.step:
                self.trainer_state.load_policy(int(self.best["step"]))
            return TrainResult(run.path, before_after(before, self._test("policy")))

    def _loop(self, guard: NonFiniteGuard, stop: StopSignals) -> str | None:
        started, first = time.perf_counter(), self.step
        limit, received = self.config.max_seconds, None
        with self.run_logger.bar(self.step) as bar:
            while self.step < self.config.max_steps and not (received := self.ranks.first(stop.received)):
                begun = time.perf_counter()
                row, timings = self.one_step(guard)
                timings["time/step"] = time.perf_counter() - begun
                self.step += 1
                if self.config.eval_steps and self.step % self.config.eval_steps == 0:
                    row |= self._validate()
                self.run_logger.step(self.step, row, timings, bar)
                if (self.config.save_steps and self.step % self.config.save_steps == 0) or (
                    self.best is not None and self.best["step"] == self.step and self.config.keep_best
                ):
                    self.trainer_state.save()
                if limit and self.ranks.first(time.perf_counter() - started > limit or None) and self.step > first:
                    self.run_logger.event(self.step, "time", f"stopped after max_seconds {limit:g}")
                    break
        return received or self.ranks.first(stop.received)

    def one_step(self, guard: NonFiniteGuard) -> tuple[dict[str, Any], dict[str, float]]:
        """One optimizer step of either phase; metrics and seconds."""
        warmup = self._stage_step < 0
        if self._stage_step == 0 and (missing := self.mixing.begin()):
            self.run_logger.event(self.step + 1, "beginning", missing)
        begun = time.perf_counter()
        backend = self.collector.backend
        backend.seconds = {"generate": 0.0, "reward": 0.0}
        made = self.mixing.warmup() if warmup else self.mixing.step(self._stage_step, self._stage_steps)
        norm = self.learner.update(
            self.step,
            lambda norm: guard.check(self.step + 1, {**made.losses, "grad_norm": norm}, self.run_logger.bundle),
            imitates=not made.weights.rl,
        )
        self.mixing.made_step(made, norm)
        if guard.bad_in_a_row:
            self.run_logger.event(self.step + 1, "non-finite", f"step skipped: {made.losses} grad_norm {norm}")
        row = {
            **made.row,
            "phase": "warmup" if warmup else "mix",
            "grad_norm": norm,
            "learning_rate": self.learner.learning_rate,
        }
        if (restarts := self.sampler.restarts) is not None:
            row["sampling/engine_restarts"] = restarts
        seconds = {f"time/{name}": value for name, value in backend.seconds.items()}
        used = time.perf_counter() - begun
        return row | means(made.sums) | made.losses, seconds | {"time/backward": used - sum(seconds.values())}

    def _validate(self) -> dict[str, float]:
        if self.sources.val is None:
            return {}
        found = success(self._answers(self.sources.val, "val", self.step))
        if self.best is None or found.mean > self.best["score"]:
            self.best = {"step": self.step, "score": found.mean}
        self.learner.schedule.observe(found.mean)
        return {"eval/val/success": found.mean}

    def _test(self, model: str) -> list[dict[str, Any]]:
        rows = []
        for split, held_out in self.sources.tests.items():
            # The draws do not depend on the step, so that before and after answer with the same randomness.
            for row in self._answers(held_out, split, 0, self.config.test_samples):
                rows.append({"step": self.step, "model": model, "split": split, **row})
        self.run_logger.write_scores(rows)
        return rows

    def _answers(self, held_out: HeldOut, name: str, draw: int, samples: int = 1) -> list[dict[str, Any]]:
        assert self.sources.scorer is not None
        temperature = 0.0 if samples == 1 else self.config.temperature
        return answer(
            self.sampler,
            self.tokenizer,
            self.sources.scorer,
            held_out.rows,
            held_out.ids,
            sampling=Sampling(
                samples,
                self.config.max_completion_length,
                temperature,
                max_transcript=self.config.max_transcript_length,
            ),
            generator=torch.Generator().manual_seed(derive_seed(self.config.seed, "answers", name, draw)),
            pixels=pixels_of([row["prompt"] for row in held_out.rows], self.pictures),
        )

    def _open(self, run: RunDirectory, resume: bool) -> bool:
        """Open or make the run directory; whether there is something to resume."""
        if resume and (not restarted() or (run.path / "config.json").is_file()):
            RunDirectory.open(run.path)
            return True
        RunDirectory.create(run.path)
        run.write("config", self.recipe)
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        run.write("env", environment(self.config.seed) | {"parameters": parameters})
        return False

    def _check_sources(self) -> None:
        sources, rule, needs = self.sources, self.config.balance.get("rule"), self.method.needs
        weights, _, _ = self.method.rule.update(self.method.rule.init(), Signals(0, self._stage_steps))
        streams = self.method.demo_mixer.imitates == "stream" and (needs & GRADIENTS or weights.sft)
        if sources.demonstrations is None and (streams or self._warmup_steps):
            raise ConfigError(f"demonstrations: balance rule {rule} imitates, but there are none; give some")
        if sources.scorer is None and (needs & (GRADIENTS | ROLLOUTS) or weights.rl):
            raise ConfigError(f"reward_funcs: balance rule {rule} explores, but there is none; give at least one")
        if self.learner.schedule.follows_metric and (sources.val is None or not self.config.eval_steps):
            name = self.config.lr_scheduler_type
            raise ConfigError(f"lr_scheduler_type: {name} follows validation; set eval_steps and give problems for it")
        if "answers" in needs and not any(sources.prompts.answers or () if sources.prompts else ()):
            raise ConfigError(f"demonstrations: balance rule {rule} needs them for the prompts of train_dataset")
        if POLICY_LOSSES[self.config.loss_type].credit == "token" and self.method.demo_mixer.pool not in ("all",):
            raise ConfigError(
                f"loss_type: {self.config.loss_type} has advantages per token, and balance rule {rule} compares rows; "
                "choose another loss_type"
            )
        if sources.meta_demonstrations is None and self.probes.utility == "likelihood":
            raise ConfigError("balance.utility: likelihood needs 10 or more rows with a completion in train_dataset")

    def _reference_logps(self, temperature: float) -> Callable[[Batch], Tensor]:
        reference = self.reference
        if reference is not None:
            return lambda batch: self.learner.logps(reference, batch, temperature)

        def under_the_adapter(batch: Batch) -> Tensor:
            with adapter_off(self.model):
                return self.learner.logps(self.model, batch, temperature)

        return under_the_adapter

    @property
    def _weighs_reference(self) -> bool:
        return "reference" in self.method.needs

    @property
    def _warmup_steps(self) -> int:
        return self.config.sft_warmup_steps if self.method.warmup else 0

    @property
    def _stage_step(self) -> int:
        return self.step - self._warmup_steps

    @property
    def _stage_steps(self) -> int:
        return self.config.max_steps - self._warmup_steps
