"""Two-digit sums as rows, and the reward that reads their answers.

    python recipes/smollm2/sums.py DIRECTORY

writes train.jsonl (400 rows with a demonstration) and test.jsonl (128 others): no pair of numbers is in both.
"""

import json
import random
import re
import sys
from pathlib import Path


def right(prompts, completions, answer, **columns):  # noqa: ARG001
    """1 where the last number of the answer is the sum: `82` and `47 + 35 = 82.` are both right."""
    said = [re.findall(r"\d+", completion[0]["content"]) for completion in completions]
    return [float(numbers[-1:] == [sought]) for numbers, sought in zip(said, answer)]


def row(a, b):
    question = {"role": "user", "content": f"What is {a} plus {b}? Reply with the number only."}
    return {
        "prompt": [question],
        "completion": [{"role": "assistant", "content": str(a + b)}],
        "answer": str(a + b),
    }


def main(directory):
    pairs = [(a, b) for a in range(10, 100) for b in range(10, 100)]
    random.Random(0).shuffle(pairs)
    directory.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", pairs[:400]), ("test", pairs[400:528])):
        text = "".join(json.dumps(row(a, b)) + "\n" for a, b in part)
        (directory / f"{name}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
