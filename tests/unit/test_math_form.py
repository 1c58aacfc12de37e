"""The form a mathematical answer must have: rules of relations, words, units, percent and decimals, one by one."""

import re
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amft.tasks.math.form import pairs
from amft.tasks.math.units import unit_of


def value(right, answer):
    """The value read out of an answer; None for a wrong form."""
    found = pairs(right, answer, exact=True)
    return found and found[0][1]


@pytest.mark.parametrize(
    "answer",
    [
        "43=42", r"\ne 42", r"\neq 42", r"\not= 42", r"\ge 42", r"\geq 42", r"\leqslant 42", r"x\geqslant 42", "x<42",
        "41<42", "x>=42", r"x \in \{42\}", r"\approx 42", r"42 \approx 42.1", "a=b=42", "x^2=42", "42=x", "x==42",
        r"x=42 \text{ or } x>43", r"x \to 42", r"\Rightarrow 42", "≠42", "≥ 42", r"n\mid 42", "1+1=42",
    ],
)  # fmt: skip
def test_a_relation_is_no_value(answer):
    assert value("42", answer) is None


@pytest.mark.parametrize(
    "answer",
    ["x=42", r"x_1 = 42", r"\theta=42", "f(x)=42", "f(3)=42", r"\angle ABC=42", "AB = 42", "a_{10}=42", "f'(x)=42"],
)
def test_a_name_and_its_value_are_a_value(answer):
    assert value("42", answer) == answer


def test_several_names_and_their_values_are_a_value():
    assert value("(1,2)", "(x,y)=(1,2)") == "(x,y)=(1,2)"
    assert value("1,2", "x=1, y=2") == "x=1, y=2"
    assert value("1,2", "x=1, y>2") is None


def test_the_bounds_of_a_sum_are_no_relation():
    for text in (r"\sum_{k=1}^{3} k", r"\lim_{x \to 0} x+6", r"\int_{0}^{1} 6x dx"):
        assert value("6", text) == text
    assert value("6", r"\sum_{k=1}^{3} k = 6") is None


def test_where_the_right_answer_is_a_relation_a_relation_may_be_given():
    assert value(r"x \ge 42", "42 \\le x") == "42 \\le x"
    assert value("x=42", r"x \ge 42") is None


@pytest.mark.parametrize(
    "answer",
    [
        r"10\text{ is wrong}", r"10\text{ or so}", r"\text{the answer is } 10", "10 is wrong", "not 10", "10 apples",
        r"10\text{ apples}", r"10\mathrm{no}", r"\text{not } 10",
    ],
)  # fmt: skip
def test_words_are_no_value(answer):
    assert value("10", answer) is None


def test_words_may_stand_where_the_right_answer_has_some():
    assert value(r"\text{Yes}", r"\text{yes}") == r"\text{yes}"
    assert value(r"10\text{ apples}", r"10\text{ apples}") == r"10\text{ apples}"
    assert value("10", r"\text{10}") == r"\text{10}"
    assert value("1", r"\sin \frac{\pi}{2}") == r"\sin \frac{\pi}{2}"


@pytest.mark.parametrize(
    "answer",
    [
        r"10\text{ cm}", "10 cm", r"10\,\mathrm{cm}", r"10~\text{centimetres}", r"10\text{ cm}^2", r"10\text{ cm}^{3}",
        r"10\text{ square metres}", r"10\text{ km/h}", "10 km per hour", "10 dollars", r"10^\circ", r"10^{\circ}",
        r"10\text{ degrees}", "10°", "10.",
    ],
)  # fmt: skip
def test_a_known_unit_may_follow(answer):
    assert value("10", answer) == "10"


def test_another_unit_than_that_of_the_right_answer_is_refused():
    assert value(r"10\text{ cm}", r"10\text{ centimeters}") == "10"
    assert value(r"10\text{ cm}", "10") == "10"
    assert value(r"10\text{ cm}", r"10\text{ m}") is None
    assert value(r"10\text{ cm}^2", r"10\text{ cm}") is None
    assert value(r"10^\circ", r"10\text{ cm}") is None


def test_one_name_for_all_spellings_of_a_unit():
    assert {unit_of(text) for text in ("cm^2", "cm²", "square cm", "centimeters squared", "sq cm")} == {"cm2"}
    assert [unit_of(text) for text in ("miles per hour", "", "2", "wrong", "cm; rm -rf")] == ["mi/h", *[None] * 4]


def test_percent_is_a_hundredth_and_the_sign_may_be_left_out_but_not_added():
    hundredths = r"{\frac{42}{100}}"
    assert pairs("42", r"42\%", exact=True) == [("42", hundredths)]
    assert pairs("0.42", "42%", exact=True) == [(hundredths, hundredths)]
    assert pairs(r"42\%", r"42\%", exact=True) == [(hundredths, hundredths)]
    assert pairs(r"42\%", "42", exact=True) == [(hundredths, "42"), ("42", "42")]
    assert pairs("42", r"x\%", exact=True) is None


@pytest.mark.parametrize(
    ("text", "fraction"),
    [
        ("0.25", r"{\frac{25}{100}}"),
        (".5", r"{\frac{5}{10}}"),
        ("1,234.5", r"{\frac{12345}{10}}"),
        ("2.50x", r"{\frac{250}{100}}x"),
        ("6.02e3", "6020"),
        ("1.5e-1", r"{\frac{15}{100}}"),
        ("4e2", "400"),
        ("1,234", "1,234"),
        (r"0.1\overline{6}", r"0.1\overline{6}"),
        ("1.2.3", "1.2.3"),
        ("1e999999999", "1e999999999"),
        ("0.0", r"{\frac{0}{10}}"),
    ],
)
def test_decimals_become_fractions(text, fraction):
    assert value("1", text) == fraction
    assert pairs("1", text, exact=False) == [("1", text)]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.decimals(-(10**6), 10**6, places=4, allow_nan=False))
def test_a_decimal_keeps_its_value(number):
    found = value("1", f"{number:f}")
    top, bottom = map(int, re.findall("[0-9]+", found))
    sign = -1 if found.startswith("-") else 1
    assert sign * Fraction(top, bottom) == Fraction(str(number))


PIECES = st.sampled_from(
    [
        " ",
        "\\ ",
        "~",
        "\\text{",
        "}",
        "{",
        "x",
        "=",
        ",",
        "and",
        "cm",
        "1",
        ".",
        "%",
        "\\%",
        "^\\circ",
        "\\angle",
        "(",
        ")",
    ]
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(PIECES, max_size=40).map("".join), st.lists(PIECES, max_size=10).map("".join))
def test_any_text_is_read(answer, right):
    found = pairs(right, answer, exact=True)
    assert found is None or all(isinstance(text, str) for pair in found for text in pair)


@pytest.mark.parametrize("piece", [" ", "\\ ", "\\text{a}", "x", "x,", "(x,", "and ", "1.", "1,111", "\\angle ", "a b"])
def test_the_longest_box_is_read_at_once(piece):
    text = (piece * 512)[:512]
    start = time.perf_counter()
    pairs("5", text, exact=True)
    assert time.perf_counter() - start < 0.05
