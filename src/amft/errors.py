"""The errors a user can meet. One root; each also inherits the stdlib error it replaces.

The command line prints the message of an `AMFTError` on one line and exits with code 2; every other
exception is a defect of ours and keeps its traceback. Messages name the field or file and the fix.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class AMFTError(Exception):
    """Root of every error that a user's input can cause."""


class ConfigError(AMFTError, ValueError):
    """A recipe, a flag or a config field is unknown, of the wrong type, or out of range."""


class DataError(AMFTError, ValueError):
    """A dataset row or file is missing, empty or malformed."""


class RewardError(AMFTError, ValueError):
    """A reward function raised, or returned something that is not one number (or None) per completion."""


class TaskError(AMFTError, ValueError):
    """A task, split or task option does not exist."""


class ModelError(AMFTError, ValueError):
    """A model directory cannot be loaded or does not fit the request."""


class CheckpointError(AMFTError, OSError):
    """A checkpoint is missing, incomplete, damaged, or of another run."""


class OptimizerError(AMFTError, TypeError):
    """The optimizer has no registered Jacobian, or uses an option whose Jacobian is not known."""


class NonFiniteError(AMFTError, ArithmeticError):
    """Too many steps in a row were not finite (the run stopped with a bundle on disk), or a policy's logits are not."""


class RewardNotFiniteError(RewardError):
    """A reward is NaN, infinite or too large to compute with; a run skips the step and keeps what was rewarded.

    Args:
        message: one line.
        bundle: JSON values that let a person see what was rewarded.
    """

    def __init__(self, message: str, bundle: Mapping[str, Any]):
        super().__init__(message)
        self.bundle = bundle


class CutShortError(AMFTError, RuntimeError):
    """The run had to stop in the middle of a step, because a user's code did not return.

    Args:
        message: one line.
        signal: name of the signal that asked for the stop; None: the run's own time was over.
    """

    def __init__(self, message: str, signal: str | None):
        super().__init__(message)
        self.signal = signal


class DeviceMemoryError(AMFTError, MemoryError):
    """Memory is not enough for a model or a step; the message names the setting to change."""


class RankError(AMFTError, RuntimeError):
    """Another process of a run on several ranks died, left or stopped answering.

    Args:
        message: one line.
        told: rank 0 tells the user; this rank need not repeat it.
    """

    def __init__(self, message: str, told: bool = False):
        super().__init__(message)
        self.told = told


class EngineError(AMFTError, RuntimeError):
    """A rollout engine in another process died or stopped answering, and starting it again did not help."""


class RunError(AMFTError, OSError):
    """A run directory is missing, occupied, or does not hold what was asked of it."""


class IntegrationError(AMFTError, ImportError):
    """Another library is missing, of an untested version, or used in a way the adapter does not support."""
