"""From what the checks remark to what the doctor says: advice that fits the run and does not contradict itself.

The gravest remark speaks first. A setting is named only if this run has it and moving it would change something, and
only in one direction: advice to move a setting the other way is left out of the lesser finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..balance.method import PARTS
from ..balance.registry import RULES
from .finding import Finding, Level, Remark, SettingChange, Way
from .load import Run

ORDER: tuple[Level, ...] = ("bad", "warn", "note", "ok")

OF_ROLLOUTS = frozenset({"num_prompts", "num_generations", "temperature", "entropy_coef", "beta"})
"""Settings that only a run with a policy loss reads as an explorer's."""


def findings(run: Run, remarks: Mapping[str, Remark]) -> list[Finding]:
    """The remarks, the gravest first, each with the advice that is left to it.

    Args:
        remarks: topic -> the one remark about it.
    """
    said: dict[str, Way] = {}
    out = []
    for topic, remark in sorted(remarks.items(), key=lambda item: ORDER.index(item[1].level)):
        tries = [each for each in remark.tries if useful(run, each) and said.get(each.setting, each.way) == each.way]
        said |= {each.setting: each.way for each in tries}
        out.append(Finding(remark.level, remark.title, remark.evidence, _action(run, tries, remark.hint), topic))
    return out


def useful(run: Run, what: SettingChange) -> bool:
    """Whether this run has the setting, reads it, and can still move it that way."""
    settings, name = _place(run, what.setting)
    if name not in settings or not _read(run, name):
        return False
    value = settings[name]
    if value is None:  # of a rule: the rule's own default; of a run: no limit, or everything
        return settings is run.balance
    if what.way == "set" or isinstance(value, bool):
        return what.way == "set" and value is False
    if name.endswith(("_min", "_max")) and settings is run.balance:
        return value < 1 if what.way == "raise" else value > 0
    return what.way == "raise" or value > 0


def _place(run: Run, setting: str) -> tuple[Mapping[str, Any], str]:
    """The mapping that holds a dotted setting, and its name there."""
    holder, _, inner = setting.partition(".")
    if not inner:
        return run.config, holder
    return (run.balance if holder == "balance" else run.config.get(holder) or {}), inner


def _read(run: Run, name: str) -> bool:
    if name in OF_ROLLOUTS:
        return bool(run.measured("policy_loss", mixing=True)[1].size)
    if name == "num_demos":
        return _imitates(run) in ("stream", "buffer") and bool(run.measured("tokens/demo", mixing=True)[1].any())
    return name != "sft_warmup_steps" or _warms_up(run)


def _imitates(run: Run) -> str:
    """Where the rule's demo mixer takes demonstrations from; empty for a demo mixer of one's own."""
    entry = RULES.get(str(run.balance.get("rule")))
    preset = entry.parts.get("demo_mixer", "apart") if entry is not None else "apart"
    kind = PARTS["demo_mixer"].get(str(run.balance.get("demo_mixer", preset)))
    return "" if kind is None else str(kind.imitates)


def _warms_up(run: Run) -> bool:
    entry = RULES.get(str(run.balance.get("rule")))
    preset = True if entry is None else entry.preset.get("warmup", True)
    return bool(run.balance.get("warmup", preset))


def _action(run: Run, tries: Sequence[SettingChange], hint: str) -> str:
    ways = dict.fromkeys(each.way for each in tries)
    parts = [f"{way} {' or '.join(_now(run, each.setting) for each in tries if each.way == way)}" for way in ways]
    moved = f"{', or '.join(parts)}." if parts else ""
    return " ".join(filter(None, [moved[:1].upper() + moved[1:], hint]))


def _now(run: Run, name: str) -> str:
    """The setting with its value in this run: `num_generations (now 8)`."""
    settings, key = _place(run, name)
    value = settings.get(key)
    return name if value is None else f"{name} (now {value})"
