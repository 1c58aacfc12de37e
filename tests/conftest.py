"""A tiny model directory that every trainer test starts from."""

import importlib.util
import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("AMFT_MALLOC", "plain")  # a worker runs hundreds of tests, so it gives memory back

# A test run started in the background inherits an ignored SIGINT, which StopSignals would rightly leave ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

collect_ignore = [] if importlib.util.find_spec("vllm") else ["vllm_engine"]  # `make test-vllm`
if "AMFT_SMOLLM2" not in os.environ:
    collect_ignore.append("llm")  # `make test-llm`


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory) -> Path:
    """A random Llama-type model of 0.2 M parameters with the nano tokenizer, in the Hugging Face layout."""
    import torch

    from amft.pretraining.nano_recipe import pretrain

    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("tiny") / "model"
    model, tokenizer = pretrain(steps=0, hidden=64, layers=2, tokenizer_sample=200, progress=False)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
