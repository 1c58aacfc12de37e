"""Policy, shadow and teacher of BRIDGE (arXiv 2509.06948) make their steps together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..settings.config import AMFTConfig
from ..tensors import TensorGroups
from .branch import Branch
from .learner import Learner
from .objective import Loss
from .optimizers import PolicyOptimizer, SharedOptimizer, hidden_matrices
from .teacher import LowRankTeacher

Build = Callable[[nn.Module, AMFTConfig], torch.optim.Optimizer]


class ShadowedOptimizer:
    """Wraps the policy's optimizer. The policy is `theta + w`, the shadow `theta' + w`, with one teacher `w`:

        theta  descends (1 - l) grad L_SFT + l grad L_RL          `inner`, along `p.grad`
        theta' descends grad L_RL at the shadow                   on the same rollouts
        w      descends grad_w ((1 - l) L_SFT + l (L_RL - L_RL at the shadow))

    so the teacher learns what makes the policy better than one that only explores. All three gradients are taken
    before any of the three steps. A step without `compare` before it (warm-up) moves the policy, and puts the shadow
    where the policy is.

    Args:
        inner: makes the policy's steps.
        policy: its model.
        shadow: a copy of it.
        teacher: of the policy's hidden matrices.
        build: makes the optimizers of shadow and teacher.
        config: settings.
        rate: the teacher's learning rate in multiples of the policy's.
    """

    def __init__(
        self,
        inner: PolicyOptimizer,
        policy: PreTrainedModel,
        shadow: PreTrainedModel,
        teacher: LowRankTeacher,
        build: Build,
        config: AMFTConfig,
        rate: float,
    ):
        self.inner, self.policy, self.shadow, self.teacher = inner, policy, shadow, teacher
        self.shadow_steps = SharedOptimizer(shadow, build(shadow, config), "shadow_optimizer")
        self.teacher_steps = SharedOptimizer(teacher, build(teacher, config), "teacher_optimizer")
        self.limit, self.rate = config.max_grad_norm, rate
        self.compared = False

    def set_learning_rate(self, rate: float) -> None:
        self.inner.set_learning_rate(rate)
        self.shadow_steps.set_learning_rate(rate)
        self.teacher_steps.set_learning_rate(rate * self.rate)

    def compare(self, learner: Learner, loss: Loss, exploration: Branch, weight: float) -> float:
        """Set the gradients of shadow and teacher.

        Args:
            learner: computes; `p.grad` of its model is the mixed gradient.
            loss: the RL loss, without that of a value head, which belongs to the policy.
            exploration: the RL branch of this step. Ratios are to the policy that drew the rollouts.
            weight: l, of exploration in the mixed gradient.

        Returns:
            That loss at the shadow.
        """
        self.shadow.zero_grad(set_to_none=True)
        batch = exploration.batch
        assert batch is not None
        if batch.old_logps is None:
            batch = replace(batch, old_logps=learner.logps(self.policy, batch))
        found, _ = learner.gradient(loss, batch, exploration.count, model=self.shadow)
        with torch.no_grad():
            pairs = zip(hidden_matrices(self.policy), hidden_matrices(self.shadow), strict=True)
            self.teacher.take([_slope(own) - weight * _slope(other) for own, other in pairs])
        self.compared = True
        return found

    @torch.no_grad()
    def step(self, imitates: bool) -> None:
        self.inner.step(imitates)
        if self.compared:
            self._follow()
        else:
            for own, other in zip(self.policy.parameters(), self.shadow.parameters(), strict=True):
                other.copy_(own)
        self.compared = False

    def _follow(self) -> None:
        before = self.teacher.products()
        for steps in (self.shadow_steps, self.teacher_steps):
            trained = [p for p in steps.model.parameters() if p.grad is not None]
            nn.utils.clip_grad_norm_(trained, float("inf") if self.limit is None else self.limit)
            steps.step(imitates=False)
            steps.model.zero_grad(set_to_none=True)
        changes = [now - then for now, then in zip(self.teacher.products(), before, strict=True)]
        for model in (self.policy, self.shadow):
            for matrix, change in zip(hidden_matrices(model), changes, strict=True):
                matrix.add_(change)

    def tensors(self) -> TensorGroups:
        models = {"shadow": dict(self.shadow.named_parameters()), "teacher": dict(self.teacher.named_parameters())}
        weights = {group: {name: p.detach() for name, p in found.items()} for group, found in models.items()}
        return self.inner.tensors() | self.shadow_steps.tensors() | self.teacher_steps.tensors() | weights

    @torch.no_grad()
    def load_tensors(self, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Weights [*] and optimizer state of shadow and teacher, and what the wrapped optimizer keeps."""
        for steps in (self.inner, self.shadow_steps, self.teacher_steps):
            steps.load_tensors(groups)
        for group, model in (("shadow", self.shadow), ("teacher", self.teacher)):
            for name, p in model.named_parameters():
                p.copy_(groups[group][name])


def _slope(matrix: nn.Parameter) -> Tensor:
    """Its gradient, zeros where nothing reached it."""
    return torch.zeros_like(matrix) if matrix.grad is None else matrix.grad
