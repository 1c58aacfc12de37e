"""The small tokenizer of the nano base: byte-level BPE in which every number up to three digits is one token."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, END, USER, ASSISTANT, SYSTEM = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

PIECES = Regex(r"""[A-Za-z]+ ?|[0-9]{1,3}|[{}\[\]":,]+ ?|\s|[^\sA-Za-z0-9] ?""")
"""Words and punctuation keep one following space, so that a number never needs a space token before it."""


def number_merges() -> list[tuple[str, str]]:
    """BPE merges after which `10` ... `999` are single tokens, whichever pair is merged first."""
    two = [(a, b) for a, b in itertools.product("123456789", "0123456789")]
    pairs = {a + b for a, b in two}
    three = []
    for number in map(str, range(100, 1000)):
        three.append((number[:2], number[2]))
        if number[1:] in pairs:
            three.append((number[0], number[1:]))
    return two + three


def train_tokenizer(corpus: Iterable[str], *, words: int = 600) -> PreTrainedTokenizerFast:
    """Learn word pieces from a corpus and put the numbers in by hand.

    Args:
        corpus: texts; the result depends on them alone.
        words: learned merges besides the numbers.
    """
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = _pre_tokenizer()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner.train_from_iterator(
        corpus,
        trainers.BpeTrainer(vocab_size=len(alphabet) + words + 200, initial_alphabet=alphabet, show_progress=False),
    )
    learned = [(a, b) for a, b in _merges(learner) if not (a + b).isdigit()][:words]
    merges = number_merges() + learned
    tokens = alphabet + list(dict.fromkeys(a + b for a, b in merges))
    vocab = {token: place for place, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = _pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, SYSTEM],
        padding_side="left",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _pre_tokenizer() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(PIECES, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _merges(tokenizer: Tokenizer) -> list[list[str]]:
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
