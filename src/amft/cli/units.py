"""Numbers with a unit that suits their size."""

from __future__ import annotations


def in_bytes(size: float) -> str:
    """`1.5 GiB`, `12 MiB`."""
    if size >= 2**30:
        return f"{size / 2**30:.1f} GiB"
    return f"{size / 2**20:.0f} MiB" if size >= 2**20 else f"{size / 2**10:.0f} KiB"


def in_seconds(time: float) -> str:
    """`13 s`, `1.8 s`, `40 ms`."""
    if time >= 10:
        return f"{time:.0f} s"
    return f"{time:.1f} s" if time >= 1 else f"{1000 * time:.0f} ms"


def in_parameters(number: float) -> str:
    """`7.6 B`, `3.6 M`."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f} {letter}"
    return f"{number:.0f}"
