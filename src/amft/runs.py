"""The run directory: what a run leaves behind and how it is read back. No torch.

config.json      the full resolved recipe
env.json         versions, hardware, command, seed
metrics.jsonl    one line per step, reproducible to the byte for a seed: {"step": 1, "mix/mu": 0.5, ...}
timings.jsonl    one line per step, seconds and tokens/s: {"step": 1, "time/generate": 0.3, ...}
samples.jsonl    {"step", "key", "prompt", "demonstration", "completions": [{"text", "reward", "outcome"}]}
scores.jsonl     one line per graded answer: {"step", "model": "base" | "policy", "split", "key", "problem",
                 "sample", "prompt", "answer", "correct", "reward", "outcome"}
events.jsonl     warnings and incidents: {"step", "kind", "message"}
checkpoints/step-N/
model/           the model the run ended with, and its card; there once the run is over
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import RunError

STREAMS = ("metrics", "timings", "samples", "scores", "events")


def write_json(path: Path, value: Any) -> None:
    """Write JSON beside `path` and rename it into place, so that a reader never sees half a file."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, sort_keys=True)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(name, path)


def read_json(path: Path) -> Any:
    """Read one JSON file.

    Raises:
        RunError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read as JSON ({error})") from None


class RunDirectory:
    """One run's directory: append-only streams of JSON lines beside its config and checkpoints."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @classmethod
    def create(cls, path: str | Path) -> RunDirectory:
        """Make a new, empty run directory.

        Raises:
            RunError: it already holds a run; nothing is ever overwritten silently.
        """
        run = cls(path)
        if run.path.exists() and (not run.path.is_dir() or any(run.path.iterdir())):
            raise RunError(f"{path}: already exists; continue it with --resume or choose another output_dir")
        try:
            run.checkpoints.mkdir(parents=True)
        except OSError as error:
            raise RunError(f"{path}: cannot be created ({error.strerror})") from None
        return run

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """Open an existing run directory.

        Raises:
            RunError: there is no run in it.
        """
        run = cls(path)
        if not (run.path / "config.json").is_file():
            raise RunError(f"{path}: not a run directory (no config.json in it)")
        return run

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Write `config` or `env`."""
        write_json(self.path / f"{name}.json", value)

    def read(self, name: str) -> Any:
        """Read `config` or `env`."""
        return read_json(self.path / f"{name}.json")

    def append(self, stream: str, row: Mapping[str, Any]) -> None:
        """Append one line to a stream and flush it to the operating system."""
        with open(self._file(stream), "a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def rows(self, stream: str) -> Iterator[dict[str, Any]]:
        """The lines of a stream, oldest first; a torn last line (the process was killed) is left out."""
        path = self._file(stream)
        if not path.exists():
            return
        lines = path.read_text(encoding="utf-8").split("\n")
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                yield json.loads(line)
            except ValueError:
                if number == len(lines):
                    return
                raise RunError(f"{path}: line {number} is not JSON") from None

    def truncate(self, step: int) -> None:
        """Drop every stream line after `step`, and the answers of the trained model, which come after the last one.

        A resumed run writes them again, byte for byte.
        """
        for stream in STREAMS:
            path = self._file(stream)
            if not path.exists():
                continue
            kept = [
                json.dumps(row) + "\n"
                for row in self.rows(stream)
                if row["step"] <= step and not (stream == "scores" and row.get("model") == "policy")
            ]
            aside = path.with_suffix(".aside")
            aside.write_text("".join(kept), encoding="utf-8")
            os.replace(aside, path)

    def _file(self, stream: str) -> Path:
        assert stream in STREAMS, stream
        return self.path / f"{stream}.jsonl"
