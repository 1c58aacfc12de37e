"""The model, laid out on the ranks, and what it reads and learns from: everything that is settled before training."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from ..balance.base import Balance
from ..balance.method import Method
from ..balance.registry import build_method
from ..data.rewards import TaskReward
from ..data.streams import derive_seed
from ..distributed.parallel import Parallel, build_parallel
from ..distributed.rank_partition import RankSampler, SplitSampler, SplitScorer
from ..distributed.ranks import local_device
from ..distributed.served_sampler import ServedSampler
from ..errors import ConfigError
from ..experience.data_sources import OwnData, from_data
from ..experience.sources import Encoder, Sources
from ..experience.task_sources import from_task
from ..models.chat_template import choose_template
from ..models.half_copy import HalfCopy
from ..models.liger import check_liger, put_liger
from ..models.load import keep_stops, load_model, load_outline, stop_ids, turn_dropout_off
from ..models.lora import add_lora, has_adapter
from ..models.pictures import Pictures
from ..models.whole import check_sound, check_tokenizer
from ..rollout.base import Sampler
from ..rollout.registry import build_sampler
from ..settings.config import AMFTConfig
from ..settings.groups import EngineSettings
from ..settings.precision import settled_dtype
from ..tasks.base import Task
from ..tasks.guest_task import hosted
from ..weighting.base import TokenInput
from .content import Content, method_parts, sources_of, tokenizer_digests, weights_digest
from .processing_class import load_processing_class

DTYPES = {"float32": torch.float32, "bfloat16": torch.float32, "float64": torch.float64}
"""Type of the master weights; bfloat16 is the type of the arithmetic only."""


@dataclass
class Foundation:
    """The model, laid out on the ranks, and what it reads and learns from."""

    config: AMFTConfig
    method: Method
    parallel: Parallel
    tokenizer: Any
    pictures: Pictures | None
    model: PreTrainedModel
    reference: PreTrainedModel | None
    """The policy at the start, frozen; None where nothing reads it, and for adapters, whose base it is."""
    shadow: PreTrainedModel | None
    """A second policy that only explores; None where the rule has no teacher."""
    sources: Sources
    sampler: RankSampler
    """Of what is trained on."""
    evaluator: RankSampler
    """Of what is only scored: it answers with the weights that are saved."""
    content: Content
    """What it was all made of; nothing on the ranks that write nothing."""
    notes: list[tuple[str, str]]
    """What a reader of the run should know from the beginning: kind of event, sentence."""

    @property
    def processing_class(self) -> Any:
        """What is saved beside the model: a tokenizer, or what reads pictures."""
        return self.tokenizer if self.pictures is None else self.pictures


def lay_foundation(
    config: AMFTConfig,
    balance: Balance | Method | None,
    model: str | PreTrainedModel,
    *,
    base: str | None,
    processing_class: Any,
    data: Task | OwnData,
) -> Foundation:
    """Load the model and the data; the arguments are those of `AMFTTrainer`, `base` is the model's name in a recipe.

    Raises:
        ConfigError, DataError, ModelError, TaskError: one line that names the field and the fix.
    """
    config = _settled(config)
    method = build_method(dict(config.balance) if balance is None else balance)
    if method.requirements.teacher is not None:
        _check_shadow(config)
    parallel = build_parallel(config)
    tokenizer, pictures = load_processing_class(model, processing_class)
    if config.allow_missing and not isinstance(model, str):
        raise ConfigError("allow_missing: the model is loaded already; give its directory, or leave this out")
    set_template(tokenizer, pictures, config)
    with parallel.ranks.contact():
        loaded = _load(model, config, parallel) if isinstance(model, str) else _given(model)
    check_tokenizer(base or _name(loaded), tokenizer, loaded)
    weights = weights_digest(loaded) if parallel.ranks.is_main else ""
    with parallel.ranks.contact():
        reference, shadow = _prepare(loaded, config, method, parallel, base)
        stops = parallel.ranks.from_main(lambda: stop_ids(loaded, tokenizer))
    keep_stops(loaded, tokenizer, stops)
    encoder = Encoder(tokenizer, config, stops, method, pictures, parallel.ranks)
    with parallel.ranks.contact():
        sources = read_sources(encoder, data)
    config = with_epochs(config, sources)
    sampler, evaluator = _samplers(config, loaded, parallel, tokenizer.pad_token_id, stops)
    if sources.scorer is not None:
        sources.scorer = SplitScorer(sources.scorer, parallel.ranks)
    content = {
        "data": sources.digests,
        "rewards": sources_of(data.functions if isinstance(data, OwnData) else [data]),
        "rule": sources_of(method_parts(method)),
        "model": {"weights": weights},
        "tokenizer": tokenizer_digests(tokenizer),
    }
    return Foundation(
        config=config,
        method=method,
        parallel=parallel,
        tokenizer=tokenizer,
        pictures=pictures,
        model=loaded,
        reference=reference,
        shadow=shadow,
        sources=sources,
        sampler=sampler,
        evaluator=evaluator,
        content=content,
        notes=notes_of(encoder, sources),
    )


def _settled(config: AMFTConfig) -> AMFTConfig:
    """The config with what depends on this machine, which is set up."""
    if config.use_liger_kernel:
        check_liger()
    if config.threads:
        torch.set_num_threads(config.threads)
    return settled_dtype(config, local_device())


def read_sources(encoder: Encoder, data: Task | OwnData) -> Sources:
    """Everything a run reads.

    Raises:
        ConfigError, DataError, TaskError: as `from_data` and `from_task`.
    """
    return from_data(encoder, data) if isinstance(data, OwnData) else from_task(hosted(data), encoder)


def notes_of(encoder: Encoder, sources: Sources) -> list[tuple[str, str]]:
    """What a reader of the run should know of its rows and texts."""
    left_out = [("held-out" if rows.expected else "data", str(rows)) for rows in sources.not_used]
    graded = [("verdicts", str(found)) for found in encoder.verdicts]
    return [*left_out, *graded, *(("text", note) for note in encoder.notes)]


def _samplers(
    config: AMFTConfig, model: PreTrainedModel, parallel: Parallel, pad_id: int, stops: Sequence[int]
) -> tuple[RankSampler, RankSampler]:
    """What trains and what is only scored draw from these; one engine for both unless rollouts come from a copy."""
    if config.engine == "vllm":
        dtype = torch.bfloat16 if config.dtype == "bfloat16" else model.dtype
        served = ServedSampler(model, parallel.ranks, stops, dtype, config.engine_options or EngineSettings())
        return served, served
    engine = partial(build_sampler, config.engine, model, pad_id=pad_id, eos_ids=stops)

    def split(sampler: Sampler) -> SplitSampler:
        return SplitSampler(sampler, parallel.ranks, lambda: parallel.sampling(model))

    plain = engine()
    return split(engine(half=HalfCopy(model)) if samples_from_a_copy(config) else plain), split(plain)


def samples_from_a_copy(config: AMFTConfig) -> bool:
    """Whether rollouts come from a bfloat16 copy: where the weights that are trained are wider, and whole here.

    An adapter's base is in bfloat16 already, fsdp2 gathers the weights in it, and vLLM has a copy of its own.
    """
    is_wider = config.dtype == "bfloat16" and config.lora is None and config.parallel != "fsdp2"
    return is_wider and config.rollout_weights == "auto" and config.engine != "vllm"


def with_epochs(config: AMFTConfig, sources: Sources) -> AMFTConfig:
    """The config with `max_steps` as many as `num_train_epochs` says, where that is given.

    Raises:
        ConfigError: the data has no end, or the warm-up alone is longer.
    """
    epochs = config.num_train_epochs
    if epochs is None:
        return config
    prompts, demos = sources.prompts, sources.demonstrations
    if isinstance(sources.scorer, TaskReward):
        raise ConfigError("num_train_epochs: a task makes problems without end; give max_steps")
    rows, per_step = (0, 1) if demos is None else (len(demos.encoded.rows), config.num_demos)
    if prompts is not None:
        rows, per_step = len(prompts.rows), config.num_prompts
    steps = math.ceil(epochs * rows / per_step) * config.num_iterations
    if config.sft_warmup_steps > steps:
        raise ConfigError(f"num_train_epochs: {epochs:g} are {steps} steps, fewer than sft_warmup_steps")
    return config.model_copy(update={"max_steps": steps})


def set_template(tokenizer: Any, pictures: Pictures | None, config: AMFTConfig) -> None:
    """Give tokenizer and processor the chat template of the run, in place.

    Raises:
        ConfigError: it is no template, or a setting is not for models that read pictures.
    """
    if pictures is not None:
        _check_pictures(config)
    choose_template(tokenizer, config.chat_template, config.chat_template_kwargs, config.system_prompt)
    if pictures is not None:
        pictures.processor.chat_template = tokenizer.chat_template


def _check_pictures(config: AMFTConfig) -> None:
    if config.system_prompt is not None:
        raise ConfigError("system_prompt: not for models that read pictures; put a system message into the prompts")
    if config.rollout_gather == "layer":
        raise ConfigError("rollout_gather: layer is not for models that read pictures; choose model")


def _load(name: str, config: AMFTConfig, parallel: Parallel) -> PreTrainedModel:
    four_bits, dtype = config.lora is not None and config.lora.load_in_4bit, weights_dtype(config)
    return parallel.load(
        lambda: load_model(name, dtype, four_bits=four_bits, allow_missing=config.allow_missing),
        lambda: load_outline(name, dtype),
    )


def weights_dtype(config: AMFTConfig) -> torch.dtype:
    """The type that a model's weights are loaded in."""
    # What is frozen needs no master copy; but fsdp2 wants one type in a block, and casts by itself.
    half = config.lora is not None and config.dtype == "bfloat16" and config.parallel != "fsdp2"
    return torch.bfloat16 if half else DTYPES[config.dtype]


