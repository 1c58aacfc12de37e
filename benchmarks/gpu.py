"""Does it run on this device, and how fast: AMFT on GeneralPoints with a random model of 30 or 100 M parameters.

    python benchmarks/gpu.py --size 100m --output gpu.json        # one GPU, minutes
    python benchmarks/gpu.py --device cpu --size tiny --steps 2   # the script itself, seconds

NOT RUN ON A GPU SO FAR: only `--device cpu` was tried. Three parts: checks of the device's numbers against float64 on
the CPU, the seconds of a step by phase, and the meta-gradient's overhead (steps of AMFT and of a fixed mu in turn, from
the same weights). The exit code is 1 when a check fails. MFU counts 6 N per trained and 2 N per sampled token, as a
share of the data sheet's dense bfloat16; the second number leaves the sampling out.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from amft.tasks.grading.sandbox import peak_memory_mb

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 64, "layers": 2, "heads": 2, "kv_heads": 1},
    "30m": {"hidden_size": 512, "layers": 10, "heads": 8, "kv_heads": 4},
    "100m": {"hidden_size": 768, "layers": 12, "heads": 12, "kv_heads": 4, "intermediate_size": 3072},
}
ARMS = {"fixed": {"rule": "fixed", "mu": 0.5}, "amft": {"rule": "amft-scalar", "entropy": "target", "meta_skip": 0}}
"""The baseline first."""
WARM = 2
"""First steps, which compile and allocate; they are not timed."""


def logp_error(device: str, size: str) -> float:
    """Largest difference of token log-probabilities in float32 on the device from float64 on the CPU."""
    import torch

    from amft.batch import pad_batch
    from amft.models.forward import token_scores
    from amft.models.tiny import tiny_model

    lengths = [(3, 5), (9, 2), (1, 30)]
    prompts = [[(7 * i + j) % 90 for j in range(p)] for i, (p, _) in enumerate(lengths)]
    answers = [[(5 * i + 3 * j) % 90 for j in range(c)] for i, (_, c) in enumerate(lengths)]
    batch = pad_batch(prompts, answers, 0)
    model = tiny_model(vocab_size=90, **SIZES[size], tie=True)
    with torch.no_grad():
        exact = token_scores(model.double(), batch).logps
        found = token_scores(model.float().to(device), batch.to(device)).logps
    return float(((found.cpu().double() - exact) * batch.completion_mask).abs().max())


def meta_gradient_error(device: str) -> float:
    """Relative error of dU/dmu from central differences through the real AdamW step, float64, on the device."""
    import torch
    from torch.func import functional_call
    from torch.nn.functional import mse_loss

    from amft.balance.weights import Weights
    from amft.meta import MixGrad

    sys.path.append(str(Path(__file__).parents[1] / "tests" / "oracle"))
    from meta_oracle import finite_difference, take_steps

    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(device)

    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2)).double().to(device)
    params = {name: (0.5 * draw(*p.shape)).requires_grad_() for name, p in model.named_parameters()}

    def loss() -> Any:
        x, y = draw(16, 4), draw(16, 2)
        return lambda p: mse_loss(functional_call(model, p, (x,)), y)

    sft, rl, held_out = loss(), loss(), loss()
    optimizer = torch.optim.AdamW(list(params.values()), 0.01)
    params, optimizer = take_steps(params, optimizer, sft=sft, rl=rl, mus=[0.4] * 5, max_norm=0.2)  # type: ignore[assignment]
    (truth,) = finite_difference(
        params, optimizer, sft=sft, rl=rl, utility=lambda p: -held_out(p), mus=[0.4], max_norm=0.2
    )
    mix = MixGrad(params.items(), optimizer)
    optimizer.zero_grad()
    rl(params).backward()
    mix.stash("rl")
    sft(params).backward()
    mix.stash("sft")
    mix.combine(Weights.convex(0.4))
    mix.clip_(0.2)
    optimizer.step()
    mix.after_step()
    for p in params.values():
        p.grad = None
    held_out(params).backward()
    return abs(float(mix.observe()["sft"].dot) - truth) / abs(truth)


def greedy_differences(device: str, size: str) -> int:
    """Answers, of three, in which greedy `decode` and `generate` of transformers differ."""
    import torch

    from amft.models.tiny import tiny_model
    from amft.rollout.registry import build_sampler
    from amft.types import Sampling

    model = tiny_model(vocab_size=90, **SIZES[size]).to(device)
    prompts, sampling = [[1, 2, 3], [4], [5, 6, 7, 8, 9]], Sampling(max_new_tokens=16, temperature=0.0)
    found = [
        build_sampler(name, model, pad_id=0, eos_ids=[3]).generate(prompts, sampling, torch.Generator())
        for name in ("decode", "hf")
    ]
    return sum(ours.completion_ids != theirs.completion_ids for ours, theirs in zip(*found, strict=True))


def build(arm: str, folder: str, options: argparse.Namespace) -> Any:
    from amft.models.load import load_tokenizer
    from amft.models.tiny import tiny_model
    from amft.settings.config import AMFTConfig
    from amft.tasks.registry import build_task
    from amft.training.trainer import AMFTTrainer

    tokenizer = load_tokenizer("nano")
    model = tiny_model(vocab_size=len(tokenizer), **SIZES[options.size])
    config = AMFTConfig(
        output_dir=f"{folder}/{arm}",
        balance=ARMS[arm],
        max_steps=options.steps + WARM,
        num_prompts=options.prompts,
        num_generations=8,
        num_demos=8 * options.prompts,
        micro_batch_size=options.micro_batch_size,
        max_completion_length=80,
        learning_rate=1e-4,
        dtype=options.dtype,
        entropy_target=1.0,
        eval={"steps": 0, "test_splits": []},
        sample_steps=0,
        threads=1 if options.device == "cpu" else None,
    )
    return AMFTTrainer(model, config, task=build_task("general_points-v1"), processing_class=tokenizer)


def train(options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Metrics and seconds of every timed step of both arms, which take their steps in turn."""
    import torch

    from amft.runs import RunDirectory
    from amft.training.guard import NonFiniteGuard

    rows: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        trainers = {arm: build(arm, folder, options) for arm in ARMS}
        for trainer in trainers.values():
            RunDirectory.create(trainer.config.output_dir)  # a step may write an event there
        for step in range(WARM + options.steps):
            for arm, trainer in trainers.items():
                begun = time.perf_counter()
                row, timings = trainer.one_step(NonFiniteGuard(5, None))
                if options.device == "cuda":
                    torch.cuda.synchronize()
                seconds = time.perf_counter() - begun
                trainer.step += 1
                if step >= WARM:
                    rows[arm].append({**row, **timings, "time/step": seconds})
    return rows


