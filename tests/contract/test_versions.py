"""What the pages say about versions is what pyproject.toml declares."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from matrix import floors

ROOT = Path(__file__).parents[2]
FLOORS = dict(line.split("==") for line in floors((ROOT / "pyproject.toml").read_text(encoding="utf-8")))


def test_a_floor_is_read_from_every_range_but_those_of_the_tools() -> None:
    text = '\ndependencies = [\n "torch>=2.9",\n]\nlora = ["peft>=0.21"]\nvllm = ["vllm==0.32.*"]\n'
    text += 'trl = ["trl>=1.16,<1.17; python_version >= \'3.11\'"]\ndev = [\n "pytest>=8",\n]\n'
    assert floors(text) == ["peft==0.21", "torch==2.9", "trl==1.16"]


def test_every_dependency_declares_its_lowest_version() -> None:
    """`make test-matrix` tries what is declared; a name without a lowest version would be tried at its newest only."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    assert listed is not None
    names = [re.split(r"[<>=;\[]", item)[0] for item in re.findall(r'"([^"]+)"', listed[1])]
    assert [name for name in names if name not in FLOORS] == []


@pytest.mark.parametrize("package", ["torch", "transformers"])
@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_pages_name_the_lowest_version(page: str, package: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    ranges = re.findall(rf"\b{package} ([\d.]+) to ([\d.]+\d)", text)
    assert [low for low, _ in ranges] == [FLOORS[package]], f"{page} says which {package} is the lowest, once"
