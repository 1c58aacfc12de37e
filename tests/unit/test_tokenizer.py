"""The nano tokenizer: numbers are tokens, nothing is lost, the chat template only ever appends."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amft.models.tokenizer import ASSISTANT, END, SYSTEM, USER, train_tokenizer
from amft.pretraining.nano_corpus import conversations


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(corpus())


def corpus():
    return [message["content"] for talk in itertools.islice(conversations(0), 200) for message in talk]


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_every_number_up_to_999_is_one_token(tokenizer):
    found = {n: ids(tokenizer, str(n)) for n in range(1000)}
    assert [n for n, tokens in found.items() if len(tokens) != 1] == []
    assert len({tokens[0] for tokens in found.values()}) == 1000


@pytest.mark.parametrize("text", ["[8,3,10,999]", "(10-100)*24/7=24", '{"number":[1,12,123]}', "8/3=8/3"])
def test_numbers_stay_whole_inside_formulas(text, tokenizer):
    import re

    pieces = [tokenizer.decode([token]).strip() for token in ids(tokenizer, text)]
    assert [p for p in pieces if p.isdigit()] == re.findall("[0-9]+", text)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(text=st.text(max_size=60))
def test_round_trip_loses_nothing(tokenizer, text):
    assert tokenizer.decode(ids(tokenizer, text)) == text


@pytest.mark.parametrize(
    "text", ["", " ", "  \n\t ", "ä 漢字 🙂", "\x00\x7f", "a  b   c", "1234567", "don 't , stop ."]
)
def test_round_trip_of_awkward_texts(text, tokenizer):
    assert tokenizer.decode(ids(tokenizer, text)) == text


def test_round_trip_of_the_corpus(tokenizer):
    assert all(tokenizer.decode(ids(tokenizer, text)) == text for text in corpus())


def test_special_tokens(tokenizer):
    assert all(len(ids(tokenizer, token)) == 1 for token in (END, USER, ASSISTANT, SYSTEM, tokenizer.pad_token))
    assert tokenizer.eos_token == END
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.padding_side == "left"
    assert len(tokenizer) < 2048
    assert max(tokenizer.get_vocab().values()) == len(tokenizer) - 1


def test_chat_template_is_prefix_stable(tokenizer):
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1+1="},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "and 3?"},
        {"role": "assistant", "content": "5"},
    ]
    whole = ids(tokenizer, tokenizer.apply_chat_template(talk, tokenize=False))
    for length in range(1, len(talk) + 1):
        asks = talk[length - 1]["role"] == "user"
        text = tokenizer.apply_chat_template(talk[:length], add_generation_prompt=asks, tokenize=False)
        part = ids(tokenizer, text)
        assert whole[: len(part)] == part
    assert whole[-1] == tokenizer.eos_token_id


def test_every_conversation_of_the_corpus_is_prefix_stable(tokenizer):
    for talk in itertools.islice(conversations(1), 100):
        prompt = ids(tokenizer, tokenizer.apply_chat_template(talk[:1], add_generation_prompt=True, tokenize=False))
        assert ids(tokenizer, tokenizer.apply_chat_template(talk, tokenize=False))[: len(prompt)] == prompt


def test_the_result_depends_on_the_corpus_alone(tokenizer):
    again = train_tokenizer(corpus())
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_save_and_reload(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = corpus()[0]
    assert ids(again, text) == ids(tokenizer, text)
    assert again.chat_template == tokenizer.chat_template
    assert (again.eos_token_id, again.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
