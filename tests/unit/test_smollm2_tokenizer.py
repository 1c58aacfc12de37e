"""A published tokenizer and chat template, that of SmolLM2-135M-Instruct: `make test` fetches the 3.5 MB they take."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from amft.data.conversation import UserTurns
from amft.data.encoding import encode_demonstration, encode_prompt
from amft.models.chat_template import choose_template
from amft.models.load import load_tokenizer

HOME = Path(os.environ.get("AMFT_SMOLLM2", Path(sys.prefix) / "share" / "smollm2"))
pytestmark = pytest.mark.skipif(
    not (HOME / "tokenizer.json").is_file(),
    reason=f"the tokenizer of SmolLM2 is not in {HOME}: amft fetch smollm2 --tokenizer-only --output {HOME}",
)
DEFAULT = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
ASK = [{"role": "user", "content": "What is 47 plus 35?"}]
ASKED = "<|im_start|>user\nWhat is 47 plus 35?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture
def tokenizer() -> Any:
    return load_tokenizer(str(HOME))


def test_a_demonstration_follows_the_prompt_and_stops(tokenizer: Any) -> None:
    prompt, completion = encode_demonstration(tokenizer, ASK, [{"role": "assistant", "content": "82"}])
    assert prompt == encode_prompt(tokenizer, ASK)
    assert tokenizer.decode(prompt) == DEFAULT + ASKED
    assert tokenizer.convert_ids_to_tokens(completion) == ["8", "2", "<|im_end|>"]
    assert prompt.count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == 3


def test_numbers_are_digits_and_the_vocabulary_is_whole(tokenizer: Any) -> None:
    assert tokenizer.tokenize("is 47\n  12345 it's") == [
        "is", "\u0120", "4", "7", "\u010a\u0120\u0120", "1", "2", "3", "4", "5", "\u0120it", "'s",
    ]  # fmt: skip
    assert len(tokenizer) == 49152
    text = "Grüße, 12 + 30 = 42 🙂\n\n\tend"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_system_prompt_takes_the_place_of_the_template_s_own(tokenizer: Any) -> None:
    choose_template(tokenizer, None, {}, system_prompt="You add numbers.")
    assert tokenizer.decode(encode_prompt(tokenizer, ASK)) == "<|im_start|>system\nYou add numbers.<|im_end|>\n" + ASKED
    own = [{"role": "system", "content": "Be brief."}, *ASK]
    assert tokenizer.decode(encode_prompt(tokenizer, own)).startswith("<|im_start|>system\nBe brief.<|im_end|>\n")


def test_a_turn_after_an_answer_is_the_template_s(tokenizer: Any) -> None:
    end = tokenizer.eos_token_id
    turn = "\n<|im_start|>user\nNo.<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(UserTurns(tokenizer).reply("No.", last=end)) == turn
    assert tokenizer.decode(UserTurns(tokenizer).reply("No.", last=5)) == "<|im_end|>" + turn
