"""Which number type `dtype: auto` stands for on this machine."""

from __future__ import annotations

import torch

from .config import AMFTConfig

HALF_PRECISION_UNITS = ("avx512_bf16", "amx_bf16")
"""Of a CPU: either one multiplies bfloat16 faster than float32; without them torch imitates it, slower than float32."""


def native_dtype(device: torch.device) -> str:
    """`bfloat16` where the device has units for it, else `float32`. A torch too old to say counts as without."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    found: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if any(found.get(unit) for unit in HALF_PRECISION_UNITS) else "float32"


def settled_dtype(config: AMFTConfig, device: torch.device) -> AMFTConfig:
    """The config with `dtype: auto` replaced, so that a run's files say what it computed in."""
    return config if config.dtype != "auto" else config.model_copy(update={"dtype": native_dtype(device)})
