"""Reward functions: what they are given, what is taken from them, and every way they can fail."""

import asyncio
import functools
import math
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amft.data.rewards import FunctionReward, TaskReward, load_reward, score_completions
from amft.errors import ConfigError, RewardError
from amft.types import Grade, Problem, abstain

NAN = math.nan
ROWS = [
    {"prompt": "2+2=", "completion": "4", "answer": 4, "level": "easy"},
    {"prompt": "2+2=", "completion": "4", "answer": 4, "level": "easy"},
    {"prompt": "3+5=", "completion": "8", "answer": 8},
]
TEXTS = ["4", "5", "8"]
IDS = [[14, 2], [15, 2], [18, 2]]


def reward(*functions: Callable[..., Any], weights: list[float] | None = None) -> Any:
    return FunctionReward(functions, weights).score(ROWS, TEXTS, IDS)


def right(completions: list[str], answer: list[int], **_: Any) -> list[float]:
    return [float(text == str(value)) for text, value in zip(completions, answer, strict=True)]


def short(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [-len(ids) / 4 for ids in completion_ids]


def same(left: list[float], right: list[float]) -> bool:
    return len(left) == len(right) and all(a == b or (a != a and b != b) for a, b in zip(left, right, strict=True))


def test_functions_get_the_columns_of_the_rows() -> None:
    given: dict[str, Any] = {}

    def look(**arguments: Any) -> list[float]:
        given.update(arguments)
        return [0.0] * 3

    reward(look)
    assert given == {
        "prompts": ["2+2=", "2+2=", "3+5="],
        "completions": TEXTS,
        "completion_ids": IDS,
        "answer": [4, 4, 8],
        "level": ["easy", "easy", None],
    }


def test_a_conversation_gives_the_completion_as_a_message() -> None:
    rows = [{"prompt": [{"role": "user", "content": "2+2="}]}]
    seen: list[Any] = []

    def look(completions: list[Any], **_: Any) -> list[float]:
        seen.extend(completions)
        return [1.0]

    FunctionReward([look]).score(rows, ["4"], [[14, 2]])
    assert seen == [[{"role": "assistant", "content": "4"}]]


def test_weighted_sum() -> None:
    scores = reward(right, short, weights=[2.0, 0.5])
    # right 1, 0, 1 and short -2/4: 2*1 - 0.25, 0 - 0.25, 2*1 - 0.25
    assert scores.rewards == [1.75, -0.25, 1.75]
    assert scores.parts == {"right": [1.0, 0.0, 1.0], "short": [-0.5] * 3}
    assert scores.abstained == 0
    assert scores.outcomes is None
    assert scores.correct is None


def test_abstention_is_left_out_of_the_sum_and_counted_when_all_abstain() -> None:
    def first(**_: Any) -> list[float | None]:
        return [1.0, None, None]

    def second(**_: Any) -> list[float | None]:
        return [None, -2.0, None]

    scores = reward(first, second, weights=[3.0, 0.5])
    assert same(scores.rewards, [3.0, -1.0, NAN])
    assert scores.abstained == 1
    assert same(scores.parts["first"], [1.0, NAN, NAN])


def test_the_sum_is_that_of_trl() -> None:
    """Oracle: TRL 1.16's expression for `sum_then_normalize`: nansum of weighted columns, NaN where all are NaN."""
    generator = np.random.default_rng(0)
    table = generator.normal(size=(40, 3))
    table[generator.random(table.shape) < 0.4] = NAN
    weights = [0.3, -1.0, 2.0]
    columns = [[None if math.isnan(value) else value for value in column] for column in table.T]
    functions = [lambda column=column, **_: column for column in columns]
    ours = score_completions(
        functions, weights, prompts=[""] * 40, completions=[""] * 40, completion_ids=[[]] * 40, columns={}
    )
    values = torch.tensor(table)
    theirs = (values * torch.tensor(weights, dtype=torch.float64).unsqueeze(0)).nansum(dim=1)
    theirs[torch.isnan(values).all(dim=1)] = NAN
    assert ours.abstained > 0
    np.testing.assert_allclose(ours.rewards, theirs.numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    "values",
    [
        [1, 0, 1],
        (True, False, True),
        np.array([1.0, 0.0, 1.0]),
        np.array([True, False, True]),
        [np.float32(1), np.bool_(False), np.int64(1)],
        torch.tensor([1.0, 0.0, 1.0], dtype=torch.bfloat16),
        [torch.tensor(1.0), torch.tensor(0), torch.tensor(True)],
        [Fraction(1), 0.0, 1],
    ],
    ids=str,
)
def test_numbers_of_every_kind(values: Any) -> None:
    scores = reward(lambda **_: values)
    assert scores.rewards == [1.0, 0.0, 1.0]
    assert all(type(value) is float for value in scores.rewards)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1.0], "returned 1 values for 3 completions"),
        ([1.0] * 4, "returned 4 values for 3"),
        ([], "returned 0 values"),
        (1.0, "returned a float; return a list of 3"),
        (None, "returned a NoneType"),
        ("abc", "returned a str"),
        ({0: 1.0, 1: 1.0, 2: 1.0}, "returned a dict"),
        (np.array(1.0), "returned a ndarray"),
        (np.ones((3, 1)), "row 1: returned list"),
        ([1.0, "0.5", 1.0], r"row 2: returned str '0\.5'"),
        ([1.0, 1j, 1.0], "row 2: returned complex"),
        ([1.0, [1.0], 1.0], "row 2: returned list"),
    ],
)
def test_anything_else_is_refused_with_name_row_and_fix(values: Any, said: str) -> None:
    def careless(**_: Any) -> Any:
        return values

    with pytest.raises(RewardError, match=said) as caught:
        reward(right, careless)
    assert "reward function 'careless'" in str(caught.value)
    assert "; return" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [[1.0, NAN, 1.0], [1.0, -math.inf, 1.0], [1.0, 10**400, 1.0], [1.0, 1e308, 1.0], torch.tensor([1.0, NAN, 1.0])],
    ids=str,
)
def test_what_cannot_be_computed_with_is_infinite_and_no_abstention(values: Any) -> None:
    scores = FunctionReward([lambda **_: values, lambda **_: [0.5] * 3], [0.0, 2.0]).score(ROWS, TEXTS, IDS)
    assert scores.rewards == [1.0, math.inf, 1.0]
    assert scores.abstained == 0


