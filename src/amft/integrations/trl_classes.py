"""Demonstrations in classes inside TRL: graded by its reward functions, shared out over its processes."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..balance.requirements import Requirements
from ..data.reward_columns import require_function, required_columns
from ..data.rewards import FunctionReward
from ..errors import ConfigError
from ..experience.sources import VERDICT
from ..experience.verdicts import Graded, grade
from ..guests import call_guest
from ..settings.groups import DemonstrationSettings
from ..types import SFT, Row
from .imitation import Imitation


def sort_into_classes(trainer: Any, imitation: Imitation, asked: Requirements) -> dict[str, int]:
    """Give every demonstration its branch and, where the rule asks for it, its verdict first.

    Args:
        trainer: a built `GRPOTrainer`, whose reward functions grade.
        imitation: of this process; the same rows on all.
        asked: what the rule requires.

    Returns:
        Verdict -> demonstrations; empty where they are not graded.

    Raises:
        ConfigError: a reward is a model, so it cannot grade; or a class is no word.
    """
    graded = _graded(trainer, imitation) if asked.graded else Graded(imitation.source, {})
    imitation.ageing = asked.ageing
    if asked.split is not None:
        numbers, rows = imitation.source.numbers, imitation.source.rows
        imitation.branch_of = [
            _branch(asked, rows[demo.row], graded.verdict_of.get(numbers[demo.row])) for demo in imitation.rows
        ]
    return dict(Counter(graded.verdict_of.values()))


def _graded(trainer: Any, imitation: Imitation) -> Graded:
    functions = list(trainer.reward_funcs)
    for function in functions:
        require_function(function)
    scorer = FunctionReward(functions, trainer.reward_weights.tolist())
    mine = imitation.rows[imitation.rank :: imitation.world]
    columns = None if trainer.train_dataset is None else set(trainer.train_dataset.column_names)
    needed = required_columns(functions)
    found = grade(imitation.source, mine, scorer, DemonstrationSettings(), columns, needed)
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
