"""What to do with a run that is over: where its model is, how to load and score it, the one change worth trying."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ..checkpoints.checkpoint_retention import final_checkpoint
from ..checkpoints.manifest import read_manifest
from ..errors import AMFTError
from ..runs import RunDirectory
from .finding import Finding
from .load import Run


@dataclass(frozen=True)
class NextCard:
    """Paths are as the run's config has them."""

    model: str
    """Empty: no checkpoint is complete."""
    load: str
    """Python that loads it."""
    commands: list[str]
    change: str
    """A sentence."""


def next_card(run: Run, findings: Sequence[Finding]) -> NextCard:
    """The card of a run. Args: findings: the gravest first."""
    home = str(run.config.get("output_dir") or run.path.name)
    model = _model(run, home)
    commands = []
    if model and (run.config.get("task") or run.config.get("data")):
        commands.append(f"amft eval {shlex.quote(home)}")
    if model and run.config.get("lora"):
        commands.append(f"amft merge {shlex.quote(home)} merged")
    commands.append(f"amft doctor {shlex.quote(home)}")
    return NextCard(model, _load(model, adapter=bool(run.config.get("lora"))), commands, _change(run, findings))


def _model(run: Run, home: str) -> str:
    if (run.path / "model").is_dir():
        return f"{home}/model"
    try:
        return f"{home}/checkpoints/{final_checkpoint(RunDirectory(run.path), read_manifest).name}/model"
    except AMFTError:
        return ""


def _load(model: str, adapter: bool) -> str:
    kind, imports = "AutoModelForCausalLM", ["from transformers import AutoModelForCausalLM, AutoTokenizer"]
    if adapter:
        kind = "AutoPeftModelForCausalLM"
        imports = ["from peft import AutoPeftModelForCausalLM", "from transformers import AutoTokenizer"]
    lines = [
        *imports,
        "",
        f'path = "{model}"',
        f"model = {kind}.from_pretrained(path)",
        "tokenizer = AutoTokenizer.from_pretrained(path)",
    ]
    return "\n".join(lines) if model else ""


def _change(run: Run, findings: Sequence[Finding]) -> str:
    advised = next((finding for finding in findings if finding.level in ("bad", "warn") and finding.action), None)
    if advised is not None:
        return f"{advised.action} ({advised.title[:1].lower()}{advised.title[1:]}.)"
    if str(run.balance.get("rule")) == "fixed":
        return "Let the weight be learned, in a run of its own: --set balance=amft."
    return (
        "Run it again with a constant weight, and see whether learning it was worth it: "
        "--set balance.rule=fixed --set balance.mu=0.5 and another output_dir."
    )
