"""docs/rl.md says what the table of losses and the settings say."""

from __future__ import annotations

import re
from pathlib import Path

from amft.losses.choices import POLICY_LOSSES, PolicyChoice
from amft.settings.config import VALUE_FIELDS, AMFTConfig

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


def test_every_setting_of_the_value_head_is_explained_with_its_default() -> None:
    for name in VALUE_FIELDS:
        default = AMFTConfig.model_fields[name].default
        shown = "null" if default is None else str(default)
        assert re.search(rf"^\| `{name}` \| {re.escape(shown)} \|", PAGE, re.MULTILINE), name


def test_the_page_names_real_settings() -> None:
    recipe = re.search(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert recipe is not None
    import yaml

    AMFTConfig(**{k: float(v) if k.endswith("learning_rate") else v for k, v in yaml.safe_load(recipe[1]).items()})
