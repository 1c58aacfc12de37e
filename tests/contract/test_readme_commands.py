"""README.md, CONTRIBUTING.md and docs/*.md as a reader would use them.

Every section (`## ...`) with code is followed from top to bottom in an empty directory: a block whose first line is
`# name.ext` is saved under that name, any other Python block is run, and so is every shell block, but for the lines in
`NOT_RUN`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import warm_amft

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

BASES = (ROOT, ROOT / "src" / "amft", ROOT / "tests")
"""Where a page's file names may start."""

NOT_RUN = {
    "make demo": "takes minutes and installs",
    "make test": "would run this test again",
    "PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo": "installs over the network",
    "python3 -m venv .venv && source .venv/bin/activate": "installs",
    "pip install torch": "installs over the network",
    "amft train recipes/qwen2.5_math_1.5b.yaml": "needs a GPU and a model to download",
    "pip install -e .": "installs",
    "pip install jupyterlab": "installs",
    "jupyter lab notebooks": "opens a browser; tests/contract/test_notebooks.py runs them",
    "make demo-llm": "takes minutes and installs",
    "pip install 'amft[smollm2,lora]'": "installs over the network",
    "amft fetch smollm2": "fetches 93 MB over the network",
    "python recipes/smollm2/sums.py sums": "its place is the repository",
    "amft train recipes/smollm2/sums.yaml": "takes minutes",
    "amft train recipes/smollm2/sums.yaml --set lora={} --set learning_rate=4e-4 --output-dir runs/smollm2-lora": (
        "takes minutes"
    ),
}
PAPER = (
    "An independent implementation of the method described in arXiv:2508.06944 (v1-v2, August 2025). "
    "The arXiv record's v3 comment (10 October 2025) says the paper is under investigation and that its authors asked "
    "to withdraw it. We are not affiliated with the authors, use none of their code, and take no position on the "
    "matter. The paper's numbers are unverified claims; every result shown here comes from our own runs, with seeds "
    "and intervals."
)


def sections(page: Path) -> Iterator[tuple[str, str]]:
    """(heading, text) of a page, at its `## ` headings."""
    for part in re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
        yield part.splitlines()[0], part


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks, in order."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


NO_NETWORK = """
import os, socket
connect = socket.socket.connect
def refuse(*arguments, **keywords):
    if getattr(arguments[0], "family", None) == socket.AF_UNIX:  # between processes of this machine
        return connect(*arguments)
    with open(os.environ["CONNECTIONS"], "a") as file:
        print(arguments, file=file)
    raise OSError("the network is blocked in this test")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""
"""Python runs a `sitecustomize` module when it starts."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the commands of all sections find: no network, and an `amft` that starts at once."""
    aside = tmp_path_factory.mktemp("aside")
    (aside / "sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")} | {
        "PATH": os.pathsep.join([str(aside), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(aside),
        "OMP_NUM_THREADS": "1",
    }
    with warm_amft.install(aside, environment) as server:
        yield environment
        server.kill()


def follow(section: str, folder: Path, environment: dict[str, str]) -> None:
    """Do what the section says, without a network; no connection may even be tried."""
    connections = folder.with_name(f"{folder.name}-connections.txt")
    environment = {**environment, "CONNECTIONS": str(connections)}
    for language, text in blocks(section):
        named = re.match(r"# ([\w-]+\.\w+)\n", text)
        if named:
            (folder / named[1]).write_text(text, encoding="utf-8")
        elif language in ("sh", "bash", "python"):
            lines = [line for line in text.splitlines() if line not in NOT_RUN]
            program = [sys.executable, "-c"] if language == "python" else ["bash", "-euo", "pipefail", "-c"]
            done = subprocess.run(
                [*program, "\n".join(lines)],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=300,
                check=False,
            )
            assert done.returncode == 0, f"{text}\n{done.stdout[-3000:]}"
    assert not connections.exists(), connections.read_text(encoding="utf-8")


NEEDS = {"train_grpo.py": "trl", "audit_trl.py": "trl", "adapter.yaml": "peft"}
"""File of a section -> the extra it needs, which not every Python has."""

CODE = [(page, heading, text) for page in PAGES for heading, text in sections(page) if blocks(text)]


@pytest.mark.parametrize("section", [text for *_, text in CODE], ids=[f"{page.name}: {name}" for page, name, _ in CODE])
def test_section_can_be_followed(section: str, tmp_path: Path, environment: dict[str, str]) -> None:
    for file, library in NEEDS.items():
        if f"# {file}" in section:
            pytest.importorskip(library)
    follow(section, tmp_path, environment)
    if "my-run.yaml" in section:
        measured = names_in(tmp_path / "runs" / "mine")
        assert sorted(names_documented(ROOT / "docs" / "metrics.md") - measured) == []
        one, other = (tmp_path / "runs" / name / "metrics.jsonl" for name in ("mine", "from-python"))
        assert one.read_bytes() == other.read_bytes()
        for run in (tmp_path / "runs").iterdir():
            assert success(run, "base") < 0.2
            assert success(run, "policy") > 0.5, run.name


def success(run: Path, model: str) -> float:
    """Share of the test rows a run's starting or final model answered correctly."""
    rows = [json.loads(line) for line in (run / "scores.jsonl").read_text(encoding="utf-8").splitlines()]
    right = [row["correct"] for row in rows if row["model"] == model]
    return sum(right) / len(right)


def names_in(run: Path) -> set[str]:
    """Every metric and timing a run wrote."""
    lines = [line for stream in ("metrics", "timings") for line in (run / f"{stream}.jsonl").read_text().splitlines()]
    return {name for line in lines for name in re.findall(r'"([^"]+)":', line)}


def names_documented(page: Path) -> set[str]:
    """First column of the table headed `metric`."""
    table = re.search(r"^\| metric \|.*\n\|---\|---\|\n((?:\|.*\n)+)", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert table is not None
    return {name for row in table[1].splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


def test_what_is_not_run_is_still_written_somewhere() -> None:
    written = {
        line for page in PAGES for _, text in blocks(page.read_text(encoding="utf-8")) for line in text.splitlines()
    }
    assert sorted(NOT_RUN.keys() - written) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = {target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target}
    missing = [target for target in links if target and not (page.parent / target).exists()]
    paths = re.findall(r"`((?:src|tests|docs|recipes|benchmarks)/[\w./-]+|[\w/]+\.py)`", text)
    missing += [path for path in paths if not any((base / path).exists() for base in BASES)]
    assert sorted(missing) == []


def test_the_paper_is_described_in_the_agreed_words() -> None:
    assert PAPER in (ROOT / "README.md").read_text(encoding="utf-8")
    for page in PAGES:
        assert not re.search(r"fraud|retract|misconduct", page.read_text(encoding="utf-8"), re.IGNORECASE), page.name
