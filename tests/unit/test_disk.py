"""What is written anywhere is whole or not there, and a disk that refuses is one line."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_runs import build

from amft.assembly.models import merge_adapter
from amft.disk import disk_guard, replace_text, whole_directory
from amft.errors import AMFTError, RunError
from amft.models.hub import push_folder
from amft.report.bundle import write_bundle
from amft.report.page import write_report
from amft.report.picture import write_picture


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("run")
    build(home / "base", "fixed", max_steps=1).train()
    trainer = build(home / "run", "amft", max_steps=3, lora={"r": 2}, eval={"steps": 1, "test_splits": []})
    trainer.train()
    return home / "run"


WRITERS: dict[str, Callable[[Path, Path], object]] = {
    "report": lambda run, target: write_report(run),
    "picture": lambda run, target: write_picture(run, target / "a.svg"),
    "bundle": lambda run, target: write_bundle(run, target / "a.tar.gz"),
    "push": lambda run, target: push_folder(run / "model", str(target / "pushed")),
    "directory": lambda run, target: _copy(run, target / "made"),
}


def _copy(run: Path, target: Path) -> None:
    with whole_directory(target) as made:
        shutil.copytree(run / "model", made, dirs_exist_ok=True)


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_refused_is_one_line_and_leaves_nothing(name: str, run: Path, tmp_path: Path) -> None:
    before = sorted(run.rglob("*"))
    with largest_file(100), pytest.raises(AMFTError, match=r"cannot be written .*File too large") as caught:
        WRITERS[name](run, tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert list(tmp_path.iterdir()) == []
    assert sorted(run.rglob("*")) == before
    WRITERS[name](run, tmp_path)
    assert name == "report" or len(list(tmp_path.iterdir())) == 1


def test_a_model_that_cannot_be_saved_is_one_line(run: Path, tmp_path: Path) -> None:
    trainer = build(tmp_path / "run", "fixed", max_steps=1)
    with largest_file(100), pytest.raises(RunError, match="saved: cannot be written"):
        trainer.save_model(tmp_path / "saved")
    trainer.save_model(tmp_path / "saved")


def test_a_directory_is_there_only_when_it_is_whole(tmp_path: Path) -> None:
    def broken() -> None:
        with whole_directory(tmp_path / "a") as made:
            (made / "file").write_text("x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert list(tmp_path.iterdir()) == []
    with whole_directory(tmp_path / "a") as made:
        (made / "file").write_text("x")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "file"]


def test_only_what_the_disk_says_is_put_in_other_words(tmp_path: Path) -> None:
    with pytest.raises(KeyError), disk_guard(tmp_path):
        raise KeyError("ours")
    with pytest.raises(RunError, match="cannot be written"):
        replace_text(tmp_path / "no" / "such" / "folder", "x")


def test_merge_is_all_or_nothing(tmp_path: Path, tiny_base: Path) -> None:
    from amft.settings.config import AMFTConfig
    from amft.tasks.registry import build_task
    from amft.training.trainer import AMFTTrainer

    config = AMFTConfig(
        output_dir=str(tmp_path / "run"), max_steps=1, num_prompts=2, num_generations=2, num_demos=2, lora={"r": 2},
        balance={"rule": "fixed"}, eval={"steps": 0, "test_splits": []}, max_completion_length=80,
    )  # fmt: skip
    AMFTTrainer(str(tiny_base), config, task=build_task("general_points")).train()
    with largest_file(1000), pytest.raises(RunError, match="merged: cannot be written"):
        merge_adapter(str(tmp_path / "run"), str(tmp_path / "merged"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    merge_adapter(str(tmp_path / "run"), str(tmp_path / "merged"))
    assert (tmp_path / "merged" / "model.safetensors").is_file()
