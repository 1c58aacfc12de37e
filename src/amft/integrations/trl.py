"""AMFT inside TRL: `GRPOTrainer` with demonstrations and a balance rule. Needs `amft[trl]`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint

from ..balance.base import Balance, Signals
from ..balance.method import Method
from ..balance.registry import build_method
from ..checkpoints.checkpoint import load_checkpoint, save_checkpoint
from ..errors import CheckpointError, ConfigError, IntegrationError
from ..meta import MixGrad
from ..models.load import stop_ids
from .imitation import Imitation, with_template
from .trl_contract import check_attributes, check_methods, check_version

try:
    import trl
    from trl import GRPOTrainer
except ImportError as error:
    raise IntegrationError("amft.integrations.trl needs TRL: pip install 'amft[trl]'") from error

MEASURED = frozenset({"meta_grad", "entropy", "reward"})
"""Signals a rule may ask the adapter for."""


class AMFTGRPOTrainer(GRPOTrainer):
    """TRL's `GRPOTrainer` with a second gradient, of imitation, and a rule that weighs the two.

    Everything else is TRL's and takes TRL's arguments. Each optimizer step: TRL's own micro-batches leave the RL
    gradient; its dot product with the buffer is dU/dmu of the step before (eq 5 of arXiv 2508.06944), taken only if
    this step's completions are fresh; the rule gives the weights; the gradient of a batch of demonstrations follows;
    the two are mixed and clipped, and the buffer goes through the Jacobians of clipping and of the optimizer.

    Args:
        demonstrations: rows with `prompt` and `completion`, in TRL's formats: a path, a dataset or a list.
        balance: name of a rule (`amft rules`), its settings as a dict with `rule`, or a rule.
        num_demos: demonstrations per optimizer step over all processes; default: as many as completions.
        entropy_target: H* in nats; default: the mean entropy of the first step's completions.
        meta_skip: first optimizer steps whose meta-gradient is not used.

    Raises:
        IntegrationError: this TRL, engine or option is not supported.
        ConfigError, DataError: the rule or the demonstrations are wrong; one line with the fix.
    """

    def __init__(
        self,
        *args: Any,
        demonstrations: Any,
        balance: str | Mapping[str, Any] | Balance = "amft",
        num_demos: int | None = None,
        entropy_target: float | None = None,
        meta_skip: int = 5,
        **kwargs: Any,
    ):
        check_version(trl.__version__)
        check_methods(GRPOTrainer)
        method = build_method({"rule": balance} if isinstance(balance, str) else balance)
        _check_method(method)
        self.balance = method.rule
        super().__init__(*args, **kwargs)
        check_attributes(self)
        _check_engine(self)
        self.balance_state = self.balance.init()
        self.entropy_target, self.meta_skip = entropy_target, meta_skip
        self.imitation = self._imitation(demonstrations, num_demos)
        self.mix: MixGrad | None = None
        self._resumed_from: Path | None = None
        self._fresh: list[bool] = []
        self._entropies: list[float] = []
        self._reward: float | None = None
        self.add_callback(_Steps(self))

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        """As in TRL; a resumed run also gets back its weight, its buffer and its place in the demonstrations."""
        last = get_last_checkpoint(self.args.output_dir) if resume_from_checkpoint is True else resume_from_checkpoint
        self._resumed_from = Path(last) / "amft" if last else None
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """One micro-batch of TRL's; the last one of an optimizer step is followed by imitation and the mix."""
        self._fresh.append(False)
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._entropies.append(self._metrics["train"]["entropy"][-1])
        if self.accelerator.sync_gradients:
            self._mix_gradients(model)
            self._fresh, self._entropies = [], []
        return loss

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        out = super()._generate_and_score_completions(inputs)
        if self.model.training:
            self._fresh[-1] = True
            self._reward = self._metrics["train"]["reward"][-1]
        return out

    def _clip_grad_norm(self, model: Any) -> float:  # noqa: ARG002  # TRL's signature
        assert self.mix is not None
        return self.mix.clip_(self.args.max_grad_norm)

    def _mix_gradients(self, model: Any) -> None:
        """Steps 3 to 6 of docs/method.md; `p.grad` holds the RL gradient, reduced over ranks."""
        mix, device = self.mix, self.accelerator.device
        assert mix is not None
        # Completions of the step before carry its noise; only a window that began with new ones counts.
        observed = mix.observe() if self._fresh[0] else None
        entropy = sum(self._entropies) / len(self._entropies)
        if self.entropy_target is None:
            self.entropy_target = entropy
        signals = Signals(
            self.state.global_step,
            self.state.max_steps,
            entropy=entropy,
            entropy_target=self.entropy_target,
            reward=self._reward,
            meta_grad=None if observed is None else observed.dot,
            meta_cos=None if observed is None else observed.cos,
        )
        weights, self.balance_state, metrics = self.balance.update(self.balance_state, signals)
        mix.stash()
        totals = self.imitation.backward(
            model,
            device,
            arithmetic=self.compute_loss_context_manager,
            defer=functools.partial(self.accelerator.no_sync, model),
        )
        mixed = mix.combine(weights)
        nll, right, tokens = self.accelerator.reduce(totals, reduction="sum").tolist()
        metrics = {"mix/mu": weights.sft, **metrics, "entropy_target": self.entropy_target}
        metrics |= {"sft/loss": nll / tokens, "sft/token_accuracy": right / tokens, "tokens/demo": tokens}
        metrics |= {"mix/grad_norm_sft": mixed.norm_sft, "mix/grad_norm_rl": mixed.norm_rl, "mix/grad_cos": mixed.cos}
        for name, value in metrics.items():
            self._metrics["train"][name].append(value)

    def _imitation(self, demonstrations: Any, num_demos: int | None) -> Imitation:
        args, world = self.args, self.accelerator.num_processes
        tokenizer = getattr(self.processing_class, "tokenizer", self.processing_class)
        per_step = args.per_device_train_batch_size * args.gradient_accumulation_steps * world
        return Imitation(
            demonstrations,
            with_template(tokenizer, tools=self.tools, chat_template=self.chat_template, **self.chat_template_kwargs),
            num_demos=per_step if num_demos is None else num_demos,
            micro_batch=args.per_device_train_batch_size,
            max_completion_length=args.max_completion_length,
            stop_ids=stop_ids(self.accelerator.unwrap_model(self.model), tokenizer),
            seed=args.seed,
            rank=self.accelerator.process_index,
            world=world,
        )


