"""Published files: every known layout is read, and every malformed row is named."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from amft.errors import DataError
from amft.tasks.math.load import check_rows, download_set, read_set
from amft.tasks.math.rows import BOX_ANSWER, BOX_LETTER
from amft.tasks.math.sets import SETS


def verl(source: str, question: str, answer: str, **more: Any) -> dict[str, Any]:
    return {
        "data_source": source,
        "prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": question}],
        "ability": "math",
        "reward_model": {"ground_truth": answer, "style": "rule"},
        "extra_info": {"index": 0, "split": "default"},
        **more,
    }


def shown(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


CHOICES = "Which is a prime?\n\nA) 4\nB) 7\nC) 9"
ROWS: dict[str, list[dict[str, Any]]] = {
    "openr1_math": [verl("", "What is 1+1?", "2", target=shown("<think>\nsum\n</think>\n\\boxed{2}"))],
    "openr1_math_220k": [
        {
            "problem": "What is 1+1?", "solution": "Count: $2$", "answer": "2", "problem_type": "Algebra",
            "question_type": "math-word-problem", "source": "olympiads", "uuid": "0-1",
            "is_reasoning_complete": [True, True], "generations": ["\\boxed{3}", "<think>sum</think> \\boxed{2}"],
            "correctness_math_verify": [False, True], "correctness_llama": None, "finish_reasons": None,
            "correctness_count": 1, "messages": [{"role": "user", "content": "What is 1+1?"}],
        }
    ],
    "plain": [{"prompt": "What is 1+1?", "answer": 2, "demonstration": "One more: \\boxed{2}"}],
    "aime24": [
        verl("aime", "What is 1+1?", "2"),
        {"problem": "What is 1+1?", "answer": "2", "solution": "?"},
        {"Problem": "What is 1+1?", "Answer": 2, "Solution": "?"},
    ],
    "amc": [verl("amc", "What is 1+1?", "2"), {"problem": "What is 1+1?", "answer": 2.0}],
    "math500": [verl("math", "What is 1+1?", "2"), {"problem": "What is 1+1?", "answer": "2", "subject": "Algebra"}],
    "minerva": [verl("minerva", "What is 1+1?", "2"), {"question": "What is 1+1?", "answer": "2"}],
    "olympiad_bench": [
        verl("olympiad_bench", "What is 1+1?", "2"),
        {"question": "What is 1+1?", "final_answer": ["2"]},
    ],
    "arc_c": [
        verl("arc_c", CHOICES, "B"),
        verl("arc_c", CHOICES.replace("A)", "1)").replace("B)", "2)").replace("C)", "3)"), "2"),
        {
            "question": "Which is a prime?",
            "choices": {"text": ["4", "7", "9"], "label": ["1", "2", "3"]},
            "answerKey": "2",
        },
    ],
    "gpqa_d": [
        verl("gpqa", CHOICES, "B"),
        {
            "Question": "Which is a prime?", "Correct Answer": "7", "Incorrect Answer 1": "4",
            "Incorrect Answer 2": "6", "Incorrect Answer 3": "9",
        },
    ],
    "mmlu_pro": [
        verl("mmlu_pro", CHOICES, "B"),
        {
            "question_id": 70, "question": "Which is a prime?", "options": ["4", "7", "9"], "answer": "B",
            "answer_index": 1, "cot_content": "", "category": "math", "src": "ori_mmlu-high_school_mathematics",
        },
    ],
}  # fmt: skip
LAYOUTS = [(name, number) for name in ROWS for number in range(len(ROWS[name]))]


def test_every_layout_of_every_set_has_a_sample() -> None:
    assert ROWS.keys() == SETS.keys()
    assert all(len(ROWS[name]) >= len(known.layouts) for name, known in SETS.items())


@pytest.mark.parametrize(("name", "number"), LAYOUTS)
def test_a_layout_is_read(name: str, number: int) -> None:
    row = ROWS[name][number]
    loaded = check_rows(name, [row], "file")
    assert loaded.bad == []
    [item] = loaded.items
    question = item.messages[-1]["content"]
    if SETS[name].choice:
        assert f"{item.answer}) 7" in question
        assert item.answer in item.letters
        assert question.endswith(BOX_LETTER) == ("prompt" not in row)
    else:
        assert item.answer == "2"
        assert question.startswith("What is 1+1?")
        assert question.endswith(BOX_ANSWER) == ("data_source" not in row)
    assert [message["role"] for message in item.messages] == (["system", "user"] if "data_source" in row else ["user"])
    assert (item.demonstration is not None) == (name in ("openr1_math", "openr1_math_220k", "plain"))


def test_the_demonstration_is_the_first_that_was_verified() -> None:
    row = ROWS["openr1_math_220k"][0]
    [item] = check_rows("openr1_math_220k", [row], "file").items
    assert item.demonstration == row["generations"][1]


def test_repeats_and_rows_of_other_sets_are_counted() -> None:
    rows = [verl("aime", "One?", "1"), verl("amc", "Two?", "2")] * 32 + [verl("aime", " one? ", "1")]
    counts = check_rows("aime24", rows, "file").counts()
    assert counts == {"set": "aime24", "used": 1, "repeated": 32, "passed_over": 32, "bad": {}}


GOOD = ROWS["openr1_math"][0]
RAW = ROWS["openr1_math_220k"][0]
VERIFIED = "correctness_math_verify"
TARGET = "target"
GOLD = "reward_model.ground_truth"
MALFORMED = [
    ("openr1_math", {**GOOD, "prompt": None}, "prompt: is null, not text or a list of messages"),
    ("openr1_math", {**GOOD, "prompt": []}, "prompt: is of type list, not text or a list of messages"),
    ("openr1_math", {**GOOD, "prompt": [{"content": "?"}]}, "prompt: has a message without a role"),
    ("openr1_math", {**GOOD, "prompt": [{"role": "user", "content": " "}]}, "prompt: is empty"),
    ("openr1_math", {**GOOD, "prompt": [{"role": "user", "content": 3}]}, "prompt: is of type int, not text"),
    ("openr1_math", {**GOOD, "prompt": shown("?")}, "prompt: does not end with the user's question"),
    ("openr1_math", {**GOOD, "prompt": "x" * 50_001}, "prompt: has 50001 characters, more than 50000"),
    ("openr1_math", {**GOOD, "reward_model": None}, f"{GOLD}: the column is missing"),
    ("openr1_math", {**GOOD, "reward_model": {"ground_truth": ""}}, f"{GOLD}: is empty"),
    ("openr1_math", {**GOOD, "reward_model": {"ground_truth": True}}, f"{GOLD}: is of type bool, not text"),
    ("openr1_math", {**GOOD, "reward_model": {"ground_truth": "9" * 600}}, f"{GOLD}: has 600 characters"),
    ("openr1_math", {**GOOD, "reward_model": {"ground_truth": "\\frac{1"}}, f"{GOLD}: has braces that do not match"),
    ("openr1_math", {**GOOD, "reward_model": {"ground_truth": float("nan")}}, f"{GOLD}: is nan, not a finite number"),
    ("openr1_math", {**GOOD, "target": shown("two")}, f"{TARGET}: has no final answer in \\boxed{{}}"),
    ("openr1_math", {**GOOD, "target": [{"role": "user", "content": "?"}]}, f"{TARGET}: is not one message of the"),
    ("openr1_math", {**GOOD, "target": None}, f"{TARGET}: is null, not text"),
    ("openr1_math", "a line of text", "row: is of type str, not an object"),
    ("arc_c", verl("arc_c", CHOICES, "D"), f"{GOLD}: 'D' is not the letter of a choice"),
    ("arc_c", verl("arc_c", "No choices.", "A"), f"{GOLD}: 'A' is not the letter of a choice"),
    ("openr1_math_220k", {**RAW, "generations": None}, "generations: is null, not a list of texts"),
    ("openr1_math_220k", {**RAW, VERIFIED: None}, f"{VERIFIED}: is not a list of 2 true or false"),
    ("openr1_math_220k", {**RAW, VERIFIED: [True]}, f"{VERIFIED}: is not a list of 2 true or false"),
    ("openr1_math_220k", {**RAW, VERIFIED: [0, 1]}, f"{VERIFIED}: is not a list of 2 true or false"),
    ("openr1_math_220k", {**RAW, VERIFIED: [False, False]}, f"{VERIFIED}: is true for none of the demonstrations"),
    ("openr1_math_220k", {**RAW, "generations": ["?", "two"]}, "generations: has no final answer in \\boxed{}"),
    ("openr1_math_220k", {**RAW, "generations": ["?", None]}, "generations: is null, not text"),
    ("openr1_math_220k", {**RAW, "answer": ""}, "answer: is empty"),
    ("mmlu_pro", {"question": "?", "options": ["4", "7"], "answer": "B", "answer_index": 0},
     "answer_index: is 0, and answer 'B' is choice 1"),
    ("mmlu_pro", {"question": "?", "options": ["4"], "answer": "A"}, "options: is of type list, not a list of 2 to 10"),
    ("mmlu_pro", {"question": "?", "options": ["4", None], "answer": "A"}, "options: is null, not text"),
    ("mmlu_pro", {"question": "?", "options": ["4", "7"], "answer": "C"}, "answer: 'C' is not one label of the 2"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "said"), MALFORMED, ids=lambda value: None)
def test_a_malformed_row_is_one_line_with_file_row_and_field(name: str, row: Any, said: str) -> None:
    good = next(r for r in ROWS[name] if isinstance(row, str) or row.keys() <= r.keys())
    loaded = check_rows(name, [good, row], "data/x.jsonl")
    assert len(loaded.items) == 1
    [bad] = loaded.bad
    assert str(bad).startswith(f"data/x.jsonl row 2: {said}")
    assert "\n" not in str(bad)


def test_a_question_with_two_answers_is_named() -> None:
    rows = [verl("aime", "One?", "1"), verl("aime", "One?", "2")]
    [bad] = check_rows("aime24", rows, "f").bad
    assert str(bad) == f"f row 2: {GOLD}: differs from that of an earlier row with the same question"


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize("name", ["openr1_math", "openr1_math_220k", "arc_c", "mmlu_pro"])
def test_files_of_each_kind_give_the_same(tmp_path: Path, suffix: str, name: str) -> None:
    rows = ROWS[name][:1] * 2
    loaded = read_set(name, write(tmp_path / f"x{suffix}", rows))
    assert (loaded.items, loaded.repeated) == (check_rows(name, rows, "").items, 1)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.jsonl", '{"prompt": 1}\n{"prompt', "x.jsonl line 2: not JSON"),
        ("x.json", "{", "x.json: not JSON .*name it .jsonl"),
        ("x.json", "{}", "x.json: holds one dict; make it a list"),
        ("x.json", "[" * 100_000, "x.json: (cannot be read|not JSON)"),
        ("x.jsonl", "", "x.jsonl: no rows"),
        ("x.jsonl", '{"question": "?"}\n', r"x.jsonl: needs the columns \(prompt.*target\); it has question"),
        ("x.jsonl", "3\n", "it has no columns but a int"),
        ("x.jsonl", "\xff", "x.jsonl: cannot be read"),
        ("x.parquet", "PAR1", r"x.parquet: cannot be read as \.parquet"),
        ("x.csv", "question\n?\n", r"x.csv: needs the columns \(prompt.*target\); it has question"),
        ("x.txt", "a,b", r"x.txt: unknown kind of file; convert it to .jsonl, .json, .parquet or .csv"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=said) as caught:
        read_set("openr1_math", tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_file_without_rows_of_the_set(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", [verl("amc", "?", "1")])
    with pytest.raises(DataError, match=r"none of its 1 rows has data_source = aime; is it aime24\?"):
        read_set("aime24", path)


def test_the_hub_is_asked_for_what_the_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def fake(*args: Any, **options: Any) -> Any:
        asked.append((*args, options["split"]))
        return datasets.Dataset.from_list([{"question": "What is 1+1?", "final_answer": ["2"]}])

    monkeypatch.setattr(datasets, "load_dataset", fake)
    assert download_set("olympiad_bench").items[0].answer == "2"
    assert asked == [("Hothan/OlympiadBench", "OE_TO_maths_en_COMP", "train")]
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: 1 / 0)
    with pytest.raises(DataError, match="cannot fetch AI-MO/aimo-validation-amc"):
        download_set("amc")
    with pytest.raises(DataError, match="plain: is not a published set"):
        download_set("plain")


def test_sympy_stays_out_of_this_process() -> None:
    code = "import sys, amft.tasks.math; assert not {'sympy', 'math_verify', 'datasets', 'pebble'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
