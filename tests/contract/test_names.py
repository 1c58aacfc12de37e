"""One name, one meaning: public top-level names are unique over the package."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "amft"

SHARED = {
    "main": "what `python -m` and the console script call",
    "warm_up": "what the sandbox calls, where a module of graders has it (tasks/grading/sandbox.py)",
}
"""Names that several modules have on purpose, and why: something looks them up by name."""


def public_names(tree: ast.Module) -> Iterator[str]:
    """Classes, functions, type aliases and constants of a module, without those that begin with an underscore."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found = [node.name]
        elif isinstance(node, ast.Assign):
            targets = [
                part for target in node.targets if not isinstance(target, ast.Attribute) for part in ast.walk(target)
            ]
            found = [target.id for target in targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found = [node.target.id]
        else:
            found = []
        yield from (name for name in found if not name.startswith("_"))


def homes() -> dict[str, list[str]]:
    """Every public name -> the files that define it."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(SRC.rglob("*.py")):
        for name in dict.fromkeys(public_names(ast.parse(path.read_text(encoding="utf-8")))):
            found[name].append(str(path.relative_to(SRC)))
    return found


def test_public_names_of_a_module_are_seen() -> None:
    text = (
        "A = B = 1\nC: int = 2\nD, E = 3, 4\ndef f(): pass\nclass G: h = 1\n_I = 5\nimport j\nfrom k import L\nm.n = 6"
    )
    assert [*public_names(ast.parse(text))] == ["A", "B", "C", "D", "E", "f", "G"]


def test_public_names_are_unique() -> None:
    twice = {name: files for name, files in homes().items() if len(files) > 1}
    assert {name: files for name, files in twice.items() if name not in SHARED} == {}
    assert twice.keys() == SHARED.keys(), "a shared name that is no longer shared"
