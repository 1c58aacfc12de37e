"""The package as somebody gets it: built, installed into an empty environment, and used from an empty folder.

python tests/dist.py                          # the wheel, built from the source archive; some minutes, 2 GB
python tests/dist.py --python python3.12      # installed into an environment of that interpreter

Builds the source archive and, from it, the wheel; checks their metadata (twine) and what is in them; installs the wheel
with its own dependencies only, no extra and nothing of this tree; then runs the first steps of the demonstration and of
the README. The exit code is 1 and the last line says why if any of it fails. It needs pip's package index.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
IN_WHEEL = (
    "amft/py.typed",
    "amft/models/nano_base/model.safetensors",
    "amft/presets/general_points.yaml",
    "amft/report/page.html",
    "amft/report/study/page.html",
)
IN_ARCHIVE = ("LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "constraints.txt", "src/amft/__init__.py")
FEW = "--set max_steps=3 --set sft_warmup_steps=1 --set eval.test_problems=16 --set eval.problems=8"
FIRST_STEPS = (
    "amft --version",
    "amft rules",
    "amft tasks",
    "amft settings eval",
    "amft plan general_points",
    f"amft train general_points {FEW} --output-dir runs/demo",
    "amft report runs/demo",
    "amft doctor runs/demo",
    "amft eval runs/demo --problems 8",
    "amft sample runs/demo --problems 1",
)
IMPORT_ALL = """
import importlib, pkgutil, amft
for module in pkgutil.walk_packages(amft.__path__, "amft."):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        assert "amft[" in str(error) or module.name in {"amft.__main__"}, f"{module.name}: {error}"
"""
NO_PARQUET = """
from pathlib import Path
from amft.errors import IntegrationError
from amft.row_files import read_rows
Path("rows.parquet").write_bytes(b"PAR1")
try:
    read_rows(Path("rows.parquet"))
except IntegrationError as error:
    assert str(error).endswith("pip install 'amft[datasets]'"), error
else:
    raise SystemExit("datasets is installed: this environment is not bare")
"""


class DistError(Exception):
    """What is wrong with the package."""


def call(command: list[str], where: Path, **environment: str) -> str:
    """Run it and return what it said; DistError with its last lines if it fails."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    words = " ".join(word if "\n" not in word else "..." for word in command)
    print(f"$ {words}", flush=True)
    done = subprocess.run(
        command, cwd=where, env=kept | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise DistError(f"{words}: exit code {done.returncode}\n{done.stdout[-2000:]}")
    return done.stdout


def environment(python: str, folder: Path) -> Path:
    """A new virtual environment; its interpreter."""
    call([python, "-m", "venv", "--clear", str(folder)], ROOT)
    return folder / "bin" / "python"


def build(python: str, folder: Path) -> tuple[Path, Path]:
    """The source archive and the wheel, in `dist/` of this tree."""
    tools = environment(python, folder / "build-venv")
    call([str(tools), "-m", "pip", "install", "--quiet", "build", "twine"], ROOT)
    for old in (ROOT / "dist").glob("amft-*"):
        old.unlink()
    call([str(tools), "-m", "build", "--outdir", str(ROOT / "dist"), str(ROOT)], ROOT)
    (archive,), (wheel,) = (ROOT / "dist").glob("amft-*.tar.gz"), (ROOT / "dist").glob("amft-*.whl")
    call([str(tools), "-m", "twine", "check", "--strict", str(archive), str(wheel)], ROOT)
    return archive, wheel


def check_contents(archive: Path, wheel: Path) -> None:
    """Nothing that the package needs is missing, and nothing of the tests is in the wheel."""
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        metadata = opened.read(next(name for name in names if name.endswith("dist-info/METADATA"))).decode()
    missing = [name for name in IN_WHEEL if name not in names]
    missing += [] if any(name.endswith("dist-info/licenses/LICENSE") for name in names) else ["LICENSE"]
    strange = [name for name in names if not name.startswith(("amft/", "amft-"))]
    with tarfile.open(archive) as opened_archive:
        there = {name.partition("/")[2] for name in opened_archive.getnames()}
    missing += [f"{name} (of the archive)" for name in IN_ARCHIVE if name not in there]
    if missing or strange:
        raise DistError(f"{wheel.name}: lacks {missing}, has {strange}")
    for field in ("License-Expression: Apache-2.0", "Author: The amft authors", "Requires-Python: >=3.10"):
        if field not in metadata:
            raise DistError(f"{wheel.name}: METADATA lacks {field!r}")


def use(python: str, wheel: Path, folder: Path) -> None:
    """Install the wheel into an empty environment and take the first steps from an empty folder."""
    bare = environment(python, folder / "bare-venv")
    call([str(bare), "-m", "pip", "install", "--quiet", str(wheel)], folder)
    call([str(bare), "-m", "pip", "check"], folder)
    place = folder / "empty"
    place.mkdir()
    path = f"{bare.parent}{os.pathsep}{os.environ['PATH']}"
    for program in (IMPORT_ALL, NO_PARQUET, _first_program()):
        call([str(bare), "-c", program], place, PATH=path, HF_HUB_OFFLINE="1")
    for line in FIRST_STEPS:
        call(line.split(), place, PATH=path, HF_HUB_OFFLINE="1")
    if not (place / "runs/demo/report.html").is_file():
        raise DistError("amft report wrote no page")


def _first_program() -> str:
    """The README's first program."""
    found = re.search(r"^```python\n(# first\.py\n.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S)
    assert found is not None
    return found[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="the interpreter of the environments")
    chosen = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as name:
            archive, wheel = build(chosen.python, Path(name))
            check_contents(archive, wheel)
            use(chosen.python, wheel, Path(name))
    except DistError as error:
        print(f"dist: {error}")
        return 1
    print(f"dist: {archive.name} and {wheel.name} are whole, and the wheel runs in a bare environment")
    return 0


if __name__ == "__main__":
    sys.exit(main())