def test_a_weighted_sum_that_overflows_is_infinite() -> None:
    assert reward(lambda **_: [1e14, 0.0, -1e14], weights=[100.0]).rewards == [math.inf, 0.0, math.inf]


def test_an_exception_is_named_with_its_place() -> None:
    def broken(**_: Any) -> list[float]:
        raise KeyError("many\nlines")

    with pytest.raises(RewardError, match=r"'broken' raised KeyError: .* at test_rewards\.py:\d+$") as caught:
        reward(broken)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_function_without_kwargs_is_told_so() -> None:
    def narrow(completions: list[str]) -> list[float]:
        return [0.0] * len(completions)

    with pytest.raises(RewardError, match=r"'narrow' cannot be called.*unexpected keyword.*\*\*kwargs"):
        reward(narrow)


def test_async_functions_run_side_by_side_and_keep_their_loop() -> None:
    """Two rewards that each wait for the other can only end when both run; the loop is the same at every call."""
    loops = set()
    first_in, second_in = asyncio.Event(), asyncio.Event()

    async def one(**_: Any) -> list[float]:
        loops.add(id(asyncio.get_running_loop()))
        first_in.set()
        await asyncio.wait_for(second_in.wait(), 5)
        return [1.0, 1.0, 1.0]

    async def two(**_: Any) -> list[float | None]:
        loops.add(id(asyncio.get_running_loop()))
        second_in.set()
        await asyncio.wait_for(first_in.wait(), 5)
        return [None, 2.0, 3.0]

    for _ in range(2):
        assert reward(one, right, two).rewards == [2.0, 3.0, 5.0]
    assert len(loops) == 1


def test_async_inside_a_running_loop() -> None:
    """As in a notebook, where the caller's thread already runs a loop."""

    async def slow(**_: Any) -> list[float]:
        await asyncio.sleep(0)
        return [float(threading.current_thread() is not threading.main_thread())] * 3

    async def notebook() -> list[float]:
        return reward(slow).rewards

    assert asyncio.run(notebook()) == [1.0, 1.0, 1.0]


def test_async_faults_are_named() -> None:
    async def broken(**_: Any) -> list[float]:
        raise ValueError("no server")

    class Judge:
        async def __call__(self, **_: Any) -> list[float]:
            return [1.0]

    with pytest.raises(RewardError, match=r"'broken' raised ValueError: no server at test_rewards\.py"):
        reward(broken)
    with pytest.raises(RewardError, match="'Judge' returned 1 values for 3"):
        reward(Judge())


def test_functions_of_one_name_keep_apart() -> None:
    scores = reward(lambda **_: [1.0] * 3, lambda **_: [2.0] * 3, functools.partial(right))
    assert list(scores.parts) == ["<lambda>", "<lambda>_2", "partial"]
    assert scores.rewards == [4.0, 3.0, 4.0]


def test_a_function_cannot_spoil_the_arguments_of_the_next() -> None:
    def spoil(completions: list[str], answer: list[int], **_: Any) -> list[float]:
        completions.clear()
        answer[:] = [0] * len(answer)
        return [0.0] * 3

    assert reward(spoil, right).rewards == [1.0, 0.0, 1.0]


