"""What pages say about the code: counts, floors, sizes, packaged files, tests that are named, terms of the glossary."""

from __future__ import annotations

import ast
import fnmatch
import re
from pathlib import Path

import pytest

from amft.balance.describe import describe

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "amft"
GLOSSARY = "docs/glossary.md"


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md"])
def test_the_number_of_rules_is_that_of_the_registry(page: str) -> None:
    assert re.findall(r"(\d+) names\b", read(page)) == [str(len(describe()))]


def floors(text: str) -> list[frozenset[str]]:
    """Floors from the top down, what stands on one floor as a set; a note begins with #."""
    return [frozenset(re.findall(r"\w+", line.split("#")[0])) for line in text.splitlines() if line.strip()]


def test_floors_in_contributing_are_the_contract() -> None:
    layers = re.search(r"^layers = \[\n(.*?)^\]", read("pyproject.toml"), re.MULTILINE | re.DOTALL)
    listing = re.search(r"^## Floors\n.*?```text\n(.*?)```", read("CONTRIBUTING.md"), re.MULTILINE | re.DOTALL)
    assert layers is not None
    assert listing is not None
    assert floors(listing[1]) == floors(layers[1])


def test_contributing_says_the_sizes_that_the_house_test_enforces() -> None:
    house = read("tests/contract/test_house.py")
    file_limit, function_limit = (re.search(pattern, house) for pattern in (r"lines > (\d+)\} ==", r"lines > (\d+):"))
    assert file_limit is not None
    assert function_limit is not None
    said = re.search(r"at most (\d+) lines a file and (\d+) a function", read("CONTRIBUTING.md"))
    assert said is not None
    assert said.groups() == (file_limit[1], function_limit[1])


def reliability_rows() -> list[tuple[str, str]]:
    """(id, last cell) of every scenario."""
    rows = [line.strip("| \n").split(" | ") for line in read("docs/reliability.md").splitlines()]
    return [(row[0], row[-1]) for row in rows if re.fullmatch(r"[A-Z]\d+", row[0])]


def test_every_scenario_names_its_tests_or_says_not_yet() -> None:
    rows = reliability_rows()
    assert len(rows) > 30
    assert len({name for name, _ in rows}) == len(rows)
    for name, where in rows:
        files = re.findall(r"`([\w/]+\.py)`", where)
        assert [file for file in files if not (ROOT / "tests" / file).is_file()] == [], name
        assert bool(files) != ("not yet" in where.lower()), f"{name}: must name a test file, or be `not yet`"


def test_files_beside_the_code_are_packaged() -> None:
    found = re.search(r"^amft = \[(.*?)\]$", read("pyproject.toml"), re.MULTILINE)
    assert found is not None
    patterns = re.findall(r'"([^"]+)"', found[1])
    others = [path for path in SRC.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    names = [path.relative_to(SRC).as_posix() for path in others]
    assert [name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)] == []
    assert [pattern for pattern in patterns if not fnmatch.filter(names, pattern)] == []


def test_rooms_are_on_the_code_map() -> None:
    """Every folder and module of the package stands in the list of files, and nothing else does."""
    listing = re.search(r"^src/amft/\n(.*?)^tests/", read("docs/code-map.md"), re.MULTILINE | re.DOTALL)
    assert listing is not None
    heads = [re.split(r"\s{2,}", line.strip())[0] for line in listing[1].splitlines() if line.startswith("  ")]
    named = {name.strip().rstrip("/") for head in heads for name in head.split(",") if name.strip()}
    rooms = {path.stem for path in SRC.iterdir() if path.name[0] not in "_." and path.suffix in ("", ".py")}
    assert named == rooms


def test_terms_of_the_glossary_stand_once() -> None:
    terms = re.findall(r"\*\*(.+?)\*\*", read(GLOSSARY))
    assert len(terms) > 50
    assert sorted(term.lower() for term in terms) == sorted({term.lower() for term in terms})
    entries = re.findall(r"^- (.*)$", read(GLOSSARY), re.MULTILINE)
    assert [entry for entry in entries if not re.match(r"\*\*[^*]+(\\\*)?\*\*: .*\.$", entry)] == []


def test_classes_of_the_glossary_exist() -> None:
    named = set(re.findall(r"`([A-Z][A-Za-z]*[a-z][A-Za-z]*|AMFT)`", read(GLOSSARY)))
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in SRC.rglob("*.py"))
    classes = {node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}
    assert len(named) > 10
    assert named - classes == set()


def test_the_glossary_is_linked() -> None:
    assert f"({GLOSSARY})" in read("README.md")
    assert f"({GLOSSARY})" in read("CONTRIBUTING.md")


def string_starts(tree: ast.AST) -> set[str]:
    """Titles of findings in a module of checks: every string that is handed on as one, up to its first placeholder."""
    found = set()
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        if name not in ("Remark", "_flat"):
            continue
        title = call.args[1 if name == "Remark" else 0]
        first = title.values[0] if isinstance(title, ast.JoinedStr) else title
        if isinstance(first, ast.Constant):
            found.add(str(first.value).strip())
    return found


def test_every_error_and_every_finding_has_its_row_in_troubleshooting() -> None:
    page = read("docs/troubleshooting.md")
    errors = {
        node.name
        for node in ast.parse((SRC / "errors.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    }
    assert sorted(name for name in errors - {"AMFTError"} if f"| `{name}` |" not in page) == []
    checks = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted((SRC / "report").glob("checks_*.py"))]
    titles = set().union(*map(string_starts, checks))
    assert len(titles) > 12
    assert sorted(title for title in titles if title not in page) == []
