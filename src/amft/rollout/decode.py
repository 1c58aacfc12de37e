"""Our own decoding loop for small models: the ordinary `transformers` forward without the weight of `generate`.

What it saves: each prompt is prefilled once, with its picture, and shared by its n completions; keys and values are
written in place; rows that are finished leave the batch; one mask and one draw per step.

Guarantee: the uniform number of (row, step) is fixed before the first forward, so the samples depend neither on
`max_batch`, nor on when other rows finish, nor on prompts of other rows, up to the rounding of the logits (a matrix
product over another number of rows may round differently). `HFSampler` does not have this property.

Notation: R rows of one internal batch, D distinct prompts among them, P prompt tokens, C = max_new_tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, LlavaConfig, PreTrainedModel

from ..errors import ModelError
from ..models.attention import attention, not_plain
from ..models.half_copy import HalfCopy
from ..models.modes import evaluating
from ..models.picture_inputs import picture_inputs
from ..models.pictures import image_token
from ..types import Sample, Sampling
from .cache import CACHE_ARGUMENT, RowCache
from .token_sampling import check_request, next_tokens, not_numbers, says_logps

SLACK = 16
"""Finished rows stay in the batch until they are one in SLACK of it: smaller batches are new shapes for the kernels."""


def undecodable(model: PreTrainedModel) -> str | None:
    """Why `DecodeSampler` cannot run this model; None when it can.

    It can when every layer keeps plain keys and values (no sliding window, no recurrent state, no encoder) and the
    fused attention kernel can be switched on. Of models that read pictures it runs LLaVA, whose decoder sees a picture
    as so many tokens more: others have positions or masks of their own for them.
    """
    config = model.config
    reason = not_plain(config.text_config if isinstance(config, LlavaConfig) else config)
    if reason:
        return reason
    try:
        with attention(model, "sdpa"):
            return None
    except ModelError as error:
        return str(error)


class DecodeSampler:
    """Batched decoding with a key-value cache; the weights are read at every call, so training needs no push."""

    def __init__(
        self,
        model: PreTrainedModel,
        pad_id: int,
        eos_ids: Sequence[int],
        max_batch: int = 256,
        half: HalfCopy | None = None,
    ):
        """Args: as for `build_sampler`; pad_id is never seen by the model.

        Raises:
            ModelError: see `undecodable`.
        """
        reason = undecodable(model)
        if reason:
            raise ModelError(f"engine decode: {type(model).__name__} does not fit: {reason}; use engine hf")
        self.model, self.pad_id, self.max_batch = model if half is None else half.model, pad_id, max_batch
        self.half = half
        self.eos_ids = torch.tensor(sorted(eos_ids), dtype=torch.long)
        self.never = image_token(model.config)

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        generator: torch.Generator,
        pixels: Tensor | None = None,
    ) -> list[Sample]:
        """See `rollout.base.Sampler.generate`; greedy decoding draws nothing from `generator`."""
        check_request(prompts, sampling)
        if self.half is not None:
            self.half.refresh()
        # Similar lengths share a batch, so that little of it is padding.
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        rows = [i * sampling.n + j for i in order for j in range(sampling.n)]
        uniforms = _uniforms(len(rows), sampling, generator)
        found: dict[int, Sample] = {}
        with attention(self.model, "sdpa"), evaluating(self.model):
            for start in range(0, len(rows), self.max_batch):
                part = rows[start : start + self.max_batch]
                owners = [row // sampling.n for row in part]
                noise = None if uniforms is None else uniforms[part].to(self.model.device)
                begun = self._prefill(prompts, owners, pixels, sampling.max_new_tokens)
                decoded = self._decode(*begun, noise, sampling)
                for row, i, ids, length, done, logps in zip(part, owners, *decoded, strict=True):
                    said = tuple(logps[:length]) if self.half is not None and says_logps(sampling) else ()
                    found[row] = Sample(tuple(prompts[i]), tuple(ids[:length]), done, logps=said)
        return [found[row] for row in range(len(rows))]

    def skip(self, rows: int, sampling: Sampling, generator: torch.Generator) -> None:
        """Move the generator as `generate` does for that many completions, without making them."""
        _uniforms(rows, sampling, generator)

    def _decode(
        self, logits: Tensor, batch: _Batch, uniforms: Tensor | None, sampling: Sampling
    ) -> tuple[list[list[int]], list[int], list[bool], list[list[float]]]:
        """Tokens [R, C], lengths [R], whether an end token was drawn [R] and log-probabilities [R, C], 0 where nothing
        says them, from the first logits [R, V] on."""
        steps, device, total = sampling.max_new_tokens, logits.device, len(logits)
        eos = self.eos_ids.to(device)
        tokens = torch.full((total, steps), self.pad_id, device=device)
        said = torch.zeros(total, steps, device=device)
        lengths = torch.full((total,), steps, device=device)
        finished = torch.zeros(total, dtype=torch.bool, device=device)
        nowhere = torch.zeros((), dtype=torch.bool, device=device)
        # The batch shrinks while it decodes: `rows` are the numbers of its live rows in `tokens`. Rows that have ended
        # leave the cache only once enough of them have gathered, since each shrinking copies the cache.
        for step in range(steps):
            rows = batch.rows
            if self.never is not None:
                logits[:, self.never] = -torch.inf
            drawn, logps = next_tokens(logits, None if uniforms is None else uniforms[rows, step], sampling)
            nowhere |= (drawn == logits.shape[-1]).any()
            drawn = drawn.clamp(max=logits.shape[-1] - 1)
            tokens[rows, step] = drawn
            if logps is not None:
                said[rows, step] = logps
            ended = torch.isin(drawn, eos) & ~finished[rows]
            lengths[rows[ended]] = step + 1
            finished[rows[ended]] = True
            done = finished[rows]
            gone = int(done.sum())
            if gone == len(rows) or step == steps - 1:
                break
            if gone * SLACK >= len(rows):
                drawn = batch.drop(done, drawn)
            logits = batch.forward(self.model, drawn)
        if nowhere:  # looked at once: a look at every step would wait for the device
            raise not_numbers()
        return tokens.tolist(), lengths.tolist(), finished.tolist(), said.tolist()

    def _prefill(
        self, prompts: Sequence[Sequence[int]], owners: Sequence[int], pixels: Tensor | None, steps: int
    ) -> tuple[Tensor, _Batch]:
        """First logits [R, V] and the decoding state of rows that go on from `prompts[owners[r]]`, each run once."""
        distinct = list(dict.fromkeys(owners))
        places = {i: place for place, i in enumerate(distinct)}
        width = max(len(prompts[i]) for i in distinct)
        ids = torch.tensor([[self.pad_id] * (width - len(prompts[i])) + list(prompts[i]) for i in distinct])
        mask = torch.tensor([[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in distinct])
        owner = torch.tensor([places[i] for i in owners])
        ids, mask, owner = (x.to(self.model.device) for x in (ids, mask, owner))
        cache = DynamicCache(config=self.model.config)
        out = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
            **{CACHE_ARGUMENT: cache},
            **picture_inputs(self.model, None if pixels is None else pixels[distinct], ids),
        )
        return out.logits[owner, -1], _Batch(cache, owner, mask, width + steps)


class _Batch:
    """The rows still decoding: their cache, mask, positions and original row numbers."""

    def __init__(self, prefilled: DynamicCache, owner: Tensor, mask: Tensor, capacity: int):
        self.cache = RowCache(prefilled, owner, capacity)
        self.rows = torch.arange(len(owner), device=owner.device)
        self.positions = mask.sum(1)[owner, None]
        dtype = self.cache.layers[0].dtype
        # Additive and ready for every layer; without an explicit mask transformers asks torch for grouped-query
        # attention, which is several times slower on a CPU in bfloat16.
        self.mask = torch.zeros(len(owner), 1, 1, capacity, dtype=dtype, device=owner.device)
        self.mask[:, 0, 0, : mask.shape[1]].masked_fill_(mask[owner] == 0, -torch.inf)

    def forward(self, model: PreTrainedModel, tokens: Tensor) -> Tensor:
        """Append one token per row, [R]; logits of the next, [R, V]."""
        out = model(
            input_ids=tokens[:, None],
            attention_mask=self.mask[..., : self.cache.get_seq_length() + 1],
            position_ids=self.positions,
            use_cache=True,
            logits_to_keep=1,
            **{CACHE_ARGUMENT: self.cache},
        )
        self.positions = self.positions + 1
        return out.logits[:, -1]

    def drop(self, done: Tensor, tokens: Tensor) -> Tensor:
        """Remove the rows marked in `done` [R]: the last rows take their places. Returns `tokens` in the new order."""
        kept = int((~done).sum())
        holes = done[:kept].nonzero().squeeze(1)
        movers = kept + (~done[kept:]).nonzero().squeeze(1)
        self.cache.remove(holes, movers, kept)

        def compact(values: Tensor) -> Tensor:
            values[holes] = values[movers]
            return values[:kept]

        self.rows, self.positions, self.mask = compact(self.rows), compact(self.positions), compact(self.mask)
        return compact(tokens)


def _uniforms(rows: int, sampling: Sampling, generator: torch.Generator) -> Tensor | None:
    """[rows, C] float64 on the generator's device; None when greedy."""
    if sampling.temperature == 0:
        return None
    shape = (rows, sampling.max_new_tokens)
    return torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
