"""The verdict on adversarial and friendly answers; the defects of the original (G1-G6) named one by one."""

import ast
import builtins
import inspect
import json
import operator
import re
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amft.tasks import answer_object
from amft.tasks.general_points import verifier
from amft.tasks.general_points.verifier import (
    FORMULA_BINARY_REWARD,
    FORMULA_OUTCOME_REWARD,
    grade_formula,
    judge_formula,
)

CARDS, NUMBERS = ["8", "3", "J", "10"], [8, 3, 10, 10]
RIGHT = "(10-10+3)*8"


def answer(formula, cards=CARDS, numbers=NUMBERS):
    return json.dumps({"cards": cards, "number": numbers, "formula": formula})


GOOD = answer(RIGHT)


def outcome(text, cards=CARDS, numbers=NUMBERS, target=24):
    return judge_formula(text, cards, numbers, target)[0]


@pytest.mark.parametrize(
    ("text", "expected", "reward"),
    [
        ("no braces", "parse_error", -3.0),
        ("{}", "parse_error", -3.0),
        (answer("(10-10+3)*x"), "illegal_syntax", -3.0),
        (answer("10+10+8"), "wrong_numbers", -2.0),
        (answer("(10-10+3)+8"), "wrong_value", -1.0),
        (answer(RIGHT), "correct", 5.0),
    ],
)
def test_outcomes_and_both_reward_tables(text, expected, reward):
    found = grade_formula(text, CARDS, NUMBERS, 24, "outcome")
    assert (found.outcome, found.reward, found.correct) == (expected, reward, expected == "correct")
    assert grade_formula(text, CARDS, NUMBERS, 24, "binary").reward == float(expected == "correct")


def test_the_tables_list_the_same_outcomes_in_the_order_of_the_checks():
    order = ["parse_error", "wrong_cards", "illegal_syntax", "wrong_numbers", "wrong_value", "correct"]
    assert list(FORMULA_OUTCOME_REWARD) == list(FORMULA_BINARY_REWARD) == order


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("9+9+@", "illegal_syntax"),  # wrong numbers as well
        ("9+9", "wrong_numbers"),  # wrong value as well
        ("10/0", "wrong_numbers"),
        ("8+3", "wrong_numbers"),  # cards left over
        ("8*3+10-10+10", "wrong_numbers"),  # a card twice
        ("3/(10-10)*8", "wrong_value"),  # division by zero
    ],
)
def test_the_first_failed_check_names_the_outcome(formula, expected):
    assert outcome(answer(formula)) == expected


def test_g1_valid_json_and_bare_numbers_are_read():
    assert outcome('{"cards": ["8","3","J","10"], "number": [8,3,10,10], "formula": "(10-10+3)*8"}') == "correct"
    assert outcome("{'cards': ['8','3','J','10'], 'number': [8,3,10,10], 'formula': '(10-10+3)*8=24',}") == "correct"
    _, info = judge_formula(
        '{"cards": [8,3,"J",10], "number": ["8","3","10","10"], "formula": "1"}', CARDS, NUMBERS, 24
    )
    assert (info["cards_right"], info["numbers_right"]) == (True, True)


@pytest.mark.parametrize(
    "text",
    [
        GOOD + " " + GOOD,
        "Let S={1,2}. " + GOOD,
        GOOD + " {ok}",
        GOOD + ' {"note": "done"}',
        GOOD + ' {"formula": null}',
        GOOD[:-1],
        GOOD[:-1] + " \n",
        '{"note": "it\'s", "formula": "(10-10+3)*8",}',
        '{"answer": ' + GOOD + "}",
        '{"answer": ' + GOOD,
        '{"formula": "(10-10+3)*8", "first try": {"formula": "8+3"}}',
        answer("8+3") + " no, " + GOOD,
        "It's {3 cards: " + GOOD,
        "```json\n" + GOOD + "\n```",
        "{'formula': '(10-10+3)*8', 'say': 'it\\'s \"fine\"'}",
        '{"note": "}{", "formula": "(10-10+3)*8"}',
    ],
)
def test_the_last_complete_object_with_a_formula_counts(text):
    assert outcome(text) == "correct"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD + " " + answer("8+3"), "wrong_numbers"),  # the last one counts, not the best one
        (GOOD + ' {"formula": "8+3"', "wrong_numbers"),
        ('{"formula": "8+3", "hidden": ' + GOOD[:-1], "wrong_numbers"),  # both end with the text: the outer one
        ('{"formula": "8+3", "hidden": ' + GOOD + "}", "wrong_numbers"),  # the outer one ends last
        (GOOD[:-2], "parse_error"),  # the text is cut, not the brace
        (GOOD[:-1] + "\n```", "parse_error"),
        ('{"formula": "(10-10+3)*8" "cards": []}', "parse_error"),
        ('{formula: "(10-10+3)*8"}', "parse_error"),
        ('{"formula": (10-10+3)*8}', "parse_error"),
        ('"formula": "(10-10+3)*8"', "parse_error"),
        (GOOD + " " * 4096, "parse_error"),
    ],
)
def test_what_is_no_complete_object_or_not_the_last_does_not_count(text, expected):
    assert outcome(text) == expected


