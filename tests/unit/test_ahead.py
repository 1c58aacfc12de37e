"""`ahead: 1`: rollouts of the policy one step before, corrected; resumed to the byte; a server lost on the way."""

import copy
import os
import shutil
import signal

import pytest
import torch
from served_policies import serve_locally
from tiny_runs import build
from transformers import TrainerCallback

from amft.errors import ConfigError
from amft.settings.config import AMFTConfig

STEPS = 5
SETTINGS = {
    "max_steps": STEPS,
    "engine": "vllm",
    "ahead": 1,
    "engine_options": {"timeout": 60.0, "start_timeout": 60.0, "restarts": 1},
    "entropy_target": 1.0,
}
RULE = {"rule": "amft", "meta_skip": 0}


def run(folder, watch=lambda trainer: None, resume=False, callbacks=(), **changes):
    """The trainer after training."""
    trainer = build(folder, RULE, **{**SETTINGS, **changes})
    trainer.callbacks.callbacks += list(callbacks)
    watch(trainer)
    try:
        trainer.train(resume=resume)
    finally:
        trainer.foundation.sampler.close()
    return trainer


@pytest.fixture(autouse=True)
def _local(monkeypatch):
    serve_locally(monkeypatch)


@torch.no_grad()
def logps(model, batch):
    width = batch.completion_mask.shape[1]
    scores = model(batch.ids, attention_mask=batch.attention_mask).logits[:, -width - 1 : -1].log_softmax(-1)
    return scores.gather(-1, batch.ids[:, -width:, None]).squeeze(-1)


def worst(model, batch):
    known = ~batch.engine_logps.isnan() & (batch.completion_mask != 0)
    return float((logps(model, batch) - batch.engine_logps)[known].abs().max())


def test_rollouts_are_of_the_policy_one_step_before(tmp_path):
    before, batches, in_the_air = [], [], []

    def watch(trainer):
        collector, update = trainer.organs.collector, trainer.learner.update
        following = collector.next

        def kept(*given):
            before.append(copy.deepcopy(trainer.model))
            experience = following(*given)
            batches.append(experience.batch)
            return experience

        def updated(*given):
            in_the_air.append(collector.flight is not None)
            return update(*given)

        collector.next, trainer.learner.update = kept, updated

    trainer = run(tmp_path / "run", watch)
    assert in_the_air == [True] * (STEPS - 1) + [False]  # drawn while the step trains; nothing beyond the end
    assert worst(before[0], batches[0]) < 1e-5
    for t in range(1, STEPS):
        assert worst(before[t - 1], batches[t]) < 1e-5
        assert worst(before[t], batches[t]) > 1e-3
    rows = trainer.log_history
    assert [row["sampling/ahead"] for row in rows] == [0] + [1] * (STEPS - 1)
    assert len({row["sampling/bytes_pushed"] for row in rows[1:-1]}) == 1
    assert rows[1]["sampling/importance_sampling_ratio/mean"] != 1.0


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **_):
        control.should_training_stop = state.global_step == self.step


def records(folder):
    names = ("metrics.jsonl", "samples.jsonl")
    return [(folder / name).read_bytes() for name in names] + [(folder / "model/model.safetensors").read_bytes()]


def test_resume_to_the_byte(tmp_path):
    changes = {"checkpoint": {"steps": 2}, "sample_steps": 1, "eval": {"steps": 2, "test_splits": []}}
    run(tmp_path / "whole", **changes)
    run(tmp_path / "parts", callbacks=[StopAt(2)], **changes)
    shutil.rmtree(tmp_path / "parts/model", ignore_errors=True)
    run(tmp_path / "parts", resume=True, **changes)
    assert records(tmp_path / "parts") == records(tmp_path / "whole")


def test_a_server_lost_on_the_way_is_started_again_and_asked_again(tmp_path):
    def watch(trainer):
        sampler, begin, begun = trainer.foundation.sampler, trainer.foundation.sampler.begin, []

        def killed(*given):
            begun.append(given)
            if len(begun) == 2:
                client = sampler.client
                complete = client.complete

                def hit(requests):
                    os.kill(sampler.server.process.pid, signal.SIGKILL)
                    sampler.server.process.wait()
                    return complete(requests)

                client.complete = hit
            begin(*given)

        sampler.begin = killed

    rows = run(tmp_path / "run", watch).log_history
    assert [row["sampling/engine_restarts"] for row in rows] == [0, 0, 1, 1, 1]
    assert [row["sampling/ahead"] for row in rows] == [0, 1, 1, 1, 1]
    assert rows[2]["sampling/logp_difference_max"] < 1e-5  # drawn anew, of the weights of then
    assert rows[3]["sampling/logp_difference_max"] > 1e-4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"engine": "decode", "engine_options": None}, "only a server samples while the trainer trains"),
        ({"importance_sampling": {"correction": False}}, "leave importance_sampling.correction on"),
        ({"top_p": 0.9}, "leave top_p and top_k out"),
        ({"top_k": 5}, "leave top_p and top_k out"),
        ({"engine_options": {"sleep": True}}, "leave engine_options.sleep out"),
        ({"ahead": 2}, "expected a whole number"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, words):
    with pytest.raises(ConfigError, match=f"^ahead.*{words}"):
        AMFTConfig(**{**SETTINGS, **changes})
