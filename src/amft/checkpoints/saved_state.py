"""The part of a run's checkpoint that is JSON, its types checked before anything is made of them. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..disk import is_regular
from ..errors import CheckpointError

STATE = "state.json"
STATE_BYTES = 2**28

Count = Annotated[int, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class SavedBest(_Strict):
    """The best validation so far."""

    step: Annotated[int, Field(ge=1)]
    score: float


class SavedStream(_Strict):
    """A place in the order of a source's rows."""

    name: str
    seed: Count
    n_rows: Annotated[int, Field(ge=1)]
    epoch: Count
    cursor: Count


class SavedFile(_Strict):
    """A file that the run had written."""

    bytes: Count
    sha256: str


class SavedWindow(_Strict):
    """Rollouts that are still used."""

    model_config = ConfigDict(allow_inf_nan=True)

    fresh: bool
    sums: dict[str, tuple[float, float]]
    success: list[float]
    paid: dict[str, tuple[float, float]]


class SavedFlight(_Strict):
    """Completions that were drawn ahead."""

    step: Count
    chosen: list[Count]
    prompts: list[list[Count]]
    found: list[tuple[list[Count], bool, list[float]]]


class SavedState(_Strict):
    """What every run saves; what belongs to a rule or a schedule is checked by them."""

    model_config = ConfigDict(extra="allow")

    step: Annotated[int, Field(ge=1)]
    best: SavedBest | None
    guard: dict[str, Count]
    lr_schedule: dict[str, Any]
    streams: dict[str, SavedStream]
    written: dict[str, SavedFile]
    buffer: list[Count]
    window: list[SavedWindow]
    flight: SavedFlight | None = None


def saved_state_of(checkpoint: Path) -> SavedState:
    """The state of `step-N`.

    Raises:
        CheckpointError: it cannot be read, a value is of another type, or it is of another step.
    """
    path = checkpoint / STATE
    if not is_regular(path, STATE_BYTES):
        raise CheckpointError(f"{path}: missing, a link, or far too large; use an older checkpoint")
    try:
        state = SavedState.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CheckpointError(f"{path}: not the state of a run ({where}: {first['msg']}); use an older one") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); use an older checkpoint") from None
    if f"step-{state.step}" != checkpoint.name:
        raise CheckpointError(f"{path}: of step {state.step}, but it stands in {checkpoint.name}; use an older one")
    return state
