"""What a device can do: memory, bandwidth, arithmetic. From the makers' data sheets, dense bfloat16."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError

GIB = 2.0**30


@dataclass(frozen=True)
class Device:
    """One device and its links."""

    memory: float
    """Bytes."""
    bandwidth: float
    """Bytes per second, memory."""
    flops: float
    """Per second, in bfloat16."""
    link: float
    """Bytes per second between two devices of one machine, one way."""
    runtime: float
    """Bytes that are gone before the first tensor: driver context, libraries."""
    host: bool = False
    """The machine's own processor: attention on padded rows is not fused, and batches are not moved."""


DEVICES: dict[str, Device] = {
    "h200": Device(141e9, 4.8e12, 989e12, 450e9, 2 * GIB),
    "h100": Device(80e9, 3.35e12, 989e12, 450e9, 2 * GIB),
    "a100": Device(80e9, 2.0e12, 312e12, 300e9, 2 * GIB),
    "a100-40": Device(40e9, 1.55e12, 312e12, 300e9, 2 * GIB),
    "l40s": Device(48e9, 0.86e12, 362e12, 32e9, 1.5 * GIB),
    "rtx4090": Device(24e9, 1.0e12, 165e12, 32e9, 1.5 * GIB),
    "cpu": Device(16e9, 3e10, 1e11, 1e10, 0.45 * GIB, host=True),
}
"""`cpu` is a small one of two cores; its memory is what `--memory` says."""


def find_device(name: str) -> Device:
    """The device of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in DEVICES:
        raise ConfigError(f"--gpu {name}: not known; choose from {', '.join(DEVICES)}")
    return DEVICES[name]
