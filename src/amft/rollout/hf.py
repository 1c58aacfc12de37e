"""The plain, dependable engine: `transformers` `generate`, for every causal language model it supports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel, StoppingCriteria

from ..models.half_copy import HalfCopy
from ..models.modes import evaluating
from ..models.picture_inputs import picture_inputs
from ..models.pictures import image_token
from ..types import Sample, Sampling
from .token_sampling import check_request, not_numbers, says_logps


class HFSampler:
    """Sampling with `model.generate`; the weights are read at every call, so training needs no push."""

    def __init__(
        self,
        model: PreTrainedModel,
        pad_id: int,
        eos_ids: Sequence[int],
        max_batch: int = 256,
        half: HalfCopy | None = None,
    ):
        """Args: as for `build_sampler`; pad_id is never attended."""
        self.model, self.pad_id, self.max_batch = model if half is None else half.model, pad_id, max_batch
        self.half = half
        self.eos_ids = frozenset(eos_ids)

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        generator: torch.Generator,
        pixels: Tensor | None = None,
    ) -> list[Sample]:
        """See `rollout.base.Sampler.generate`. One seed is drawn from `generator` per call.

        The samples depend on `max_batch` and on which prompts come together (one stream of random numbers).
        """
        check_request(prompts, sampling)
        if self.half is not None:
            self.half.refresh()
        owners = [i for i in range(len(prompts)) for _ in range(sampling.n)]
        seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
        config = self._config(sampling)
        found: list[Sample] = []
        with evaluating(self.model), _no_defaults(self.model), torch.random.fork_rng():
            torch.manual_seed(seed)
            for start in range(0, len(owners), self.max_batch):
                part = owners[start : start + self.max_batch]
                watch = _Watch(sampling.temperature) if self.half is not None and says_logps(sampling) else None
                seen = None if pixels is None else pixels[part]
                drawn = self._generate([prompts[i] for i in part], config, seen, watch)
                said = [()] * len(part) if watch is None else torch.stack(watch.logps, 1).tolist()
                found += [
                    self._trajectory(prompts[i], ids, logps)
                    for i, ids, logps in zip(part, drawn.tolist(), said, strict=True)
                ]
        return found

    def _config(self, sampling: Sampling) -> GenerationConfig:
        drawn = sampling.temperature > 0
        warpers = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
        image = image_token(self.model.config)
        return GenerationConfig(
            suppress_tokens=None if image is None else [image],
            max_new_tokens=sampling.max_new_tokens,
            do_sample=drawn,
            pad_token_id=self.pad_id,
            eos_token_id=sorted(self.eos_ids) or None,
            **(warpers if drawn else {}),
        )

    def _generate(
        self,
        prompts: Sequence[Sequence[int]],
        config: GenerationConfig,
        pixels: Tensor | None,
        watch: _Watch | None,
    ) -> Tensor:
        """New tokens, [R, at most C], padded after the end token."""
        width = max(map(len, prompts))
        ids = torch.tensor([[self.pad_id] * (width - len(p)) + list(p) for p in prompts])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        device = self.model.device
        try:
            out = self.model.generate(
                ids.to(device),
                attention_mask=mask.to(device),
                generation_config=config,
                synced_gpus=False,  # several ranks decode apart, as many batches as each has
                **picture_inputs(self.model, pixels, ids.to(device)),
                **({} if watch is None else watch.hooks),
            )
        except RuntimeError as error:
            if "probability tensor" not in str(error):
                raise
            raise not_numbers() from error
        return out[:, width:]

    def _trajectory(self, prompt: Sequence[int], ids: list[int], logps: Sequence[float]) -> Sample:
        end = next((i for i, token in enumerate(ids) if token in self.eos_ids), None)
        kept = slice(None if end is None else end + 1)
        return Sample(tuple(prompt), tuple(ids[kept]), end is not None, logps=tuple(logps[kept]))


class _Watch:
    """Log-probabilities of the tokens that `generate` draws: it sees the logits before each draw, the tokens after."""

    def __init__(self, temperature: float):
        self.temperature = temperature
        self.logits = torch.empty(0)
        self.logps: list[Tensor] = []
        """[R] of each step."""

    @property
    def hooks(self) -> dict[str, Any]:
        """Arguments of `generate`."""
        return {"logits_processor": LogitsProcessorList([_Before(self)]), "stopping_criteria": [_After(self)]}


class _Before(LogitsProcessor):
    def __init__(self, watch: _Watch):
        self.watch = watch

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        self.watch.logits = scores
        return scores


class _After(StoppingCriteria):
    def __init__(self, watch: _Watch):
        self.watch = watch

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # noqa: ARG002
        logps = (self.watch.logits.float() / self.watch.temperature).log_softmax(-1)
        self.watch.logps.append(logps.gather(1, input_ids[:, -1:])[:, 0])
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@contextmanager
def _no_defaults(model: PreTrainedModel) -> Iterator[None]:
    """Hide the checkpoint's generation defaults (a repetition penalty, say), which `generate` would mix in silently."""
    hidden = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = hidden
