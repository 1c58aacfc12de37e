"""Whether a run that is resumed is the run that was begun: the same settings, made of the same things."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..checkpoints.checkpoint_retention import list_checkpoints
from ..errors import CheckpointError, ConfigError
from ..privacy import private
from ..runs import RunDirectory
from ..settings.config import dotted
from .content import PARTS_OF_A_RUN, changed_content

LAYOUT = {"parallel", "replicate", "rollout_gather", "cpu_offload", "gradient_checkpointing", "rank_timeout"}
"""How the work lies on the machine; the numbers stay."""

FREE_TO_CHANGE = LAYOUT | {
    "output_dir",
    "report_to",
    "checkpoint.total_limit",
    "checkpoint.only_model",
    "checkpoint.async_save",
    "checkpoint.steps",
    "sample_steps",
    "push_to_hub",
    "hub_model_id",
    "hub_private_repo",
    "threads",
    "max_seconds",
    "max_steps",
    "reward_timeout",
    "rewards.isolate",
}
"""Settings that may differ on resume, `max_steps` to make the run longer; another difference would make another run."""


def changed_settings(saved: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """What makes another run of it: `eval.steps was 25, is 5`, one text a key.

    Args:
        saved: the config.json of the run.
        ours: the recipe it shall go on with.
    """
    before, now = dotted(saved), dotted(ours)
    names = sorted((before.keys() | now.keys()) - FREE_TO_CHANGE)
    return [
        f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in names if before.get(name) != now.get(name)
    ]


def check_accepted(accept: Collection[str], resume: bool) -> None:
    """Refuse a word that names nothing, or that says nothing because a run begins.

    Raises:
        ConfigError: says what there is.
    """
    if accept and not resume:
        raise ConfigError("accept_changes: it is for a run that is resumed; a new one begins with what there is")
    for group in accept:
        if group not in PARTS_OF_A_RUN:
            raise ConfigError(f"accept_changes: there is no {group!r}; choose from {', '.join(PARTS_OF_A_RUN)}")


def same_run(run: RunDirectory, described: Mapping[str, Any], accept: Collection[str] = ()) -> list[str]:
    """Compare a run with what it shall go on with; what is accepted becomes part of its config.json.

    Args:
        run: as it was begun.
        described: the recipe, and under `content` what it is made of now.
        accept: groups of `content` that may differ.

    Returns:
        What has changed and was accepted, a longer run included.

    Raises:
        CheckpointError: something else has changed, or the run is past its new end; names all of it.
    """
    saved, ours = run.read("config"), private(described)
    before, now = saved.pop("content", {}), ours.pop("content")
    changed = {group: f"{group} ({', '.join(parts)})" for group, parts in changed_content(before, now).items()}
    told = changed_settings(saved, ours)
    if told:
        raise CheckpointError(f"{run.path}: the recipe has changed since the run began: {'; '.join(told)}")
    if refused := [group for group in changed if group not in accept]:
        raise CheckpointError(
            f"{run.path}: not what the run began with: {'; '.join(changed[group] for group in refused)}; bring it "
            f"back, or resume with --accept-changes {' --accept-changes '.join(refused)}"
        )
    longer = _longer(run, saved, ours)
    if changed or longer:
        run.write("config", saved | longer | {"content": now})
    return [*changed.values(), *(f"{name} ({saved.get(name)} before, {new} now)" for name, new in longer.items())]


def _longer(run: RunDirectory, saved: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """`max_steps`, where it has changed."""
    new, done = ours.get("max_steps"), list_checkpoints(run.checkpoints)
    last = int(done[-1].name.removeprefix("step-")) if done else 0
    if new is None or new == saved.get("max_steps"):
        return {}
    if new < last:
        raise CheckpointError(f"max_steps: {run.path} has done {last} steps already; give at least {last}, not {new}")
    return {"max_steps": new}
