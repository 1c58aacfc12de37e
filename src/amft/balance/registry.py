"""Methods by name, and how a recipe's settings become one."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from ..errors import ConfigError
from ..guests import Hosted, call_guest, guest, is_guest, is_guest_class, load_file
from .base import Balance
from .method import PARTS, Method
from .method_spec import MethodSpec
from .methods import RULES as RULES
from .requirements import Requirements

WEIGHTINGS = ("token_weight", "advantage", "off_policy")
"""Slots of `PARTS` whose parts are called with tensors."""


def build_balance(spec: Mapping[str, Any] | Balance) -> Balance:
    """The balance rule of `build_method`, without its parts; a ready rule is checked and returned.

    Raises:
        ConfigError: the rule or a setting is unknown or out of range.
    """
    return build_method(spec).rule


def build_method(spec: Mapping[str, Any] | Balance | Method) -> Method:
    """A method from `{"rule": name, **settings}`; a ready rule is joined with the plain parts.

    The settings are those of the rule and of its parts. Any part can be replaced by name, for example
    `{"rule": "amft", "token_weight": "phi"}`.

    Args:
        spec: `rule` is a name of `amft rules`, or `path/to/file.py:ClassName` for a rule of your own; so is every slot
            of `PARTS`.

    Raises:
        ConfigError: the rule, a part or a setting is unknown or out of range.
    """
    if isinstance(spec, Method):
        return spec
    if not isinstance(spec, Mapping):
        return Method(_checked(spec, type(spec).__name__))
    settings = dict(spec)
    name = settings.pop("rule", None)
    method_spec = _named(name)
    chosen = {slot: str(settings.pop(slot, method_spec.parts.get(slot, _plain(slot)))) for slot in PARTS}
    classes = {"rule": method_spec.rule, **{slot: _part(slot, chosen[slot]) for slot in PARTS}}
    built = _distribute(
        str(name), {slot: kind for slot, kind in classes.items() if kind is not None}, method_spec, settings
    )
    _checked(built["rule"], str(name))
    own = {slot: HostedWeighting(built[slot], slot) for slot in WEIGHTINGS if slot in built and is_guest(built[slot])}
    return Method(**{**built, **own})


def code_in(spec: Mapping[str, Any]) -> list[str]:
    """The files of one's own that `build_method` would run, each `path/to/file.py:ClassName`."""
    return [str(spec[slot]) for slot in ("rule", *PARTS) if ".py:" in str(spec.get(slot, ""))]


class HostedWeighting(Hosted):
    """A weighting of one's own: what it raises is one line.

    Args:
        part: the weighting.
        slot: of `WEIGHTINGS`.
    """

    def __init__(self, part: Any, slot: str):
        super().__init__(part)
        self.slot = slot

    def __call__(self, *tensors: Any) -> Any:
        """What the weighting gives."""
        who = f"balance.{self.slot}: {type(self.wrapped).__name__}"
        with guest(who, ConfigError):
            found = self.wrapped(*tensors)
            if not hasattr(found, "shape"):
                raise ConfigError(f"{who} must return a tensor, got {type(found).__name__}")
        return found

    @property
    def reads(self) -> frozenset[Any]:
        """Of the weighting."""
        return frozenset(self.wrapped.reads)


def _named(name: object) -> MethodSpec:
    if not isinstance(name, str):
        raise ConfigError(f"balance.rule must name a rule: {', '.join(RULES)}, or path/to/file.py:ClassName")
    if ".py:" in name:
        return MethodSpec(_load("rule", name), {}, "", "")
    if name not in RULES:
        raise ConfigError(f"balance.rule: unknown rule {name!r}{_nearest(name, RULES)}; known: {', '.join(RULES)}")
    return RULES[name]


def _plain(slot: str) -> str:
    return next(iter(PARTS[slot]))


def _part(slot: str, name: str) -> Any:
    if ".py:" in name:
        return _load(slot, name)
    if name not in PARTS[slot]:
        known = PARTS[slot]
        raise ConfigError(f"balance.{slot}: unknown {name!r}{_nearest(name, known)}; known: {', '.join(known)}")
    return PARTS[slot][name]


def _distribute(
    name: str, classes: Mapping[str, type], spec: MethodSpec, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Build the rule and its parts, each from the settings it has a field for."""
    fields = {slot: defaults(kind) for slot, kind in classes.items()}
    allowed = [key for names in fields.values() for key in names if key not in spec.fixed]
    for key in settings.keys() - set(allowed):
        raise ConfigError(
            f"balance: rule {name} has no setting {key!r}{_nearest(str(key), [*allowed, *PARTS])}{_others(key)}; "
            f"allowed: {', '.join(allowed) or 'none'}"
        )
    given = {**spec.preset, **settings}
    return {
        slot: _construct(kind, name, {key: value for key, value in given.items() if key in fields[slot]})
        for slot, kind in classes.items()
    }


def _others(key: str) -> str:
    """Which rule has a setting that another one lacks."""
    names = [name for name, spec in RULES.items() if key in defaults(spec.rule) and key not in spec.fixed]
    return f"; it is a setting of {', '.join(names[:3])}" if names else ""


def defaults(kind: type) -> dict[str, Any]:
    """Settings of a rule or part: name -> default.

    Raises:
        ConfigError: it is not a dataclass.
    """
    if not dataclasses.is_dataclass(kind):
        raise ConfigError(f"balance.rule: {kind.__name__} must be a dataclass of its settings")
    return {
        field.name: None if field.default is dataclasses.MISSING else field.default
        for field in dataclasses.fields(kind)
        if field.init
    }


def _construct(kind: type, name: str, settings: dict[str, Any]) -> Any:
    if is_guest_class(kind):
        with guest(f"balance: rule {name}: {kind.__name__}", ConfigError):
            return kind(**settings)
    try:
        return kind(**settings)
    except TypeError as error:
        raise ConfigError(f"balance: rule {name} cannot be built: {error}") from error


def _checked(rule: Any, name: str) -> Balance:
    members = dir(rule)
    missing = [member for member in ("requirements", "init", "update") if member not in members]
    if missing:
        raise ConfigError(f"balance.rule: {name} lacks {', '.join(missing)}; see amft.balance.base.Balance")
    try:
        asked = call_guest(rule, f"{name}.requirements", ConfigError, lambda: rule.requirements)
    except (TypeError, ConfigError) as error:
        raise ConfigError(f"balance.rule: {name}: {error}") from None
    if not isinstance(asked, Requirements):
        raise ConfigError(f"balance.rule: {name}.requirements must be a Requirements, got {asked!r}")
    return cast(Balance, rule)


def _load(slot: str, name: str) -> type:
    file, _, attribute = name.rpartition(":")
    path = Path(file).expanduser()
    if not path.is_file():
        raise ConfigError(f"balance.{slot}: no file {file}; write path/to/file.py:ClassName")
    module = load_file(path, f"amft_rule_{path.stem}", f"balance.{slot}", ConfigError)
    found = getattr(module, attribute, None)
    if not isinstance(found, type):
        raise ConfigError(f"balance.{slot}: {file} has no class {attribute!r}")
    return found


def _nearest(word: str, words: Collection[str] | Iterable[str]) -> str:
    match = difflib.get_close_matches(word, list(words), n=1)
    return f"; did you mean {match[0]!r}?" if match else ""
