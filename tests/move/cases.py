"""The runs that are recorded, in the names of commit d455264."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapter import (
    ROOT,
    as_lines,
    checkpoints,
    last_line,
    leaves,
    make_config,
    named,
    of_run,
    record,
    train,
    train_recipe,
    trl_balance,
)
from material import CARDS, OFF, PAIRS, SUMS, TRIES, Dense, odd, parity, residue, saved_model, word_model

Case = Callable[[Path], dict[str, str]]
FAST = {"relift": {"size": 3}, "mifo": {"size": 3}, "gac": {"every": 2}}
"""Settings that let a rule do within 20 steps what it does."""
WINDOW = {"steps_per_generation": 2, "num_iterations": 2, "sft_warmup_steps": 2, "save_steps": 12}
WORD_RUN = {
    "num_prompts": 2,
    "num_generations": 4,
    "num_demos": 4,
    "max_completion_length": 5,
    "learning_rate": 1e-2,
    "meta_skip": 1,
    "meta_every": 5,
    **OFF,
    "seed": 1,
}


def on_words(**changes: Any) -> Case:
    """A run of the conformance suite."""

    def case(out: Path) -> dict[str, str]:
        model, tokenizer = word_model()
        flat = {"max_steps": 20, **WORD_RUN, **changes}
        train(out / "run", flat, model, train_dataset=list(PAIRS), reward_funcs=parity, processing_class=tokenizer)
        return of_run(out / "run")

    return case


NANO_RUN = {
    "model": "nano",
    "task": {"id": "general_points-v1", "demonstrations": "search", "train_rules": "varied"},
    "balance": {"rule": "amft", "mu_init": 0.5},  # far enough from the floor that every step moves it
    "max_steps": 6,
    "sft_warmup_steps": 1,
    "meta_skip": 1,
    "meta_every": 2,
    "num_prompts": 2,
    "num_generations": 4,
    "num_demos": 4,
    "max_prompt_length": 128,
    "max_completion_length": 128,
    "padding_free": True,
    "learning_rate": 3e-4,
    "adam_beta2": 0.99,
    "lr_scheduler_type": "linear",
    "lr_warmup_steps": 2,
    "dtype": "float32",
    **OFF,
}


def on_nano(**changes: Any) -> Case:
    """A short run of the shipped recipe."""

    def case(out: Path) -> dict[str, str]:
        train_recipe(out / "run", {**NANO_RUN, **changes})
        return of_run(out / "run")

    return case


def command_line(out: Path) -> dict[str, str]:
    """`amft train general_points`, with evaluation, samples and the best checkpoint."""
    small = {"max_steps": 6, "sft_warmup_steps": 1, "meta_skip": 1, "max_completion_length": 128, "dtype": "float32"}
    small |= {"eval_steps": 3, "eval_problems": 3, "test_problems": 2, "num_prompts": 2, "num_generations": 4}
    sets = [f"{name}={json.dumps(value)}" for name, value in leaves(make_config({**small, "num_demos": 4}))]
    options = [word for text in sets for word in ("--set", text)]
    code = named("main")(["train", "general_points", *options, "--output-dir", str(out / "run")])
    if code:
        raise RuntimeError(f"amft train ended with code {code}")
    return of_run(out / "run")


def own_data(out: Path) -> dict[str, str]:
    """Files of the user's own, and a reward function in a file; column names of theirs."""
    rows = [{"question": row["prompt"], "completion": row["completion"], "n": n} for n, row in enumerate(SUMS)]
    (out / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (out / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:4]))
    reward = "def odd(completion_ids, n, **columns):\n    return [sum(t % 2 for t in ids) / len(ids) + m % 2"
    (out / "rewards.py").write_text(reward + " for ids, m in zip(completion_ids, n)]\n")
    data = {"train": str(out / "train.jsonl"), "test": str(out / "test.jsonl"), "columns": {"prompt": "question"}}
    data["rewards"] = [f"{out / 'rewards.py'}:odd"]
    flat = {**NANO_RUN, "data": data, "max_completion_length": 12, "eval_steps": 3, "test_splits": None}
    train_recipe(out / "run", {name: value for name, value in flat.items() if name != "task"})
    return of_run(out / "run")


def resumed(out: Path) -> dict[str, str]:
    """A run that is cut inside a rollout window and continued; it must be the run that was not."""
    flat = {**NANO_RUN, "save_steps": 3, "steps_per_generation": 2, "num_iterations": 2, "beta": 0.01}
    train_recipe(out / "straight", flat)
    shutil.copytree(out / "straight", out / "run")
    shutil.rmtree(checkpoints(out / "run")[-1])
    train_recipe(out / "run", flat, resume=True)
    straight, cut = of_run(out / "straight"), of_run(out / "run")
    if straight != cut:
        raise AssertionError("the resumed run is not the uninterrupted one")
    return cut


