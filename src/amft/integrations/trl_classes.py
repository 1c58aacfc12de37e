"""Demonstrations in classes inside TRL: graded by its reward functions, shared out over its processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ..balance.requirements import Requirements
from ..data.reward_columns import require_function, required_columns
from ..data.rewards import FunctionReward
from ..errors import ConfigError
from ..experience.demo_order import order_of
from ..experience.sources import VERDICT
from ..experience.verdicts import Graded, grade
from ..guests import call_guest
from ..settings.groups import DemonstrationSettings
from ..types import SFT, Row
from .imitation import Imitation


def read_settings(given: Mapping[str, Any]) -> DemonstrationSettings:
    """The settings of the group `demonstrations`.

    Raises:
        ConfigError: a name or a value is not among them.
    """
    try:
        return DemonstrationSettings(**given)
    except ConfigError as error:
        raise ConfigError(f"demonstration_settings.{error}") from None


def sort_into_classes(
    trainer: Any, imitation: Imitation, asked: Requirements, settings: DemonstrationSettings
) -> dict[str, int]:
    """Give every demonstration its branch, and its verdict first where the rule or the settings ask for it.

    Args:
        trainer: a built `GRPOTrainer`, whose reward functions grade.
        imitation: of this process; the same rows on all.
        asked: what the rule requires.
        settings: what verdicts are used for, whatever the rule.

    Returns:
        Verdict -> demonstrations; empty where they are not graded.

    Raises:
        ConfigError: a reward is a model, so it cannot grade; or a class is no word; or the filter keeps
            none.
    """
    graded = Graded(imitation.source, {})
    if asked.graded or settings.grades:
        graded = _filtered(imitation, _graded(trainer, imitation, settings), settings)
    imitation.ageing = asked.ageing
    numbers, rows = imitation.source.numbers, imitation.source.rows
    if settings.weighs:
        imitation.weights = [settings.weight(graded.verdict_of[numbers[demo.row]]) for demo in imitation.rows]
    if asked.split is not None:
        branch_of = [
            _branch(asked, rows[demo.row], graded.verdict_of.get(numbers[demo.row])) for demo in imitation.rows
        ]
        imitation.sort(branch_of, order_of(asked))
    return dict(Counter(graded.verdict_of.values()))


def _filtered(imitation: Imitation, graded: Graded, settings: DemonstrationSettings) -> Graded:
    kept, left_out = graded.kept(settings.filter)
    if not kept.verdict_of:
        raise ConfigError(
            f"demonstration_settings.filter: {settings.filter} keeps none; choose another filter, or use TRL's "
            "GRPOTrainer for RL alone"
        )
    imitation.keep(kept.verdict_of.keys())
    imitation.not_used += left_out
    return kept


def _graded(trainer: Any, imitation: Imitation, settings: DemonstrationSettings) -> Graded:
    functions = list(trainer.reward_funcs)
    try:
        for function in functions:
            require_function(function)
    except ConfigError as error:
        raise ConfigError(
            f"{error}. Verdicts on demonstrations need that; balance='amft-scalar', one weight for all, does not"
        ) from None
    scorer = FunctionReward(functions, trainer.reward_weights.tolist())
    mine = imitation.rows[imitation.rank :: imitation.world]
    columns = None if trainer.train_dataset is None else set(trainer.train_dataset.column_names)
    needed = required_columns(functions)
    found = grade(imitation.source, mine, scorer, settings, columns, needed)
    if imitation.world > 1:
        from accelerate.utils import gather_object

        parts = gather_object([dict(found.verdict_of)])
        found = Graded(imitation.source, {number: said for part in parts for number, said in part.items()})
    trainer.accelerator.print(f"amft: {found}")
    return found


def _branch(asked: Requirements, row: Row, verdict: str | None) -> str:
    split = asked.split
    assert split is not None
    seen = row if verdict is None else {**row, VERDICT: verdict}
    found = call_guest(split, "balance: split", ConfigError, lambda: split(seen))
    if not isinstance(found, str) or not found:
        raise ConfigError(f"balance: the class of a demonstration must be a word, got {found!r}")
    return f"{SFT}/{found}"
