"""AMFT inside TRL: `GRPOTrainer` with demonstrations and a balance rule. Needs `amft[trl]`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint

from ..balance.base import Balance
from ..balance.method import Method
from ..balance.registry import build_method
from ..checkpoints.checkpoint import load_checkpoint, save_checkpoint
from ..data.encoding import encode_prompt
from ..data.plain_text import special_string
from ..errors import CheckpointError, ConfigError, IntegrationError
from ..meta import MixGrad
from ..models.forward import Entropy
from ..models.load import stop_ids
from ..signals.entropy import ENTROPY
from ..signals.reward import REWARD
from ..signals.verdicts import VERDICTS
from ..step.balancer import Balancer
from ..step.gradients_apart import gradients_apart
from ..step.mixed_gradients import mixed_gradients
from .imitation import Imitation, with_template
from .trl_backend import TRLBackend, Window
from .trl_classes import read_settings, sort_into_classes
from .trl_contract import check_attributes, check_methods, check_version
from .trl_rows import TreeRows

try:
    import trl
    from trl import GRPOTrainer
except ImportError as error:
    raise IntegrationError("amft.integrations.trl needs TRL: pip install 'amft[trl]'") from error

MEASURED = (ENTROPY, REWARD, VERDICTS)
"""Signals a rule may ask the adapter for, beside the meta-gradient."""

OWN_METRICS = ("mix/", "sft/", "tokens/demo", "entropy_target")
"""What we log; the rest of a step is TRL's."""


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
        trust_special_tokens: strings of special tokens in prompts and demonstrations are those tokens, as in TRL; by
            default they are text. Prompts with pictures are TRL's own in any case.
        demonstration_settings: the settings `demonstrations.*` of a recipe, `{"filter": "verified"}` say: what the
            reward functions' opinion of demonstrations is used for.
        prefix_tree: compute what rows begin with alike once, and no padding; False leaves the passes to TRL.

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
        trust_special_tokens: bool = False,
        demonstration_settings: Mapping[str, Any] | None = None,
        prefix_tree: bool = True,
        **kwargs: Any,
    ):
        check_version(trl.__version__)
        check_methods(GRPOTrainer)
        method = build_method({"rule": balance} if isinstance(balance, str) else balance)
        _check_method(method)
        self.balance, settings = method.rule, read_settings(demonstration_settings or {})
        super().__init__(*args, **kwargs)
        check_attributes(self)
        _check_engine(self)
        self.entropy_target, self.trust_special_tokens = entropy_target, trust_special_tokens
        self.imitation = self._imitation(demonstrations, num_demos)
        self.verdicts = sort_into_classes(self, self.imitation, self.balance.requirements, settings)
        for count in self.imitation.not_used:
            self.accelerator.print(f"amft: {count}")
        self.tree_rows = TreeRows(self, prefix_tree, self.accelerator.print)
        self.backend: TRLBackend | None = None
        self._training = contextlib.ExitStack()
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
        with contextlib.ExitStack() as self._training:
            loss = super().training_step(model, inputs, num_items_in_batch)
            self._entropies.append(self._metrics["train"]["entropy"][-1])
            if self.accelerator.sync_gradients:
                self._mix_gradients(model)
                self._fresh, self._entropies = [], []
        return loss

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        inputs = super()._prepare_inputs(generation_batch)
        if self.model.training:  # what is generated is there: the passes that follow are those of training
            self._training.enter_context(self.tree_rows.open(self._unwrapped, inputs))
        return inputs

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Any,
        attention_mask: Any,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        **others: Any,
    ) -> Any:
        entropy: Entropy = "skip" if not compute_entropy else "graph" if self._entropy_bonus_enabled else "value"
        rows = input_ids, attention_mask, logits_to_keep, batch_size or len(input_ids)
        found = self.tree_rows.scores(model, *rows, entropy) if self.tree_rows.wanted else None
        if found is not None:
            return *found, None
        return super()._get_per_token_logps_and_entropies(
            model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, **others
        )

    @property
    def _unwrapped(self) -> Any:
        return self.accelerator.unwrap_model(self.model_wrapped)

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        out = super()._generate_and_score_completions(inputs)
        if self.model.training:
            self._fresh[-1] = True
            self._reward = self._metrics["train"]["reward"][-1]
        return out

    def _clip_grad_norm(self, model: Any) -> float:  # noqa: ARG002  # TRL's signature
        assert self.backend is not None
        return self.backend.mix.clip_(self.args.max_grad_norm)

    def _mix_gradients(self, model: Any) -> None:
        """The order of docs/method.md from step 3 on; `p.grad` holds the RL gradient, reduced over ranks."""
        backend = self.backend
        assert backend is not None
        balancer, entropy = backend.balancer, sum(self._entropies) / len(self._entropies)
        if balancer.entropy_target is None:
            balancer.entropy_target = entropy
        backend.model, backend.window = model, Window(self._fresh[0], entropy, self._reward)
        result = gradients_apart(backend, balancer, self.state.global_step, backend.mix)
        balancer.remember(result)
        own = {name: value for name, value in result.metrics.items() if name.startswith(OWN_METRICS)}
        for name, value in own.items():
            self._metrics["train"][name].append(value)

    def _build_backend(self) -> TRLBackend:
        optimizer: Any = getattr(self.optimizer, "optimizer", self.optimizer)
        model = self._unwrapped
        branches = self.imitation.branches
        mix = mixed_gradients(model, optimizer, self.balance.requirements.meta_gradient, branches)
        if mix is None:  # any optimizer will do: what the weight did to the step is never asked
            mix = MixGrad(model.named_parameters(), optimizer, branches=branches, skip=sys.maxsize, jacobian="identity")
        balancer = Balancer(self.balance, self.state.max_steps, branches, self.entropy_target)
        arithmetic = self.compute_loss_context_manager
        return TRLBackend(self.accelerator, arithmetic, self.imitation, mix, balancer, verdicts=self.verdicts)

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        ids, images, fields = super()._tokenize_prompts(prompts)
        if self.trust_special_tokens or images is not None:
            return ids, images, fields
        tokenizer = self._template_tokenizer
        ids = [
            row if special_string(tokenizer, prompt) is None else encode_prompt(tokenizer, prompt)
            for prompt, row in zip(prompts, ids, strict=True)
        ]
        return ids, images, fields

    @cached_property
    def _template_tokenizer(self) -> Any:
        """With what TRL passes to its chat template filled in."""
        plain = getattr(self.processing_class, "tokenizer", self.processing_class)
        return with_template(plain, tools=self.tools, chat_template=self.chat_template, **self.chat_template_kwargs)

    def _imitation(self, demonstrations: Any, num_demos: int | None) -> Imitation:
        args, world, tokenizer = self.args, self.accelerator.num_processes, self._template_tokenizer
        per_step = args.per_device_train_batch_size * args.gradient_accumulation_steps * world
        return Imitation(
            demonstrations,
            tokenizer,
            num_demos=per_step if num_demos is None else num_demos,
            micro_batch=args.per_device_train_batch_size,
            max_completion_length=args.max_completion_length,
            stop_ids=stop_ids(self.accelerator.unwrap_model(self.model), tokenizer),
            seed=args.seed,
            rank=self.accelerator.process_index,
            world=world,
            scored=_rows_of(self.eval_dataset),
            trust_special_tokens=self.trust_special_tokens,
        )


