"""Policies and servers for the tests of the engine `vllm`: the stand-in of local_vllm.py, in a process of its own."""

import importlib.util
import os
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from amft.distributed import vllm_place
from amft.distributed.ranks import Ranks
from amft.distributed.served_sampler import ServedSampler
from amft.models.tiny import tiny_model
from amft.rollout.vllm_server import OwnServer
from amft.settings.groups import EngineSettings
from amft.types import Sampling

LOCAL = [sys.executable, str(Path(__file__).with_name("local_vllm.py"))]
VOCAB = 160
PROMPTS = [[1, 2, 3], [4], [5 + i % 50 for i in range(200)]]
SAMPLING = Sampling(n=4, max_new_tokens=8)
MODEL_BYTES = 4 * sum(p.numel() for p in tiny_model(vocab_size=VOCAB).parameters())


def policy(seed=0, tie=True):
    model = tiny_model(vocab_size=VOCAB, tie=tie, seed=seed)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(4.0 if p.dim() > 1 else 1.0)
    return model


@torch.no_grad()
def learn(model, seed):
    """Other weights, written in place as an optimizer does."""
    for mine, other in zip(model.parameters(), policy(seed).parameters(), strict=True):
        mine.copy_(other)


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def serve_locally(patch):
    """One's own server is the stand-in, which needs no vLLM."""
    package = importlib.util.spec_from_loader("vllm", None, origin="somewhere")
    find = importlib.util.find_spec
    patch.setattr(importlib.util, "find_spec", lambda name, *more: package if name == "vllm" else find(name, *more))
    patch.setattr(vllm_place, "OwnServer", partial(OwnServer, command=LOCAL))


def sampler(model=None, **options):
    options = {"timeout": 60.0, "start_timeout": 60.0, "restarts": 2, **options}
    model = model or policy()
    return ServedSampler(model, Ranks(), [3], model.dtype, EngineSettings(**options))


@contextmanager
def running(folder, key="a word"):
    """A server that somebody else started, on the model in `folder`; its url."""
    process = subprocess.Popen(
        [*LOCAL, str(folder), "--host", "127.0.0.1", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"VLLM_API_KEY": key},
    )
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().split()[-1]}", process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@torch.no_grad()
def worst_difference(model, found, temperature=1.0):
    """Largest |engine - forward of transformers| over all sampled tokens."""
    worst = 0.0
    for t in found:
        ids = torch.tensor([[*t.prompt_ids, *t.completion_ids]])
        start, stop = len(t.prompt_ids) - 1, ids.shape[1] - 1
        logps = (model(ids).logits[0, start:stop] / temperature).log_softmax(-1)
        own = logps.gather(1, torch.tensor(t.completion_ids)[:, None]).squeeze(1)
        worst = max(worst, float((own - torch.tensor(t.logps)).abs().max()))
    return worst
