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
"""What a processor hands over for a model like LLaVA."""

MADE = frozenset({"image_grid_thw", "mm_token_type_ids", "token_type_ids", "pixel_attention_mask", "num_crops"})
"""What others hand over too, and `picture_inputs` makes anew of pixels and ids; more could not be cut into rows."""


@dataclass
class Pictures:
    """The processor of a model with one tensor per picture: `[3, H, W]`, or the patches of a square one (Qwen2.5-VL).

    Raises:
        ModelError: the processor has no image token, or gives more than `READ` and `MADE`.
    """

    processor: Any
    known: dict[tuple[int, int], str] = field(default_factory=dict)
    """Size of a picture -> its place-holders."""

    def __post_init__(self) -> None:
        if not getattr(self.processor, "image_token", None):
            raise ModelError(f"{type(self.processor).__name__} has no image_token; use a model like LLaVA")

    def expanded(self, text: str, seen: Any) -> str:
        """A rendered prompt with each image token replaced by as many as its picture takes.

        Args:
            text: of the chat template.
            seen: a picture, or a tuple of several, in the order of the prompt.

        Raises:
            DataError: there are not as many image tokens as pictures.
        """
        token, several = self.processor.image_token, _all_of(seen)
        first, *rest = text.split(token)
        if len(rest) != len(several):
            count = "one picture" if len(several) == 1 else f"{len(several)} pictures"
            raise DataError(
                f"prompt with {count} renders to {len(rest)} image tokens {token!r}; "
                "use a chat template that writes one for each, and do not spell it in the text"
            )
        return first + "".join(self._places(picture) + part for picture, part in zip(several, rest, strict=True))

    def pixels(self, pictures: Sequence[Any]) -> Tensor | None:
        """[N, ...] of N rows with a picture each, or [N, K, ...] of rows with K; None when there is none.

        Args:
            pictures: of each row: one, a tuple of several, or None.

        Raises:
            DataError: some have fewer, or the sizes of pictures differ after the processor.
        """
        rows = [_all_of(seen) for seen in pictures]
        distinct = {id(picture): picture for row in rows for picture in row}
        if not distinct:
            return None
        if not all(rows):
            raise DataError("some prompts have a picture and others none; train on one kind")
        if len(counts := {len(row) for row in rows}) > 1:
            few, many = min(counts), max(counts)
            raise DataError(f"some prompts have {few} pictures and others {many}; train on one number of them")
        found = {key: self._read(picture) for key, picture in distinct.items()}
        if len({value.shape for value in found.values()}) > 1:
            raise DataError("the processor leaves pictures in different sizes; set a fixed size in its config")
        each = torch.stack([found[id(picture)] for row in rows for picture in row])
        return each if len(rows[0]) == 1 else each.unflatten(0, (len(rows), -1))

    def save(self, directory: Path) -> None:
        """The processor, with tokenizer and chat template."""
        self.processor.save_pretrained(directory)

    def _read(self, picture: Any) -> Tensor:
        found = self.processor.image_processor([picture], return_tensors="pt")
        values: Tensor = found["pixel_values"]
        if "image_grid_thw" in found:
            time, height, width = found["image_grid_thw"][0].tolist()
            if (time, height) != (1, width):
                raise ModelError(f"the processor cuts a picture into {height} x {width} patches; give square pictures")
            return values
        if values.dim() == 5 and values.shape[:2] == (1, 1):  # Idefics: a row, a picture
            values = values[0]
        if values.dim() != 4 or len(values) != 1 or any(found.get("num_crops", [0])):
            raise ModelError(
                f"pixel_values of one picture have shape {list(values.shape)}, not [1, 3, H, W]; set "
                "do_image_splitting or do_pan_and_scan of the processor to false"
            )
        if "pixel_attention_mask" in found and not found["pixel_attention_mask"].all():
            raise ModelError("the processor pads pictures, which would be seen; give square pictures")
        return values[0]

    def _places(self, picture: Any) -> str:
        if picture.size not in self.known:
            processor, tokenizer = self.processor, self.processor.tokenizer
            found = processor(text=[processor.image_token], images=[picture], add_special_tokens=False)
            more = sorted(set(found) - READ - MADE)
            if more:
                raise ModelError(f"{type(processor).__name__} gives {', '.join(more)}; use a model like LLaVA")
            ids = list(found["input_ids"][0])
            text = tokenizer.decode(ids)
            if tokenizer(text, add_special_tokens=False)["input_ids"] != ids:
                raise ModelError(f"{type(processor).__name__}: place-holders do not survive the tokenizer")
            self.known[picture.size] = text
        return self.known[picture.size]


def _all_of(seen: Any) -> tuple[Any, ...]:
    if seen is None:
        return ()
    return seen if isinstance(seen, tuple) else (seen,)


def sees(config: Any) -> bool:
    """Whether transformers has a class that reads pictures and text for this config."""
    return type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING


def image_token(config: Any) -> int | None:
    """The place-holder of a picture, None for models without; in an answer it would stand for one that is not there."""
    token: int | None = getattr(config, "image_token_id", None)
    return token
