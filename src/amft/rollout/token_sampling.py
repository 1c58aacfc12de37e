"""From next-token logits to tokens. Every draw is one uniform number per row and step.

Notation: R rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import ConfigError, DataError, NonFiniteError
from ..types import Sampling


def check_request(prompts: Sequence[Sequence[int]], sampling: Sampling) -> None:
    """Refuse what no engine can sample.

    Raises:
        ConfigError: a sampling setting is out of range.
        DataError: a prompt has no token.
    """
    limits = {
        "n": sampling.n >= 1,
        "max_new_tokens": sampling.max_new_tokens >= 1,
        "temperature": sampling.temperature >= 0,
        "top_p": 0 < sampling.top_p <= 1,
        "top_k": sampling.top_k >= 0,
    }
    for name, within in limits.items():
        if not within:
            raise ConfigError(f"{name}: {getattr(sampling, name)} is out of range; see amft.types.Sampling")
    for i, prompt in enumerate(prompts):
        if not prompt:
            raise DataError(f"prompt {i} has no tokens; give at least one")


def not_numbers() -> NonFiniteError:
    """The error of a policy from whose logits nothing can be drawn."""
    return NonFiniteError(
        "rollouts: the policy's logits are not finite, so no token can be drawn; a smaller learning_rate or "
        "max_grad_norm is the usual cure, from the last checkpoint"
    )


def says_logps(sampling: Sampling) -> bool:
    """Whether what is drawn has a log-probability that the trainer can compare: of the whole vocabulary, not greedy."""
    return sampling.temperature > 0 and sampling.top_p == 1 and sampling.top_k == 0


def next_tokens(logits: Tensor, uniforms: Tensor | None, sampling: Sampling) -> tuple[Tensor, Tensor | None]:
    """One token per row: the argmax at temperature 0, else a draw by inversion of the distribution function.

    The token is the smallest v with `F(v) > u * F(V - 1)`, where F is the running sum of the kept probabilities; so a
    row's token depends on its own logits and its own u only. Sums are in float64: there `u * F(V - 1) < F(V - 1)` holds
    for every u < 1, hence a token of probability zero is never drawn. Where logits are NaN there is no distribution,
    and the token is V, which no vocabulary has.

    Args:
        logits: [R, V].
        uniforms: [R] float64 in [0, 1); None at temperature 0.
        sampling: temperature, then top_k, then top_p are applied, as `transformers` does.

    Returns:
        [R] tokens, and [R] their log-probabilities in nats where `says_logps`.
    """
    if uniforms is None:
        return logits.argmax(-1), None
    assert uniforms.dtype == torch.float64
    assert uniforms.shape == logits.shape[:1]
    probs = torch.softmax(_keep_top_k(logits.float() / sampling.temperature, sampling.top_k), dim=-1)
    cdf = _keep_top_p(probs, sampling.top_p).cumsum(-1, dtype=torch.float64)
    drawn = torch.searchsorted(cdf, uniforms[:, None] * cdf[:, -1:], right=True)
    if not says_logps(sampling):
        return drawn.squeeze(1), None
    inside = drawn.clamp(max=logits.shape[-1] - 1)
    return drawn.squeeze(1), probs.gather(1, inside).log().squeeze(1)


def _keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Everything below the k-th largest logit becomes -inf; ties with it stay."""
    if k == 0 or k >= logits.shape[-1]:
        return logits
    return logits.masked_fill(logits < logits.topk(k, dim=-1).values[:, -1:], -torch.inf)


def _keep_top_p(probs: Tensor, p: float) -> Tensor:
    """Zero the tail: a token stays while the mass of the likelier tokens is below p (Holtzman et al., 1904.09751)."""
    if p == 1:
        return probs
    ordered, index = probs.sort(dim=-1, descending=True, stable=True)
    likelier = ordered.cumsum(-1, dtype=torch.float64) - ordered
    return torch.zeros_like(probs).scatter(-1, index, ordered.masked_fill(likelier >= p, 0.0))
