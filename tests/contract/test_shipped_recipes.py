"""Every recipe for a real model parses, says what it is, and fits where it says it fits."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("math_verify")
pytest.importorskip("pebble")
from torch.distributed.run import get_args_parser

from amft.cli import main
from amft.settings.recipe import load_recipe

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
SCRIPTS = sorted((ROOT / "recipes" / "launch").iterdir())


def header(path: Path) -> dict[str, str]:
    """`Word: text` of the comment at the top."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    return dict(match.groups() for line in lines if (match := re.match(r"# (\w+): +(.+)", line)))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_parses_and_says_what_was_run(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.allow_download, "a hub name is fetched only on request"
    said = header(path)
    assert {"Purpose", "Command", "Plan", "Expect"} <= said.keys()
    assert said["Expect"].startswith("NOT RUN here")
    assert f"recipes/{path.name}" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_the_plan_of_a_recipe_fits(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    program, *arguments = shlex.split(header(path)["Plan"])
    assert program == "amft"
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fits"]


@pytest.mark.parametrize(
    "command",
    re.findall(r"^#.*?(amft train recipes/\S+.*)$", "\n".join(p.read_text("utf-8") for p in RECIPES), re.MULTILINE),
)
def test_every_command_in_a_header_parses_and_fits_one_gpu(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One device is the harder case; the two of the 7B model need the shards of four."""
    monkeypatch.chdir(ROOT)
    _, _, *arguments = shlex.split(command)
    several = arguments == ["recipes/qwen2.5_math_7b.yaml"] or arguments == ["recipes/qwen2.5_math_1.5b.yaml"]
    kind = "rtx4090" if "24gb" in command else "h100"
    assert main(["plan", *arguments, "--gpu", kind, "--gpus", "4" if several else "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fits"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_launch_scripts_parse_and_torchrun_knows_their_options(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text(encoding="utf-8")
    assert "NOT RUN" in text
    assert "--nnodes" in text
    call = re.search(r"torchrun \\\n(.*)", text, re.DOTALL)
    assert call is not None
    words = re.sub(r'"\$\{?[^"]*"|\$\{[^}]*\}', "1", call[1].replace("\\\n", " ").replace('"$@"', "x.yaml"))
    parsed = get_args_parser().parse_args(shlex.split(words))
    assert (parsed.module, parsed.training_script, parsed.rdzv_backend) == (True, "amft", "c10d")
