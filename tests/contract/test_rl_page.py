"""docs/rl.md says what the table of losses and the settings say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from amft.losses.choices import POLICY_LOSSES, PolicyChoice
from amft.settings.config import AMFTConfig
from amft.settings.groups import ImportanceSamplingSettings, PPOSettings
from amft.settings.recipe_file import _parse as parse
from amft.settings.validation_errors import shown

PAGE = (Path(__file__).parents[2] / "docs" / "rl.md").read_text(encoding="utf-8")
MEANS = {"token": "tokens", "sequence": "completions", "constant": "fixed length"}
BASELINES = {"mean": "group mean", "leave_one_out": "mean of the others", "none": "none", "value": "value head"}
PENALTIES = {"k1": "k1, off the reward", "k2": "k2, in the loss", "k3": "k3, in the loss"}


def row(name: str, choice: PolicyChoice) -> str:
    cells = [
        f"`{name}`",
        choice.ratio,
        choice.clip,
        MEANS[choice.reduction],
        BASELINES[choice.baseline],
        f"`{choice.scale}`",
        choice.credit,
        PENALTIES[choice.penalty],
        choice.source,
    ]
    return f"| {' | '.join(cells)} |"


def test_the_table_of_losses_is_the_registry() -> None:
    wanted = [row(name, choice) for name, choice in POLICY_LOSSES.items()]
    found = re.findall(r"^\| `\w+` \|.*(?:arXiv|Williams).*$", PAGE, re.MULTILINE)
    assert found == wanted, "replace the table of docs/rl.md by:\n" + "\n".join(wanted)


@pytest.mark.parametrize(("group", "kind"), [("ppo", PPOSettings), ("importance_sampling", ImportanceSamplingSettings)])
def test_every_setting_of_these_groups_is_explained_with_its_default(group: str, kind: type[BaseModel]) -> None:
    for name, default in kind():
        value = re.escape(shown(default).strip("'"))
        assert re.search(rf"^\| `{group}.{name}` \| {value} \|", PAGE, re.MULTILINE), name


def test_the_page_names_real_settings() -> None:
    recipe = re.search(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert recipe is not None
    AMFTConfig(**parse(recipe[1], "docs/rl.md"))
