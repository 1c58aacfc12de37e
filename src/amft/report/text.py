"""Untrusted text made visible: what a model wrote must not hide, reorder or break what a reader sees."""

from __future__ import annotations

import unicodedata

_KEEP = frozenset("\n\t\u200c\u200d")
"""Line ends, tabs and the joiners that some scripts need."""
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories: control, format (also the marks that reverse text), surrogate, line and paragraph separators."""


def visible(text: str) -> str:
    r"""Control, direction and unpaired surrogate characters as escapes: `visible("a\x00")` is `a\u0000`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in _KEEP or unicodedata.category(c) not in _HIDDEN else _escape(c) for c in text)


def shorten(text: str, most: int) -> str:
    """`text` cut to `most` characters, saying how many are missing."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text) - most} more characters)"


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
