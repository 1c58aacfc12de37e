"""One forward pass: what the model thinks of a batch's completion tokens."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

from ..batch import Batch
from ..tensors import logit_scores
from .head import by_chunk, is_chunked, remember_scaled, without_head
from .layout import Branched, Padded, branched
from .picture_inputs import picture_inputs, without_positions
from .tree_attention import is_tree

Entropy: TypeAlias = Literal["skip", "value", "graph"]
"""`skip`: not computed. `value`: a number to log, without graph. `graph`: to be differentiated."""


ScoreFunction: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


@dataclass(frozen=True)
class TokenScores:
    """Scores of the completion tokens. Where the completion mask is 0 they are arbitrary, but finite."""

    logps: Tensor
    """[B, C] log-probabilities, nats."""
    entropy: Tensor | None = None
    """[B, C] nats."""
    mean_logps: Tensor | None = None
    """[B, C] mean over the vocabulary of the log-probabilities."""
    correct: Tensor | None = None
    """[B, C] float, 1 where the token is the model's first choice."""
    hidden: Tensor | None = None
    """[B, C, D] last hidden state of the state each token is chosen in, with its graph."""


def token_scores(
    model: nn.Module,
    batch: Batch,
    *,
    temperature: float = 1.0,
    entropy: Entropy = "skip",
    smoothing: bool = False,
    accuracy: bool = False,
    hidden: bool = False,
) -> TokenScores:
    """Log-probabilities of every completion token, the first included, under softmax(logits / temperature).

    Token t is scored by the logits at t - 1, so the first one by the last prompt token; a row needs a prompt.
    The head runs on the completion only, where the model takes `logits_to_keep`.

    Args:
        model: a causal language model of transformers, or one wrapped by peft or DDP.
        batch: prompts padded on the left, completions on the right.
        temperature: of the rollouts; divides the logits, as in TRL.
        entropy: whether to compute the entropy, and with which graph.
        smoothing: also compute the mean over the vocabulary, for label smoothing.
        accuracy: also compare each token with the model's first choice.
        hidden: also keep what the output layer was given.
    """
    assert batch.ids.shape[1] > batch.completion_mask.shape[1], "every row needs a prompt token"

    def score(logits: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
        logps, entropies, means, firsts = logit_scores(
            logits, ids, temperature=temperature, entropy=entropy != "skip", mean=smoothing, first=accuracy
        )
        found = [logps]
        if entropies is not None:
            found.append(entropies if entropy == "graph" else entropies.detach())
        if means is not None:
            found.append(means)
        if firsts is not None:
            found.append(firsts)
        return tuple(found)

    layout = branched(batch) if is_tree(innermost(model)) else Padded(batch)
    results, states = _scored(model, batch, layout, score, hidden)
    found = [layout.back(each) for each in results]
    return TokenScores(
        logps=found.pop(0),
        entropy=None if entropy == "skip" else found.pop(0),
        mean_logps=found.pop(0) if smoothing else None,
        correct=found.pop(0) if accuracy else None,
        hidden=None if states is None else layout.back(states),
    )


def _scored(
    model: nn.Module, batch: Batch, layout: Padded | Branched, score: ScoreFunction, hidden: bool
) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """`score` of the logits that predict the completion, which exist all at once only for a narrow vocabulary.

    Returns:
        The scores, and the hidden states if wanted, in the layout.
    """
    inner: Any = innermost(model)
    if is_chunked(inner):
        with without_head(inner) as passed:
            states = _logits(model, batch, layout)
        if states is passed[-1]:  # nothing happens after the output layer
            states = layout.scored(states)
            return by_chunk(inner.get_output_embeddings(), score, states, layout.ids), states
        remember_scaled(inner)
    with _output_layer_inputs(model, hidden) as given:
        logits = layout.scored(_logits(model, batch, layout))
    return score(logits, layout.ids), layout.scored(given[-1]) if hidden else None


def _logits(model: nn.Module, batch: Batch, layout: Padded | Branched) -> Tensor:
    """Logits of the states that are scored, and of others where the model cannot leave them out."""
    inner: Any = innermost(model)
    options: dict[str, Any] = {"use_cache": False, **picture_inputs(inner, batch.pixel_values, batch.ids)}
    options = without_positions(options | layout.inputs)
    parameters = inspect.signature(inner.forward).parameters
    taken = {name: value for name, value in options.items() if name in parameters}
    logits: Tensor = model(**taken, **layout.of_attention).logits
    return logits


@contextmanager
def _output_layer_inputs(model: nn.Module, wanted: bool) -> Iterator[list[Tensor]]:
    """Collects the hidden states that the output layer is given while the body runs, if wanted."""
    found: list[Tensor] = []
    if not wanted:
        yield found
        return
    inner: Any = innermost(model)
    handle = inner.get_output_embeddings().register_forward_pre_hook(lambda _, given: found.append(given[0]))
    try:
        yield found
    finally:
        handle.remove()


def innermost(model: nn.Module) -> nn.Module:
    """The model whose `forward` does the work, inside the wrappers of DDP and peft."""
    inner: Any = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner
