"""Libraries that only some runs need: one that is missing is one line that names the extra to install."""

from __future__ import annotations

import importlib.util

from .errors import IntegrationError


def require_extra(user: str, extra: str, *libraries: str) -> None:
    """Check that the libraries of an extra can be imported, without importing them.

    Args:
        user: what needs them, as the message begins.
        extra: name in `[project.optional-dependencies]`.
        libraries: names as they are imported.

    Raises:
        IntegrationError: one of them is not installed.
    """
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            raise IntegrationError(f"{user} needs {library}, which is not installed: pip install 'amft[{extra}]'")