def _rows_of(dataset: Any) -> list[Any] | None:
    """Rows of an evaluation set, of all of them when there are several; None where they cannot be listed."""
    several = dataset.values() if isinstance(dataset, Mapping) else [dataset]
    return [row for each in several if hasattr(each, "to_list") for row in each.to_list()] or None


class _Steps(TrainerCallback):
    """The places in transformers' loop where the buffer is made, pushed, saved and restored."""

    def __init__(self, trainer: AMFTGRPOTrainer):
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        trainer = self.trainer
        trainer.backend = backend = trainer._build_backend()
        if trainer._resumed_from is not None:
            if not trainer._resumed_from.is_dir():
                raise CheckpointError(
                    f"{trainer._resumed_from}: missing (save_only_model leaves it out), so the weight and its buffer "
                    "cannot be resumed; begin a new run"
                )
            tensors, saved = load_checkpoint(trainer._resumed_from)
            backend.mix.load_state_dict(tensors["meta"])
            for stream in trainer.imitation.order.streams:
                stream.load_state_dict(saved["demonstrations"][stream.name])
            backend.balancer.load_state_dict(saved)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        assert self.trainer.backend is not None
        self.trainer.backend.mix.after_step()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        if args.save_only_model:
            return
        trainer, backend = self.trainer, self.trainer.backend
        assert backend is not None
        whole = {
            name: tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
            for name, tensor in backend.mix.state_dict().items()
        }
        if state.is_world_process_zero:
            saved = {
                **backend.balancer.state_dict(),
                "demonstrations": {one.name: one.state_dict() for one in trainer.imitation.order.streams},
            }
            folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}" / "amft"
            save_checkpoint(folder, {"meta": whole}, saved)


def _check_method(method: Method) -> None:
    asked = method.requirements
    extra = sorted(signal.name for signal in asked.signals if signal not in MEASURED)
    if extra:
        raise ConfigError(f"balance: the TRL adapter cannot measure {', '.join(extra)}; use amft.AMFTTrainer")
    if method != Method(method.rule):
        raise ConfigError("balance: this method changes more than the two weights; use amft.AMFTTrainer")
    if asked.sft_optimizer != "shared" or asked.freeze is not None or asked.teacher is not None:
        raise ConfigError(
            "balance: the TRL adapter has one optimizer and one model, and freezes nothing; use amft.AMFTTrainer"
        )
    meta = asked.meta_gradient
    if meta is not None and meta.entropy:
        raise ConfigError("balance.entropy: the TRL adapter cannot measure dH/dmu; use amft.AMFTTrainer")
    if meta is not None and meta.utility != "lookahead":
        raise ConfigError(
            f"balance.utility: the TRL adapter has lookahead only, not {meta.utility}; use amft.AMFTTrainer"
        )


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