def speed(rows: list[dict[str, float]], parameters: int, peak: float | None) -> dict[str, float | None]:
    """Of one arm: medians of the phases, tokens per second, and the share of the device's arithmetic that is used."""

    def total(*names: str) -> float:
        return sum(row[name] for row in rows for name in names)

    asked = total("tokens/rollout_prompt", "tokens/demo_prompt")
    trained = asked + total("tokens/rollout", "tokens/demo")
    useful = 6.0 * parameters * trained
    sampling = 2.0 * parameters * total("tokens/rollout", "tokens/rollout_prompt")
    medians = {
        name: statistics.median(row[f"time/{name}"] for row in rows)
        for name in ("step", "generate", "reward", "backward")
    }
    return {
        **{f"seconds_{name}": value for name, value in medians.items()},
        "sampled_tokens_per_second": total("tokens/rollout") / total("time/generate"),
        "trained_tokens_per_second": trained / total("time/backward"),
        "mfu": None if peak is None else (useful + sampling) / total("time/step") / peak,
        "mfu_training": None if peak is None else useful / total("time/backward") / peak,
    }


def hardware(options: argparse.Namespace) -> dict[str, Any]:
    import torch
    import transformers

    on_gpu = options.device == "cuda"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit.stdout.strip(),
        "device": torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "dtype": options.dtype,
        "size": options.size,
    }


def peak_flops(options: argparse.Namespace) -> float | None:
    """Per second in bfloat16, by the data sheet of the GPU; None when it is not known."""
    import torch

    from amft.planning.devices import DEVICES

    if options.device != "cuda":
        return None
    name = torch.cuda.get_device_name().lower().replace(" ", "")
    return next((device.flops for known, device in DEVICES.items() if known in name), None)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    import torch

    from amft.models.load import load_tokenizer
    from amft.models.tiny import tiny_model

    checks = {
        "logp_error": logp_error(options.device, options.size),
        "meta_gradient_error": meta_gradient_error(options.device),
        "greedy_differences": greedy_differences(options.device, options.size),
    }
    limits = {"logp_error": 1e-4, "meta_gradient_error": 1e-5, "greedy_differences": 0}
    model = tiny_model(vocab_size=len(load_tokenizer("nano")), **SIZES[options.size])
    parameters = sum(p.numel() for p in model.parameters())
    rows = train(options)
    losses = [row["sft/loss"] for row in rows["amft"]]
    steps = {arm: sum(row["time/step"] for row in found) for arm, found in rows.items()}
    memory = torch.cuda.max_memory_allocated() if options.device == "cuda" else _resident()
    return {
        **hardware(options),
        "parameters": parameters,
        "checks": checks,
        "passed": all(checks[name] <= limit for name, limit in limits.items()),
        "sft_loss": [losses[0], losses[-1]],
        "mu": rows["amft"][-1]["mix/mu"],
        "speed": {arm: speed(found, parameters, peak_flops(options)) for arm, found in rows.items()},
        "meta_gradient_overhead": steps["amft"] / steps["fixed"] - 1,
        "peak_memory_bytes_of_both": memory,
    }


def _resident() -> int:
    return int(peak_memory_mb() * 2**20)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=SIZES, default="30m")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--prompts", type=int, default=32, help="per step; 8 completions and 8 demonstrations each")
    parser.add_argument("--micro-batch-size", type=int, default=128)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--output", type=Path, help="write the JSON here too")
    options = parser.parse_args()
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch looks
    import torch

    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: there is no GPU here; --device cpu tries the script")
    found = measure(options)
    text = json.dumps(found, indent=2)
    print(text)
    if options.output is not None:
        options.output.write_text(text + "\n", encoding="utf-8")
    return 0 if found["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
