"""The run directory: what a run leaves behind and how it is read back. No torch.

config.json      the full resolved recipe
env.json         versions, hardware, command, seed
metrics.jsonl    one line per step, reproducible to the byte for a seed: {"step": 1, "mix/mu": 0.5, ...}
timings.jsonl    one line per step, seconds and tokens/s: {"step": 1, "time/generate": 0.3, ...}
samples.jsonl    {"step", "key", "prompt", "demonstration", "completions": [{"text", "reward", "outcome"}]}
scores.jsonl     one line per graded answer: {"step", "model": "base" | "policy", "split", "key", "problem",
                 "sample", "prompt", "answer", "correct", "reward", "outcome"}
events.jsonl     warnings and incidents: {"step", "kind", "message"}
run.lock         held by the one process that writes here, see `run_lock`
checkpoints/step-N/
model/           the model the run ended with, and its card; there once the run is over
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .disk import disk_guard, replace_bytes, replace_text
from .errors import RunError
from .run_lock import LOCK_FILE

STREAMS = ("metrics", "timings", "samples", "scores", "events")


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader never sees half a file.

    Raises:
        RunError: the disk is full or refuses; what was there is as it was.
    """
    replace_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


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
        self._hashed: dict[str, tuple[int, Any]] = {}
        """Stream -> bytes and SHA-256 of what `settle` has read; streams only grow while a run goes on."""

    @classmethod
    def create(cls, path: str | Path) -> RunDirectory:
        """Make a new, empty run directory.

        Raises:
            RunError: it already holds a run; nothing is ever overwritten silently.
        """
        run = cls(path)
        run.refuse_occupied()
        with disk_guard(run.path, cure="choose another output_dir"):
            run.checkpoints.mkdir(parents=True, exist_ok=True)
        return run

    def refuse_occupied(self) -> None:
        """Raises: RunError: there is something here already."""
        if not self.is_empty():
            raise RunError(f"{self.path}: already exists; continue it with --resume or choose another output_dir")

    def is_empty(self) -> bool:
        """Whether nothing is here but what a process leaves that is killed while it makes the directory."""
        if not self.path.exists():
            return True
        if not self.path.is_dir():
            return False
        names = {path.name for path in self.path.iterdir() if path.name != ".config.json.aside"}
        return names <= {"checkpoints", LOCK_FILE} and not (
            self.checkpoints.is_dir() and any(self.checkpoints.iterdir())
        )

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """Open an existing run directory.

        Raises:
            RunError: there is no run in it.
        """
        run = cls(path)
        if not (run.path / "config.json").is_file():
            raise RunError(f"{path}: not a run directory (no config.json in it), so there is nothing to go on with")
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
        """Append one line to a stream and flush it to the operating system.

        Raises:
            RunError: the disk is full or refuses.
        """
        line = json.dumps(row, allow_nan=False) + "\n"
        with disk_guard(self._file(stream)), open(self._file(stream), "a", encoding="utf-8") as file:
            file.write(line)

    def rows(self, stream: str) -> Iterator[dict[str, Any]]:
        """The lines of a stream, oldest first; a torn last line (the process was killed) is left out.

        Raises:
            RunError: a line before the last is not JSON; the file and the line are named.
        """
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

    def cut_back(self, step: int, settled: Mapping[str, Mapping[str, Any]]) -> None:
        """Drop what was written after a checkpoint; a resumed run writes it again, byte for byte.

        Of the events those up to its step stay, whenever they were written.

        Args:
            step: of the checkpoint; -1 to begin anew.
            settled: what `settle` said when it was written.

        Raises:
            RunError: the disk is full or refuses; the streams are as they were.
        """
        for stream in STREAMS:
            path = self._file(stream)
            if not path.exists():
                continue
            kept = path.read_bytes()[: settled.get(stream, {}).get("bytes", 0)]
            if stream == "events":
                kept = b"".join(line for line in path.read_bytes().splitlines(keepends=True) if _up_to(line, step))
            replace_bytes(path, kept)
        self._hashed.clear()

    def settle(self) -> dict[str, dict[str, Any]]:
        """Push every stream to the disk; `bytes` and `sha256` of each, for `is_settled`.

        Raises:
            RunError: the disk refuses.
        """
        settled = {}
        for stream in STREAMS:
            path = self._file(stream)
            if path.exists():
                length, digest = self._hashed.get(stream, (0, hashlib.sha256()))
                with disk_guard(path), open(path, "rb") as file:
                    os.fsync(file.fileno())
                    file.seek(length)
                    more = file.read()
                digest.update(more)
                self._hashed[stream] = (length + len(more), digest)
                settled[stream] = {"bytes": length + len(more), "sha256": digest.hexdigest()}
        return settled

    def unsettled(self, settled: Mapping[str, Mapping[str, Any]]) -> str | None:
        """What is missing from the streams since `settle`, as a sentence; None when they begin as they were then."""
        for stream, was in settled.items():
            path = self._file(stream)
            content = path.read_bytes() if path.exists() else b""
            if len(content) < was["bytes"]:
                return f"{path} has {len(content)} bytes and had {was['bytes']} when the checkpoint was written"
            if hashlib.sha256(content[: was["bytes"]]).hexdigest() != was["sha256"]:
                return f"{path} is not what it was when the checkpoint was written"
        return None

    def _file(self, stream: str) -> Path:
        assert stream in STREAMS, stream
        return self.path / f"{stream}.jsonl"


def _up_to(line: bytes, step: int) -> bool:
    """Whether it is a whole line of a step that is kept."""
    try:
        return line.endswith(b"\n") and json.loads(line)["step"] <= step
    except (ValueError, KeyError, TypeError):
        return False
