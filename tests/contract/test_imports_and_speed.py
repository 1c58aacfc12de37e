"""Help answers at once: nothing heavy is imported before it is needed."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "numpy", "matplotlib", "yaml", "rich", "jinja2", "tqdm")
LIMIT = 0.5
"""Seconds, best of three, interpreter start included."""

CALL_MAIN = "import sys; from amft.cli import main; code = main({arguments!r}); assert code == 0, code"


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)


def imported_by(code: str) -> set[str]:
    loaded = run(f"{code}\nprint('LOADED', *sys.modules)").stdout.rpartition("LOADED")[2]
    return {name.split(".")[0] for name in loaded.split()}


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["eval", "--help"], ["--version"], []])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    loaded = imported_by(CALL_MAIN.format(arguments=arguments))
    assert not loaded.intersection(HEAVY)


def test_importing_amft_imports_nothing_heavy() -> None:
    assert not imported_by("import sys, amft").intersection(HEAVY)


@pytest.mark.parametrize(
    "module", ["amft.settings.recipe", "amft.tasks.registry", "amft.balance.registry", "amft.settings.config"]
)
def test_what_checks_a_recipe_imports_no_torch(module: str) -> None:
    assert not imported_by(f"import sys, {module}").intersection({"torch", "transformers"})


@pytest.mark.parametrize("arguments", [["tasks"], ["rules"], ["plan", "general_points"]])
def test_lists_import_no_torch(arguments: list[str]) -> None:
    assert not imported_by(CALL_MAIN.format(arguments=arguments)).intersection({"torch", "transformers"})


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_help_is_fast(arguments: list[str]) -> None:
    assert min(cpu_seconds(CALL_MAIN.format(arguments=arguments)) for _ in range(3)) < LIMIT


def cpu_seconds(code: str) -> float:
    """Processor time of a child; it waits for nothing, so on an idle machine that is how long the user waits."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(code)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
