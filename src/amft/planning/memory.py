"""Memory of one step on one device: what lives all the time, and what the fullest moment adds."""

from __future__ import annotations

from dataclasses import dataclass

from .packing import Packing
from .shape import Shape
from .tower import kept_of_picture

SAMPLED_TOGETHER = 256
"""Completions that the sampler decodes at once (`rollout.registry.build_sampler`)."""
LOGIT_COPIES = 4
"""[tokens x vocabulary] tensors alive at once in the backward pass of the output layer: the logits, a contiguous
copy, their gradient in slices and in one piece."""
SLICE = 3 * 2**26
"""Bytes of the slice of log-probabilities that is worked on (`tensors.CHUNK_ELEMENTS`), with its gradient."""
WIDE_VOCABULARY, LOGITS_AT_ONCE = 4096, 2**24
"""From this vocabulary on, at most this many logits exist at once (`models.head.WIDE`, `tensors.CHUNK_ELEMENTS`)."""


@dataclass(frozen=True)
class Load:
    """What a step does, per device unless said otherwise."""

    rows: int
    """Of one forward and backward pass."""
    prompt: int
    completion: int
    """Tokens; their sum is the longest sequence."""
    sampled: int
    """Completions drawn per step on this device."""
    trained: int
    """Parameters with a gradient, all devices together."""
    width: int
    """Bytes of a frozen weight, and of any weight while sampling."""
    half: bool
    """bfloat16 arithmetic over float32 masters."""
    moments: float
    """Optimizer tensors per trained parameter."""
    buffers: float
    """Meta-gradient buffers per trained parameter: 0, or for each imitation branch 1, with a horizon 1.5 or 2."""
    sharded: bool = False
    """fsdp2."""
    shards: int = 1
    """Devices that share one copy of the parameters."""
    layered: bool = False
    """Rollouts gather one layer at a time too."""
    offload: bool = False
    """Parameters, gradients and optimizer state in the host's memory."""
    recompute: bool = False
    """Activations are kept at the edges of layers only."""
    references: int = 0
    """A second, frozen copy of the model."""
    fused: bool = True
    """Attention probabilities are never stored."""
    packing: Packing | None = None
    """Rows lie in a prefix tree; None: they are padded to the longest."""
    copied: bool = False
    """Sampling from a bfloat16 copy of the weights."""
    served: bool = False
    """A server samples, with memory of its own that is not counted here."""
    prefilled: int = 1
    """Prompts that the sampler runs at once, before it draws."""
    pictures: int = 0
    """Whose pixels are in memory at once."""
    trains_tower: bool = True
    """Something in the tower has a gradient."""
    saves_behind: bool = False
    """A checkpoint is copied into this memory and written from there while training goes on."""
    saves_state: bool = True
    """Checkpoints hold more than the weights."""

    @property
    def tokens(self) -> float:
        """That the layers compute on in one micro-batch."""
        return self.rows * (self.prompt + self.completion) if self.packing is None else self.packing.tokens

    @property
    def scored(self) -> float:
        """States of one micro-batch that the output layer computes on."""
        return self.rows * (self.completion + 1) if self.packing is None else self.packing.scored


@dataclass(frozen=True)
class Memory:
    """Bytes on one device, part by part, at the fullest moment of each phase."""

    weights: float
    casts: float
    """bfloat16 copies of the weights for a forward and backward pass; the gathered layers of fsdp2."""
    reference: float
    copy: float
    """The bfloat16 weights that completions are drawn from."""
    gradients: float
    optimizer: float
    rule: float
    """What the rule keeps beside the optimizer: buffers of the meta-gradient, or a shadow of the policy."""
    activations: float
    logits: float
    gathered: float
    """Of the model on each device while sampling (fsdp2): all of it, or its ends and two layers."""
    kv_cache: float
    choices: float
    """[rows x vocabulary] tensors of one drawn token."""
    prefill: float
    """Before the first token is drawn: keys and values of the prompts, and what one layer computes on them."""
    pictures: float
    """Pixels."""
    saved: float
    """The copy of a checkpoint that is being written."""
    runtime: float

    @property
    def kept(self) -> float:
        """At every moment."""
        trained = self.weights + self.optimizer + self.rule
        return trained + self.reference + self.copy + self.pictures + self.saved + self.runtime

    @property
    def training(self) -> float:
        """While gradients are computed."""
        return self.kept + self.casts + self.gradients + self.activations + self.logits

    @property
    def sampling(self) -> float:
        """While completions are drawn."""
        return self.kept + self.gathered + max(self.kv_cache + self.choices, self.prefill)

    @property
    def peak(self) -> float:
        """The larger of the two."""
        return max(self.training, self.sampling)


