"""Time of one step by a roofline: the slower of arithmetic and memory traffic, times what is reached in practice."""

from __future__ import annotations

from dataclasses import dataclass

from .devices import Device
from .memory import SAMPLED_TOGETHER, Load
from .shape import Shape

REACHED_FLOPS, REACHED_BANDWIDTH = 0.4, 0.6
"""Shares of the data sheet that well-made code reaches."""


@dataclass(frozen=True)
class Work:
    """Rows of one step over all devices."""

    sampled: int
    """Completions."""
    demos: int
    passes: int
    """Backward passes over the completions, times one: the RL loss and what the rule asks for."""
    length: float
    """Tokens of a row in training: of the longest, or on average where rows lie end to end."""


@dataclass(frozen=True)
class Seconds:
    """Of one step."""

    generate: float
    rl: float
    sft: float
    exchange: float
    """Gathering layers and summing gradients over devices, beyond what hides behind arithmetic."""

    @property
    def step(self) -> float:
        return self.generate + self.rl + self.sft + self.exchange


def seconds_of(shape: Shape, load: Load, work: Work, device: Device, devices: int) -> Seconds:
    """Seconds of one step, an estimate from data sheets.

    Decoding a token: `max((2N + rows * context * KV) / bandwidth, 2 N rows / flops)`; training: `6 N tokens / flops`,
    `8 N` when activations are computed twice, with N parameters in matrix products. A tower computes on the positions
    of its pictures instead; a third of its cost when it is frozen.

    Args:
        shape: the model.
        load: per device.
        work: over all devices.
        device: one of them.
        devices: how many.
    """
    matrices = shape.decoder - (0 if shape.tied else shape.embedding)
    picture = 0 if shape.tower is None else shape.tower.parameters * shape.tower.positions
    flops, bandwidth = device.flops * REACHED_FLOPS, device.bandwidth * REACHED_BANDWIDTH
    per_device = work.sampled / devices
    rows = min(per_device, SAMPLED_TOGETHER)
    cache = 2.0 * shape.layers * shape.kv * load.width * (load.prompt + load.completion / 2) * rows
    token = max((load.width * matrices + cache) / bandwidth, 2.0 * matrices * rows / flops)
    if load.layered and load.shards > 1:
        token += (2.0 if load.half else 4.0) * shape.layers * shape.layer / device.link
    generate = token * load.completion * max(per_device / max(rows, 1), 1) + 2.0 * picture * per_device / flops
    row = matrices * work.length + picture * (1 if load.trains_tower else 1 / 3)
    cost = (8.0 if load.recompute else 6.0) * row / flops / devices
    if load.trained < shape.parameters:
        cost *= 2.0 / 3.0  # no gradient of the frozen weights
    return Seconds(
        generate=generate,
        rl=cost * work.sampled * work.passes,
        sft=cost * work.demos,
        exchange=_exchange(shape, load, device, devices, work),
    )


def _exchange(shape: Shape, load: Load, device: Device, devices: int, work: Work) -> float:
    if devices == 1:
        return 0.0
    if not load.sharded:
        return 2 * 2 * 4.0 * load.trained / device.link  # both gradients, sent and received
    rounds = (work.sampled * work.passes + work.demos) / devices / load.rows
    # Layers are gathered twice and their gradients scattered; copies add up the gradients of their shards.
    among_copies = 0.0 if devices == load.shards else 2 * 4.0 / load.shards
    return rounds * (2 * (2.0 if load.half else 4.0) + 4.0 + among_copies) * shape.parameters / device.link