def _given(model: PreTrainedModel) -> PreTrainedModel:
    turn_dropout_off(model)
    check_sound(_name(model), model)
    return model


def _name(model: PreTrainedModel) -> str:
    return model.config._name_or_path or type(model).__name__


def _prepare(
    model: PreTrainedModel, config: AMFTConfig, method: Method, parallel: Parallel, base: str | None
) -> tuple[PreTrainedModel | None, PreTrainedModel | None]:
    """Settle what must be settled before the model is laid out; returns reference and shadow, copied here."""
    if parallel.device.type == "cpu" and config.dtype != "float64":
        # The fused kernel's backward is slow on a CPU. In float64 the eager one turns left padding into NaN.
        model.set_attn_implementation("eager")
    if config.use_liger_kernel:
        put_liger(model)
    adapt(model, config, base)
    wanted = (config.beta or weighs_reference(method)) and config.lora is None
    reference = copy.deepcopy(model).requires_grad_(False) if wanted else None
    if config.gradient_checkpointing:
        older = model.gradient_checkpointing_enable  # the name until transformers 5.2x
        getattr(model, "activation_checkpointing_enable", older)({"use_reentrant": False})
        model.train()  # transformers checkpoints in this mode only; dropout is off in both
    shadow = None if method.requirements.teacher is None else copy.deepcopy(model)
    for each in (model, reference, shadow):
        if each is not None:
            parallel.wrap(each)
    return reference, shadow


def _check_shadow(config: AMFTConfig) -> None:
    if config.parallel == "fsdp2":
        raise ConfigError("parallel: fsdp2 cuts the matrices that the rule's teacher needs whole; use ddp")
    if config.lora is not None:
        raise ConfigError("lora: the rule's teacher has low-rank matrices of its own; leave lora out")


def adapt(model: PreTrainedModel, config: AMFTConfig, base: str | None) -> None:
    """Put the adapter of `config.lora` on a model, in place; without one, refuse a model that has one."""
    lora = config.lora
    if lora is not None:
        settings = lora.model_dump(exclude={"load_in_4bit"})
        add_lora(model, seed=derive_seed(config.seed, "lora"), base=base or model.config._name_or_path, **settings)
    elif has_adapter(model):
        raise ConfigError("model: it is an adapter on a base; make one model of the two with `amft merge`")


def weighs_reference(method: Method) -> bool:
    """Whether a weighting reads log-probabilities of the reference policy."""
    return TokenInput.REFERENCE in method.token_inputs
