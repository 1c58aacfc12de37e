"""Tiny random models of the families people use, from their own configs, with real processors where they see."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
import transformers
from tiny_runs import WORDS, tiny_tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
)
from transformers.utils import PushToHubMixin

from amft.models.load import load_tokenizer

SIZES: dict[str, Any] = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "eos_token_id": 0,
    "pad_token_id": 1,
    "bos_token_id": None,
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}

TEXT: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Mistral": {"sliding_window": 4},
    "Qwen2": {},
    "Qwen3": {},
    "Gemma2": {"sliding_window": 4, "query_pre_attn_scalar": 8},
    "Gemma3Text": {"sliding_window": 4, "query_pre_attn_scalar": 8},
    "Phi": {"partial_rotary_factor": 0.5},
    "Phi3": {"sliding_window": None},
    "SmolLM3": {"no_rope_layers": [1, 0]},
    "Qwen3Moe": EXPERTS,
    "Mixtral": EXPERTS,
    "GptOss": {**EXPERTS, "sliding_window": 4},
    "Olmo2": {},
    "Granite": {},
    "Cohere2": {"sliding_window": 4},
}
"""Name of the config's class without `Config` -> what its config has beside `SIZES`."""


def text_family(name: str) -> tuple[PreTrainedModel, Any]:
    """Model and tokenizer; two layers, so that of two kinds of layers there is one each."""
    config = getattr(transformers, f"{name}Config")(**SIZES, **TEXT[name])
    return _drawn(AutoModelForCausalLM, config), tiny_tokenizer()


TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ 'BEFORE' + 'PICTURE' + 'AFTER' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SIDE = 28
"""Pixels of a picture's edge, once it is processed."""


def _worded(names: dict[str, str], template: tuple[str, str, str]) -> Any:
    """The nano tokenizer with the special tokens of a family and a template that writes them."""
    base = load_tokenizer("nano")
    ends = {"eos_token": base.eos_token, "pad_token": base.pad_token}
    backend = copy.deepcopy(base.backend_tokenizer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, extra_special_tokens=names, **ends)
    before, picture, after = template
    tokenizer.chat_template = TEMPLATE.replace("BEFORE", before).replace("PICTURE", picture).replace("AFTER", after)
    return tokenizer


def _text_config(tokenizer: Any, **others: Any) -> dict[str, Any]:
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return {**SIZES, "vocab_size": len(tokenizer), "max_position_embeddings": 512, **ends, **others}


class NoVideos(PushToHubMixin):
    """In the place of the part that reads videos, which needs torchvision."""

    _auto_class = None
    model_input_names = ()

    def to_dict(self) -> dict[str, Any]:
        return {}


def _qwen_vl(generation: str) -> tuple[PreTrainedModel, Any]:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    names = {"vision_start_token": "<|vision_start|>", "vision_end_token": "<|vision_end|>"}
    names |= {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    tokenizer = _worded(names, ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>"))
    patch = 16 if generation == "3" else 14
    sizes = {"patch_size": patch, "min_pixels": (2 * patch) ** 2, "max_pixels": (2 * patch) ** 2}
    images = Qwen2VLImageProcessorPil(**sizes)
    kind = getattr(transformers, "Qwen3VLProcessor" if generation == "3" else "Qwen2_5_VLProcessor")
    # Without torchvision the class of what reads videos cannot even be looked up.
    with mock.patch.object(ProcessorMixin, "check_argument_for_proper_class"):
        processor = kind(images, tokenizer, NoVideos(), chat_template=tokenizer.chat_template)
    tokens = {f"{name}_id": getattr(tokenizer, f"{name}_id") for name in names}
    sees = {"depth": 2, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    text = _text_config(tokenizer, rope_parameters=rope)
    if generation == "3":
        sees |= {"patch_size": patch, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
        config = transformers.Qwen3VLConfig(text_config=text, vision_config=sees, **tokens)
    else:
        sees |= {"patch_size": patch, "window_size": 28, "fullatt_block_indexes": [1]}
        config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=sees, **tokens)
    return _drawn(AutoModelForImageTextToText, config), processor


def _gemma3() -> tuple[PreTrainedModel, Any]:
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    names = {"boi_token": "<start_of_image>", "image_token": "<image_soft_token>", "eoi_token": "<end_of_image>"}
    tokenizer = _worded(names, ("", "<start_of_image>", ""))
    images = Gemma3ImageProcessorPil(size={"height": SIDE, "width": SIDE}, do_pan_and_scan=False)
    processor = transformers.Gemma3Processor(
        images, tokenizer, chat_template=tokenizer.chat_template, image_seq_length=4
    )
    sees = {**_tower(), "vision_use_head": False}
    text = _text_config(tokenizer, sliding_window=16, query_pre_attn_scalar=8)
    config = transformers.Gemma3Config(
        text_config=text,
        vision_config=sees,
        mm_tokens_per_image=4,
        image_token_index=tokenizer.image_token_id,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
    )
    model = _drawn(AutoModelForImageTextToText, config)
    # It begins at 0, and then nothing is seen.
    model.model.multi_modal_projector.mm_input_projection_weight.data.normal_(
        generator=torch.Generator().manual_seed(0)
    )
    return model, processor


def _idefics(name: str) -> tuple[PreTrainedModel, Any]:
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

    names = {"fake_token": "<fake_token_around_image>", "image_token": "<image>", "global_token": "<global-img>"}
    names["end_of_utterance"] = "<end_of_utterance>"
    tokenizer = _worded(names, ("", "<image>", ""))
    kind = SmolVLMImageProcessorPil if name == "SmolVLM" else Idefics3ImageProcessorPil
    edge = {"longest_edge": SIDE}
    images = kind(size=edge, max_image_size=edge, do_image_splitting=False)
    more = {"video_processor": None} if name == "SmolVLM" else {}
    if name == "SmolVLM":
        pytest.importorskip("num2words")
    processor = getattr(transformers, f"{name}Processor")(
        images, tokenizer, image_seq_len=1, chat_template=tokenizer.chat_template, **more
    )
    config = getattr(transformers, f"{name}Config")(
        text_config={"model_type": "llama", **_text_config(tokenizer)},
        vision_config=_tower(),
        image_token_id=tokenizer.image_token_id,
        pad_token_id=tokenizer.pad_token_id,
        scale_factor=2,
    )
    return _drawn(AutoModelForImageTextToText, config), processor


def _llava() -> tuple[PreTrainedModel, Any]:
    from amft.models.tiny_vision import tiny_vision_model, tiny_vision_processor

    processor = tiny_vision_processor(load_tokenizer("nano"), image_size=SIDE)
    return tiny_vision_model(processor, hidden_size=16, layers=1, vision_size=16, vision_layers=1, heads=2), processor


def _tower() -> dict[str, Any]:
    return {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 14,
    }


PICTURES: dict[str, Callable[[], tuple[PreTrainedModel, Any]]] = {
    "Llava": _llava,
    "Qwen2_5_VL": lambda: _qwen_vl("2.5"),
    "Qwen3VL": lambda: _qwen_vl("3"),
    "Gemma3": _gemma3,
    "Idefics3": lambda: _idefics("Idefics3"),
    "SmolVLM": lambda: _idefics("SmolVLM"),
}
"""Name -> model and processor."""


def _drawn(kind: Any, config: Any) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: PreTrainedModel = kind.from_config(config).eval()
    return model
