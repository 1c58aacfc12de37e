"""`checkpoint.async_save`: the files are those of the step they are named after, whole or not there (B1, B3, B6)."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from rank_team import ROWS, join, odd, save_model, start
from safetensors import safe_open
from tiny_runs import build, one, train
from transformers import TrainerCallback

from amft.checkpoints import checkpoint, shards
from amft.checkpoints.checkpoint_retention import list_checkpoints, newest_checkpoint
from amft.checkpoints.trainer_state import TrainerState
from amft.errors import CheckpointError, RankError

STEPS = 8
SAVED = {"steps": 2, "total_limit": 9}
SETTINGS = {"max_steps": STEPS, "steps_per_generation": 2, "num_iterations": 2, "eval": {"steps": 2, "problems": 4}}


def settings(behind, **changes):
    return SETTINGS | {"checkpoint": SAVED | {"async_save": behind}} | changes


def produced(directory, steps=range(2, STEPS + 1, 2)):
    """Every byte of every checkpoint and of the metrics, but for the digests of timings and events."""
    found = {"metrics": (directory / "metrics.jsonl").read_bytes()}
    assert {path.name for path in list_checkpoints(directory / "checkpoints")} == {f"step-{step}" for step in steps}
    for path in (path for path in (directory / "checkpoints").rglob("*") if path.is_file()):
        name = path.relative_to(directory).as_posix()
        found[name] = path.read_bytes()
        if path.name == "state.json":
            state = json.loads(found[name])
            del state["written"]["timings"], state["written"]["events"]
            found[name] = json.dumps(state)
        elif path.name == "manifest.json":
            found[name] = {file: facts["size"] for file, facts in json.loads(found[name])["files"].items()}
            del found[name]["state.json"]
        elif path.parent.name == "shards":  # their order within a file is drawn by Python's hashes
            with safe_open(path, "pt") as file:
                found[name] = {key: file.get_tensor(key).numpy().tobytes() for key in file.keys()}  # noqa: SIM118
                for key, places in json.loads(file.metadata()["DCP_SHARDING_INFO"]).items():
                    found[name][f"{key} lies at"] = places
    return found


@pytest.fixture(scope="module")
def at_once(tmp_path_factory):
    directory = tmp_path_factory.mktemp("at-once") / "run"
    train(directory, "amft", **settings(False))
    return directory


class Held:
    """The thread that writes waits from some save on, until it is let go."""

    def __init__(self, monkeypatch, saves=1):
        self.go, self.begun, self.saves = threading.Event(), threading.Event(), saves
        self.real, self.threads = checkpoint.save_file, set()
        monkeypatch.setattr(checkpoint, "_write_contents", self.wrapped(checkpoint._write_contents))

    def wrapped(self, real):
        def write(*args):
            self.saves -= 1
            self.threads.add(threading.current_thread())
            if self.saves == 0:
                self.begun.set()
                assert self.go.wait(60)
            real(*args)

        return write


def with_callback(directory, callback, **changes):
    trainer = build(directory, "amft", **changes)
    trainer.callbacks.callbacks.append(callback)
    return trainer


def test_what_is_written_is_of_its_step_though_training_went_on(at_once, tmp_path, monkeypatch):
    held, seen = Held(monkeypatch, saves=2), []

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, **more):
            if state.global_step == 6:  # the save of step 4 has begun and two more steps were made
                assert held.begun.wait(60)
                seen.extend(path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints"))
                held.go.set()

    with_callback(tmp_path / "run", Watch(), **settings(True)).train()
    assert seen == ["step-2"]  # the one that is being written is none
    assert threading.main_thread() not in held.threads
    assert produced(tmp_path / "run") == produced(at_once)


@pytest.mark.parametrize("step", [2, 4, 6])
def test_resume_from_what_a_thread_wrote(step, at_once, tmp_path):
    train(tmp_path / "run", "amft", **settings(True))
    for later in range(step + 2, STEPS + 1, 2):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / f"step-{later}")
    train(tmp_path / "run", "amft", resume=True, **settings(step == 4))
    assert produced(tmp_path / "run") == produced(at_once)


OTHER = {
    "muon": {"optim": "muon", "loss_type": "ppo"},
    "adafactor": {"optim": "adafactor", "loss_type": "ppo"},
    "adapter": {"lora": {"r": 2}},
}


@pytest.mark.parametrize("other", OTHER.values(), ids=OTHER)
def test_other_optimizers_a_value_head_and_an_adapter(other, tmp_path):
    train(tmp_path / "here", "fixed", **settings(False, **other))
    train(tmp_path / "there", "fixed", **settings(True, **other))
    assert produced(tmp_path / "there") == produced(tmp_path / "here")


def test_only_what_is_finished_counts_as_kept(tmp_path, monkeypatch):
    held, seen = Held(monkeypatch, saves=2), []

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, **more):
            if state.global_step == 6:
                assert held.begun.wait(60)
                seen.extend(path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints"))
                held.go.set()

    few = {"steps": 2, "total_limit": 1, "async_save": True}
    with_callback(tmp_path / "run", Watch(), **settings(True, checkpoint=few)).train()
    assert seen == ["step-2"]
    assert [path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints")] == [f"step-{STEPS}"]


KILLED = """
    import sys
    from pathlib import Path
    from test_async_checkpoints import settings
    from tiny_runs import train
    from amft.checkpoints import checkpoint, manifest

    run, real = Path(sys.argv[1]), manifest.write_manifest

    def stuck(directory):
        if directory.name.endswith("step-6"):  # every other file of it is there
            (run / "stuck").touch()
            import time
            time.sleep(600)
        real(directory)

    checkpoint.write_manifest = stuck
    train(run, "amft", **settings(True, max_steps=7, checkpoint={"steps": 2, "total_limit": 9, "async_save": True}))
