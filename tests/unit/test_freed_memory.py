"""Freed memory stays with the process, unless the user chose otherwise."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from amft.cli.freed_memory import GLIBC_OWN, SWITCH, keep_freed_memory

FAULTS = """
import resource
from amft.cli.freed_memory import keep_freed_memory
print(keep_freed_memory({environment!r}))
def touch():
    block = bytearray(64 * 2**20)
    block[::4096] = b"x" * len(range(0, len(block), 4096))
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(environment: dict[str, str]) -> tuple[bool, int]:
    """Whether the allocator was told, and page faults of taking and freeing 64 MiB five times."""
    text = FAULTS.format(environment=environment)
    told, count = subprocess.check_output([sys.executable, "-c", text], text=True).split()
    return told == "True", int(count)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_pages_are_fetched_once() -> None:
    told, kept = faults({})
    left, plain = faults({SWITCH: "plain"})
    assert told
    assert not left
    assert kept < plain / 20  # bytearray asks calloc, whose mappings are fresh pages each time


@pytest.mark.parametrize("name", GLIBC_OWN)
def test_a_choice_of_the_user_stands(name: str) -> None:
    assert not keep_freed_memory({name: "1"})
