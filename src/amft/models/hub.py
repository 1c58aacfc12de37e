"""Where a finished model is pushed: the Hugging Face hub, or a directory that stands in for one. Only on request."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..disk import whole_directory
from ..errors import ModelError


def check_hub(target: str, private: bool | None = None) -> None:
    """Make room for a model before it is trained, so that a wrong name or a missing token is not learned at the end.

    Args:
        target: `owner/name` on the hub (`name` alone: of the user), or a path that begins with `/`, `./`, `../` or `~`.
        private: of a repository that is new; None leaves it to the account's own setting.

    Raises:
        ModelError: it exists already (a directory), or the hub refuses.
    """
    if is_directory_name(target):
        if Path(target).expanduser().exists():
            raise ModelError(f"{target}: exists already; choose another directory")
        return
    _room_for(target, private)


def push_folder(folder: Path, target: str, private: bool | None = None) -> str:
    """Push a model directory, and return where it is now.

    Args:
        folder: what to push.
        target, private: see `check_hub`.

    Raises:
        ModelError: it could not be pushed.
    """
    check_hub(target, private)
    if is_directory_name(target):
        path = Path(target).expanduser()
        with whole_directory(path, ModelError) as made:
            shutil.copytree(folder, made, dirs_exist_ok=True)
        return str(path)
    from huggingface_hub import HfApi

    found = _room_for(target, private)
    try:
        HfApi().upload_folder(repo_id=found[0], folder_path=folder, commit_message="Model trained with amft")
    except Exception as error:
        raise ModelError(_refusal(target, error)) from None
    return found[1]


def is_directory_name(target: str) -> bool:
    """Whether it is a path, not a name on the hub."""
    return target.startswith(("/", "./", "../", "~"))


def _room_for(target: str, private: bool | None) -> tuple[str, str]:
    """Full name and address of a repository, made if it is not there."""
    from huggingface_hub import HfApi

    try:
        made = HfApi().create_repo(target, private=private, exist_ok=True)
    except Exception as error:  # its HTTP client has errors of its own kind where no network is
        raise ModelError(_refusal(target, error)) from None
    return made.repo_id, made.url


def _refusal(target: str, error: Exception) -> str:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    cure = "log in with `hf auth login`, or check the name and the network"
    return f"{target}: cannot be pushed to the hub ({reason}); {cure}"
