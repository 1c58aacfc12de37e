"""What a task measures besides success, in the table of a study."""

import json

from study_dirs import write_all

from amft.report.study.load import load_study
from amft.report.study.summary import summarize
from amft.report.study.table import lines

SMALL = {
    "regimes": {"all": {}}, "rules": {"sft": "sft", "rl": "rl"}, "grid": [], "tuned": {}, "seeds": [0, 1],
    "subject": "rl",
}  # fmt: skip
LEVELS = {("all", "sft"): 0.5, ("all", "rl"): 0.5}


def add_metrics(place, values):
    """`values`: model -> recognition of every even and every odd problem on `id`."""
    path = place / "scores.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        if row["split"] == "id":
            row["metrics"] = {"recognition": values[row["model"]][row["problem"] % 2]}
    # A run that was cut off while it answered has written a row twice: the last one counts.
    first = [{**row, "metrics": {"recognition": 99.0}} for row in rows if row["split"] == "id"][:1]
    text = "".join(json.dumps(row) + "\n" for row in [*first, *rows])
    path.write_text(text)


def test_means_over_answers_and_seeds_before_and_after(tmp_path):
    folder = write_all(tmp_path / "study", LEVELS, **SMALL)
    for seed, after in enumerate(((1.0, 0.0), (1.0, 1.0))):
        add_metrics(folder / f"runs/all/sft/seed-{seed}", {"base": (0.5, 0.0), "policy": after})
    study = load_study(folder)
    summary = summarize(study)
    assert summary["measured"] == [
        {
            "split": "id", "regime": "all", "rule": "sft", "name": "recognition",
            "base": 0.25, "value": (0.5 + 1.0) / 2, "seeds": 2,
        }
    ]  # fmt: skip
    text = "\n".join(lines(study, summary))
    assert "all     sft   id     recognition  0.250   0.750  2" in text


def test_a_study_of_tasks_that_measure_nothing_else_has_no_such_block(tmp_path):
    study = load_study(write_all(tmp_path / "study", LEVELS, **SMALL))
    summary = summarize(study)
    assert summary["measured"] == []
    assert "measured" not in "\n".join(lines(study, summary))
