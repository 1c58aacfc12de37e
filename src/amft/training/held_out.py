"""Scores on problems that are not trained on: validation while a run goes on, test splits before and after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..data.encoding import pixels_of
from ..data.streams import derive_seed
from ..errors import ConfigError
from ..evaluation.answers import answer
from ..evaluation.score import success, summary
from ..experience.sources import HeldOut
from ..types import Sampling
from .foundation import Foundation


@dataclass
class HeldOutScores:
    """Answers of the policy as it is."""

    on: Foundation

    def validate(self, step: int) -> float | None:
        """Success on validation; None where there is no validation set."""
        if self.on.sources.val is None:
            return None
        return success(self._answers(self.on.sources.val, "val", step)).mean

    def rates(self, step: int) -> dict[str, float]:
        """`eval/SPLIT/success` of the policy as it is, of the test splits or else of validation.

        Raises:
            ConfigError: there are neither.
        """
        found = {f"eval/{row['split']}/success": float(row["rate"]) for row in summary(self.test("policy", step))}
        if not found and (score := self.validate(step)) is not None:
            found = {"eval/val/success": score}
        if not found:
            raise ConfigError("evaluate: nothing is held out; give eval_dataset or val_dataset, and a reward")
        return found

    def test(self, model: str, step: int) -> list[dict[str, Any]]:
        """One row per graded answer to every test split.

        Args:
            model: `base` or `policy`.
            step: optimizer steps done.
        """
        rows = []
        for split, held_out in self.on.sources.tests.items():
            # The draws do not depend on the step, so that before and after answer with the same randomness.
            for row in self._answers(held_out, split, 0, self.on.config.eval.test_samples):
                rows.append({"step": step, "model": model, "split": split, **row})
        return rows

    def _answers(self, held_out: HeldOut, name: str, draw: int, samples: int = 1) -> list[dict[str, Any]]:
        on, config = self.on, self.on.config
        assert on.sources.scorer is not None
        temperature = 0.0 if samples == 1 else config.temperature
        limits = {"max_new_tokens": config.max_completion_length, "max_transcript": config.max_transcript_length}
        return answer(
            on.evaluator,
            on.tokenizer,
            on.sources.scorer,
            held_out.rows,
            held_out.ids,
            sampling=Sampling(samples, temperature=temperature, **limits),
            generator=torch.Generator().manual_seed(derive_seed(config.seed, "answers", name, draw)),
            pixels=pixels_of([row["prompt"] for row in held_out.rows], on.pictures),
        )
