"""A run's balance and success as a picture of its own, for a README or a slide; readable on light and on dark."""

from __future__ import annotations

import re
from pathlib import Path

from ..disk import OTHER_PLACE, disk_guard, replace_text
from ..errors import RunError
from .figures import balance_and_success
from .load import load_run

LIGHT = {
    "--ink": "#1d2126", "--muted": "#5c6570", "--line": "#d5d9de", "--shade": "#f0eee6",
    "--blue": "#0072b2", "--green": "#00795a", "--purple": "#9c4f85", "--orange": "#c75000",
}  # fmt: skip
DARK = {
    "--ink": "#e6e8ea", "--muted": "#a0a9b2", "--line": "#3a4149", "--shade": "#262622",
    "--blue": "#56b4e9", "--green": "#3cc79b", "--purple": "#d996c2", "--orange": "#f08c3a",
}  # fmt: skip


def write_picture(run: Path | str, target: Path | str) -> Path:
    """Draw mu and success over the steps of a run as an SVG file without a background.

    The file follows the reader's choice of light or dark. The same run gives the same bytes.

    Raises:
        RunError: there is no run, mu was never measured, the name does not end in .svg, or the file cannot be written.
    """
    path = Path(target)
    if path.suffix != ".svg":
        raise RunError(f"{path}: the picture is drawn as SVG; end its name in .svg")
    picture = run_picture(run)
    with disk_guard(path, cure=OTHER_PLACE):
        path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, picture, cure=OTHER_PLACE)
    return path


def run_picture(run: Path | str) -> str:
    """The text of that file.

    Raises:
        RunError: there is no run, or mu was never measured.
    """
    svg = balance_and_success(load_run(run))
    if not svg:
        raise RunError(f"{run}: neither mu nor success was measured, so there is nothing to draw")
    return standalone(svg)


def standalone(svg: str) -> str:
    """An inline figure of the page as a file with colours of its own."""
    text = "text{font-family:system-ui,'Segoe UI',Roboto,Arial,sans-serif!important}"
    style = f"<style>svg{{{_set(LIGHT)}}}@media(prefers-color-scheme:dark){{svg{{{_set(DARK)}}}}}{text}</style>"
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return re.sub(r"<svg ([^>]*)>", rf"<svg {names} \1>{style}", svg, count=1) + "\n"


def opaque(picture: str) -> str:
    """A picture on a background of its own, for a page that may be light where the reader's system is dark.

    Args:
        picture: of `run_picture`.
    """
    paper = "<style>svg{background:#fff}@media(prefers-color-scheme:dark){svg{background:#14171a}}"
    return picture.replace("<style>", paper, 1)


def _set(colours: dict[str, str]) -> str:
    return ";".join(f"{name}:{value}" for name, value in colours.items())
