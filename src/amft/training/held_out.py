"""Scores on problems that are not trained on: validation while a run goes on, test splits before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..batch import Batch, pad_batch
from ..data.encoding import pixels_of
from ..data.streams import derive_seed
from ..errors import ConfigError
from ..evaluation.answers import answer
from ..evaluation.score import mean_scores, success, summary
from ..experience.sources import HeldOut
from ..tensors import masked
from ..types import Sampling
from .foundation import Foundation

ANSWER_PROBABILITY = "answer_probability"
"""Measure of a score row: the probability of the right answer and of nothing else, its end included."""


@dataclass
class HeldOutScores:
    """Answers of the policy as it is."""

    on: Foundation
    logps: Callable[[Batch], Tensor]
    """[B, C] log-probabilities of a batch under the policy at temperature 1."""

    def validate(self, step: int) -> dict[str, float]:
        """`eval/val/success`, and `eval/val/answer_probability` if asked for; nothing without a validation set."""
        if self.on.sources.val is None:
            return {}
        rows = self._answers(self.on.sources.val, "val", step)
        probability = mean_scores(rows).get(ANSWER_PROBABILITY)
        measured = {} if probability is None else {f"eval/val/{ANSWER_PROBABILITY}": probability}
        return {"eval/val/success": success(rows).mean, **measured}

    def rates(self, step: int) -> dict[str, float]:
        """`eval/SPLIT/success` of the policy as it is, of the test splits or else of validation.

        Raises:
            ConfigError: there are neither.
        """
        found = {f"eval/{row['split']}/success": float(row["rate"]) for row in summary(self.test("policy", step))}
        found = found or self.validate(step)
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
        rows = answer(
            on.evaluator,
            on.tokenizer,
            on.sources.scorer,
            held_out.rows,
            held_out.ids,
            sampling=Sampling(samples, temperature=temperature, **limits),
            generator=torch.Generator().manual_seed(derive_seed(config.seed, "answers", name, draw)),
            pixels=pixels_of([row["prompt"] for row in held_out.rows], on.pictures),
        )
        likely = self._answer_probability(held_out)
        return [_measured(row, likely) for row in rows] if likely else rows

    def _answer_probability(self, held_out: HeldOut) -> dict[int, float]:
        """Place of a row -> probability of its right answer: `exp sum_t log pi(y_t)`, teacher-forced."""
        if not held_out.right:
            return {}
        right = held_out.right
        batch = pad_batch(
            [one.prompt_ids for one in right], [one.completion_ids for one in right], self.on.tokenizer.pad_token_id
        )
        prompts = [held_out.rows[one.row]["prompt"] for one in right]
        batch = replace(batch, pixel_values=pixels_of(prompts, self.on.pictures))
        whole = (masked(self.logps(batch), batch.completion_mask).double()).sum(-1).exp()
        return dict(zip([one.row for one in right], whole.tolist(), strict=True))


def _measured(row: dict[str, Any], likely: dict[int, float]) -> dict[str, Any]:
    if row["problem"] not in likely:
        return row
    return {**row, "metrics": {**row.get("metrics", {}), ANSWER_PROBABILITY: likely[row["problem"]]}}
