"""What there is to choose from, as plain values: for `amft rules` and docs/rules.md."""

from __future__ import annotations

from typing import Any

from .method import PARTS
from .methods import RULES
from .registry import build_method, defaults


def describe() -> list[dict[str, Any]]:
    """Every named method: what it is, where it is written, and `settings` (name -> default), `parts` and `needs`."""
    described = []
    for name, entry in RULES.items():
        classes = [entry.rule, *(PARTS[slot][part] for slot, part in entry.parts.items())]
        settings = {**{key: value for kind in classes for key, value in defaults(kind).items()}, **entry.preset}
        described.append(
            {
                "rule": name,
                "summary": entry.summary,
                "equation": entry.equation,
                "source": entry.source,
                "files": list(dict.fromkeys(_file(kind) for kind in classes)),
                "parts": dict(entry.parts),
                "settings": {key: value for key, value in settings.items() if key not in entry.fixed},
                "needs": build_method({"rule": name}).described(),
                "published": entry.published,
                "deviations": entry.deviations,
                "status": "experimental" if entry.experimental else "verified",
                "unverified": entry.experimental,
            }
        )
    return described


def describe_parts() -> list[dict[str, Any]]:
    """Every part that can be put in the place of another: `slot`, `part`, `summary`, `file`, `settings`."""
    return [
        {
            "slot": slot,
            "part": name,
            "summary": " ".join((kind.__doc__ or "").split("\n\n")[0].split()),
            "file": _file(kind),
            "settings": defaults(kind),
        }
        for slot, kinds in PARTS.items()
        for name, kind in kinds.items()
        if kind is not None
    ]


def _file(kind: type) -> str:
    return kind.__module__.removeprefix("amft.").replace(".", "/") + ".py"