"""


def test_kill_9_while_a_thread_writes(at_once, tmp_path):
    """Scenario B3."""
    run = tmp_path / "run"
    here = Path(__file__).parent
    code = "\n".join(line[4:] for line in KILLED.splitlines())
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(run)],
        cwd=here,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(here), str(here.parent)])},
    )
    deadline = time.monotonic() + 120
    while len((run / "metrics.jsonl").read_text().splitlines()) < 7 if (run / "stuck").exists() else True:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert left == [".saving-step-6", "step-2", "step-4"]
    assert newest_checkpoint(run / "checkpoints") == (run / "checkpoints" / "step-4", [])
    train(run, "amft", resume=True, **settings(True))
    assert produced(run) == produced(at_once)


def full_from(monkeypatch, save):
    """The disk is full from the n-th save on."""
    count, real = 0, checkpoint._write_contents

    def write(*args):
        nonlocal count
        count += 1
        if count >= save:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*args)

    monkeypatch.setattr(checkpoint, "_write_contents", write)


@pytest.mark.parametrize(("save", "made"), [(2, 6), (4, STEPS)], ids=["at the next save", "at the end"])
def test_a_full_disk_is_told_at_the_next_save_or_at_the_end(save, made, at_once, tmp_path, monkeypatch):
    """Scenario B6: the line is the one of a save that is waited for."""
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        full_from(patch, save)
        with pytest.raises(CheckpointError) as caught:
            train(run, "amft", **settings(True))
    step = run / "checkpoints" / f"step-{2 * save}"
    cure = "older checkpoints are as they were; free some space and resume"
    assert str(caught.value) == f"{step}: cannot be written (No space left on device); {cure}"
    assert len((run / "metrics.jsonl").read_text().splitlines()) == made
    assert newest_checkpoint(run / "checkpoints") == (run / "checkpoints" / f"step-{2 * save - 2}", [])
    train(run, "amft", resume=True, **settings(True))
    assert produced(run) == produced(at_once)


def test_a_run_that_fails_leaves_when_its_checkpoint_is_whole(tmp_path, monkeypatch):
    """Another process may write there as soon as `train` is left."""
    held = Held(monkeypatch)

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **more):
            if state.global_step == 3:
                threading.Timer(0.5, held.go.set).start()
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with_callback(tmp_path / "run", Stop(), **settings(True)).train()
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-2"]


def test_the_outline_is_no_copy_of_the_values(tmp_path):
    trainer = build(tmp_path / "run", "amft", reward=one, **settings(True))
    model, tokenizer = trainer._state(None).frozen
    assert isinstance(trainer._state(None), TrainerState)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert [p.shape for p in model.parameters()] == [p.shape for p in trainer.model.parameters()]
    assert tokenizer is not trainer.tokenizer
    trainer.model.config.vocab_size = 1
    assert model.config.vocab_size != 1


RANKS = {
    "max_steps": 4, "num_prompts": 3, "num_generations": 3, "num_demos": 5, "max_completion_length": 8, "seed": 1,
    "learning_rate": 1e-3, "balance": {"rule": "amft", "meta_skip": 1}, "eval": {"steps": 0}, "sample_steps": 0,
}  # fmt: skip


def of_ranks(base, directory, parallel, behind, resume=False, **changes):
    from amft.settings.config import AMFTConfig
    from amft.training.trainer import AMFTTrainer

    saved = {"steps": 1, "total_limit": 9, "async_save": behind}
    config = AMFTConfig(output_dir=str(directory), parallel=parallel, checkpoint=saved, **(RANKS | changes))
    AMFTTrainer(str(base), config, train_dataset=ROWS, reward_funcs=odd).train(resume=resume)


def two_ranks(rank, base, out):
    import torch.distributed as dist

    join(rank, 2, out)
    for parallel in ("fsdp2", "ddp"):
        for behind in (False, True):
            of_ranks(base, out / f"{parallel}-{behind}", parallel, behind)
    of_ranks(base, out / "half-False", "fsdp2", False, dtype="bfloat16")
    of_ranks(base, out / "half-True", "fsdp2", True, dtype="bfloat16")
    shards.FILE_BYTES = 2000  # several files a rank
    of_ranks(base, out / "pieces", "fsdp2", True)
    dist.barrier()
    if rank == 0:
        for step in (3, 4):
            shutil.rmtree(out / "pieces" / "checkpoints" / f"step-{step}")
    dist.barrier()
    of_ranks(base, out / "pieces", "fsdp2", True, resume=True)
    shards.FILE_BYTES = 2**28
    dist.barrier()
    if rank == 0:
        shutil.copytree(out / "fsdp2-True", out / "resumed")
        for step in (3, 4):
            shutil.rmtree(out / "resumed" / "checkpoints" / f"step-{step}")
        real = checkpoint._write_contents

        def write(aside, *args):
            if aside.name.endswith("step-2"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(aside, *args)

    dist.barrier()
    of_ranks(base, out / "resumed", "fsdp2", True, resume=True)
    if rank == 0:
        checkpoint._write_contents = write
    with pytest.raises(
        CheckpointError if rank == 0 else RankError, match=r"step-2: cannot be written \(No space"
    ) as told:
        of_ranks(base, out / "full", "fsdp2", True)
    assert "\n" not in str(told.value)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def teams(tmp_path_factory):
    out = tmp_path_factory.mktemp("teams")
    base = save_model(tmp_path_factory.mktemp("base"))
    assert start(2, two_ranks, base, out) == [0, 0]
    return base, out


@pytest.mark.parametrize("layout", ["fsdp2", "ddp", "half"])
def test_two_ranks_write_behind_what_they_would_write_at_once(layout, teams):
    _, out = teams
    assert produced(out / f"{layout}-True", range(1, 5)) == produced(out / f"{layout}-False", range(1, 5))


def test_a_rank_writes_several_files_when_it_has_much(teams):
    _, out = teams
    whole, pieces = (produced(out / name, range(1, 5)) for name in ("fsdp2-False", "pieces"))
    for step in range(1, 5):
        for rank in ("shard-00001", "shard-00002"):
            start = f"checkpoints/step-{step}/shards/{rank}"
            parts = [part for name, part in pieces.items() if name.startswith(start)]
            assert len(parts) > 3
            sizes = [[len(value) for value in part.values() if isinstance(value, bytes)] for part in parts]
            assert all(len(size) == 1 or sum(size) <= 2000 for size in sizes)
            (one,) = (part for name, part in whole.items() if name.startswith(start))
            assert {key: value for part in parts for key, value in part.items()} == one
    weights = [name for name in whole if name.endswith("step-4/model/model.safetensors")]
    assert [pieces[name] for name in weights] == [whole[name] for name in weights] != []


def test_two_ranks_resume_from_what_their_threads_wrote(teams):
    _, out = teams
    assert produced(out / "resumed", range(1, 5)) == produced(out / "fsdp2-False", range(1, 5))


def test_a_full_disk_on_two_ranks_leaves_the_checkpoint_before(teams):
    _, out = teams
    assert newest_checkpoint(out / "full" / "checkpoints") == (out / "full" / "checkpoints" / "step-1", [])
    assert len((out / "full" / "metrics.jsonl").read_text().splitlines()) == 3


def test_one_process_resumes_what_two_ranks_wrote_behind(teams, tmp_path):
    base, out = teams
    shutil.copytree(out / "fsdp2-True", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-4")
    of_ranks(base, tmp_path / "run", "single", True, resume=True)
    found, wanted = (
        checkpoint.load_checkpoint(path / "checkpoints" / "step-4")[0]["rollouts"]
        for path in (tmp_path / "run", out / "fsdp2-True")
    )
    torch.testing.assert_close(found["generator"], wanted["generator"], rtol=0, atol=0)