def pictures(out: Path) -> dict[str, str]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(named("model_directory")("nano"))
    processor = named("tiny_vision_processor")(tokenizer, image_size=56)
    model = named("tiny_vision_model")(processor, hidden_size=32, layers=1, vision_size=16, vision_layers=1)
    processor.save_pretrained(out / "base")
    model.save_pretrained(out / "base")
    flat = {"max_steps": 6, "num_prompts": 2, "num_generations": 2, "num_demos": 3, "max_completion_length": 70}
    flat |= {"max_prompt_length": 128, "micro_batch_size": 2, "meta_skip": 1, **OFF, "seed": 3, "learning_rate": 1e-3}
    train(out / "run", flat, str(out / "base"), task=Dense("general_points_vl", size=112))
    return of_run(out / "run")


def loop(out: Path) -> dict[str, str]:
    """recipes/loop.py, with the weights of the model that it loads."""
    import transformers

    spec = importlib.util.spec_from_file_location("recipe_loop", ROOT / "recipes" / "loop.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    loaded: list[Any] = []

    class Remembering:
        @staticmethod
        def from_pretrained(*arguments: Any, **options: Any) -> Any:
            loaded.append(transformers.AutoModelForCausalLM.from_pretrained(*arguments, **options))
            return loaded[-1]

    module.AutoModelForCausalLM = Remembering  # type: ignore[attr-defined]
    sizes = {"max_steps": 6, "num_prompts": 2, "num_generations": 4, "num_demos": 4, "max_completion_length": 64}
    settings = module.Settings(**sizes, meta_skip=2, mu=0.5, seed=3)
    rows = list(module.train(named("model_directory")("nano"), Dense("general_points"), settings))
    return kept(out, rows, loaded[0].state_dict())


def kept(out: Path, rows: list[dict[str, Any]], weights: dict[str, Any]) -> dict[str, str]:
    """The record of a run that writes no run directory; its rows are written for `--keep`."""
    lines = as_lines(rows)
    (out / "run").mkdir(exist_ok=True)
    (out / "run" / "metrics.jsonl").write_bytes(lines)
    return record(lines, weights)


def trl(balance: Any, **changes: Any) -> Case:
    """TRL's trainer with the balance."""

    def case(out: Path) -> dict[str, str]:
        from datasets import Dataset
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from trl import GRPOConfig

        import torch  # isort: skip

        nano = named("model_directory")("nano")
        prompts = [[{"role": "user", "content": f"make 24 from {hand}"}] for hand, _ in CARDS]
        said = [[{"role": "assistant", "content": answer}] for _, answer in CARDS]
        demos = [{"prompt": prompt, "completion": answer} for prompt, answer in zip(prompts, said, strict=True)]
        plain = {"report_to": "none", "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "seed": 3}
        plain |= {"disable_tqdm": True, "save_strategy": "no", "logging_steps": 1, "lr_scheduler_type": "constant"}
        sizes = {"per_device_train_batch_size": 4, "num_generations": 4, "max_completion_length": 12, "max_steps": 6}
        args = GRPOConfig(
            **{**plain, **sizes, "output_dir": str(out / "trl"), "learning_rate": 1e-4, "temperature": 2.0, **changes}
        )
        trainer = named("AMFTGRPOTrainer")(
            model=AutoModelForCausalLM.from_pretrained(nano, dtype=torch.float32),
            args=args,
            reward_funcs=residue,
            processing_class=AutoTokenizer.from_pretrained(nano),
            train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in prompts]),
            demonstrations=demos,
            balance=trl_balance(balance),
        )
        trainer.train()
        return kept(out, trainer.state.log_history, trainer.model.state_dict())

    return case


RANK_RUN = {
    "max_steps": 6,
    "num_prompts": 3,  # 9 rollouts a step: uneven over 2 ranks
    "num_generations": 3,
    "num_demos": 5,
    "max_completion_length": 8,
    "steps_per_generation": 2,
    "beta": 0.05,
    "entropy_coef": 0.01,
    "learning_rate": 1e-3,
    "max_grad_norm": 0.05,
    "meta_skip": 1,
    "micro_batch_size": 2,
    **OFF,
    "eval_steps": 3,
    "eval_problems": 3,
}


def two_ranks(**changes: Any) -> Case:
    """Two processes that find each other as torchrun's do."""

    def case(out: Path) -> dict[str, str]:
        base = saved_model(out / "base")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        context = multiprocessing.get_context("fork")
        team = [context.Process(target=one_rank, args=(rank, port, base, out / "run", changes)) for rank in (0, 1)]
        for process in team:
            process.start()
        for process in team:
            process.join()
        if any(process.exitcode for process in team):
            raise RuntimeError(f"exit codes of the ranks: {[process.exitcode for process in team]}; {last_line(out)}")
        return of_run(out / "run")

    return case