def test_weights_and_functions_must_match() -> None:
    with pytest.raises(ConfigError, match="reward_weights: 1 for 2 functions"):
        FunctionReward([right, short], [1.0])
    with pytest.raises(ConfigError, match="reward_funcs"):
        FunctionReward([])


def test_a_column_named_like_an_argument() -> None:
    with pytest.raises(RewardError, match=r"column 'prompts'.*rename"):
        FunctionReward([right]).score([{"prompt": "a", "prompts": "b"}], ["4"], [[1]])


class Parity:
    """The part of a task that scoring uses."""

    def grade(self, problem: Problem, answer: str) -> Grade:
        correct = answer == problem.params["answer"]
        return Grade("correct" if correct else "wrong", 1.0 if correct else problem.params.get("penalty", 0.0), correct)


def problem(**params: Any) -> dict[str, Any]:
    return {"prompt": "?", "problem": Problem("parity-v1", "train", "k", params)}


def test_a_task_gives_the_same_table_with_outcomes() -> None:
    rows = [problem(answer="odd"), problem(answer="even")]
    scores = TaskReward(Parity()).score(rows, ["odd", "odd"], [[1], [1]])  # type: ignore[arg-type]
    assert scores.rewards == [1.0, 0.0]
    assert scores.parts == {"task": [1.0, 0.0]}
    assert scores.outcomes == ["correct", "wrong"]
    assert scores.correct == [True, False]
    assert scores.abstained == 0


def test_a_grade_that_is_not_finite_is_infinite_and_one_that_is_no_number_is_refused() -> None:
    scores = TaskReward(Parity()).score([problem(answer="odd", penalty=NAN)], ["even"], [[1]])  # type: ignore[arg-type]
    assert scores.rewards == [math.inf]
    with pytest.raises(RewardError, match="grade of 'wrong', row 1: returned str"):
        TaskReward(Parity()).score([problem(answer="odd", penalty="1")], ["even"], [[1]])  # type: ignore[arg-type]


class Batched(Parity):
    """Grades all at once, and cannot judge the answer `bomb`."""

    def grade_many(self, problems: list[Problem], answers: list[str]) -> list[Grade]:
        return [
            abstain("grader_timeout", "5 s") if answer == "bomb" else self.grade(problem, answer)
            for problem, answer in zip(problems, answers, strict=True)
        ]


def test_a_grader_that_cannot_judge_abstains_and_is_counted() -> None:
    rows = [problem(answer="odd")] * 3
    scores = TaskReward(Batched()).score(rows, ["odd", "bomb", "even"], [[1]] * 3)  # type: ignore[arg-type]
    assert same(scores.rewards, [1.0, NAN, 0.0])
    assert same(scores.parts["task"], [1.0, NAN, 0.0])
    assert scores.outcomes == ["correct", "grader_timeout", "wrong"]
    assert scores.correct == [True, False, False]
    assert scores.abstained == 1


SOURCE = """
from __future__ import annotations
from dataclasses import dataclass

@dataclass
class Rule:
    points: float

def points(completions, **kwargs):
    return [Rule(2.0).points for _ in completions]

constant = 3
"""


def test_load_reward(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SOURCE)
    assert reward(load_reward(f"{file}:points")).rewards == [2.0] * 3


def test_two_files_of_one_name_keep_apart(tmp_path: Path) -> None:
    functions = []
    for value in (1.0, 2.0):
        file = tmp_path / str(value) / "reward.py"
        file.parent.mkdir()
        file.write_text(f"VALUE = {value}\ndef f(completions, **_):\n    return [VALUE] * len(completions)\n")
        functions.append(load_reward(f"{file}:f"))
    assert functions[0].__module__ != functions[1].__module__
    assert reward(*functions).parts == {"f": [1.0] * 3, "f_2": [2.0] * 3}


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("rewards.py", "write it as"),
        ("{dir}/mine.py:", "write it as"),
        ("{dir}/none.py:f", "no file"),
        ("{dir}/mine.py:f", "has no function f"),
        ("{dir}/mine.py:constant", "constant is a int, not a function"),
        ("{dir}/broken.py:f", r"cannot be imported \(SyntaxError: .*line 1"),
        ("{dir}/raises.py:f", r"cannot be imported \(ZeroDivisionError: division by zero\)"),
        ("{dir}/leaves.py:f", r"cannot be imported \(SystemExit: 3\)"),
        ("{dir}/notes.txt:f", "name it .py"),
    ],
)
def test_load_reward_says_what_is_wrong(tmp_path: Path, reference: str, said: str) -> None:
    for name, text in {
        "mine.py": SOURCE,
        "broken.py": "def f(:\n",
        "raises.py": "1 / 0\n",
        "leaves.py": "import sys\nsys.exit(3)\n",
        "notes.txt": "def f(): ...\n",
    }.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(RewardError, match=said) as caught:
        load_reward(reference.format(dir=tmp_path))
    assert "\n" not in str(caught.value)
