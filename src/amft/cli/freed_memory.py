"""Freed memory stays with the process: on a C library that gives it back, each step would fetch its pages anew.

A tensor of more than 32 MiB is otherwise a mapping of its own, whose pages the kernel fills with zeros at the first
touch; a step over a vocabulary of 32k spends a third of its time there. The numbers of a run do not depend on it.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping

SWITCH = "AMFT_MALLOC"
"""Set to `plain`, it leaves the allocator as it is."""

GLIBC_OWN = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")
"""Variables by which a user chooses an allocator, or how glibc's works; then nothing is changed."""

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Of mallopt(3)."""


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell glibc to keep what is freed and to map nothing apart; whether it was told.

    Peak memory is higher: by a third for 11 M parameters and a vocabulary of 32k (docs/performance.md).

    Args:
        environment: of the process.
    """
    chosen = environment.get(SWITCH) == "plain" or any(environment.get(name) for name in GLIBC_OWN)
    if chosen or platform.libc_ver()[0] != "glibc":
        return False
    import ctypes

    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))
