"""What turns the pictures of prompts into what a vision-language model reads: place-holder tokens and pixel values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from ..errors import DataError, ModelError

READ = frozenset({"input_ids", "attention_mask", "pixel_values"})
"""What a processor may hand over; with more (grids, tiles, token types), rows could not be cut out of a batch."""


@dataclass
class Pictures:
    """The processor of a model with one `[3, H, W]` tensor per picture: LLaVA with a CLIP or SigLIP tower, and such.

    Raises:
        ModelError: the processor has no image token, or gives more than `READ`.
    """

    processor: Any
    known: dict[tuple[int, int], str] = field(default_factory=dict)
    """Size of a picture -> its place-holders."""

    def __post_init__(self) -> None:
        if not getattr(self.processor, "image_token", None):
            raise ModelError(f"{type(self.processor).__name__} has no image_token; use a model like LLaVA")

    def expanded(self, text: str, picture: Any) -> str:
        """A rendered prompt with the one image token replaced by as many as the picture takes.

        Raises:
            DataError: there is not exactly one.
        """
        token = self.processor.image_token
        if text.count(token) != 1:
            raise DataError(
                f"prompt with one picture renders to {text.count(token)} image tokens {token!r}; "
                "use a chat template that writes one, and do not spell it in the text"
            )
        return text.replace(token, self._places(picture))

    def pixels(self, pictures: Sequence[Any]) -> Tensor | None:
        """[N, 3, H, W] of N pictures; None when there is none.

        Raises:
            DataError: some are missing, or their sizes differ after the processor.
        """
        distinct = {id(picture): picture for picture in pictures if picture is not None}
        if not distinct:
            return None
        if any(picture is None for picture in pictures):
            raise DataError("some prompts have a picture and others none; train on one kind")
        found = {key: self._read(picture) for key, picture in distinct.items()}
        if len({value.shape for value in found.values()}) > 1:
            raise DataError("the processor leaves pictures in different sizes; set a fixed size in its config")
        return torch.stack([found[id(picture)] for picture in pictures])

    def save(self, directory: Path) -> None:
        """The processor, with tokenizer and chat template."""
        self.processor.save_pretrained(directory)

    def _read(self, picture: Any) -> Tensor:
        values: Tensor = self.processor.image_processor([picture], return_tensors="pt")["pixel_values"]
        if values.dim() != 4 or len(values) != 1:
            raise ModelError(f"pixel_values of one picture have shape {list(values.shape)}, not [1, 3, H, W]")
        return values[0]

    def _places(self, picture: Any) -> str:
        if picture.size not in self.known:
            processor, tokenizer = self.processor, self.processor.tokenizer
            found = processor(text=[processor.image_token], images=[picture], add_special_tokens=False)
            more = sorted(set(found) - READ)
            if more:
                raise ModelError(f"{type(processor).__name__} gives {', '.join(more)}; use a model like LLaVA")
            ids = list(found["input_ids"][0])
            text = tokenizer.decode(ids)
            if tokenizer(text, add_special_tokens=False)["input_ids"] != ids:
                raise ModelError(f"{type(processor).__name__}: place-holders do not survive the tokenizer")
            self.known[picture.size] = text
        return self.known[picture.size]


def sees(config: Any) -> bool:
    """Whether transformers has a class that reads pictures and text for this config."""
    return type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING


def image_token(config: Any) -> int | None:
    """The place-holder of a picture, None for models without; in an answer it would stand for one that is not there."""
    token: int | None = getattr(config, "image_token_id", None)
    return token
