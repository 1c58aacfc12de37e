"""The policy's optimizer, and wrappers for methods whose imitation steps are made otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..extras import require_extra
from ..meta.inplace import placed_like
from ..meta.joint_optimizer import JointOptimizer
from ..settings.config import AMFTConfig
from ..tensors import TensorGroups


class PolicyOptimizer(Protocol):
    """Makes the policy's steps."""

    def set_learning_rate(self, rate: float) -> None:
        """Of the steps to come."""
        ...

    def step(self, imitates: bool) -> None:
        """One step along `p.grad`. Args: imitates: the step is imitation alone."""
        ...

    def tensors(self) -> TensorGroups:
        """What a checkpoint must hold, by parameter's name."""
        ...

    def load_tensors(self, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Continue where `tensors` was taken; each tensor is [*] as its parameter, or []."""
        ...


def restore_slot(optimizer: torch.optim.Optimizer, parameter: Tensor, slot: str, value: Tensor) -> None:
    """Put one tensor of an optimizer's state back, a moment or scale [*] or a step count []."""
    if slot == "step":  # a tensor in torch, a number in bitsandbytes
        optimizer.state[parameter][slot] = value.clone() if value.is_floating_point() else int(value)
    else:
        optimizer.state[parameter][slot] = placed_like(parameter, value)


class SharedOptimizer:
    """One optimizer makes all steps.

    Its tensors are not read by torch's `get_optimizer_state_dict`: before the first update (a refused one too) that
    makes a step of its own, after which bias corrections are others, and `set_optimizer_state_dict` fails where a
    parameter had no gradient yet.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, group: str = "optimizer"):
        self.model, self.optimizer, self.group = model, optimizer, group

    def set_learning_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def step(self, imitates: bool) -> None:  # noqa: ARG002
        self.optimizer.step()

    def tensors(self) -> TensorGroups:
        names: dict[Tensor, str] = {p: name for name, p in self.model.named_parameters()}
        found = {
            f"{key}.{names[p]}": torch.as_tensor(value)
            for p, entry in self.optimizer.state.items()
            for key, value in entry.items()
            if value is not None
        }
        return {self.group: found}

    def load_tensors(self, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Moments [*] and step counts [] by `SLOT.PARAMETER`."""
        parameters = dict(self.model.named_parameters())
        for key, value in groups.get(self.group, {}).items():
            slot, _, name = key.partition(".")
            restore_slot(self.optimizer, parameters[name], slot, value)


class SeparateImitation:
    """Wraps an optimizer: the steps that only imitate are made by another one, with moments of its own (ReLIFT)."""

    def __init__(self, inner: PolicyOptimizer, imitator: SharedOptimizer):
        self.inner, self.imitator = inner, imitator

    def set_learning_rate(self, rate: float) -> None:
        self.inner.set_learning_rate(rate)
        self.imitator.set_learning_rate(rate)

    def step(self, imitates: bool) -> None:
        (self.imitator if imitates else self.inner).step(imitates)

    def tensors(self) -> TensorGroups:
        return self.inner.tensors() | self.imitator.tensors()

    def load_tensors(self, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Those of both optimizers, [*] or [] each."""
        self.inner.load_tensors(groups)
        self.imitator.load_tensors(groups)


def build_optimizer(model: nn.Module, config: AMFTConfig) -> torch.optim.Optimizer:
    """The optimizer of `config.optim`; weight decay on matrices only.

    Raises:
        IntegrationError: it is one of bitsandbytes, which is not installed.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    if config.optim != "muon":
        return _build_plain(config.optim, trained, config)
    hidden = set(hidden_matrices(model))
    matrices, others = [p for p in trained if p in hidden], [p for p in trained if p not in hidden]
    parts: list[torch.optim.Optimizer] = []
    if matrices:
        rate, decay = config.learning_rate, config.weight_decay
        muon = torch.optim.Muon(matrices, rate, decay, config.muon_momentum, adjust_lr_fn="match_rms_adamw")
        parts.append(muon)
    if others:
        parts.append(_build_plain("adamw", others, config))
    return JointOptimizer(parts)


def _build_plain(name: str, trained: list[nn.Parameter], config: AMFTConfig) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    betas = (config.adam_beta1, config.adam_beta2)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.sgd_momentum)
    if name == "adafactor":
        return torch.optim.Adafactor(groups, lr=config.learning_rate)
    if name == "lion":
        return cast("torch.optim.Optimizer", _of_bitsandbytes(name)(groups, lr=config.learning_rate, betas=betas))
    kinds: dict[str, Any] = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
    kind: type[torch.optim.Adam] = kinds.get(name) or _of_bitsandbytes(name)
    return kind(groups, lr=config.learning_rate, betas=betas, eps=config.adam_epsilon)


def _of_bitsandbytes(name: str) -> Any:
    require_extra(f"optim: {name}", "bitsandbytes", "bitsandbytes")
    from bitsandbytes import optim

    kinds = {"adamw_8bit": "AdamW8bit", "paged_adamw": "PagedAdamW", "paged_adamw_8bit": "PagedAdamW8bit"}
    return getattr(optim, kinds.get(name, "Lion"))


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """Matrices between the embedding and the output layer; a value head, which is an output layer, has none."""
    if not isinstance(model, PreTrainedModel):
        return []
    output = model.get_output_embeddings()
    ends = set() if output is None else set(output.parameters())
    inner = (module for module in model.modules() if not isinstance(module, nn.Embedding))
    return [p for module in inner for p in module.parameters(recurse=False) if p.dim() == 2 and p not in ends]
