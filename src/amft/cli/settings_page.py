"""docs/settings.md, written from the settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..settings.describe_settings import DescribedSetting

HEAD = """# Settings

Every key of a recipe, with what it takes, its default and what it does. Written by `amft settings --markdown`; a test
compares this page with the code. In Python the same names go to `AMFTConfig`, but for `model`, `task`, `data` and
`allow_download`, which are arguments of `AMFTTrainer`. Groups are nested: `eval: {steps: 5}` in YAML,
`--set eval.steps=5` on the command line, `eval={"steps": 5}` in Python. Names of TRL and transformers that mean the
same are taken too ([python.md](python.md#names-of-trl-and-transformers)).

| setting | takes | default | what it does |
|---|---|---|---|
"""


def settings_page(described: Sequence[DescribedSetting]) -> str:
    """The page as text."""
    rows = [_row(each) for each in described]
    return HEAD + "\n".join(rows) + "\n"


def _row(each: DescribedSetting) -> str:
    default = f"`{each.default}`" if each.default else "must be given"
    return f"| `{each.name}` | {_cell(each.allowed)} | {default} | {_cell(each.meaning)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
