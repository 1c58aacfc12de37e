"""The driver with small scripts in place of training."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from study_dirs import study_file, write_one

from amft import progress_bar
from amft.cli import main
from amft.errors import RunError
from amft.study import drive
from amft.study.drive import Driver, Slot, slots, sole_driver
from amft.study.plan import plan_runs

SCRIPT = """
import json, os, pathlib, signal, sys, time
sys.path.insert(0, {tests!r})
from study_dirs import write_one
place = pathlib.Path(sys.argv[1])
with open(place.parent.parent.parent / "starts", "a") as file:
    print(place.name, os.environ["OMP_NUM_THREADS"], sys.argv[2], file=file)
{act}
"""
WRITE = "write_one(place, 0.5, int(place.name[5:]), dict(rule='sft'))"


@pytest.fixture
def runs(tmp_path):
    study = study_file(regimes={"many": {}}, rules={"sft": "sft"}, subject="sft", grid=[], tuned={}, seeds=[0, 1, 2])
    return plan_runs(study, tmp_path)


@pytest.fixture
def script(monkeypatch, tmp_path_factory):
    """Let runs be made by a script; `act` sees `place`, the run directory."""
    monkeypatch.syspath_prepend(str(tmp_path_factory.mktemp("script")))

    def use(act):
        text = SCRIPT.format(tests=os.path.dirname(__file__), act=textwrap.dedent(act))
        Path(sys.path[0], "run_script.py").write_text(text)
        words = [sys.executable, "-m", "run_script"]
        monkeypatch.setattr(drive, "command", lambda run, resume=False: [*words, str(run.path), str(resume)])

    return use


def driver(said, n=2):
    return Driver([Slot(None)] * n, said.append)


def starts(runs):
    return (runs[0].path.parent.parent.parent / "starts").read_text().splitlines()


def test_each_run_is_a_process_with_its_threads_and_is_told(runs, script):
    script(WRITE)
    said = []
    outcomes = driver(said).run(runs)
    assert set(outcomes.values()) == {"finished"}
    assert [run.state for run in runs] == ["finished"] * 3
    assert sorted(starts(runs)) == ["seed-0 1 False", "seed-1 1 False", "seed-2 1 False"]
    assert sorted(line.split("] ")[1] for line in said) == [f"many/sft seed {i}: finished" for i in range(3)]


CHECKPOINT = """
from amft.checkpoints.checkpoint import save_checkpoint
write_one(place, 0.5, 0, dict(rule='sft'))
save_checkpoint(place / "checkpoints" / "step-40", {"optimizer": {}}, {}, lambda folder: (folder / "w").touch())
"""


def names(run):
    return sorted(path.name for path in (run.path / "checkpoints" / "step-40").iterdir())


def test_a_finished_run_keeps_its_model_and_an_unfinished_one_everything(runs, script):
    stops = "(place / 'scores.jsonl').unlink(); sys.exit(3)"
    script(f"{CHECKPOINT}\nif place.name == 'seed-1':\n    {stops}")
    assert set(driver([]).run(runs[:2]).values()) == {"finished", "failed"}
    assert names(runs[0]) == ["manifest.json", "model", "state.json"]
    assert names(runs[1]) == ["manifest.json", "model", "optimizer.safetensors", "state.json"]


def test_a_study_that_wants_all_checkpoints_keeps_them_and_one_that_does_not_tidies_old_runs(runs, script):
    script(CHECKPOINT)
    assert Driver([Slot(None)], print, "all").run(runs[:1]) == {runs[0]: "finished"}
    assert "optimizer.safetensors" in names(runs[0])
    said = []
    driver(said).tidy(runs[0])
    assert names(runs[0]) == ["manifest.json", "model", "state.json"]
    assert said == []
    (runs[0].path / "checkpoints" / "step-40" / "manifest.json").unlink()
    driver(said).tidy(runs[0])  # is no reason to stop a study
    assert said[0].startswith("many/sft seed 0: its checkpoints stay as they are: ")


def test_a_failing_run_is_reported_and_the_others_go_on(runs, script):
    script(f"if place.name == 'seed-1':\n    print('no room left'); sys.exit(3)\n{WRITE}")
    said = []
    outcomes = driver(said).run(runs)
    assert [outcomes[run] for run in runs] == ["finished", "failed", "finished"]
    assert json.loads(runs[1].beside("failed.json").read_text()) == {"code": 3, "message": "no room left"}
    assert any("seed 1: failed: no room left (log: " in line for line in said)
    assert [run.state for run in runs] == ["finished", "failed", "finished"]
    script(WRITE)
    assert driver(said).run([runs[1]]) == {runs[1]: "finished"}
    assert not runs[1].beside("failed.json").exists()


def test_a_killed_run_is_a_failure_that_names_the_signal(runs, script):
    script("os.kill(os.getpid(), signal.SIGKILL)")
    assert driver([], 1).run(runs[:1]) == {runs[0]: "failed"}
    assert drive.failure(runs[0]).startswith("killed by SIGKILL")


def test_a_run_that_ends_well_without_its_answers_has_failed(runs, script):
    script("write_one(place, 0.5, 0, dict(rule='sft'), answers=False)")
    assert driver([], 1).run(runs[:1]) == {runs[0]: "failed"}


def test_a_started_run_is_resumed_and_half_a_directory_made_anew(runs, script):
    write_one(runs[0].path, 0.5, 0, {"rule": "sft"}, answers=False)
    runs[1].path.joinpath("checkpoints").mkdir(parents=True)
    script("import shutil; shutil.rmtree(place, ignore_errors=True)\n" + WRITE)
    driver([]).run(runs[:2])
    assert sorted(starts(runs)) == ["seed-0 1 True", "seed-1 1 False"]


def test_a_stop_signal_lets_runs_save_themselves_and_starts_no_more(runs, script):
    script("signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)); (place.parent / 'up').touch(); time.sleep(60)")
    up = runs[0].path.parent / "up"

    def interrupt():
        while not up.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        driver([], 1).run(runs)
    assert time.monotonic() - begun < 30
    assert len(starts(runs)) == 1
    assert {run.state for run in runs} == {"missing"}


def test_a_run_still_going_on_is_waited_for_not_doubled(runs, script):
    script(WRITE)
    orphan = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, str(runs[0].beside("lock")), str(runs[0].path), os.path.dirname(__file__)]
    )
    while not runs[0].beside("lock").exists() or not runs[0].beside("lock").read_text():
        time.sleep(0.02)
    said = []
    assert driver(said, 1).run(runs[:1]) == {runs[0]: "finished"}
    assert "a process of an earlier amft compare still works on it; waiting" in said[0]
    assert not (runs[0].path.parent.parent.parent / "starts").exists()
    assert orphan.wait() == 0


ORPHAN = f"""
import fcntl, os, pathlib, sys, time
sys.path.insert(0, sys.argv[3])
path = pathlib.Path(sys.argv[1]); path.parent.mkdir(parents=True, exist_ok=True)
lock = open(path, "a+"); fcntl.flock(lock, fcntl.LOCK_EX); lock.write("1"); lock.flush()
time.sleep(1)
from study_dirs import write_one
place = pathlib.Path(sys.argv[2])
{WRITE}
"""


def test_two_drivers_do_not_share_a_study(tmp_path):
    with sole_driver(tmp_path), pytest.raises(RunError, match="another amft compare"), sole_driver(tmp_path):
        pass
    with sole_driver(tmp_path):
        pass


def test_places_pin_cores_and_share_gpus(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 5})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    found = slots(None, 2)
    assert [slot.cores for slot in found] == [frozenset({0, 1}), frozenset({2, 3})]
    assert [slot.gpu for slot in found] == ["4", "7"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert slots(9, 2) == [Slot(None)] * 9


def test_the_command_reports_failures_with_exit_code_1_and_retries_on_demand(tmp_path, monkeypatch, script, capsys):
    monkeypatch.chdir(tmp_path)
    text = "recipe: general_points\nrules: {sft: sft}\nsubject: sft\nbaseline: sft\nseeds: [0, 1]\n"
    (tmp_path / "s.yaml").write_text(text + "budget: {max_steps: 40}\n")
    assert main(["compare", "s.yaml", "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert "2 runs: 2 missing; 2 to make" in printed.err
    assert not (tmp_path / "runs").exists()
    script(f"if place.name == 'seed-1': sys.exit('out of luck')\n{WRITE}")
    monkeypatch.setattr(progress_bar, "SILENCE", 0.02)
    assert main(["compare", "s.yaml", "--jobs", "2"]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("2 runs: 2 missing; 2 to make, 2 at a time\n")
    assert re.search(r"^amft: [01] of 2 runs finished, [0-2] under way$", printed.err, re.M)
    assert "amft: failed: all/sft seed 1: out of luck" in printed.err
    assert "unfinished, not in the table: 1: all/sft seed 1" in printed.out
    script(WRITE)
    assert main(["compare", "s.yaml"]) == 1  # a failed run is not tried again unasked
    assert "try it again with --retry" in capsys.readouterr().err
    assert main(["compare", "s.yaml", "--retry", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert [row["seeds"] for row in table["scores"]] == [2, 2]
    before = starts_of(tmp_path)
    assert main(["compare", "s.yaml"]) == 0
    assert starts_of(tmp_path) == before == 3


def test_nothing_is_run_from_a_start_that_failed(tmp_path, monkeypatch, script, capsys):
    monkeypatch.chdir(tmp_path)
    text = "recipe: general_points\nrules: {sft: sft}\nsubject: sft\nbaseline: sft\nseeds: [0]\nstart: {balance: sft}\n"
    (tmp_path / "s.yaml").write_text(text + "budget: {max_steps: 40}\n")
    script("sys.exit('no start')")
    assert main(["compare", "s.yaml"]) == 1
    assert "amft: failed: start/all seed 0: no start" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "s" / "runs" / "all").exists()


def starts_of(folder):
    return len((folder / "runs" / "s" / "runs" / "starts").read_text().splitlines())
