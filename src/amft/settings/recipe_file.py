"""Recipe files: where they are, and how YAML and `--set key=value` become one mapping."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError
from .validation_errors import nearest, shown

PRESETS = Path(__file__).parents[1] / "presets"
_SHORTHAND = {"task": "id", "balance": "rule"}


def preset_recipes() -> dict[str, Path]:
    """The shipped recipes, by name."""
    return {path.stem: path for path in sorted(PRESETS.glob("*.yaml"))}


def find_recipe(name: str) -> Path:
    """The file of a recipe given by path or by the name of a shipped one.

    Raises:
        ConfigError: there is neither such a file nor such a name.
    """
    path, presets = Path(name), preset_recipes()
    if path.is_file():
        return path
    if name in presets:
        return presets[name]
    if path.is_dir():
        raise ConfigError(f"{name}: is a directory, not a recipe file")
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise ConfigError(f"{name}: no such recipe file")
    raise ConfigError(f"{name}: no such file and no shipped recipe of that name; {nearest(name, [*presets])}")


def spelled_out(tree: dict[str, Any]) -> dict[str, Any]:
    """`task: NAME` is short for `task: {id: NAME}`, `balance: NAME` for `balance: {rule: NAME}`."""
    short = {key: {name: tree[key]} for key, name in _SHORTHAND.items() if isinstance(tree.get(key), str)}
    return {**tree, **short}


def override(tree: dict[str, Any], text: str) -> None:
    """Set one key of `tree` in place from `a.b=c`, with `c` in YAML.

    Raises:
        ConfigError: it is not of that form, or passes through a value that is not a mapping.
    """
    key, equals, given = text.partition("=")
    names = [name.strip() for name in key.split(".")]
    if not equals or not all(names):
        raise ConfigError(f"--set {text}: write it as key=value, for example max_steps=100")
    value = _parse(given, f"--set {text}")
    if len(names) == 1 and isinstance(value, str) and names[0] in _SHORTHAND:
        value = {_SHORTHAND[names[0]]: value}
    for depth, name in enumerate(names[:-1], 1):
        if tree.get(name) is None:
            tree[name] = {}
        if not isinstance(tree[name], dict):
            raise ConfigError(f"--set {text}: {'.'.join(names[:depth])} is {shown(tree[name])}, not a mapping")
        tree = tree[name]
    tree[names[-1]] = value


def settings(texts: Sequence[str]) -> dict[str, Any]:
    """The mapping that `key=value` texts make, in order, the later one winning.

    Raises:
        ConfigError: a text is not of that form.
    """
    tree: dict[str, Any] = {}
    for text in texts:
        override(tree, text)
    return tree


class _Loader(yaml.SafeLoader):
    """YAML in which `1e-4` is a number (YAML 1.1 wants `1.0e-4`) and a repeated key is an error."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return node


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_mapping(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ConfigError: it cannot be read, is not YAML (with line and column), repeats a key, or is not a mapping.
    """
    try:
        tree = _parse(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error})") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: a recipe is a mapping of keys to values, not {shown(tree)}")
    for key in tree:
        if not isinstance(key, str):
            raise ConfigError(f"{file}: the key {shown(key)} must be text")
    return tree


def _parse(text: str, source: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(f"{source}{where}: not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
