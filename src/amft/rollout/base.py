"""What a rollout engine is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..types import Sample, Sampling


class Sampler(Protocol):
    """Draws completions from the policy."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        generator: torch.Generator,
        pixels: Tensor | None = None,
    ) -> list[Sample]:
        """`sampling.n` trajectories per prompt, in prompt order: rows `i*n .. i*n+n-1` belong to prompt i.

        Every random draw comes from `generator`; no global generator is touched.

        Args:
            pixels: [N, 3, H, W] the pictures of N prompts; None: they have none.
        """
        ...
