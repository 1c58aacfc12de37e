"""What the doctor says: one observation, the numbers behind it, the next thing to try."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "warn", "bad"]
Way = Literal["raise", "lower", "set"]


@dataclass(frozen=True)
class Finding:
    """One observation about a run. A run has at most one for each topic, so that no two can contradict each other."""

    level: Level
    """`bad`: the result is not usable as it is; `warn`: likely a problem; `note`: worth knowing; `ok`."""
    title: str
    evidence: str
    """The numbers behind it."""
    action: str
    """The next thing to try, naming a config field; empty when there is nothing to do."""
    topic: str = ""
    """What it is about, for example `entropy`."""


@dataclass(frozen=True)
class SettingChange:
    """A setting to move, and which way."""

    way: Way
    setting: str
    """A config field, or `balance.` and a setting of the rule."""


@dataclass(frozen=True)
class Remark:
    """What one check has to say. `advice.findings` makes a `Finding` of it."""

    level: Level
    title: str
    evidence: str
    tries: tuple[SettingChange, ...] = ()
    hint: str = ""
    """Advice that moves no setting, as a sentence."""


def up(*settings: str) -> tuple[SettingChange, ...]:
    """Raise these."""
    return tuple(SettingChange("raise", setting) for setting in settings)


def down(*settings: str) -> tuple[SettingChange, ...]:
    """Lower these."""
    return tuple(SettingChange("lower", setting) for setting in settings)


def switch_on(*settings: str) -> tuple[SettingChange, ...]:
    """Set these to true."""
    return tuple(SettingChange("set", setting) for setting in settings)
