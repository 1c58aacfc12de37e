"""A GGUF file of a few kilobytes: a Llama of one layer, partly quantized, with a byte-level tokenizer and ChatML."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, quants
from tokenizers import pre_tokenizers

HIDDEN, INNER, HEADS = 64, 128, 4
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tiny_gguf(path: Path) -> dict[str, np.ndarray]:
    """Write it; returns what two of its tensors stand for, by their names in transformers."""
    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "12", "34"]
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(words)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(words) - len(SPECIAL)))
    writer.add_token_merges(["1 2", "3 4"])  # of one alone, older transformers read the letters
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(CHATML)
    known = _add_tensors(writer, len(words))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return known


def _add_tensors(writer: GGUFWriter, words: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    shapes = {"token_embd": (words, HIDDEN), "output_norm": (HIDDEN,), "blk.0.attn_norm": (HIDDEN,)}
    shapes |= {"blk.0.ffn_norm": (HIDDEN,), "blk.0.ffn_down": (HIDDEN, INNER)}
    shapes |= {f"blk.0.attn_{name}": (HIDDEN, HIDDEN) for name in ("q", "k", "v", "output")}
    shapes |= {f"blk.0.ffn_{name}": (INNER, HIDDEN) for name in ("gate", "up")}
    known = {}
    for name, shape in shapes.items():
        value = draw.normal(size=shape).astype(np.float32)
        if name == "blk.0.ffn_up":
            packed = quants.quantize(value, GGMLQuantizationType.Q4_1)
            writer.add_tensor(f"{name}.weight", packed, raw_dtype=GGMLQuantizationType.Q4_1)
            known["model.layers.0.mlp.up_proj.weight"] = quants.dequantize(packed, GGMLQuantizationType.Q4_1)
        else:
            writer.add_tensor(f"{name}.weight", value)
            known |= {"model.embed_tokens.weight": value} if name == "token_embd" else {}
    return known