def test_g2_fractions_are_exact():
    assert 8 / (3 - 8 / 3) != 24  # what floats make of it
    assert outcome(answer("8/(3-8/3)"), ["3", "3", "8", "8"], [3, 3, 8, 8]) == "correct"


def test_g3_white_space_is_legal():
    assert outcome(answer(" ( 10 - 10 + 3 ) *\t8\n= 24 ")) == "correct"


def test_white_space_does_not_join_digits():
    assert outcome(answer("(1 0-10+3)*8")) == "illegal_syntax"


def test_g4_penalties_do_not_add_up():
    worst = answer("9+9+*)(@")  # unknown numbers, cards left over, bad grammar three times
    assert grade_formula(worst, CARDS, NUMBERS, 24, "outcome").reward == -3.0


def test_g5_a_lost_bracket_earns_nothing():
    found = grade_formula(answer("8*(10-10+3"), CARDS, NUMBERS, 24, "outcome")
    assert (found.outcome, found.reward) == ("illegal_syntax", -3.0)


def test_g6_no_model_text_is_executed(monkeypatch):
    sources = [inspect.getsource(module) for module in (verifier, answer_object)]
    calls = {node.func.id for source in sources for node in ast.walk(ast.parse(source)) if _is_call(node)}
    assert not calls & {"eval", "exec", "compile", "__import__", "getattr"}

    def refuse(*_args, **_kwargs):
        raise AssertionError("executed")

    monkeypatch.setattr(builtins, "eval", refuse)
    monkeypatch.setattr(builtins, "exec", refuse)
    assert outcome(answer(RIGHT)) == "correct"
    assert outcome(answer("__import__('os').getcwd()")) == "illegal_syntax"


def _is_call(node):
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        (RIGHT, "correct"),
        (RIGHT + "=24", "correct"),
        (RIGHT + " = 24 ", "correct"),
        (RIGHT + "=99", "wrong_value"),
        (RIGHT + "=", "wrong_value"),
        (RIGHT + "=24.0", "correct"),
        (RIGHT + "=024.00 ", "correct"),
        (RIGHT + "=24.", "wrong_value"),
        (RIGHT + "=24.5", "wrong_value"),
        (RIGHT + "=24.05", "wrong_value"),
        (RIGHT + "=+24", "wrong_value"),
        (RIGHT + "=\u0662\u0664", "wrong_value"),
        (RIGHT + "=8*3", "wrong_value"),
        (RIGHT + "=24=24", "illegal_syntax"),
        ("24=" + RIGHT, "wrong_numbers"),
        ("=24", "illegal_syntax"),
    ],
)
def test_right_hand_side_must_be_the_target(formula, expected):
    assert outcome(answer(formula)) == expected


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("(10-10+3)×8", "correct"),
        ("8*3÷(10÷10)", "correct"),
        ("-10+10+3*8", "illegal_syntax"),
        ("(10-10+3)(8)", "illegal_syntax"),
        ("(10-10+3)8", "illegal_syntax"),
        ("()", "illegal_syntax"),
        ("", "illegal_syntax"),
        ("8*3+10-10)", "illegal_syntax"),
        ("((((8*3+10-10))))", "correct"),
        ("08*3+10-10", "correct"),
        ("8*3+10\N{MINUS SIGN}10", "correct"),
        ("8*3+10\N{EN DASH}10", "illegal_syntax"),
        ("8.0*3.00+10-10.0=24.0", "correct"),
        ("8.5*3+10-10", "illegal_syntax"),
        ("8.05*3+10-10", "illegal_syntax"),
        ("8.*3+10-10", "illegal_syntax"),
        ("8.0.0*3+10-10", "illegal_syntax"),
    ],
)
def test_grammar(formula, expected):
    assert outcome(answer(formula)) == expected


