"""Whether the data was used as it was given."""

from __future__ import annotations

from .finding import Remark
from .load import Run


def rows_not_used(run: Run) -> Remark | None:
    """Rows that were left out for another reason than that they are held out."""
    said = [str(event["message"]) for event in run.events if event["kind"] == "data"]
    if not said:
        return None
    return Remark(
        "warn",
        "Rows of the data are not used",
        f"{'; '.join(said)}.",
        hint="Shorten these rows or raise the limit that is named; take prompts out of one of two sources.",
    )
