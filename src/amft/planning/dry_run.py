"""Everything of a run but its weights: built, joined and tried once on torch's `meta` device, then described."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel

from ..assembly.models import model_directory
from ..assembly.own_data import load_own_data
from ..balance.method import Method
from ..balance.registry import build_method
from ..batch import Batch, pad_batch
from ..distributed.ranks import local_device
from ..errors import ConfigError, ModelError
from ..experience.data_sources import OwnData
from ..experience.sources import Encoder, Sources
from ..models.forward import token_scores
from ..models.load import cached_model, load_skeleton, skeleton_of, stop_ids
from ..models.lora import in_four_bits
from ..models.pictures import Pictures, sees
from ..row_files import hub_name
from ..runs import RunDirectory
from ..settings.config import AMFTConfig
from ..settings.precision import settled_dtype
from ..settings.recipe import Recipe
from ..step.balancer import Balancer
from ..step.lr_schedule import LRSchedule
from ..step.mixed_gradients import mixed_gradients
from ..step.optimizers import SharedOptimizer, build_optimizer
from ..tasks.base import Task
from ..training.assemble import branches_of
from ..training.check_sources import check_sources
from ..training.foundation import adapt, notes_of, read_sources, set_template, weights_dtype, with_epochs
from ..training.processing_class import load_processing_class
from .shape import KNOWN

TRIED_DEMOS = 8
"""Demonstrations that the rewards are tried on, and that are graded where a run would grade all."""


@dataclass
class DryRun:
    """What a run would be."""

    model: str
    """Class of the model."""
    parameters: int
    trained: int
    bytes: int
    """Of all weights, in the type they are kept in."""
    optimizer: str
    optimizer_bytes: int | None = None
    """Of its state; None: it cannot be tried without weights."""
    buffer_bytes: int = 0
    """Of the meta-gradient between steps, for one imitation branch."""
    shadow_bytes: int = 0
    """Of a second policy and its optimizer's state."""
    rule: list[str] = field(default_factory=list)
    """What it measures."""
    steps: int = 0
    warmup_steps: int = 0
    eval_steps: int = 0
    """Between two validations; 0: never."""
    tokenizer: int = 0
    """Tokens of its vocabulary; 0: not read."""
    ends: list[str] = field(default_factory=list)
    """Tokens that end an answer."""
    rows: dict[str, int] = field(default_factory=dict)
    """Source of rows -> how many."""
    rewards: list[float] = field(default_factory=list)
    """Of the first demonstrations."""
    batches: dict[str, str] = field(default_factory=dict)
    """What the first step reads -> its size."""
    notes: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def dry_run(recipe: Recipe) -> DryRun:
    """Build what a recipe names, and make one step of it that computes shapes only.

    Nothing is written, fetched or sampled, and no weight is read; code that the recipe names is run.

    Raises:
        ConfigError, DataError, ModelError, TaskError, RewardError, RunError: as `amft train` would end with.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("--dry-run: run it in one process, without torchrun")
    RunDirectory(recipe.output_dir).refuse_occupied()
    config = AMFTConfig(**{name: getattr(recipe, name) for name in AMFTConfig.model_fields})
    config, method = settled_dtype(config, local_device()), build_method(dict(recipe.balance))
    away = list(_not_here(recipe))
    directory = _on_disk(recipe)
    model = load_skeleton(directory) if directory else _known(recipe.model)
    _as_trained(model, config, recipe.model)
    found = DryRun(
        type(model).__name__,
        sum(p.numel() for p in model.parameters()),
        sum(p.numel() for p in model.parameters() if p.requires_grad),
        sum(p.nbytes for p in model.parameters()),
        type(build_optimizer(model, config)).__name__,
        rule=method.requirements.described(),
    )
    batches: list[Batch] = []
    if not away and directory:
        config, batches = _read(found, model, directory, recipe, config, method)
    found.unchecked += away
    found.steps, found.eval_steps = config.max_steps, config.eval.steps
    found.warmup_steps = config.sft_warmup_steps if method.requirements.warmup else 0
    _step(found, model, config, method, batches or [_made_up(config)])
    return found


def _not_here(recipe: Recipe) -> Iterator[str]:
    """What the recipe names on the hub, which a dry run does not fetch."""
    if _on_disk(recipe) is None:
        yield f"tokenizer, weights and rows: {recipe.model} is not on this disk, and a dry run fetches nothing"
    options = {} if recipe.task is None else recipe.task.options
    values = [value for given in options.values() for value in (given.values() if isinstance(given, dict) else [given])]
    if "hub" in values:
        yield "the task's rows: they are on the hub, and a dry run fetches nothing"
    data = recipe.data
    for path in () if data is None else (data.train, data.demonstrations, data.val, data.test):
        if path and recipe.allow_download and not os.path.exists(path) and hub_name(path):
            yield f"rows of {path}: they are on the hub, and a dry run fetches nothing"


def _on_disk(recipe: Recipe) -> str | None:
    """The model's directory, one in the hub's cache included; None where the run itself would fetch it.

    Raises:
        ModelError: it is not here and may not be fetched.
    """
    if not recipe.allow_download or Path(recipe.model).expanduser().exists() or recipe.model == "nano":
        return model_directory(recipe.model)
    return cached_model(recipe.model)


def _known(name: str) -> PreTrainedModel:
    """From the sizes this library knows of published models.

    Raises:
        ModelError: it knows none of this one.
    """
    if name not in KNOWN:
        raise ModelError(
            f"model: {name} is not on this disk, and a dry run fetches nothing; name a directory with its config.json "
            "and tokenizer"
        )
    return skeleton_of(AutoConfig.for_model(**KNOWN[name]))


def _as_trained(model: PreTrainedModel, config: AMFTConfig, name: str) -> None:
    if config.lora is not None and config.lora.load_in_4bit:
        in_four_bits()
    model.to(weights_dtype(config))
    model.set_attn_implementation("eager")
    with torch.device("meta"):
        adapt(model, config, name)


def _read(
    found: DryRun, model: PreTrainedModel, directory: str, recipe: Recipe, config: AMFTConfig, method: Method
) -> tuple[AMFTConfig, list[Batch]]:
    """Tokenizer, rows and rewards; the config with its number of steps, and one micro-batch of each loss."""
    tokenizer, pictures = load_processing_class(directory, None)
    set_template(tokenizer, pictures, config)
    stops = stop_ids(model, tokenizer)
    encoder = Encoder(tokenizer, config, stops, method, pictures, tried=TRIED_DEMOS)
    sources = read_sources(encoder, _data_of(recipe))
    config = with_epochs(config, sources)
    warmup = config.sft_warmup_steps if method.requirements.warmup else 0
    plan = config.max_steps, config.lr_warmup_steps
    schedule = LRSchedule(config.lr_scheduler_type, config.lr_scheduler_kwargs, config.learning_rate, *plan)
    balancer = Balancer(method.rule, config.max_steps - warmup, branches_of(sources), config.entropy_target)
    check_sources(config, method, sources, balancer, schedule, warmup)
    found.tokenizer, found.ends = len(tokenizer), tokenizer.convert_ids_to_tokens(stops)
    found.notes = [note for _, note in notes_of(encoder, sources)]
    found.rows = _counts(sources)
    if encoder.not_graded:
        found.unchecked.append(
            f"the verdicts on {encoder.not_graded} more demonstrations, so which classes there are and what "
            "demonstrations.filter leaves out"
        )
    if sources.demonstrations is not None and sources.scorer is not None:
        found.rewards = sources.demonstrations.rewards(sources.scorer, TRIED_DEMOS)
    elif sources.scorer is not None:
        found.unchecked.append("the rewards: there are no demonstrations to try them on")
    return config, list(_first_batches(found, sources, config, pictures))


def _data_of(recipe: Recipe) -> Task | OwnData:
    if recipe.task is not None:
        return recipe.task.build()
    assert recipe.data is not None
    return OwnData(**load_own_data(recipe.data, recipe))


def _counts(sources: Sources) -> dict[str, int]:
    demos, prompts, val = sources.demonstrations, sources.prompts, sources.val
    counts = {
        "prompts": len(prompts.rows) if prompts else 0,
        "demonstrations": len(demos.encoded.rows) if demos else 0,
        "validation": len(val.rows) if val else 0,
    }
    return counts | {f"test {name}": len(rows.rows) for name, rows in sources.tests.items()}


def _first_batches(found: DryRun, sources: Sources, config: AMFTConfig, pictures: Pictures | None) -> Iterator[Batch]:
    """One micro-batch of each loss; answers, which nobody gave, are as long as they may be."""
    rows = config.micro_batch_size
    if sources.prompts is not None:
        chosen = sources.prompts.stream.take(config.num_prompts * config.steps_per_generation)
        lengths = [len(sources.prompts.ids[i]) for i in chosen]
        found.batches["exploration"] = (
            f"{len(chosen)} prompts of {min(lengths)} to {max(lengths)} tokens x {config.num_generations} answers of "
            f"at most {config.max_completion_length}"
        )
        ids = [sources.prompts.ids[i] for i in chosen[: -(-rows // config.num_generations)]]
        each = [prompt for prompt in ids for _ in range(config.num_generations)][:rows]
        if pictures is None:
            yield pad_batch(each, [[0] * config.max_completion_length] * len(each), 0)
    if sources.demonstrations is not None:
        parts = sources.demonstrations.next(config.num_demos)
        lengths = [int(n) for part in parts.values() for n in part.completion_mask.sum(1)]
        found.batches["imitation"] = f"{len(lengths)} demonstrations of {min(lengths)} to {max(lengths)} tokens"
        yield from (part.rows(0, min(rows, len(part))) for part in parts.values())


def _made_up(config: AMFTConfig) -> Batch:
    """Rows of the longest kind, where none could be read."""
    rows = config.micro_batch_size
    return pad_batch([[0] * config.max_prompt_length] * rows, [[0] * config.max_completion_length] * rows, 0)


def _step(found: DryRun, model: PreTrainedModel, config: AMFTConfig, method: Method, batches: list[Batch]) -> None:
    """Forward, backward and optimizer step, of shapes alone; what cannot be done without numbers is said."""
    if sees(model.config):
        found.unchecked.append("forward and backward: with pictures they look at the numbers themselves")
        for p in model.parameters():
            p.grad = torch.zeros_like(p) if p.requires_grad else None
    else:
        for batch in batches:
            token_scores(
                model, batch.to("meta"), temperature=config.temperature, entropy="graph"
            ).logps.sum().backward()
    optimizer = build_optimizer(model, config)
    mix = mixed_gradients(model, optimizer, method.requirements.meta_gradient, ("sft",))
    if mix is not None and method.requirements.meta_gradient is not None:
        found.buffer_bytes = method.requirements.meta_gradient.buffers * sum(
            p.nbytes for p in model.parameters() if p.requires_grad
        )
    try:
        optimizer.step()
    except (NotImplementedError, RuntimeError) as error:
        found.unchecked.append(
            f"the step of {found.optimizer}: it cannot be tried without weights ({type(error).__name__})"
        )
        return
    state: dict[str, Any] = SharedOptimizer(model, optimizer).tensors()["optimizer"]
    found.optimizer_bytes = sum(tensor.nbytes for tensor in state.values())
    if method.requirements.teacher is not None:
        found.shadow_bytes = found.bytes + found.optimizer_bytes
