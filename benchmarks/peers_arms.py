"""One library doing one case in a process of its own, step by step, when it is told to.

A line on standard input is an order, a line of JSON on standard output the answer: `step` makes one optimizer step and
gives its seconds and tokens; `products` makes one more and gives the seconds of its matrix products alone; `stop` gives
the peak of memory. What the libraries print goes to standard error.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from peers_cases import Work, work_of
from roofline import Products
from transformers import LogitsProcessor, LogitsProcessorList, TrainerCallback

from amft.tasks.grading.sandbox import peak_memory_mb

STEPS, RATE = 100_000, 1e-9
"""So many steps that none of them ever ends by itself, at a learning rate that leaves the weights where they are."""


class Turns(TrainerCallback):
    """Waits for an order at the beginning of each step, and answers at the beginning of the next.

    All trainers here take callbacks of transformers, so a step is the same for each of them: from one beginning to the
    next, with its generation, rewards, optimizer and logs.
    """

    def __init__(self, answers: Any):
        self.answers = answers
        self.step = -1
        self.order = ""
        self.counts: dict[str, float] = {}
        self.generating = 0.0
        self.products: list[Products] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        if self.step >= 0:
            self._answer()
        self.order = sys.stdin.readline().strip()
        if self.order in ("stop", ""):
            self._say({"peak_mb": peak_memory_mb()})
            os._exit(0)  # the trainer would save, score and write a report
        self.step += 1
        self.counts, self.generating = {}, 0.0
        if self.order == "products":
            self.products = [Products().__enter__()]
        self.began = time.process_time(), time.perf_counter()

    def on_log(self, *_: Any, logs: dict[str, Any], **__: Any) -> None:
        for name in ("tokens/demo", "entropy"):
            if name in logs:
                self.counts[name] = float(logs[name])

    def _answer(self) -> None:
        cpu, wall = time.process_time() - self.began[0], time.perf_counter() - self.began[1]
        found = {"cpu": cpu, "wall": wall, "generating": self.generating, **self.counts}
        if self.products:
            (made,) = self.products
            made.__exit__(None, None, None)
            self.products = []
            found |= {"products": made.alone(), "operations": made.operations}
        self._say(found)

    def _say(self, found: dict[str, float]) -> None:
        self.answers.write(json.dumps(found) + "\n")
        self.answers.flush()

    @contextlib.contextmanager
    def drawing(self) -> Iterator[None]:
        """Completions are drawn inside; their matrix products are no part of training."""
        before = time.process_time()
        with torch.utils._python_dispatch._disable_current_modes() if self.products else contextlib.nullcontext():
            yield
        self.generating += time.process_time() - before


class EndsAt(LogitsProcessor):
    """The end token at a row's own length and nowhere else, for `generate` of transformers."""

    def __init__(self, work: Work, lengths: list[int], prompt: int):
        self.end, self.lengths, self.prompt = work.end, torch.tensor(lengths), prompt
        self.limit = work.case.answer

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        drawn = input_ids.shape[1] - self.prompt
        scores[:, self.end] = -torch.inf
        last = (self.lengths == drawn + 1) & (self.lengths < self.limit)
        if last.any():
            scores[last] = -torch.inf
            scores[last, self.end] = 0.0
        return scores


def with_ends(work: Work, lengths: Callable[[], list[int]]) -> None:
    """Give `generate` of a model the ends of its answers."""
    generate = work.model.generate

    def generate_with_ends(*args: Any, **given: Any) -> Any:
        ids = given["input_ids"] if "input_ids" in given else args[0]
        ends = LogitsProcessorList([EndsAt(work, lengths(), ids.shape[1])])
        return generate(*args, **given, logits_processor=ends)

    work.model.generate = generate_with_ends


def uniforms_with_ends(work: Work, lengths: Callable[[], list[int]]) -> Callable[..., torch.Tensor]:
    """Uniform numbers for engine `decode`, which draws by inversion: the last token of the vocabulary for numbers just
    below 1, and others for numbers up to 0.9."""

    def uniforms(rows: int, sampling: Any, generator: torch.Generator) -> torch.Tensor:
        shape = (rows, sampling.max_new_tokens)
        found = torch.rand(shape, generator=generator, dtype=torch.float64).mul_(0.9)
        for row, length in zip(range(rows), lengths()):
            if length < work.case.answer:
                found[row, length - 1] = 1 - 1e-15
        return found

    return uniforms


def rewards(completion_ids: list[list[int]], **_: Any) -> list[float]:
    """Differs within almost every group."""
    return [float(sum(ids) % 5) for ids in completion_ids]


