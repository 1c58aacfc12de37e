"""Tokens per second of the rollout engines, measured side by side in one process.

    OMP_NUM_THREADS=1 python benchmarks/rollout.py
    OMP_NUM_THREADS=1 python benchmarks/rollout.py --dtype bfloat16 --stop 0.03
    python -m amft.pretraining.tiny_vision_recipe --output runs/models/vision_cards
    OMP_NUM_THREADS=1 python benchmarks/rollout.py --model runs/models/vision_cards --prompts 4 --new-tokens 320

The engines take turns, `--repeats` times; the median of each is printed. No end token by default, so that both draw
exactly prompts x samples x new tokens; `--stop` makes each token an end token with about that probability. With
`--model` a model directory takes the place of random weights; one that reads pictures is given a random one a prompt.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from typing import Any

import torch
import transformers

from amft.models.load import load_model
from amft.models.pictures import image_token
from amft.models.tiny import tiny_model
from amft.rollout.registry import build_sampler
from amft.types import Sampling

ENGINES = ("decode", "hf")
"""vLLM holds a copy of the model: benchmarks/engines.py."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="qwen3")
    parser.add_argument("--model", help="model directory in place of random weights; the sizes of those are ignored")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--device", default="cpu")
    for name, default in {
        "hidden-size": 256,
        "layers": 4,
        "heads": 4,
        "kv-heads": 2,
        "vocab-size": 1500,
        "prompts": 16,
        "samples": 8,
        "new-tokens": 60,
        "prompt-length": 40,
        "max-batch": 256,
        "repeats": 5,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--stop", type=float, default=0.0, help="share of the vocabulary that ends a completion")
    return parser.parse_args()


def processor() -> str:
    if sys.platform == "linux":
        with open("/proc/cpuinfo") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        return f"{names[0] if names else platform.machine()} ({len(names)} cores)"
    return platform.processor() or platform.machine()


def policy(args: argparse.Namespace) -> transformers.PreTrainedModel:
    dtype = getattr(torch, args.dtype)
    if args.model:
        return load_model(args.model).to(args.device, dtype)
    return tiny_model(
        args.family,
        vocab_size=args.vocab_size,
        hidden_size=args.hidden_size,
        layers=args.layers,
        heads=args.heads,
        kv_heads=args.kv_heads,
        max_positions=args.prompt_length + args.new_tokens,
        dtype=dtype,
    ).to(args.device)


def asked(model: transformers.PreTrainedModel, args: argparse.Namespace, draws: torch.Generator) -> tuple[Any, ...]:
    """Prompts of random tokens; where the model reads pictures, each with the places of one, and the pictures."""
    vocabulary = model.config.get_text_config().vocab_size
    image = image_token(model.config)
    texts = torch.randint(vocabulary - (image is not None), (args.prompts, args.prompt_length), generator=draws)
    if image is None:
        return (texts.tolist(),)
    side = model.config.vision_config.image_size
    pixels = torch.randn(args.prompts, 3, side, side, generator=draws).to(model.dtype)
    return [[*[image] * model.config.image_seq_length, *text] for text in texts.tolist()], pixels


def main() -> None:
    args = arguments()
    transformers.logging.set_verbosity_error()
    draws = torch.Generator().manual_seed(0)
    model = policy(args)
    prompts, *pixels = asked(model, args, draws)
    eos_ids = range(int(args.stop * model.config.get_text_config().vocab_size))
    sampling = Sampling(n=args.samples, max_new_tokens=args.new_tokens)
    engines = {
        name: build_sampler(name, model, pad_id=0, eos_ids=eos_ids, max_batch=args.max_batch) for name in ENGINES
    }
    speeds: dict[str, list[float]] = {name: [] for name in engines}
    for repeat in range(args.repeats + 1):
        for name, engine in engines.items():
            start = time.perf_counter()
            found = engine.generate(prompts, sampling, draws, *pixels)
            if repeat:
                speeds[name].append(sum(len(t.completion_ids) for t in found) / (time.perf_counter() - start))
    hardware = torch.cuda.get_device_name() if args.device.startswith("cuda") else processor()
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"{hardware}, {torch.get_num_threads()} thread(s), load {os.getloadavg()[0]:.1f}")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, python {platform.python_version()}")
    print(
        f"{args.model or args.family} {parameters:.2f} M parameters, {args.dtype}, {args.prompts} prompts x "
        f"{args.samples} samples, prompt {len(prompts[0])}, at most {args.new_tokens} new tokens, stop {args.stop}"
    )
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    for name, values in speeds.items():
        print(f"{name:8s} {medians[name]:8.0f} tokens/s  (min {min(values):.0f}, max {max(values):.0f})")
    print(f"decode / hf = {medians['decode'] / medians['hf']:.2f}")


if __name__ == "__main__":
    main()
