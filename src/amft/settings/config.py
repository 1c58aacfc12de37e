"""The trainer's settings, TRL's names where the meaning is the same; groups.py has the nested ones. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from ..errors import ConfigError
from ..losses.choices import POLICY_LOSSES
from .borrowed_names import translated
from .groups import (
    CheckpointSettings,
    DemonstrationSettings,
    EngineSettings,
    EvalSettings,
    ImplicitRewardSettings,
    ImportanceSamplingSettings,
    LoRASettings,
    PPOSettings,
    RewardSettings,
)
from .strict_model import StrictModel

MOST_ROWS = 65_536
"""Of a step, of each kind: more would be a slip of the pen."""

MOST_TOKENS = 1 << 20
"""Of a prompt or an answer; no model reads more."""


ELEMENTWISE = ("adamw", "adam", "sgd")
"""Optimizers that step on a shard as they would on the whole."""


class AMFTConfig(StrictModel):
    """Settings of one run. Unknown names, wrong types and values out of range are refused.

    Raises:
        ConfigError: one line that names the field, what was given and what is allowed.

    Example:
        >>> AMFTConfig(max_steps=50, balance={"rule": "amft", "eta": 0.1}).num_generations
        8
    """

    # run
    output_dir: str = Field("runs/amft", min_length=1, max_length=1024, description="run directory; never overwritten")
    seed: int = Field(0, ge=0, description="reaches every random draw")
    max_steps: int = Field(200, ge=1, description="optimizer steps, warm-up included")
    num_train_epochs: float | None = Field(
        None, gt=0, description="passes over the prompts (or demonstrations) in place of max_steps; not for a task"
    )
    max_seconds: float | None = Field(None, gt=0, description="stop cleanly after this many seconds of training")

    # the balance between imitation and exploration
    balance: dict[str, Any] = Field(
        default_factory=lambda: {"rule": "amft"}, description="rule name and its own settings; see `amft rules`"
    )
    sft_warmup_steps: int = Field(0, ge=0, description="pure imitation first; then H* is measured")
    entropy_target: float | None = Field(None, ge=0, description="H* in nats; null measures it after the warm-up")

    # batch of one optimizer step
    num_prompts: int = Field(16, ge=1, le=MOST_ROWS, description="RL prompts per step")
    num_generations: int = Field(8, ge=1, le=MOST_ROWS, description="completions per prompt (the group)")
    num_demos: int = Field(64, ge=0, le=MOST_ROWS, description="demonstrations per step")
    demonstrations: DemonstrationSettings = Field(
        DemonstrationSettings(), description="grade, filter and weigh them, whatever the rule"
    )
    micro_batch_size: int = Field(
        64, ge=1, le=MOST_ROWS, description="rows per forward and backward; does not change the numbers"
    )
    micro_batch_tokens: int | None = Field(
        None,
        ge=1,
        le=MOST_ROWS * MOST_TOKENS,
        description="tokens per forward and backward in place of micro_batch_size rows; see `amft plan`",
    )
    prefix_tree: bool = Field(
        True, description="compute what rows begin with alike once, and no padding; false pads the rows"
    )
    steps_per_generation: int = Field(1, ge=1, le=1024, description="optimizer steps that share one generation")
    num_iterations: int = Field(1, ge=1, le=1024, description="times each rollout is used")

    # rollouts
    engine: Literal["auto", "hf", "decode", "vllm"] = Field("auto", description="rollout engine")
    engine_options: EngineSettings | None = Field(None, description="of engine vllm")
    ahead: int = Field(
        0,
        ge=0,
        le=1,
        description="1: rollouts of the next step are drawn while this one trains, one step off-policy; vllm",
    )
    rollout_weights: Literal["auto", "master"] = Field(
        "auto", description="of decode and hf with dtype bfloat16: auto samples from a bfloat16 copy, master does not"
    )
    temperature: float = Field(1.0, ge=1e-4, le=1e4, description="sampling temperature of training rollouts")
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, description="0 keeps the whole vocabulary")
    chat_template: str | None = Field(
        None, min_length=1, description="a template, a file of one, or plain (for base models); null: the model's own"
    )
    chat_template_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="what the template is told, such as enable_thinking: false"
    )
    system_prompt: str | None = Field(None, min_length=1, description="for conversations that begin without one")
    max_prompt_length: int = Field(512, ge=1, le=MOST_TOKENS, description="tokens; a longer prompt is an error")
    max_completion_length: int = Field(256, ge=1, le=MOST_TOKENS, description="tokens of one answer")
    trust_special_tokens: bool = Field(
        False, description="strings of special tokens in prompts and demonstrations are those tokens, not plain text"
    )
    max_transcript_length: int = Field(
        0,
        ge=0,
        le=MOST_TOKENS,
        description="tokens after the prompt, for tasks with several tries: no further one that may not fit; 0 any",
    )

    # losses
    loss_type: Literal[
        "grpo",
        "dr_grpo",
        "dapo",
        "gspo",
        "cispo",
        "rloo",
        "reinforce",
        "reinforce_plus_plus",
        "reinforce_plus_plus_baseline",
        "ppo",
    ] = Field("dapo", description="see docs/rl.md")
    scale_rewards: Literal["group", "batch", "none", "whiten"] | None = Field(
        None, description="divide advantages by this std; null: as loss_type was published"
    )
    epsilon: float = Field(0.2, gt=0, description="lower clip range of the ratio (upper too unless epsilon_high)")
    epsilon_high: float | None = Field(None, gt=0, description="upper clip range; for cispo the largest ratio itself")
    beta: float = Field(0.0, ge=0, description="weight of the KL to the reference policy; 0 loads none")
    ppo: PPOSettings = Field(PPOSettings(), description="of loss_type ppo: value head and GAE")
    entropy_coef: float = Field(0.0, ge=0, description="weight of the entropy bonus")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="of the imitation loss")
    soft_punish_cache: int = Field(
        0, ge=0, description="last tokens before max_completion_length that cost reward, up to 1 (DAPO); 0 none"
    )
    dynamic_sampling_rounds: int = Field(
        0,
        ge=0,
        le=1024,
        description="times other prompts are drawn for those whose rewards do not differ (DAPO); 0 never",
    )
    mask_truncated_completions: bool = Field(False, description="cut completions carry no RL loss")
    importance_sampling: ImportanceSamplingSettings = Field(
        ImportanceSamplingSettings(), description="weights of rollouts from vllm or from a bfloat16 copy"
    )
    reward_weights: list[float] | None = Field(None, description="one per reward function; default all 1")
    reward_timeout: float = Field(
        3600.0, gt=0, le=1e6, description="seconds one call of your own code (reward, rule, task) may take"
    )
    rewards: RewardSettings = Field(RewardSettings(), description="where your reward functions run")

    # optimizer
    optim: Literal[
        "adamw", "adam", "sgd", "muon", "adafactor", "lion", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"
    ] = Field("adamw", description="see docs/method.md; lion, 8bit and paged are of bitsandbytes")
    learning_rate: float = Field(1e-6, gt=0)
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="of lion too")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="of lion too, whose authors have 0.99")
    adam_epsilon: float = Field(1e-8, gt=0)
    sgd_momentum: float = Field(0.0, ge=0, lt=1)
    muon_momentum: float = Field(0.95, ge=0, lt=1, description="of muon, which takes hidden matrices; adamw the rest")
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float | None = Field(1.0, gt=0, description="null does not clip")
    lr_scheduler_type: Literal[
        "constant",
        "linear",
        "cosine",
        "cosine_with_restarts",
        "polynomial",
        "constant_with_warmup",
        "inverse_sqrt",
        "reduce_lr_on_plateau",
        "cosine_with_min_lr",
        "cosine_warmup_with_min_lr",
        "warmup_stable_decay",
        "greedy",
    ] = Field("constant", description="those of transformers; the two that follow a metric follow validation success")
    lr_scheduler_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="what only this scheduler takes, as in transformers: min_lr, power, ..."
    )
    lr_warmup_steps: int = Field(0, ge=0)
    dtype: Literal["float32", "bfloat16", "float64", "auto"] = Field(
        "float32", description="bfloat16 keeps float32 masters; auto: bfloat16 where the hardware has units for it"
    )

    allow_missing: list[str] = Field(
        default_factory=list, description="patterns of tensors that may be in the model's files or in the model alone"
    )
    lora: LoRASettings | None = Field(None, description="train an adapter; with dtype bfloat16 the rest is in it too")

    # evaluation, logs, checkpoints
    eval: EvalSettings = Field(EvalSettings(), description="validation and test")
    checkpoint: CheckpointSettings = Field(CheckpointSettings(), description="when, what and which are kept")
    implicit_reward: ImplicitRewardSettings = Field(
        ImplicitRewardSettings(), description="log-probabilities against the policy after the warm-up"
    )
    logging_steps: int = Field(1, ge=1, description="trackers and callbacks get every n-th step; metrics.jsonl has all")
    sample_steps: int = Field(10, ge=0, description="write sample rollouts every n steps; 0 never")
    max_bad_steps: int = Field(5, ge=1, description="stop after this many non-finite steps in a row")
    report_to: list[
        Literal["aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "tensorboard", "trackio", "wandb"]
    ] = Field(default_factory=list, description="trackers besides the run directory; each has an extra of its name")
    push_to_hub: bool = Field(False, description="push the final model, with its card")
    hub_model_id: str | None = Field(
        None, min_length=1, description="owner/name, or a directory from / or ./ on; null: output_dir's last name"
    )
    hub_private_repo: bool | None = Field(None, description="if it is new; null: as the account has it")
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads; null leaves torch's own")

    # several processes (torchrun)
    parallel: Literal["auto", "single", "ddp", "fsdp2"] = Field(
        "auto", description="ddp: the model whole on each rank; fsdp2: in shards; auto: single or ddp"
    )
    replicate: int = Field(
        1, ge=1, le=65536, description="fsdp2: copies of the model; each lies in shards on ranks / replicate of them"
    )
    rollout_gather: Literal["model", "layer"] = Field(
        "model", description="fsdp2, decode and hf: gather the model whole for a generation, or a layer at a time"
    )
    cpu_offload: bool = Field(False, description="fsdp2: parameters and optimizer state in the host's memory")
    gradient_checkpointing: bool = Field(False, description="compute activations twice, keep them once")
    use_liger_kernel: bool = Field(
        False, description="Liger's norms, rotary embedding and gated layers; a GPU and the extra amft[liger]"
    )
    rank_timeout: float = Field(600.0, gt=0, le=1e6, description="seconds a rank waits for another before it stops")

    @model_validator(mode="before")
    @classmethod
    def _borrowed_names(cls, values: Any) -> Any:
        return translated(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _consistent(self) -> AMFTConfig:
        choice = POLICY_LOSSES[self.loss_type]
        if choice.grouped and self.num_generations < 2:
            raise ValueError(f"num_generations must be at least 2 for loss_type {self.loss_type}")
        if choice.credit == "token" and self.scale_rewards in ("group", "batch"):
            raise ValueError(f"scale_rewards: {self.loss_type} has advantages per token; choose none or whiten")
        if choice.baseline != "value":
            self._refuse_ppo()
        if choice.clip == "ratio" and self.epsilon_high is not None and self.epsilon_high < 1:
            raise ValueError(f"epsilon_high: the largest ratio of {self.loss_type}, so at least 1; null means 5")
        if self.dynamic_sampling_rounds and not choice.grouped:
            raise ValueError(f"dynamic_sampling_rounds: {self.loss_type} learns from equal rewards too; leave it at 0")
        if self.soft_punish_cache > self.max_completion_length:
            raise ValueError("soft_punish_cache must not exceed max_completion_length")
        if self.parallel == "fsdp2":
            self._check_shards()
        elif self.cpu_offload:
            raise ValueError("cpu_offload needs parallel: fsdp2")
        elif self.replicate > 1:
            raise ValueError("replicate needs parallel: fsdp2; ddp has a copy on every rank already")
        elif self.rollout_gather == "layer":
            raise ValueError("rollout_gather: layer needs parallel: fsdp2, where there is something to gather")
        if self.dtype == "float64":
            self._check_float64()
        if self.engine_options is not None and self.engine != "vllm":
            raise ValueError(f"engine_options: only engine vllm has any, this is {self.engine}; leave them out")
        rows = AMFTConfig.model_fields["micro_batch_size"].default
        if self.micro_batch_tokens is not None and self.micro_batch_size != rows:
            raise ValueError("micro_batch_size: micro_batch_tokens stands in its place; leave one out")
        if self.ahead:
            self._check_ahead()
        if self.sft_warmup_steps > self.max_steps:
            raise ValueError("sft_warmup_steps must not exceed max_steps")
        return self

    def shards(self, ranks: int) -> int:
        """Ranks that one copy of the model is cut over under fsdp2.

        Args:
            ranks: all there are.

        Raises:
            ConfigError: `replicate` does not divide them.
        """
        if ranks % self.replicate:
            raise ConfigError(
                f"replicate: {self.replicate} copies cannot be laid evenly on {ranks} ranks; start a multiple of "
                f"{self.replicate}, or set it to a divisor of {ranks}"
            )
        return ranks // self.replicate

    def _check_shards(self) -> None:
        if self.lora is not None and self.lora.load_in_4bit:
            raise ValueError("lora.load_in_4bit: weights in 4 bits cannot be sharded by fsdp2; use parallel: ddp")
        if self.rollout_gather == "layer" and self.engine == "vllm":
            raise ValueError("rollout_gather: layer is for the engines decode and hf; vllm gathers nothing to sample")
        if self.optim not in ELEMENTWISE:
            names = ", ".join(ELEMENTWISE)
            raise ValueError(f"optim: {self.optim} reads more than a shard of a matrix; with fsdp2 use one of {names}")
        if self.implicit_reward.steps:
            raise ValueError("implicit_reward.steps: not with parallel: fsdp2; use ddp or single")

    def _check_float64(self) -> None:
        if self.use_liger_kernel:
            raise ValueError("use_liger_kernel: its kernels compute in float32; use dtype float32 or bfloat16")
        if self.optim not in (*ELEMENTWISE, "muon", "adafactor"):
            raise ValueError(f"optim: {self.optim} computes in float32; use dtype float32 or bfloat16")

    def _check_ahead(self) -> None:
        if self.engine != "vllm":
            raise ValueError(f"ahead: only a server samples while the trainer trains, this is {self.engine}; use vllm")
        if not self.importance_sampling.correction:
            raise ValueError("ahead: its rollouts are a step old; leave importance_sampling.correction on")
        if self.top_p != 1 or self.top_k:
            raise ValueError("ahead: its rollouts are corrected by their log-probabilities; leave top_p and top_k out")
        if self.engine_options is not None and self.engine_options.sleep:
            raise ValueError("ahead: the engine works while the trainer does; leave engine_options.sleep out")

    def _refuse_ppo(self) -> None:
        for name, value in PPOSettings():
            if getattr(self.ppo, name) != value:
                raise ValueError(
                    f"ppo.{name}: only loss_type ppo has a value head, this is {self.loss_type}; leave ppo.{name} out"
                )


GROUPS = tuple(name for name, field in AMFTConfig.model_fields.items() if isinstance(field.default, StrictModel))
"""Settings that hold a group: `ppo`, `importance_sampling`, `eval`, `checkpoint`, `implicit_reward`."""


def dotted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings, groups spelled out: `{"eval": {"steps": 5}}` becomes `{"eval.steps": 5}`."""
    return {
        f"{key}.{name}" if name else key: value
        for key, given in settings.items()
        for name, value in (given.items() if key in GROUPS and isinstance(given, Mapping) else [("", given)])
    }
