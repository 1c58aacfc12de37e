"""docs/rules.md, written from the registry by `amft rules --markdown`; its text is the template `rules.md.j2`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from ..signals.base import Signal


@dataclass(frozen=True)
class RuleFamily:
    """Rules that are alike."""

    title: str
    about: str
    rules: tuple[str, ...]


RULE_FAMILIES = (
    RuleFamily(
        "Learned by a meta-gradient",
        "After a step these rules ask whether more imitation would have raised the reward, and move its weight.",
        ("amft", "amft-scalar", "amft-paper", "amft-meta-only", "amft-entropy-only", "amft-no-warmup"),
    ),
    RuleFamily(
        "By the verifier's verdict",
        "Demonstrations are graded first, and what the verifier calls wrong has no weight. `amft` reads verdicts too.",
        ("verifier-gate", "brake", "success-gap"),
    ),
    RuleFamily("Constants", "The weight stays as it is. The baselines of any comparison.", ("fixed", "sft", "rl")),
    RuleFamily(
        "Schedules",
        "The weight follows the number of the step, whatever the model does.",
        ("sft-then-rl", "linear", "cosine", "chord-mu"),
    ),
    RuleFamily(
        "Weights that follow a signal",
        "The weight follows something that is measured at every step: rewards, losses, or the noise of the gradients.",
        ("chord-reward", "gac", "gram-pair", "sasr", "superrl-sigma"),
    ),
    RuleFamily(
        "A second policy to compare with",
        "A shadow only explores, and what the policy is better at teaches a low-rank part of it.",
        ("bridge",),
    ),
    RuleFamily(
        "A demonstration among the rollouts",
        "A demonstration is one row of a prompt's group and gets an advantage as the model's own answers do.",
        ("luffy", "srft", "ampo"),
    ),
    RuleFamily(
        "Imitation where exploration fails",
        "Whether a prompt is imitated or explored depends on how many of its rollouts are right.",
        ("hpt", "hpt-soft", "superrl", "relift", "mifo"),
    ),
    RuleFamily(
        "Beginnings and hints",
        "The model goes on from the beginning of a demonstration, or reads a part of it in its prompt.",
        ("prefix-rft", "trapo", "uft", "tapo", "pope"),
    ),
    RuleFamily(
        "Self-distillation",
        "The model is taught by itself: by what it would say after it has seen a right answer.",
        ("sdpo", "sdft", "srpo"),
    ),
    RuleFamily(
        "Weighted imitation",
        "Which tokens or rows of a demonstration count, and how much, depends on how likely the model finds them.",
        ("chord-phi", "dft", "iw-sft"),
    ),
)
"""Every named rule once; what is like the default comes first."""


def rules_page(
    rules: Sequence[Mapping[str, Any]], parts: Sequence[Mapping[str, Any]], signals: Iterable[Signal[Any]]
) -> str:
    """The page in Markdown.

    Args:
        rules: `balance.describe.describe()`.
        parts: `balance.describe.describe_parts()`.
        signals: the values of `signals.shipped.shipped_signals()`.
    """
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters.update(code=_code, codes=_codes, pairs=_pairs, settings=_settings, cells=_cells)
    template = files(__package__).joinpath("rules.md.j2").read_text(encoding="utf-8")
    named = {rule["rule"]: rule for rule in rules}
    families = [
        {"title": each.title, "about": each.about, "rules": [named[rule] for rule in each.rules]}
        for each in RULE_FAMILIES
    ]
    return environment.from_string(template).render(families=families, parts=parts, signals=signals)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _codes(texts: Sequence[str]) -> str:
    return ", ".join(map(_code, texts))


def _pairs(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_one_line(value)}" for name, value in settings.items())


def _one_line(value: Any) -> str:
    return str(value).replace("\n", "\\n")


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}: {json.dumps(value)}`" for name, value in settings.items())


def _cells(texts: Sequence[str]) -> str:
    """The inside of a row of a Markdown table."""
    return " | ".join(text.replace("|", "\\|") for text in texts)