def one_rank(rank: int, port: int, base: Path, run: Path, changes: dict[str, Any]) -> None:
    import torch.distributed as dist

    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in numbers.items()} | {"MASTER_ADDR": "127.0.0.1"}
    train(run, {**RANK_RUN, **changes}, str(base), train_dataset=SUMS, reward_funcs=odd)
    dist.barrier()
    dist.destroy_process_group()


def amft(**settings: Any) -> dict[str, Any]:
    return {"rule": "amft", **settings}


LOSSES = (
    "grpo",
    "dr_grpo",
    "gspo",
    "cispo",
    "rloo",
    "reinforce",
    "reinforce_plus_plus",
    "reinforce_plus_plus_baseline",
)
VARIANTS = {
    "cosine": amft(mu_update="cosine"),
    "paper": amft(mu_update="paper"),
    "identity": amft(jacobian="identity"),
    "one-step": amft(horizon=0.0),
    "graded": amft(prior="graded"),
    "shrink": amft(shrink=True),
    "heldout": amft(utility="heldout"),
    "likelihood": amft(utility="likelihood"),
    "measured": amft(entropy="measured"),
    "own-optimizer": {"rule": "sft-then-rl", "sft_optimizer": "own"},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "sgd": {"optim": "sgd", "sgd_momentum": 0.9},
    "adam": {"optim": "adam", "weight_decay": 0.1},
    "no-clip": {"max_grad_norm": None, "label_smoothing": 0.1, "entropy_coef": 0.01},
    "engine-hf": {"engine": "hf"},
    "float64": {"dtype": "float64"},
    "kl-punished": {"beta": 0.05, "soft_punish_cache": 2, "mask_truncated_completions": True},
    "dynamic-sampling": {"dynamic_sampling_rounds": 2},
    "cosine-lr": {"lr_scheduler_type": "cosine", "lr_warmup_steps": 3},
}


def cases() -> dict[str, Case]:
    """Every case by its name."""
    fresh = {"max_steps": 8}
    reused = {"max_steps": 10, "steps_per_generation": 2, "num_iterations": 2}  # ratios that are not 1
    words: dict[str, Case] = {}
    for rule in named("RULES"):
        balance = {"rule": rule, **FAST.get(rule, {})}
        words[f"rule/{rule}"] = on_words(balance=balance, **WINDOW)
        sooner = {"size": 1} if "size" in balance else {}
        words[f"fresh/{rule}"] = on_words(balance={**balance, **sooner}, **fresh)
    words |= {f"balance/{name}": on_words(balance=balance, **fresh) for name, balance in VARIANTS.items()}
    words |= {f"loss/{loss}": on_words(balance=amft(), loss_type=loss, **reused) for loss in LOSSES}
    words |= {f"option/{name}": on_words(balance=amft(), **options, **fresh) for name, options in OPTIONS.items()}
    for trunk in ("shared", "detached"):
        words[f"ppo/{trunk}"] = on_words(balance=amft(), loss_type="ppo", value_trunk=trunk, **reused)
    default: dict[str, Case] = {
        "default/command-line": command_line,
        "default/float32": on_nano(),
        "default/bfloat16": on_nano(dtype="bfloat16"),
        "default/lora": on_nano(lora={"r": 2, "alpha": 8.0, "target_modules": ["q_proj", "down_proj"]}, beta=0.1),
        "default/padded": on_nano(padding_free=False),
        "default/heldout": on_nano(balance=amft(utility="heldout", mu_init=0.5)),
        "default/likelihood": on_nano(balance=amft(utility="likelihood", mu_init=0.5)),
        "default/entropy-measured": on_nano(balance=amft(entropy="measured", mu_init=0.5)),
        "default/accumulation": on_nano(micro_batch_size=3),
        "default/two-iterations": on_nano(num_iterations=2, steps_per_generation=2, beta=0.01),
        "default/dynamic-sampling": on_nano(dynamic_sampling_rounds=2, num_prompts=4, num_generations=2),
        "default/several-tries": on_nano(task=TRIES, max_completion_length=48, max_transcript_length=400),
        "default/checkpointing": on_nano(gradient_checkpointing=True, max_steps=3),
        "default/own-data": own_data,
        "default/resume": resumed,
    }
    ranks = {
        f"ranks/{layout}-{rule}": two_ranks(parallel=layout, balance={"rule": rule})
        for layout in ("ddp", "fsdp2")
        for rule in ("amft", "srft")
    }
    others: dict[str, Case] = {
        "trl/amft": trl("amft"),
        "trl/accumulation": trl(amft(entropy="none"), gradient_accumulation_steps=2),
        "trl/fixed": trl({"rule": "fixed", "mu": 0.3}),
        "loop": loop,
        "pictures": pictures,
    }
    return words | default | ranks | others