class _Steps(TrainerCallback):
    """The places in transformers' loop where the buffer is made, pushed, saved and restored."""

    def __init__(self, trainer: AMFTGRPOTrainer):
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        trainer = self.trainer
        optimizer: Any = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
        model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
        rule = trainer.balance
        trainer.mix = MixGrad(
            model.named_parameters(),
            optimizer,
            skip=trainer.meta_skip,
            horizon=getattr(rule, "horizon", 0.0),
            jacobian=getattr(rule, "jacobian", "exact"),
        )
        if trainer._resumed_from is not None:
            if not trainer._resumed_from.is_dir():
                raise CheckpointError(
                    f"{trainer._resumed_from}: missing (save_only_model leaves it out), so the weight and its buffer "
                    "cannot be resumed; begin a new run"
                )
            tensors, saved = load_checkpoint(trainer._resumed_from)
            trainer.mix.load_state_dict(tensors["meta"])
            trainer.imitation.stream.load_state_dict(saved["demonstrations"])
            trainer.balance_state, trainer.entropy_target = saved["balance"], saved["entropy_target"]

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        assert self.trainer.mix is not None
        self.trainer.mix.after_step()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        if args.save_only_model:
            return
        trainer = self.trainer
        assert trainer.mix is not None
        whole = {
            name: tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
            for name, tensor in trainer.mix.state_dict().items()
        }
        if state.is_world_process_zero:
            saved = {
                "balance": trainer.balance_state,
                "entropy_target": trainer.entropy_target,
                "demonstrations": trainer.imitation.stream.state_dict(),
            }
            folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}" / "amft"
            save_checkpoint(folder, {"meta": whole}, saved)


def _check_method(method: Method) -> None:
    rule = method.rule
    extra = sorted(method.needs - MEASURED)
    if extra:
        raise ConfigError(f"balance: the TRL adapter does not measure {', '.join(extra)}; use amft.AMFTTrainer")
    if method != Method(rule):
        raise ConfigError("balance: this method changes more than the two weights; use amft.AMFTTrainer")
    utility = getattr(rule, "utility", "lookahead")
    if utility != "lookahead":
        raise ConfigError(f"balance.utility: the TRL adapter has lookahead only, not {utility}; use amft.AMFTTrainer")


def _check_engine(trainer: Any) -> None:
    if trainer.args.fp16:
        raise IntegrationError("args.fp16: its scaled gradients cannot be mixed; use bf16=True")
    if str(trainer.accelerator.distributed_type).endswith(("DEEPSPEED", "MEGATRON_LM")):
        raise IntegrationError("DeepSpeed steps inside backward, so the two gradients cannot be kept apart; use FSDP2")
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)
    if plugin is not None and plugin.fsdp_version != 2:
        raise IntegrationError("FSDP 1 flattens parameters, so the buffer does not fit them; set fsdp_version: 2")
    if trainer.environment_factories is not None:
        raise IntegrationError("environment_factory: demonstrations of several turns are not supported; use tools=")
