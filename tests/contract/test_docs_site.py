"""The site has every page once, and the page of settings is what the settings say. `make docs` builds it, strictly."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

import amft
from amft.balance.describe import describe
from amft.cli import main
from amft.cli.rules_page import RULE_FAMILIES
from amft.settings.config import GROUPS, AMFTConfig
from amft.settings.describe_settings import described_settings

ROOT = Path(__file__).parents[2]


def pages(nav: Any) -> Iterator[str]:
    """File names of a tree of mkdocs' `nav`."""
    if isinstance(nav, str):
        yield nav
    for each in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from pages(each)


def test_every_page_is_on_the_site_once() -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = sorted(pages(site["nav"]))
    docs = ROOT / "docs"
    assert listed == sorted(["index.md", *(page.relative_to(docs).as_posix() for page in docs.rglob("*.md"))])
    assert site["hooks"] == ["docs/site_hooks.py"]


def test_the_results_are_one_page_and_the_log_one_file_a_day() -> None:
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    dated = re.findall(r"^## \d{4}-.*$", page, re.MULTILINE)
    assert dated == [], "a dated section belongs into docs/results/DATE.md, and its title into the table of this page"
    assert len(page.split()) < 1200
    days = sorted((ROOT / "docs" / "results").glob("*.md"))
    assert len(days) >= 4
    for day in days:
        text = day.read_text(encoding="utf-8")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", day.stem)
        assert re.search(r"^# Results of \d+ \w+ \d{4}$", text, re.MULTILINE)
        row = re.search(rf"^\| \[{day.stem}\]\(results/{day.name}\) \| (.*) \|$", page, re.MULTILINE)
        assert row is not None, day.name
        missing = [
            title for title in re.findall(r"^## (.+)$", text, re.MULTILINE) if title.lower() not in row[1].lower()
        ]
        assert missing == [], f"titles of {day.name} that the table of docs/results.md lacks"


def test_names_of_the_api_page_exist_and_are_explained() -> None:
    named = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(named) > 15
    for name in named:
        module, _, attribute = name.rpartition(".")
        if module == "amft.integrations.trl":
            pytest.importorskip("trl")
        found = import_module(name) if name == "amft.errors" else getattr(import_module(module), attribute)
        assert len((found.__doc__ or "").split()) > 3, name
    public = {f"{getattr(amft, name).__module__}.{name}" for name in set(amft.__all__) - {"__version__"}}
    assert public - set(named) <= {"amft.errors.AMFTError", "amft.settings.recipe.Recipe"}


def test_every_rule_has_its_card_in_one_family() -> None:
    listed = [rule for family in RULE_FAMILIES for rule in family.rules]
    known = sorted(rule["rule"] for rule in describe())
    assert sorted(listed) == known, "name a new rule in a family of cli/rules_page.py"
    page = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    assert re.findall(r"^### `(\S+)`$", page, re.MULTILINE) == listed
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert headings[0] == "Write your own"
    assert headings[2 : 2 + len(RULE_FAMILIES)] == [family.title for family in RULE_FAMILIES]


def test_the_page_of_settings_is_written_from_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "--markdown"]) == 0
    assert capsys.readouterr().out == (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


def test_every_setting_says_what_it_takes() -> None:
    found = {each.name: each for each in described_settings()}
    assert (AMFTConfig.model_fields.keys() - {*GROUPS, "lora", "engine_options"}) <= found.keys()
    assert found["eval.steps"].allowed == "a whole number >= 0"
    assert found["eval.steps"].default == "25"
    assert found["data.train"].default == ""
    assert [name for name, each in found.items() if not each.allowed] == []


def test_settings_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
    assert main(["settings", "checkpoint"]) == 0
    out = capsys.readouterr().out
    found = re.findall(r"^checkpoint\.(\w+)$", out, re.MULTILINE)
    assert found == ["steps", "total_limit", "only_model", "keep_best", "async_save"]
    assert main(["settings", "max_step"]) == 2
    assert "did you mean 'max_steps'?" in capsys.readouterr().err
