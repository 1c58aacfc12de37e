"""Balance rules by name, and how a recipe's settings become one."""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError
from .amft import AMFT
from .base import SIGNALS, Balance
from .fixed import Fixed
from .scheduled import SwitchAt


class Entry(NamedTuple):
    """One named rule."""

    rule: type
    preset: Mapping[str, Any]
    """Settings of this name, on top of the class's own defaults."""
    summary: str
    source: str
    fixed: frozenset[str] = frozenset()
    """Settings that define the name and cannot be changed."""


_PAPER = "arXiv 2508.06944"
_AS_PRINTED = {
    "mu_update": "paper",
    "utility": "heldout",
    "jacobian": "identity",
    "eta_mu": 1e-4,
    "eta_h": 5e-4,
    "max_change": 1.0,
}

RULES: dict[str, Entry] = {
    "amft": Entry(AMFT, {}, "learns mu by a scale-free meta-gradient step and an entropy term", f"{_PAPER}, eq 5-6"),
    "amft-paper": Entry(AMFT, _AS_PRINTED, "AMFT as printed: raw eq 6, held-out utility", f"{_PAPER}, eq 4-6"),
    "fixed": Entry(Fixed, {}, "a constant mu", f"{_PAPER}, eq 3"),
    "sft": Entry(Fixed, {"mu": 1.0}, "imitation only (mu = 1)", f"{_PAPER}, eq 2", frozenset({"mu"})),
    "rl": Entry(Fixed, {"mu": 0.0}, "RL only (mu = 0)", f"{_PAPER}, eq 1", frozenset({"mu"})),
    "sft-then-rl": Entry(SwitchAt, {}, "imitation until `switch` (fraction or step), then RL", "arXiv 2604.23747"),
}


def build_balance(spec: Mapping[str, Any] | Balance) -> Balance:
    """A rule from `{"rule": name, **settings}`; a ready rule is checked and returned.

    Args:
        spec: `rule` is a name of `amft rules`, or `path/to/file.py:ClassName` for a rule of your own.

    Raises:
        ConfigError: the rule or a setting is unknown or out of range.
    """
    if not isinstance(spec, Mapping):
        return _checked(spec, type(spec).__name__)
    settings = dict(spec)
    name = settings.pop("rule", None)
    if not isinstance(name, str):
        raise ConfigError(f"balance.rule must name a rule: {', '.join(RULES)}, or path/to/file.py:ClassName")
    if ".py:" in name:
        entry = Entry(_load(name), {}, "", "")
    elif name in RULES:
        entry = RULES[name]
    else:
        raise ConfigError(f"balance.rule: unknown rule {name!r}{_nearest(name, RULES)}; known: {', '.join(RULES)}")
    allowed = [key for key in _defaults(entry.rule) if key not in entry.fixed]
    for key in settings.keys() - set(allowed):
        raise ConfigError(
            f"balance: rule {name} has no setting {key!r}{_nearest(str(key), allowed)}; "
            f"allowed: {', '.join(allowed) or 'none'}"
        )
    return _checked(_construct(entry.rule, name, {**entry.preset, **settings}), name)


def describe() -> list[dict[str, Any]]:
    """Every named rule: `rule`, `summary`, `source`, `settings` (name -> default) and `needs`."""
    described = []
    for name, entry in RULES.items():
        settings = {**_defaults(entry.rule), **entry.preset}
        described.append(
            {
                "rule": name,
                "summary": entry.summary,
                "source": entry.source,
                "settings": {key: value for key, value in settings.items() if key not in entry.fixed},
                "needs": sorted(build_balance({"rule": name}).needs),
            }
        )
    return described


def _defaults(rule: type) -> dict[str, Any]:
    if not dataclasses.is_dataclass(rule):
        raise ConfigError(f"balance.rule: {rule.__name__} must be a dataclass of its settings")
    return {
        field.name: None if field.default is dataclasses.MISSING else field.default
        for field in dataclasses.fields(rule)
        if field.init
    }


def _construct(rule: type, name: str, settings: dict[str, Any]) -> Any:
    try:
        return rule(**settings)
    except TypeError as error:
        raise ConfigError(f"balance: rule {name} cannot be built: {error}") from error


def _checked(rule: Any, name: str) -> Balance:
    missing = [member for member in ("needs", "init", "update") if not hasattr(rule, member)]
    if missing:
        raise ConfigError(f"balance.rule: {name} lacks {', '.join(missing)}; see amft.balance.base.Balance")
    unknown = set(rule.needs) - SIGNALS
    if unknown:
        raise ConfigError(f"balance.rule: {name} needs unknown {sorted(unknown)}; known: {', '.join(sorted(SIGNALS))}")
    return rule


def _load(name: str) -> type:
    file, _, attribute = name.rpartition(":")
    path = Path(file).expanduser()
    if not path.is_file():
        raise ConfigError(f"balance.rule: no file {file}; write path/to/file.py:ClassName")
    module_name = f"amft_rule_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up by name
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"balance.rule: {file} cannot be imported: {type(error).__name__}: {error}") from error
    rule = getattr(module, attribute, None)
    if not isinstance(rule, type):
        raise ConfigError(f"balance.rule: {file} has no class {attribute!r}")
    return rule


def _nearest(word: str, words: Collection[str]) -> str:
    match = difflib.get_close_matches(word, words, n=1)
    return f"; did you mean {match[0]!r}?" if match else ""