def test_long_formulas_are_refused_even_with_a_right_start():
    assert outcome(answer(RIGHT + " " * 53)) == "correct"  # 64 characters
    assert outcome(answer(RIGHT + " " * 54)) == "illegal_syntax"


HOSTILE = {
    "brackets": answer("(" * 32 + "1" + ")" * 31),
    "brackets past the limit": answer("(" * 500 + "1" + ")" * 500),
    "huge number": answer("9" * 60),
    "huge number in a list": '{"formula": "1", "number": [' + "9" * 3000 + "]}",
    "huge exponent": '{"formula": "1", "number": [1e999999999, 1E-999999999]}',
    "power tower": answer("9**9**9"),
    "product": answer("*".join(["999"] * 16)),
    "unicode digits": answer("٨*٣+١-1"),
    "superscripts": answer("8²*3"),
    "fullwidth": answer("８*３+10-10"),
    "import": answer("__import__('os').system('true')"),
    "format": answer("{0.__class__}"),
    "megabyte": "x" * 1_000_000,
    "megabyte of brackets": "{" * 1_000_000 + "}",
    "megabyte in a formula": answer("8+" * 500_000),
    "deep lists": '{"formula":' + "[" * 2000 + "]" * 2000 + "}",
    "deep objects": '{"a":' * 800 + "1" + "}" * 800,
    "open lists": '{"formula":' + "[" * 4000 + "}",
    "commas": "{" + ", " * 2000 + "}",
    "quotes": "{" + "'\"" * 2000 + "}",
    "null byte": answer("8*3\x00+10-10"),
    "null bytes": "\x00" * 4000,
    "nan": '{"formula": NaN, "number": [NaN, Infinity, -Infinity], "cards": NaN}',
    "duplicate keys": '{"formula": "(10-10+3)*8", "formula": "1"}',
    "number formula": '{"formula": 24}',
    "list formula": '{"formula": ["(10-10+3)*8"]}',
    "null formula": '{"formula": null}',
    "object cards": '{"formula": "1", "cards": {"a": 1}, "number": "8,3"}',
    "mixed cards": '{"formula": "1", "cards": [null, {}, [], 1.5, true, "8"], "number": [{}]}',
    "long list": '{"formula": "1", "cards": [' + "1," * 1900 + "1]}",
    "lone surrogate": '{"formula": "\\ud800", "cards": ["\\udfff"]}',
    "array": "[1, 2]",
    "empty": "",
    "closed before open": "}{",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_adversarial_answers_are_graded_fast_and_leave_no_trace(name):
    seconds = []
    for _ in range(3):  # the best of three: the machine may be busy
        begun = time.perf_counter()
        found = grade_formula(HOSTILE[name], CARDS, NUMBERS, 24, "outcome")
        seconds.append(time.perf_counter() - begun)
    assert not found.correct
    assert found.outcome in FORMULA_OUTCOME_REWARD
    assert min(seconds) < 0.010
    json.dumps(dict(found.info))
    assert outcome(answer(RIGHT)) == "correct"


def test_the_last_of_two_keys_counts():
    assert outcome('{"formula": "1", "formula": "(10-10+3)*8"}') == "correct"


NESTED = {
    "objects": '{"a":',
    "objects in lists": '{"a":[',
    "names": '{"{',
    "both quotes": "{'\"",
    "escapes": '{"a":"\\"',
    "values": '{"a":{},',
    "spaces": "{ ",
}


@pytest.mark.parametrize("name", NESTED)
def test_the_time_is_linear_in_the_answer(name, monkeypatch):
    """Sixteen times the text takes about sixteen times as long; it would be 256 times were it read again and again."""
    monkeypatch.setattr(answer_object, "MAX_ANSWER", 1 << 20)

    def seconds(size):
        text = (NESTED[name] * size)[:size]
        return min(_timed(lambda: answer_object.last_object(text, "formula")) for _ in range(3))

    assert seconds(16 * 4096) < 60 * seconds(4096)


def _timed(work):
    begun = time.process_time()
    work()
    return max(time.process_time() - begun, 1e-4)


PIECES = st.sampled_from(
    ["{", "}", '"formula"', ":", '"', "'", "(", ")", "8", "3", "10", "+", "-", "*", "/", "=", " ", ","]
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=30).map("".join)))
def test_random_text_never_raises(text):
    for whole in (text, answer(text), '{"formula": "' + text + '"}'):
        found = grade_formula(whole, CARDS, NUMBERS, 24, "outcome")
        assert found.reward == FORMULA_OUTCOME_REWARD[found.outcome]
        assert found.correct == (found.outcome == "correct")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.permutations([10, 10, 3, 8]), st.lists(st.sampled_from("+-*/"), min_size=3, max_size=3))
