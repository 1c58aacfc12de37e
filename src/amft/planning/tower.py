"""Sizes of the part that sees in a model like LLaVA: a CLIP or SigLIP tower and the projector behind it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ModelError

TOWER_TYPES = ("clip_vision_model", "siglip_vision_model")
Linears = Mapping[str, tuple[int, int]]
"""(output, input) of linear modules, by the last word of their names."""


@dataclass(frozen=True)
class Tower:
    """Sizes of one tower and its projector, in elements."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    side: int
    """Pixels of a picture's edge."""
    patch: int
    """Pixels of a patch's edge."""
    channels: int
    outer: int
    """Width of the decoder."""
    read: tuple[int, ...]
    """Layers whose output the projector reads, side by side; 1 is that of the first."""
    is_clip: bool
    """A class token stands before the patches, and a norm before the layers."""
    is_cropped: bool
    """The first position is not handed on."""
    has_head: bool
    """SigLIP's pooling, which nothing reads."""
    is_quick: bool
    """quick_gelu, which is three operations and not one."""
    bias: bool
    """Of the projector."""

    @property
    def positions(self) -> int:
        """What the layers compute on for one picture."""
        return (self.side // self.patch) ** 2 + self.is_clip

    @property
    def tokens(self) -> int:
        """Of a prompt, for one picture."""
        return self.positions - self.is_cropped

    @property
    def pixels(self) -> int:
        """Numbers of one picture."""
        return self.channels * self.side**2

    @property
    def linears(self) -> Linears:
        """Of one layer."""
        h, i = self.hidden, self.intermediate
        square = (h, h)
        attention = {"q_proj": square, "k_proj": square, "v_proj": square, "out_proj": square}
        return {**attention, "fc1": (i, h), "fc2": (h, i)}

    @property
    def projector(self) -> Linears:
        """Between the tower and the decoder."""
        return {"linear_1": (self.outer, self.hidden * len(self.read)), "linear_2": (self.outer, self.outer)}

    @property
    def parameters(self) -> int:
        """All parameters: layers with biases and two norms, patches, positions, outer norms, projector."""
        h, i = self.hidden, self.intermediate
        layer = sum(rows * columns + rows for rows, columns in self.linears.values()) + 4 * h
        # After the patches CLIP has a class token where SigLIP has a bias.
        around = h * self.channels * self.patch**2 + h + self.positions * h + (4 if self.is_clip else 2) * h
        head = (4 * h * h + 4 * h) + (2 * h * i + i + h) + 3 * h
        projector = sum(rows * columns + rows * self.bias for rows, columns in self.projector.values())
        return self.layers * layer + around + head * self.has_head + projector

    def adapter(self, r: int, names: Collection[str] | None) -> int:
        """Parameters of an adapter of rank r on the modules of these names; None: on all."""
        return self.layers * adapter_size(self.linears, r, names) + adapter_size(self.projector, r, names)


def adapter_size(linears: Linears, r: int, names: Collection[str] | None) -> int:
    """Parameters of adapters of rank r on the linear modules of these names; None: on all."""
    return sum(r * (rows + columns) for name, (rows, columns) in linears.items() if names is None or name in names)


def kept_of_picture(tower: Tower, *, trained: bool, half: bool, fused: bool, recompute: bool) -> float:
    """Bytes that the forward pass of one picture keeps for its backward pass, pixels apart.

    Per position and layer, from the modules of transformers: two norms keep their inputs (2 H, float32); linear modules
    keep theirs (4 H, and I of the second of the feed-forward layer); attention keeps queries, keys and values (3 H; its
    result is the input of the output projection, where the kernel is fused it is kept twice) and one probability per
    head and position unless the kernel is fused; the activation keeps its input (I), quick_gelu its factor too (I).
    Layers behind the last one that is read keep nothing. The projector keeps its input and twice the decoder's width.

    Args:
        tower: the sizes.
        trained: something in the tower has a gradient; the projector is counted in any case.
        half, fused, recompute: see `memory.Load`.
    """
    size, h = 2.0 if half else 4.0, tower.hidden
    projector = size * tower.tokens * (h * len(tower.read) + 2.0 * tower.outer)
    if not trained:
        return projector
    probabilities = 0.0 if fused else float(tower.heads * tower.positions)
    narrow = 6.0 * h + (3.0 if tower.is_quick else 2.0) * tower.intermediate + probabilities
    layer = tower.positions * (4.0 * 2.0 * h + size * narrow)
    edge = 4.0 * tower.positions * h
    used = max(tower.read)
    return projector + edge * tower.is_clip + (used * edge + layer if recompute else used * layer)


def tower_of(config: Mapping[str, Any], outer: int, source: str) -> Tower:
    """The tower in a LLaVA config that is already read.

    Args:
        config: with `vision_config`.
        outer: width of the decoder.
        source: names the file in errors.

    Raises:
        ModelError: a size is missing, or the tower is not of a known kind.
    """
    vision = config.get("vision_config") or {}
    kind = str(vision.get("model_type", ""))
    if kind not in TOWER_TYPES:
        raise ModelError(
            f"{source}: vision_config.model_type {kind!r} is not one a plan knows: {', '.join(TOWER_TYPES)}"
        )
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size")
    missing = [name for name in names if not isinstance(vision.get(name), int)]
    if missing:
        raise ModelError(f"{source}: no vision_config.{missing[0]} in it")
    hidden, intermediate, layers, heads, side, patch = (vision[name] for name in names)
    read, is_clip = config.get("vision_feature_layer", -2), kind == TOWER_TYPES[0]
    chosen = [read] if isinstance(read, int) else read
    return Tower(
        hidden=hidden,
        intermediate=intermediate,
        layers=layers,
        heads=heads,
        side=side,
        patch=patch,
        channels=vision.get("num_channels", 3),
        outer=outer,
        read=tuple(i if i >= 0 else layers + 1 + i for i in chosen),
        is_clip=is_clip,
        is_cropped=config.get("vision_feature_select_strategy", "default") == "default",
        has_head=not is_clip and bool(vision.get("vision_use_head", True)),
        is_quick=vision.get("hidden_act", "quick_gelu" if is_clip else "gelu_pytorch_tanh") == "quick_gelu",
        bias=bool(config.get("multimodal_projector_bias", True)),
    )