def amft_trainer(work: Work, turns: Turns, folder: str, balance: dict[str, Any]) -> Any:
    """Our own trainer."""
    from amft import AMFTConfig, AMFTTrainer
    from amft.cli.freed_memory import keep_freed_memory
    from amft.rollout import decode

    keep_freed_memory()  # as `amft train` does
    decode._uniforms = uniforms_with_ends(work, lambda: work.case.lengths(turns.step))
    case = work.case
    config = AMFTConfig(
        output_dir=f"{folder}/run",
        balance=balance,
        max_steps=STEPS,
        num_prompts=case.prompts,
        num_generations=case.group,
        num_demos=case.demos,
        max_prompt_length=case.prompt,
        max_completion_length=case.answer,
        learning_rate=RATE,
        dtype=case.dtype,
        eval={"steps": 0},
        sample_steps=0,
        entropy_target=1.0,
        threads=1,
        chat_template="plain",
    )
    own = {"demonstrations": work.demonstrations} if case.demos else {}
    trainer = AMFTTrainer(
        work.model,
        config,
        train_dataset=work.prompts,
        val_dataset=work.unseen,
        reward_funcs=rewards,
        processing_class=work.tokenizer,
        callbacks=[turns],
        **own,
    )
    sampler = trainer.organs.collector.backend.sampler
    drawn = sampler.generate

    def generate(*args: Any, **given: Any) -> Any:
        with turns.drawing():
            found = drawn(*args, **given)
        turns.counts["drawn"] = float(sum(len(sample.completion_ids) for sample in found))
        return found

    sampler.generate = generate
    return trainer


def trl_settings(work: Work, folder: str) -> dict[str, Any]:
    """What TRL's trainers have in common: one micro-batch, nothing computed twice, nothing saved."""
    return {
        "output_dir": folder,
        "report_to": "none",
        "use_cpu": True,
        "bf16": work.case.dtype == "bfloat16",
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": 1,
        "lr_scheduler_type": "constant",
        "learning_rate": RATE,
        "max_steps": STEPS,
    }


def trl_trainer(work: Work, turns: Turns, folder: str, kind: type, **more: Any) -> Any:
    """TRL's `GRPOTrainer`, or a class derived from it."""
    from datasets import Dataset
    from trl import GRPOConfig

    case = work.case
    args = GRPOConfig(
        **trl_settings(work, folder),
        per_device_train_batch_size=case.prompts * case.group,
        num_generations=case.group,
        max_completion_length=case.answer,
        beta=0.0,
    )
    trainer = kind(
        model=work.model,
        args=args,
        reward_funcs=rewards,
        processing_class=work.tokenizer,
        train_dataset=Dataset.from_list(work.prompts),
        callbacks=[turns],
        **more,
    )
    with_ends(work, lambda: case.lengths(turns.step))
    single = trainer._generate_single_turn

    def generate(*args: Any, **given: Any) -> Any:
        with turns.drawing():
            found = single(*args, **given)
        turns.counts["drawn"] = float(sum(map(len, found[0])))
        return found

    trainer._generate_single_turn = generate
    return trainer


def with_sft(work: Work, turns: Turns, folder: str) -> type:
    """TRL's `GRPOTrainer` whose step also takes the gradient of TRL's own SFT loss on all demonstrations."""
    from datasets import Dataset
    from trl import GRPOTrainer, SFTConfig, SFTTrainer

    imitation = SFTTrainer(
        model=work.model,
        args=SFTConfig(**trl_settings(work, folder), per_device_train_batch_size=work.case.demos, max_length=None),
        processing_class=work.tokenizer,
        train_dataset=Dataset.from_list(work.demonstrations),
    )
    batches = [dict(each) for each in imitation.get_train_dataloader()]
    imitating = work.model.forward  # each trainer gives the model an output layer of its own

    class Both(GRPOTrainer):
        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            loss = super().training_step(model, inputs, num_items_in_batch)
            for batch in batches:
                turns.counts["tokens/demo"] = float((batch["labels"] != -100).sum())
                exploring, model.forward = model.forward, imitating
                with self.compute_loss_context_manager():
                    imitated = imitation.compute_loss(model, dict(batch))
                model.forward = exploring
                self.accelerator.backward(imitated)
            return loss

    return Both


def build(arm: str, work: Work, turns: Turns, folder: str) -> Any:
    """The trainer of an arm."""
    rules = {
        "amft rl": {"rule": "rl"},
        "amft fixed": {"rule": "fixed", "mu": 0.5},
        "amft-scalar": {"rule": "amft-scalar"},
        "amft-scalar no trace": {"rule": "amft-scalar", "horizon": 0},
    }
    if arm in rules:
        return amft_trainer(work, turns, folder, rules[arm])
    if arm == "adapter":
        from amft.integrations.trl import AMFTGRPOTrainer

        more = {"demonstrations": work.demonstrations, "num_demos": work.case.demos, "entropy_target": 1.0}
        more["balance"] = "amft-scalar"
        return trl_trainer(work, turns, folder, AMFTGRPOTrainer, **more)
    from trl import GRPOTrainer

    return trl_trainer(work, turns, folder, with_sft(work, turns, folder) if arm == "trl+sft" else GRPOTrainer)


def serve(arm: str, case: Any, smollm2: str | None) -> None:
    """Do what the lines of standard input say, until `stop`."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    turns = Turns(answers)
    with tempfile.TemporaryDirectory() as folder:
        build(arm, work_of(case, smollm2), turns, folder).train()
