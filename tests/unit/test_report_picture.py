"""The picture of a run: a file of its own, the same for the same run, refused where there is nothing to draw."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from report_runs import write_run

from amft.cli import main
from amft.errors import RunError
from amft.report.picture import write_picture
from amft.runs import RunDirectory


def test_a_picture_is_whole_svg_with_colours_for_light_and_dark(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    text = write_picture(run, tmp_path / "deep" / "run.svg").read_text(encoding="utf-8")
    ElementTree.fromstring(text)
    assert text.count("--purple:") == 2
    assert "weight of imitation" in text
    assert write_picture(run, tmp_path / "again.svg").read_text(encoding="utf-8") == text


def test_the_command_draws_beside_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    assert main(["report", str(run), "--picture", str(tmp_path / "x.svg")]) == 0
    assert capsys.readouterr().out.splitlines() == [str(Path(run) / "report.html"), str(tmp_path / "x.svg")]


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"end its name in \.svg"):
        write_picture(write_run(tmp_path / "run"), tmp_path / "x.png")
    empty = RunDirectory.create(tmp_path / "empty")
    empty.write("config", {})
    with pytest.raises(RunError, match="nothing to draw"):
        write_picture(empty.path, tmp_path / "x.svg")
