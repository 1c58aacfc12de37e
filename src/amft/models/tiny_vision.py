"""A small random vision-language model: a SigLIP tower and a Qwen3 decoder, joined as in LLaVA. Nothing is downloaded.

Its image processor is the Pillow one, so torchvision is not needed.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    SiglipVisionConfig,
)
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from ..errors import ModelError

IMAGE = "<image>"

VISION_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def tiny_vision_processor(tokenizer: Any, *, image_size: int = 112, patch_size: int = 14) -> LlavaProcessor:
    """A processor that gives every picture (image_size / patch_size)^2 tokens.

    Args:
        tokenizer: of the nano base or alike; a copy of it gets the image token.
        image_size: pictures are resized to this square, in pixels.
        patch_size: of the tower, in pixels; divides `image_size`.

    Raises:
        ModelError: the sizes do not divide.
    """
    if image_size % patch_size:
        raise ModelError(f"image_size: {image_size} must be a multiple of patch_size = {patch_size}")
    own = copy.deepcopy(tokenizer)
    own.add_tokens([IMAGE], special_tokens=True)
    own.chat_template = VISION_CHAT_TEMPLATE
    images = SiglipImageProcessorPil(
        size={"height": image_size, "width": image_size}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return LlavaProcessor(
        images,
        own,
        patch_size=patch_size,
        vision_feature_select_strategy="full",
        image_token=IMAGE,
        chat_template=VISION_CHAT_TEMPLATE,
    )


def tiny_vision_model(
    processor: LlavaProcessor,
    *,
    hidden_size: int = 128,
    layers: int = 3,
    vision_size: int = 96,
    vision_layers: int = 3,
    heads: int = 4,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> LlavaForConditionalGeneration:
    """A model with random weights for a processor of `tiny_vision_processor`; the same arguments, the same weights.

    Args:
        processor: sets vocabulary, picture size and patch size.
        hidden_size: width of the decoder; a multiple of `2 * heads`.
        layers: blocks of the decoder.
        vision_size: width of the tower; a multiple of `heads`.
        vision_layers: blocks of the tower; all are used.
        heads: attention heads of both.
        seed: of the weights, drawn under a forked generator.
        dtype: of the returned weights.

    Raises:
        ModelError: the sizes do not divide.
    """
    if hidden_size % (2 * heads) or vision_size % heads:
        raise ModelError(f"hidden_size: {hidden_size} and {vision_size} must be multiples of {2 * heads} and {heads}")
    side, patch = processor.image_processor.size["height"], processor.patch_size
    tower = _tower(side, patch, vision_size, vision_layers, heads)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = _joined(tower, _decoder(processor.tokenizer, hidden_size, layers, heads), processor)
        model = LlavaForConditionalGeneration(config)
    return model.to(dtype).eval()


def with_eyes(
    base: PreTrainedModel,
    processor: LlavaProcessor,
    *,
    vision_size: int = 96,
    vision_layers: int = 2,
    heads: int = 4,
    seed: int = 0,
) -> LlavaForConditionalGeneration:
    """A text model that can read and reckon already, behind a random tower: only seeing has to be learned.

    Args:
        base: becomes the decoder, its weights as they are; it is changed (a row for the image token).
        processor: of `tiny_vision_processor`, made with the tokenizer of `base`.
        vision_size: width of the tower; a multiple of `heads`.
        vision_layers: blocks of the tower.
        heads: attention heads of the tower.
        seed: of the tower, the projector and the new row.

    Raises:
        ModelError: the sizes do not divide.
    """
    if vision_size % heads:
        raise ModelError(f"vision_size: {vision_size} must be a multiple of heads = {heads}")
    tower = _tower(processor.image_processor.size["height"], processor.patch_size, vision_size, vision_layers, heads)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        base.resize_token_embeddings(len(processor.tokenizer), mean_resizing=False)
        model = LlavaForConditionalGeneration(_joined(tower, base.config, processor))
    model.model.language_model.load_state_dict(base.base_model.state_dict())
    model.lm_head.load_state_dict(base.get_output_embeddings().state_dict())
    return model.to(base.dtype).eval()


def _joined(tower: SiglipVisionConfig, decoder: PreTrainedConfig, processor: LlavaProcessor) -> LlavaConfig:
    return LlavaConfig(
        vision_config=tower,
        text_config=decoder,
        image_token_id=processor.image_token_id,
        image_seq_length=(tower.image_size // tower.patch_size) ** 2,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        tie_word_embeddings=decoder.tie_word_embeddings,
    )


def _tower(side: int, patch: int, size: int, layers: int, heads: int) -> SiglipVisionConfig:
    return SiglipVisionConfig(
        hidden_size=size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=2 * size,
        image_size=side,
        patch_size=patch,
        vision_use_head=False,
    )


def _decoder(tokenizer: Any, hidden_size: int, layers: int, heads: int) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2 or 1,
        head_dim=hidden_size // heads,
        intermediate_size=3 * hidden_size,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