def memory_of(shape: Shape, load: Load, runtime: float) -> Memory:
    """Bytes of every part.

    Args:
        shape: the model.
        load: what a step does.
        runtime: bytes gone before the first tensor.
    """
    frozen = shape.parameters - load.trained if load.trained < shape.parameters else 0
    own = 4.0 * load.trained / load.shards
    here = 0.0 if load.offload else 1.0
    masters = frozen * load.width / load.shards + own
    if load.sharded:
        casts = 2.0 * max(shape.layer, shape.embedding) * _sampled_width(load)
    else:
        casts = 2.0 * shape.parameters if load.half and load.width == 4 else 0.0
    sampling = 0.0 if load.served else 1.0
    exported = 4.0 * (load.trained if frozen else shape.parameters)
    state = own * (load.moments + load.buffers) if load.saves_state else 0.0
    open_at_once = shape.ends + 2 * shape.layer if load.layered else shape.parameters
    return Memory(
        weights=masters * here,
        casts=casts,
        reference=load.references * load.width * shape.parameters / load.shards,
        copy=2.0 * shape.parameters if load.copied else 0.0,
        gradients=own * here,
        optimizer=own * load.moments * here,
        rule=own * load.buffers * here,
        activations=activations(shape, load),
        logits=logits(shape, load),
        gathered=sampling * open_at_once * _sampled_width(load) if load.sharded else 0.0,
        kv_cache=sampling * kv_cache(shape, load),
        choices=sampling * 3 * 4.0 * min(load.sampled, SAMPLED_TOGETHER) * shape.vocab,
        prefill=sampling * prefill(shape, load),
        pictures=0.0 if shape.tower is None else 4.0 * load.pictures * shape.tower.pixels,
        saved=exported + state if load.saves_behind else 0.0,
        runtime=runtime,
    )


def activations(shape: Shape, load: Load) -> float:
    """Bytes that a forward pass keeps for its backward pass, and the gradients of one layer in between.

    Per token and layer, from the modules of transformers: two norms keep their input and their output before the
    weight (4 H, float32); linear modules keep their inputs (2 H, and Q before the output projection); the gated layer
    keeps 4 I; a norm of queries and keys keeps 2 (Q + K); attention keeps what `_attention` says.
    """
    size = 2.0 if load.half else 4.0
    wide = 4.0 * shape.hidden + (2.0 * (shape.q + shape.kv) if shape.qk_norm else 0.0)
    narrow = 2.0 * shape.hidden + shape.q + 4.0 * shape.intermediate
    layer = load.tokens * (4.0 * wide + size * narrow) + size * _attention(shape, load)
    # Backward through one layer holds the gradients of the gated layer, or of the probabilities.
    passing = size * max(3.0 * load.tokens * shape.intermediate, 2.0 * _probabilities(shape, load))
    edges = 4.0 * load.tokens * shape.hidden
    kept = shape.layers * edges + layer if load.recompute else shape.layers * layer
    return kept + passing + 3 * edges + _seen(shape, load)


def _seen(shape: Shape, load: Load) -> float:
    """Every row of a micro-batch has its picture run."""
    if shape.tower is None:
        return 0.0
    return load.rows * kept_of_picture(
        shape.tower, trained=load.trains_tower, half=load.half, fused=load.fused, recompute=load.recompute
    )


def _attention(shape: Shape, load: Load) -> float:
    """Numbers that attention keeps in one layer.

    Padded: queries, keys and values, the last two as wide as the queries (3 Q per token), and the probabilities unless
    the kernel is fused. In a prefix tree it keeps queries, keys and values (Q + 2 K per token); what comes
    out is the input of the output projection, counted there.
    """
    if load.packing is None:
        return 3.0 * load.tokens * shape.q + _probabilities(shape, load)
    return load.tokens * (shape.q + 2.0 * shape.kv)


def _probabilities(shape: Shape, load: Load) -> float:
    """One per head, token and position, where attention is not fused."""
    if load.fused or load.packing is not None:
        return 0.0
    return load.tokens * shape.heads * (load.prompt + load.completion)


def logits(shape: Shape, load: Load) -> float:
    """Bytes of the [tokens x vocabulary] tensors of one micro-batch, scored on completions only."""
    full = load.scored * shape.vocab
    if shape.vocab >= WIDE_VOCABULARY:
        full = min(full, LOGITS_AT_ONCE)
    return full * (2.0 if load.half else 4.0) * LOGIT_COPIES + min(SLICE, 3 * 4.0 * full)


def kv_cache(shape: Shape, load: Load) -> float:
    """Bytes of keys and values of the completions decoded together, at their longest."""
    rows = min(load.sampled, SAMPLED_TOGETHER)
    return 2.0 * shape.layers * shape.kv * rows * (load.prompt + load.completion) * _sampled_width(load)


def prefill(shape: Shape, load: Load) -> float:
    """Bytes while the prompts run before the first token is drawn, without a graph.

    Keys and values so far, and the widest moment of one layer of the decoder or the tower: the gated layer (3 I; 2 I in
    a tower), or two sets of probabilities where attention is not fused (engine `hf` on a CPU), and three hidden states.
    """
    width, tower = _sampled_width(load), shape.tower
    fused = load.fused or tower is None
    widest = width * max(3.0 * shape.intermediate, 0.0 if fused else 2.0 * shape.heads * load.prompt)
    prompt = load.prompt * (widest + 3 * 4.0 * shape.hidden)
    if tower is not None:
        seen = width * max(2.0 * tower.intermediate, 0.0 if fused else 2.0 * tower.heads * tower.positions)
        prompt = max(prompt, tower.positions * (seen + 3 * 4.0 * tower.hidden))
    stored = kv_cache(shape, load) * load.prompt / (load.prompt + load.completion)
    return stored + load.prefilled * prompt


def _sampled_width(load: Load) -> int:
    """Bytes of a weight, and of a key or value, while sampling: fsdp2 gathers what it computes with."""
    return 2 if load.copied or (load.sharded and load.half) else load.width
