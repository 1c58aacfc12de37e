"""What a run came to, as Python and a notebook show it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ..checkpoints.checkpoint_retention import final_checkpoint
from ..errors import RunError
from ..experience.sources import Sources
from ..report.text_table import percent, table
from ..runs import RunDirectory
from ..settings.config import AMFTConfig

COLUMNS = ("split", "before", "after", "answers", "clusters")


@dataclass(frozen=True, repr=False)
class TrainResult:
    """What a run came to. `print` shows success before and after."""

    run: Path
    table: list[dict[str, Any]]
    """Test splits before and after; see `evaluation.score.before_after_rows`."""
    interrupted: str | None = None
    """Name of the signal that stopped the run, or None."""
    model: Path | None = None
    """The directory of the final model; None after an interruption."""
    pushed: str | None = None
    """Where the model was pushed to, or why it was not; None: nobody asked."""

    @property
    def model_path(self) -> Path:
        """Directory of the trained model and its tokenizer, as `from_pretrained` reads them; of the newest checkpoint
        where the run is not over.

        Raises:
            CheckpointError: no checkpoint is complete.
        """
        return self.model or final_checkpoint(RunDirectory.open(self.run)) / "model"

    def report(self) -> Path:
        """Write the run's page, `report.html`, and return its path."""
        from ..report.page import write_report  # draws with matplotlib

        return write_report(self.run)

    def __str__(self) -> str:
        if self.interrupted:
            return f"{self.run}: stopped by {self.interrupted}; train(resume=True) goes on"
        return outcome_table(self.table) if self.table else f"{self.run}: done; no test split was scored"

    def __repr__(self) -> str:
        moved = ", ".join(f"{row['split']} {row['before']:.1%} to {row['after']:.1%}" for row in self.table)
        state = f"stopped by {self.interrupted}" if self.interrupted else moved or "no test split"
        return f"TrainResult({self.run}: {state})"

    def _repr_html_(self) -> str:
        """For notebooks."""
        rows = [[line[column] for column in COLUMNS] for line in outcome_lines(self.table)]
        body = html_table(COLUMNS, rows) if rows else f"<p>{escape(str(self))}</p>"
        return f"{body}{self._picture()}<p>run <code>{escape(str(self.run))}</code></p>"

    def _picture(self) -> str:
        """Mu and success over the steps as an image; nothing where neither was measured."""
        from ..report.picture import opaque, run_picture  # draws with matplotlib

        try:
            data = base64.b64encode(opaque(run_picture(self.run)).encode()).decode()
        except RunError:
            return ""
        return f'<img alt="Balance and success" width="640" src="data:image/svg+xml;base64,{data}">'


def outcome_lines(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """`before_after_rows` as text: one line a split, with 95 % intervals."""
    return [
        {
            "split": row["split"],
            "before": percent(row["before"], row["before_low"], row["before_high"]),
            "after": percent(row["after"], row["after_low"], row["after_high"]),
            "answers": row["n"],
            "clusters": row["clusters"],
        }
        for row in rows
    ]


def outcome_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Held-out success before and after, for a terminal."""
    return f"held-out success [95 % interval]\n{table(outcome_lines(rows), COLUMNS)}"


def html_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows under a header, everything escaped."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def facts_of(config: AMFTConfig, model: PreTrainedModel, sources: Sources) -> dict[str, Any]:
    """What a trainer trains, and where to."""
    prompts, demos = sources.prompts, sources.demonstrations
    return {
        "model": Path(model.config._name_or_path or "your own").name,
        "prompts": 0 if prompts is None else len(prompts.rows),
        "demonstrations": 0 if demos is None else len(demos.encoded.rows),
        "rule": config.balance.get("rule"),
        "run": config.output_dir,
    }