def test_verdict_is_the_value_of_python_fractions(numbers, signs):
    text = "".join(f"{n}{sign}" for n, sign in zip(numbers, [*signs, ""], strict=True))
    value = eval(
        "".join(f"Fraction({n}){s}" for n, s in zip(numbers, [*signs, ""], strict=True)), {"Fraction": Fraction}
    )
    assert outcome(answer(text)) == ("correct" if value == 24 else "wrong_value")
    # Whatever the value is, it is reported exactly.
    assert judge_formula(answer(text), CARDS, NUMBERS, 24)[1]["value"] == str(value)


def _by_python(formula):
    """The numbers and the exact value of a formula, by Python's own grammar; None if it is not one."""
    left = formula.partition("=")[0].replace("\N{MINUS SIGN}", "-").replace(".0", "")
    left = re.sub(r"\b0+(?=[0-9])", "", left)
    try:
        tree = ast.parse(left.strip(), mode="eval").body
        return _numbers(tree), _value(tree)
    except (SyntaxError, ValueError, ZeroDivisionError, KeyError):
        return None


def _numbers(node):
    if isinstance(node, ast.Constant):
        return [node.value]
    return sorted(_numbers(node.left) + _numbers(node.right)) if isinstance(node, ast.BinOp) else [None]


def _value(node):
    if isinstance(node, ast.Constant):
        return Fraction(node.value)
    signs = {
        ast.Add: operator.add,
        ast.Sub: operator.sub,
        ast.Mult: operator.mul,
        ast.Div: operator.truediv,
    }
    return signs[type(node.op)](_value(node.left), _value(node.right))


FORMULAS = st.sampled_from(
    [RIGHT, RIGHT + "=24", RIGHT + "=24.0", RIGHT + "=23", "10+10+8-3", "8*3+10\N{MINUS SIGN}10", "8+3", "8.0*3+10-10"]
)
BROKEN = st.sampled_from(
    ["{", "}", '"', "'", ",", "{}", "{ok}", "it's ", "[", "]", ":", "\\", " ", '{"formula":', "{'formula': 'x'}"]
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.one_of(BROKEN, FORMULAS.map(answer), FORMULAS.map(lambda f: f"{{'formula': '{f}',")), max_size=8))
def test_whatever_is_called_correct_is_correct_by_another_reading(parts):
    text = "".join(parts)
    if outcome(text) == "correct":
        plain = text.replace("\\u2212", "\N{MINUS SIGN}")
        written = re.findall(r"[-+*/().=0-9\N{MINUS SIGN}]{3,}", plain)
        right = [formula for formula in written if _by_python(formula) == (sorted(NUMBERS), Fraction(24))]
        assert right, text
        assert any(formula.partition("=")[2] in ("", "24", "24.0") for formula in right)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(before=st.lists(BROKEN, max_size=4).map("".join), after=st.lists(BROKEN, max_size=4).map("".join))
def test_a_wrong_last_object_is_never_paid_for_a_right_one_before_it(before, after):
    assert not grade_formula(f"{GOOD}{before}{answer('8+3')}{after}", CARDS, NUMBERS, 24, "outcome").correct


def test_grading_is_fast():
    text = answer(RIGHT + "=24")
    grades = 1000
    best = min(_seconds(text, grades) for _ in range(3))
    assert grades / best > 5_000


def _seconds(text, grades):
    begun = time.process_time()
    for _ in range(grades):
        grade_formula(text, CARDS, NUMBERS, 24, "outcome")
    return time.process_time() - begun
