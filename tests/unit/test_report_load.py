import json

import numpy as np
import pytest
from report_runs import config, metric_rows, write_run

from amft.errors import RunError
from amft.report.load import load_run
from amft.runs import RunDirectory


def rows_to_run(path, rows, **changes):
    return load_run(write_run(path / "r", metrics=rows, scores=[], samples=[], config_changes=changes))


def test_columns_line_up_with_steps_and_none_is_nan(tmp_path):
    rows = [
        {"step": 1, "reward": 0.5, "phase": "mix"},
        {"step": 2, "reward": None, "entropy": 1, "phase": "mix"},
        {"step": 4, "entropy": 2.0, "note": "text"},
    ]
    run = rows_to_run(tmp_path, rows, sft_warmup_steps=0)
    assert run.steps.tolist() == [1, 2, 4]
    np.testing.assert_array_equal(run.metrics["reward"], [0.5, np.nan, np.nan])
    steps, values = run.measured("entropy")
    assert (steps.tolist(), values.tolist()) == ([2, 4], [1.0, 2.0])
    assert "note" not in run.metrics
    assert run.measured("no/such")[1].size == 0


def test_a_step_written_twice_counts_once_and_order_does_not_matter(tmp_path):
    run = rows_to_run(tmp_path, [{"step": 2, "reward": 0.1}, {"step": 1, "reward": 0.2}, {"step": 2, "reward": 0.3}])
    assert (run.steps.tolist(), run.metrics["reward"].tolist()) == ([1, 2], [0.2, 0.3])


def test_late_is_the_second_half_of_the_single_stage(tmp_path):
    # Warm-up is steps 1-4, the single stage 5-10, so the second half is 8, 9, 10.
    rows = [{"step": s, "reward": float(s), "phase": "warmup" if s < 5 else "mix"} for s in range(1, 11)]
    run = rows_to_run(tmp_path, rows)
    assert run.late("reward").tolist() == [8.0, 9.0, 10.0]
    assert run.measured("reward", mixing=True)[0][0] == 5


def test_warmup_from_the_config_when_the_phase_is_not_logged(tmp_path):
    run = rows_to_run(tmp_path, [{"step": s, "reward": 0.0} for s in range(1, 5)], sft_warmup_steps=2)
    assert run.warmup.tolist() == [True, True, False, False]


def test_a_run_that_has_only_just_begun(tmp_path):
    RunDirectory.create(tmp_path / "r").write("config", config())
    run = load_run(tmp_path / "r")
    assert (run.last_step, run.env, run.scores, run.late("reward").size) == (0, {}, [], 0)


def test_a_torn_last_line_is_left_out(tmp_path):
    path = write_run(tmp_path / "r", metrics=list(metric_rows(30)))
    with open(path / "metrics.jsonl", "a") as file:
        file.write('{"step": 31, "rew')
    assert load_run(path).last_step == 30


@pytest.mark.parametrize("line", ["[1]", '{"reward": 1}', '{"step": "a"}'])
def test_damaged_lines_are_named(tmp_path, line):
    path = write_run(tmp_path / "r")
    (path / "events.jsonl").write_text(line + "\n")
    with pytest.raises(RunError, match=r"events\.jsonl: line 1 must"):
        load_run(path)


def test_no_run_and_no_object(tmp_path):
    with pytest.raises(RunError, match="not a run directory"):
        load_run(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps([1]))
    with pytest.raises(RunError, match="one JSON object"):
        load_run(tmp_path)
