"""What the package says of itself: metadata, extras, Dockerfile, changelog. `make dist-check` builds and runs it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from dist import IN_ARCHIVE, IN_WHEEL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import amft
from amft.errors import IntegrationError
from amft.extras import require_extra
from amft.models.gguf import convert_gguf
from amft.row_files import read_hub, read_rows
from amft.tasks.registry import build_task

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest brings it along
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
"""Of https://keepachangelog.com."""


def test_the_package_says_who_what_and_under_which_licence() -> None:
    assert PROJECT["authors"] == [{"name": "The amft authors"}]
    assert [name for name in PROJECT["license-files"] if not (ROOT / name).is_file()] == []
    known = ["3.10", "3.11", "3.12", "3.13"]
    said = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert said == known
    assert PROJECT["requires-python"] == f">={known[0]}"


def test_one_version_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["version"] == amft.__version__ == str(citation["version"])
    assert citation["authors"] == PROJECT["authors"]
    assert citation["license"] == PROJECT["license"]


def test_extras_that_messages_and_pages_name_exist() -> None:
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    texts = "\n".join(path.read_text(encoding="utf-8") for path in files)
    named = set(re.findall(r"amft\[([\w-]+)\]", texts)) | set(re.findall(r"\.\[([a-z][\w-]+)\]", texts))
    named |= set(re.findall(r'require_extra\([^,]+, "([\w-]+)"', texts))
    assert len(named) > 5
    assert named - PROJECT["optional-dependencies"].keys() == set()


def test_heavy_libraries_are_not_in_the_core() -> None:
    core = {Requirement(line).name for line in PROJECT["dependencies"]}
    assert core & {"networkx", "pillow", "datasets", "pandas", "pyarrow", "trl", "peft", "vllm"} == set()


def _parquet(folder: Path) -> Any:
    (folder / "rows.parquet").write_bytes(b"PAR1")
    return read_rows(folder / "rows.parquet")


@pytest.mark.parametrize(
    ("library", "extra", "use"),
    [
        ("networkx", "navigation", lambda _: build_task("navigation-v1")),
        ("PIL", "navigation", lambda _: build_task("navigation_vl-v1")),
        ("PIL", "pictures", lambda _: build_task("general_points_vl-v1")),
        ("datasets", "datasets", _parquet),
        ("datasets", "datasets", lambda _: read_hub("owner/name", None, "train")),
        ("gguf", "smollm2", lambda folder: convert_gguf(folder / "rows.parquet", folder)),
        ("accelerate", "smollm2", lambda folder: convert_gguf(folder / "rows.parquet", folder)),
        ("pebble", "math", lambda folder: build_task("math-v1", tests={"math500": str(folder / "rows.parquet")})),
    ],
)
def test_a_missing_library_is_one_line_that_names_the_extra(
    library: str, extra: str, use: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(IntegrationError, match=re.escape(f"pip install 'amft[{extra}]'")) as caught:
        use(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_extra_brings_the_libraries_that_its_users_ask_for() -> None:
    asked = [
        (extra, library)
        for path in (ROOT / "src").rglob("*.py")
        for extra, libraries in re.findall(r'require_extra\([^,]+, "([\w-]+)"((?:, "\w+")+)\)', path.read_text("utf-8"))
        for library in re.findall(r"\w+", libraries)
    ]
    assert ("smollm2", "accelerate") in asked
    extras = {
        extra: {canonicalize_name(Requirement(line).name) for line in lines}
        for extra, lines in PROJECT["optional-dependencies"].items()
    }
    others = {"PIL": "pillow", "triton": "liger-kernel"}  # where a library is not the package of its name
    missing = [pair for pair in asked if others.get(pair[1], canonicalize_name(pair[1])) not in extras[pair[0]]]
    assert missing == []


def test_what_is_installed_is_not_asked_for() -> None:
    require_extra("a test", "math", "json")


def test_what_the_check_of_the_wheel_looks_for_is_there() -> None:
    assert [name for name in IN_WHEEL if not (ROOT / "src" / name).is_file()] == []
    assert [name for name in IN_ARCHIVE if not (ROOT / name).is_file()] == []


def test_the_dockerfile_copies_what_there_is() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = [name for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE) for name in line.split()]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    let_in = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(copied) == sorted(let_in)
    assert {"README.md", *PROJECT["license-files"]} <= set(copied)  # pyproject.toml reads them


def test_a_version_of_the_changelog_has_each_kind_of_change_once() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert versions[0].startswith("[Unreleased]\n")
    for version in versions:
        kinds = re.findall(r"^### (.+)$", version, re.MULTILINE)
        assert sorted(set(kinds)) == sorted(kinds)
        assert set(kinds) <= set(KINDS)
        assert re.match(r"\[Unreleased\]\n|\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d\n", version)
