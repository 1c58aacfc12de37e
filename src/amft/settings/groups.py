"""Settings that belong together, each group a mapping of the recipe: `eval: {steps: 25}`. No torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from ..types import DEMO_SILENT, DEMO_WRONG
from .strict_model import StrictModel


class PPOSettings(StrictModel):
    """Group `ppo`: the value head and its advantages, for `loss_type: ppo` alone (docs/rl.md)."""

    gamma: float = Field(1.0, ge=0, le=1, description="discount per token")
    lam: float = Field(0.95, ge=0, le=1, description="lambda of GAE")
    vf_coef: float = Field(0.1, ge=0, description="weight of the value loss")
    cliprange_value: float | None = Field(0.2, gt=0, description="how far a value may move; null does not clip")
    value_trunk: Literal["shared", "detached"] = Field(
        "shared", description="whether the value loss trains the policy's trunk too, or the head alone"
    )
    value_learning_rate: float | None = Field(None, gt=0, description="of the value head; null: learning_rate")


class ImportanceSamplingSettings(StrictModel):
    """Group `importance_sampling`: weights of rollouts that were sampled a little differently (docs/rl.md)."""

    correction: bool = Field(
        True, description="weigh rollouts by trainer / engine where the engine gives log-probabilities; false measures"
    )
    mode: Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] = Field(
        "token_truncate", description="of each token or row; outside the range: its end (truncate) or 0 (mask)"
    )
    clip_max: float | None = Field(3.0, gt=0, description="upper end; null has none")
    clip_min: float | None = Field(None, gt=0, description="lower end; null has none")

    @model_validator(mode="after")
    def _ordered_range(self) -> ImportanceSamplingSettings:
        low, high = self.clip_min, self.clip_max
        if low is not None and high is not None and low >= high:
            raise ValueError(f"clip_min {low} must be less than clip_max {high}")
        if self.mode.endswith("_truncate") and low is None and high is None:
            raise ValueError(f"mode {self.mode} needs clip_max or clip_min")
        return self


class RewardSettings(StrictModel):
    """Group `rewards`: where the functions of `data.rewards` run."""

    isolate: bool = Field(
        False, description="in a process of their own each, which can be killed whatever they do; columns must be JSON"
    )


class DemonstrationSettings(StrictModel):
    """Group `demonstrations`: what the verifier's opinion of them is used for, whatever the rule (docs/rules.md)."""

    filter: Literal["none", "verified", "not-wrong"] = Field(
        "none",
        description="verified: only those graded right are imitated; not-wrong: also those that cannot be graded",
    )
    wrong_weight: float = Field(1.0, ge=0, le=1e6, description="of demonstrations graded wrong in the imitation loss")
    silent_weight: float = Field(1.0, ge=0, le=1e6, description="of demonstrations that cannot be graded")
    zero: Literal["wrong", "silent"] = Field(
        "wrong", description="what a reward of exactly 0 says: wrong, or nothing (silent)"
    )
    right_above: float = Field(
        0.5, ge=-1e6, le=1e6, description="reward above which one is right; a task says by itself what is correct"
    )

    @property
    def grades(self) -> bool:
        """Demonstrations must be graded for these settings."""
        return self.filter != "none" or self.weighs

    @property
    def weighs(self) -> bool:
        """Some verdicts have a factor of their own."""
        return self.wrong_weight != 1.0 or self.silent_weight != 1.0

    def weight(self, verdict: str) -> float:
        """The factor of a demonstration with this verdict in the imitation loss."""
        return {DEMO_WRONG: self.wrong_weight, DEMO_SILENT: self.silent_weight}.get(verdict, 1.0)


class EvalSettings(StrictModel):
    """Group `eval`: validation during training, and the test before and after it."""

    steps: int = Field(25, ge=0, description="validation every n steps; 0 never")
    problems: int = Field(128, ge=1, le=1_000_000, description="validation problems")
    test_splits: list[str] | None = Field(None, description="scored before and after; null: the task's own")
    test_problems: int | None = Field(None, ge=1, le=1_000_000, description="per test split; null: all")
    test_samples: int = Field(1, ge=1, le=4096, description="answers per test problem; 1 is greedy, more are sampled")
    answer_probability: bool = Field(
        False, description="also measure the probability of the right answer, from the task or the rows' `completion`"
    )


class CheckpointSettings(StrictModel):
    """Group `checkpoint`: when one is written, what is in it and which are kept."""

    steps: int = Field(50, ge=0, description="every n steps; 0 only at the end")
    total_limit: int = Field(3, ge=1, description="checkpoints kept, the best one apart")
    only_model: bool = Field(False, description="leave out what only --resume needs, such as the optimizer")
    keep_best: bool = Field(False, description="end with the checkpoint that scored best on validation")
    async_save: bool = Field(
        False, description="a thread writes while training goes on; a copy of what it writes is in the host's memory"
    )


class ImplicitRewardSettings(StrictModel):
    """Group `implicit_reward`: how far imitation has moved the policy, measured as a reward (docs/method.md)."""

    steps: int = Field(0, ge=0, description="measure every n steps; 0 never")
    beta: float = Field(1.0, gt=0, description="factor of the log-probability ratio; 1 gives nats")


class LoRASettings(StrictModel):
    """Group `lora`: a low-rank adapter is trained and the model stays as it is (extra `amft[lora]`).

    No dropout: rollouts and training must see one policy.
    """

    r: int = Field(16, ge=1, le=16_384, description="rank")
    alpha: float = Field(32.0, gt=0, description="the adapter is scaled by alpha / r")
    target_modules: list[str] | Literal["all-linear"] = Field("all-linear", description="names of linear modules")
    load_in_4bit: bool = Field(False, description="QLoRA: frozen weights in nf4; needs bitsandbytes and a GPU")


class EngineSettings(StrictModel):
    """Group `engine_options`: where `engine: vllm` runs and how long it is waited for (docs/vllm.md)."""

    where: str = Field("own", description="own: a `vllm serve` that the trainer starts; or http://host:port of one")
    timeout: float = Field(600.0, gt=0, le=1e6, description="seconds one call may take; then the server counts as hung")
    start_timeout: float = Field(600.0, gt=0, le=1e6, description="seconds a start may take, or until one is back")
    restarts: int = Field(3, ge=0, description="starts in a row after a failure; then the run ends with one line")
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        None, description="of the engine's weights; null: the type the policy computes in"
    )
    transfer: Literal["auto", "file", "ipc", "nccl"] = Field(
        "auto", description="of the weights: file on a CPU, ipc on the same GPU, nccl to other GPUs"
    )
    exchange: str | None = Field(
        None, min_length=1, description="directory that trainer and server can read, for files; null: a temporary one"
    )
    devices: str | None = Field(
        None, min_length=1, description="GPUs of one's own server, 6,7 for example; null: rank 0's"
    )
    gpu_memory: float = Field(0.3, gt=0, le=1, description="share of the GPU's memory that one's own server takes")
    sleep: bool = Field(False, description="give the GPU's memory back between generations")
    serve: dict[str, Any] = Field(default_factory=dict, description="more options of one's own `vllm serve`")
