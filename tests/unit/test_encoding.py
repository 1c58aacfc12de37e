"""Imitation and exploration see the same prompt, token for token; tokenizers are built here, nothing is fetched."""

import random
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from amft.data.encoding import (
    EncodedDemos,
    encode_demonstration,
    encode_demonstrations,
    encode_prompt,
    encode_prompts,
)
from amft.data.row_set import RowCount, RowSet
from amft.errors import DataError

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TRIMMED = (
    "<bos>{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
BARE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
SPECIAL = ["<pad>", "<bos>", "<|im_start|>", "<|im_end|>", "<|endoftext|>"]
CORPUS = [
    "the answer is 12 + 34 = 46",
    "what is 2+2? it is 4.",
    "assistant user system: abc abab ababab",
    "  a  b\n\n c",
] * 3


def byte_level(**settings: Any) -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=330, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    return wrap(inner, **settings)


def wrap(inner: Tokenizer, **settings: Any) -> PreTrainedTokenizerFast:
    given = {"eos_token": "<|im_end|>", "pad_token": "<pad>", "bos_token": "<bos>", "chat_template": CHATML} | settings
    extra = [token for token in SPECIAL if token not in given.values()]
    return PreTrainedTokenizerFast(tokenizer_object=inner, additional_special_tokens=extra, **given)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_level()


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def say(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def messy(draw: random.Random) -> str:
    pieces = ["ab", "a", "b", " ", "\n", "12", "3", "=", "é", "語", "🙂", "the answer", "user", ":", "."]
    return "x" + "".join(draw.choices(pieces, k=draw.randrange(12)))


@pytest.mark.parametrize("template", [CHATML, TRIMMED, BARE], ids=["chatml", "trimmed", "bare"])
def test_conversations_share_the_prompt_and_end_with_eos(template: str) -> None:
    """Property over 150 random pairs; the whole is what the template renders, as far as the token that ends it."""
    tokenizer = byte_level(chat_template=template)
    draw = random.Random(0)
    for _ in range(150):
        prompt, completion = ask(messy(draw)), say(messy(draw))
        prompt_ids, completion_ids = encode_demonstration(tokenizer, prompt, completion)
        assert prompt_ids == encode_prompt(tokenizer, prompt)
        assert prompt_ids == tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
        assert completion_ids.index(tokenizer.eos_token_id) == len(completion_ids) - 1
        rendered = tokenizer.apply_chat_template(prompt + completion, tokenize=False)
        ended = rendered if template == BARE else rendered[: rendered.rindex("<|im_end|>")]
        assert tokenizer.decode(prompt_ids + completion_ids) == ended + "<|im_end|>"


def test_strings_share_the_prompt_and_end_with_eos(tokenizer: PreTrainedTokenizerFast) -> None:
    draw, merged = random.Random(1), 0
    for _ in range(300):
        prompt, completion = messy(draw) + draw.choice(["", "a", "the ans"]), messy(draw)[1:] + "b"
        prompt_ids, completion_ids = encode_demonstration(tokenizer, prompt, completion)
        assert prompt_ids == encode_prompt(tokenizer, prompt) == tokenizer(prompt)["input_ids"]
        assert completion_ids.index(tokenizer.eos_token_id) == len(completion_ids) - 1
        assert tokenizer.decode(prompt_ids + completion_ids) == prompt + completion + "<|im_end|>"
        merged += tokenizer(prompt + completion)["input_ids"] != [*prompt_ids, *completion_ids[:-1]]
    assert merged > 20, "the seam was never tried"


def test_a_token_over_the_seam_is_not_made(tokenizer: PreTrainedTokenizerFast) -> None:
    """'a' and 'b' merge to one token 'ab' in the corpus; prompt 'a' must stay the token 'a'."""
    a, b, ab = (tokenizer.convert_tokens_to_ids(token) for token in ("a", "b", "ab"))
    assert tokenizer("ab")["input_ids"] == [ab]
    assert encode_demonstration(tokenizer, "a", "b") == ([a], [b, tokenizer.eos_token_id])


def test_the_result_is_that_of_trl_where_the_seam_is_clean(tokenizer: PreTrainedTokenizerFast) -> None:
    """Oracle: TRL 1.16's SFT tokenisation, prompt + completion + eos encoded as one text."""
    for prompt, completion in (("2+2=", " 4"), ("what is", " it"), ("the answer is", "\n12.")):
        prompt_ids, completion_ids = encode_demonstration(tokenizer, prompt, completion)
        assert prompt_ids + completion_ids == tokenizer(prompt + completion + tokenizer.eos_token)["input_ids"]


def test_a_space_that_belongs_to_the_start_of_a_text_does_not_enter_the_completion() -> None:
    """SentencePiece-like: encoded alone '5' becomes '▁5'; after a prompt it is '5'."""
    vocab = {token: i for i, token in enumerate([*SPECIAL, "<unk>", "▁", "5", "▁5", "x", "▁x", "=", ":"])}
    inner = Tokenizer(models.BPE(vocab, [("▁", "5"), ("▁", "x")], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    inner.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer = wrap(inner)
    assert tokenizer("5")["input_ids"] == [vocab["▁5"]]
    prompt_ids, completion_ids = encode_demonstration(tokenizer, "x=", "5")
    assert prompt_ids == [vocab["▁x"], vocab["="]]
    assert completion_ids == [vocab["5"], tokenizer.eos_token_id]


def test_beginning_and_end_tokens_of_the_tokenizer() -> None:
    """A tokenizer that adds <bos> and closes each text: the prompt keeps <bos> and stays open."""
    tokenizer = byte_level()
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    pair = [("<bos>", bos), ("<|im_end|>", eos)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing("<bos> $A <|im_end|>", None, pair)
    assert tokenizer("a")["input_ids"][0] == bos
    assert tokenizer("a")["input_ids"][-1] == eos
    prompt_ids, completion_ids = encode_demonstration(tokenizer, "2+2=", " 4")
    assert prompt_ids[0] == bos
    assert eos not in prompt_ids
    assert bos not in completion_ids
    assert completion_ids.count(eos) == 1
    assert tokenizer.decode(prompt_ids + completion_ids, skip_special_tokens=True) == "2+2= 4"
    assert bos not in encode_prompt(tokenizer, ask("hi")), "a chat template writes its own special tokens"


def test_a_written_eos_is_not_doubled(tokenizer: PreTrainedTokenizerFast) -> None:
    plain = encode_demonstration(tokenizer, "a=", "4")
    assert encode_demonstration(tokenizer, "a=", "4<|im_end|>") == plain
    assert encode_demonstration(tokenizer, "a=", "4<|im_end|>\n") == plain


def test_which_token_ends_a_turn() -> None:
    """eos is <|endoftext|> but the template closes turns with <|im_end|>: stop_ids says whether that ends a rollout."""
    tokenizer = byte_level(eos_token="<|endoftext|>")
    turn, end = (tokenizer.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|endoftext|>"))
    newline = tokenizer("\n")["input_ids"]
    _, ids = encode_demonstration(tokenizer, ask("hi"), say("4"))
    assert ids[-len(newline) - 2 :] == [turn, *newline, end]
    _, ids = encode_demonstration(tokenizer, ask("hi"), say("4"), stop_ids=[turn, end])
    assert ids == [*tokenizer("4")["input_ids"], turn]


@pytest.mark.parametrize(
    ("settings", "prompt", "completion", "said"),
    [
        ({}, "a", "<|im_end|>", "completion has no tokens before"),
        ({"eos_token": None}, "a", "b", "no eos_token"),
        ({"chat_template": None}, ask("a"), say("b"), "no chat template; set chat_template"),
        ({"chat_template": "{{ raise_exception('only\nsystem') }}"}, ask("a"), say("b"), "refuses.*only system"),
        ({"chat_template": "{% if add %}"}, ask("a"), say("b"), "chat template refuses the conversation"),
        (
            {"chat_template": CHATML + "{% if add_generation_prompt %}[{% endif %}"},
            ask("a"),
            say("b"),
            "renders the prompt differently once an answer follows",
        ),
        (
            {"chat_template": CHATML.replace("m.content ", "m.content.split('</aside>')[-1] ")},
            ask("a"),
            say("<aside>long</aside>b"),
            "leaves out or rewrites part of the assistant's content",
        ),
        (
            {"chat_template": CHATML.replace("m.content ", "'' if m.role == 'assistant' else m.content ")},
            ask("echo b"),
            say("echo b"),
            "leaves out or rewrites part of the assistant's content",
        ),
    ],
)
def test_what_cannot_be_encoded_says_why(settings: dict[str, Any], prompt: Any, completion: Any, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        encode_demonstration(byte_level(**settings), prompt, completion)
    assert "\n" not in str(caught.value)


def test_a_prompt_without_tokens() -> None:
    inner = Tokenizer(models.BPE({token: i for i, token in enumerate([*SPECIAL, "k"])}, []))
    with pytest.raises(DataError, match="prompt has no tokens"):
        encode_prompt(wrap(inner), "xyz")


def test_prompts_are_measured_by_row(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = RowSet.whole("mine", [{"prompt": "ab"}, {"prompt": "=" * 9}])
    encoded = encode_prompts(tokenizer, rows, max_prompt_length=9)
    assert encoded == [encode_prompt(tokenizer, row["prompt"]) for row in rows.rows]
    with pytest.raises(DataError, match=r"^mine row 2: prompt has 9 tokens, max_prompt_length is 8; raise it or drop"):
        encode_prompts(tokenizer, rows, max_prompt_length=8)
    with pytest.raises(DataError, match=r"^mine row 4: prompt has no tokens"):
        encode_prompts(tokenizer, RowSet("mine", [{"prompt": ""}], [4]), max_prompt_length=8)


def test_long_demonstrations_are_dropped_and_counted_never_cut(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [
        {"prompt": "a=", "completion": "=" * 4},  # 4 tokens and eos: exactly 5
        {"prompt": "a=", "completion": "=" * 5},
        {"prompt": "=" * 7, "completion": "4"},
        {"prompt": "=" * 6, "completion": "4"},
        {"prompt": "a=", "completion": "=" * 50},
    ]
    source = RowSet.whole("mine", rows)
    demos = encode_demonstrations(tokenizer, source, max_prompt_length=6, max_completion_length=5)
    assert [demo.row for demo in demos.rows] == [0, 3]
    assert len(demos.rows[0].completion_ids) == 5
    assert all(demo.completion_ids[-1] == tokenizer.eos_token_id for demo in demos.rows)
    assert demos.left_out == [
        RowCount("mine", "the completion is longer than max_completion_length 5", 2, 5),
        RowCount("mine", "the prompt is longer than max_prompt_length 6", 1, 5),
    ]
    with pytest.raises(DataError, match="mine: 2 of 5 demonstrations fit, at least half must .2 times the completion"):
        demos.require_half(source)
    EncodedDemos(demos.rows, []).require_half(source.pick(range(4)))  # exactly half


def test_no_demonstration_left_is_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = RowSet.whole("mine", [{"prompt": "a=", "completion": "=" * 9}] * 2)
    with pytest.raises(DataError, match=r"mine: 0 of 2 demonstrations fit, .* \(2 times the completion is longer than"):
        encode_demonstrations(tokenizer, rows, max_prompt_length=9, max_completion_length=9)
    rows = RowSet("mine", [{"prompt": "a", "completion": "4<|im_end|>5"}], [7])
    with pytest.raises(DataError, match=r"mine row 7: completion goes on"):
        encode_demonstrations(tokenizer, rows, max_prompt_length=9, max_completion_length=9, trusted=True)


@pytest.mark.parametrize(("prompt", "completion"), [("a", "4<|im_end|>5"), (ask("a"), say("4<|im_end|>5"))])
def test_a_trusted_completion_may_not_go_on_after_its_end(
    tokenizer: PreTrainedTokenizerFast, prompt: Any, completion: Any
) -> None:
    with pytest.raises(DataError, match=r"goes on after '<\|im_end\|>'"):
        encode_demonstration(tokenizer, prompt, completion, trusted=True)
