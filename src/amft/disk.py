"""What a disk says when it refuses, as one line; files that are replaced whole or not at all. No torch."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import AMFTError, RunError

CURE = "the last checkpoint is as it was: free some space, or make the directory writable, and resume"


OTHER_PLACE = "free some space, or choose another place"


def said_by_the_disk(error: BaseException) -> bool:
    """Whether it is a refused write: Python's own, that of safetensors, or the bare `Exception` of tokenizers."""
    return isinstance(error, OSError) or type(error).__name__ == "SafetensorError" or type(error) is Exception


def reason(error: BaseException) -> str:
    """Its words, on one line; of many files that could not be copied the first."""
    if isinstance(error, shutil.Error):
        return str(error.args[0][0][2])
    return getattr(error, "strerror", None) or " ".join(str(error).split())


@contextmanager
def disk_guard(path: Path, error: type[AMFTError] = RunError, cure: str = CURE) -> Iterator[None]:
    """Turn a refused write into one line.

    Args:
        path: what is written.
        error: raised in its place.
        cure: what the user can do.

    Raises:
        AMFTError: of the kind `error`; one that is raised inside passes as it is.
    """
    try:
        yield
    except Exception as refused:
        if isinstance(refused, AMFTError) or not said_by_the_disk(refused):
            raise
        raise error(f"{path}: cannot be written ({reason(refused)}); {cure}") from refused


@contextmanager
def whole_directory(target: Path, error: type[AMFTError] = RunError, cure: str = OTHER_PLACE) -> Iterator[Path]:
    """A directory beside `target` to write into, which takes its name at the end, or goes; for the rest a `disk_guard`.

    Args:
        target: must not be there yet.
        error, cure: as in `disk_guard`.
    """
    with disk_guard(target, error, cure):
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            yield made
            made.chmod(0o755)
            made.rename(target)
        finally:
            shutil.rmtree(made, ignore_errors=True)


def replace_text(path: Path, text: str, cure: str = CURE) -> None:
    """Write beside `path`, push it to the disk, rename it into place: a reader never sees half a file.

    Raises:
        RunError: the disk is full or refuses; what was there is as it was.
    """
    replace_bytes(path, text.encode("utf-8"), cure)


def replace_bytes(path: Path, content: bytes, cure: str = CURE) -> None:
    """As `replace_text`."""
    aside = path.parent / f".{path.name}.aside"
    with disk_guard(path, cure=cure):
        try:
            with open(aside, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


def is_regular(path: Path, most: int | None = None) -> bool:
    """Whether it is a plain file, no link or pipe, of at most so many bytes; reading anything else may never end."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and (most is None or found.st_size <= most)
