"""Which of the processes that torchrun started talks to the user."""

from __future__ import annotations

import os
import sys

from ..errors import AMFTError, RankError


def is_main() -> bool:
    """Whether this process prints what all of them know."""
    return os.environ.get("RANK", "0") == "0"


def prints_error(error: AMFTError) -> bool:
    """Whether this process prints the error: its own, and one that all meet alike on the first process of a machine."""
    if isinstance(error, RankError):
        return not error.told
    distributed = sys.modules.get("torch.distributed")
    joined = distributed is not None and distributed.is_initialized()
    return joined or os.environ.get("LOCAL_RANK", "0") == "0"
