"""Shapes that the planning tests reckon with by hand."""

from amft.planning.shape import Shape

SIZES = {
    "vocab_size": 50,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
}
SMALL = Shape(8, 16, 2, 2, 1, 4, 10, tied=True, qkv_bias=False, qk_norm=False)
