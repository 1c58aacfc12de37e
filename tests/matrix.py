"""The suite at both ends of the versions that pyproject.toml declares, each cell in an environment of its own.

python tests/matrix.py                                    # every cell, every test
python tests/matrix.py floor newest --tests tests/unit    # two cells, some of the tests

`floor` installs exactly the lowest version declared of every dependency, `newest` whatever the package index offers
today, `pinned` the versions of constraints.txt. The interpreters (python3.10 to python3.13) must be on the PATH; one
that is missing is a failed cell. An environment takes up to 8 GB, where pip fetches torch's CUDA build, and is deleted
before the next is made. Ends with a table, one line for each cell; the exit code is 1 unless all of them passed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHOWN = ("torch", "transformers", "numpy", "trl")


@dataclass(frozen=True)
class Cell:
    """Which interpreter, and which versions: `floor`, `pinned` or `newest`."""

    python: str
    versions: str


CELLS = {
    "floor": Cell("3.10", "floor"),
    "pinned": Cell("3.11", "pinned"),
    "pinned-3.12": Cell("3.12", "pinned"),
    "newest": Cell("3.13", "newest"),
}


class CellError(Exception):
    """Why a cell has no result of pytest."""


def floors(pyproject: str) -> list[str]:
    """`name==lowest` for what pyproject.toml declares with a lowest version, the tools of `dev` left out."""
    body = pyproject[pyproject.index("\ndependencies = [") : pyproject.index("\ndev = [")]
    return sorted({f"{name}=={version}" for name, version in re.findall(r'"([\w-]+)>=([\d.]+)', body)})


def constraints(versions: str, folder: Path) -> list[str]:
    """pip's arguments that hold the cell to its versions."""
    if versions == "newest":
        return ["--upgrade", "--upgrade-strategy", "eager"]
    if versions == "pinned":
        return ["--constraint", str(ROOT / "constraints.txt")]
    file = folder / "floors.txt"
    file.write_text("\n".join(floors((ROOT / "pyproject.toml").read_text(encoding="utf-8"))) + "\n", encoding="utf-8")
    return ["--constraint", str(file)]


def interpreter(version: str) -> str:
    """The path of a python3.x that starts; pyenv's shim of a version that is not active does not."""
    path = shutil.which(f"python{version}")
    if path is None or subprocess.run([path, "-V"], capture_output=True).returncode:
        raise CellError(f"no python{version} on the PATH")
    return path


def environment() -> dict[str, str]:
    """This process's, less what would let another copy of the package in."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return kept | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def call(command: list[str], log: Path) -> int:
    """Run from the root of the tree; what it prints is added to `log`."""
    with log.open("a", encoding="utf-8") as out:
        out.write(f"$ {' '.join(command)}\n")
        out.flush()
        return subprocess.run(command, cwd=ROOT, env=environment(), stdout=out, stderr=subprocess.STDOUT).returncode


def install(cell: Cell, folder: Path, log: Path) -> str:
    """Make the cell's environment; the path of its interpreter."""
    venv = folder / "venv"
    if call([interpreter(cell.python), "-m", "venv", "--clear", str(venv)], log):
        raise CellError("no virtual environment could be made")
    python = str(venv / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--no-compile"]
    if call([*pip, *constraints(cell.versions, folder), "--editable", ".[dev]"], log):
        raise CellError("pip could not install it")
    if call([python, "-m", "pip", "check"], log):
        raise CellError("pip check found a conflict")
    return python


def installed(python: str) -> dict[str, str]:
    """Versions of the packages that the table shows."""
    command = [python, "-m", "pip", "list", "--format", "json"]
    found = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    return {entry["name"]: entry["version"] for entry in json.loads(found.stdout) if entry["name"] in SHOWN}


def try_cell(name: str, tests: list[str], folder: Path, keep: bool) -> tuple[bool, str]:
    """One cell from nothing to its line of the table.

    Returns:
        Whether everything passed, and the line.
    """
    cell, start, log = CELLS[name], time.monotonic(), folder / f"{name}.log"
    log.unlink(missing_ok=True)
    versions: dict[str, str] = {}
    try:
        python = install(cell, folder, log)
        versions = installed(python)
        # Libraries of other years warn of one another, which is theirs to mend.
        lenient = ["-p", "no:cacheprovider", "-W", "ignore::DeprecationWarning", "-W", "ignore::FutureWarning"]
        code = call([python, "-m", "pytest", *lenient, *tests], log)
        passed, result = code == 0, log.read_text(encoding="utf-8").rstrip().rpartition("\n")[2].strip("= ")
    except CellError as reason:
        passed, result = False, str(reason)
    if not keep:
        shutil.rmtree(folder / "venv", ignore_errors=True)
    minutes = f"{(time.monotonic() - start) / 60:.0f} min"
    cells = [name, cell.python, *(versions.get(package, "-") for package in SHOWN), result, minutes]
    return passed, f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", help=f"some of {', '.join(CELLS)}; all of them when none is named")
    parser.add_argument("--tests", nargs="+", default=["tests"], help="what pytest is given")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "amft-matrix", help="logs, venv")
    parser.add_argument("--keep", action="store_true", help="leave the last cell's environment there")
    chosen = parser.parse_args()
    if unknown := [name for name in chosen.cells if name not in CELLS]:
        parser.error(f"no cell {unknown[0]!r}: {', '.join(CELLS)}")
    chosen.folder.mkdir(parents=True, exist_ok=True)
    lines, good = [], True
    for name in chosen.cells or CELLS:
        print(f"{name}: {chosen.folder / name}.log", flush=True)
        passed, line = try_cell(name, chosen.tests, chosen.folder, chosen.keep)
        lines.append(line)
        good = good and passed
    header = ["cell", "Python", *SHOWN, "pytest", "time"]
    print(f"\n| {' | '.join(header)} |\n|{'---|' * len(header)}", *lines, sep="\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
