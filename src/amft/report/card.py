"""The card of a trained model: what it is made of, how it did, and what is to be known before it is used. No torch."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import matplotlib
from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from .facts import facts, subject
from .load import Run, load_run
from .outcomes import split_outcomes
from .text import visible
from .verdict import change, change_bounds, level, level_bounds

CARD, MU_PICTURE = "README.md", "mu.png"
_TOLD = ("rule", "max_steps", "sft_warmup_steps", "learning_rate", "loss_type", "dtype", "seed")


def write_card(run: Path, model: Path) -> None:
    """Write the card of a run's model, as the Hugging Face hub shows it, and the picture of mu beside it.

    Args:
        run: the run directory.
        model: the model's directory.

    Raises:
        RunError: there is no run, or its files are damaged.
    """
    loaded = load_run(run)
    drawn = _draw_mu(loaded, model / MU_PICTURE)
    template = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    text = template.from_string(files(__package__).joinpath("card.md.j2").read_text(encoding="utf-8"))
    base = str(loaded.config.get("model") or "")
    (model / CARD).write_text(
        visible(
            text.render(
                subject=subject(loaded),
                base=base or "a model loaded in Python",
                data=_data(loaded),
                rule=loaded.balance.get("rule") or "of the user's own",
                scores=_scores(loaded),
                picture=MU_PICTURE if drawn else "",
                settings=[(name, _setting(loaded, name)) for name in _TOLD],
                versions=[pair for group, pairs in facts(loaded) if group == "Environment" for pair in pairs],
                loading=loading_lines(model, "PATH_OR_HUB_NAME"),
                adapter=is_adapter_only(model),
            )
        ),
        encoding="utf-8",
    )


def loading_lines(model: Path, name: str) -> list[str]:
    """The lines of Python that load a saved model with transformers alone.

    Args:
        model: its directory.
        name: what they shall call it.
    """
    sees = any((model / file).is_file() for file in ("processor_config.json", "preprocessor_config.json"))
    kind, reader = ("ImageTextToText", "Processor") if sees else ("CausalLM", "Tokenizer")
    return [
        f'model = transformers.AutoModelFor{kind}.from_pretrained("{name}")',
        f'{reader.lower()} = transformers.Auto{reader}.from_pretrained("{name}")',
    ]


def is_adapter_only(model: Path) -> bool:
    """Whether the directory holds an adapter, which needs its base (and peft) to be loaded."""
    return (model / "adapter_config.json").is_file() and not (model / "config.json").is_file()


def _data(run: Run) -> list[tuple[str, str]]:
    for source in ("task", "data"):
        found = run.config.get(source)
        if isinstance(found, dict):
            return [(f"{source}.{name}", str(value)) for name, value in found.items() if value not in (None, {}, [])]
    return []


def _setting(run: Run, name: str) -> str:
    return str(run.balance.get("rule") if name == "rule" else run.config.get(name))


def _scores(run: Run) -> list[dict[str, str]]:
    return [
        {
            "split": outcome.split,
            "before": f"{level(outcome.before.mean, outcome.share)} {level_bounds(outcome.before, outcome.share)}",
            "after": f"{level(outcome.after.mean, outcome.share)} {level_bounds(outcome.after, outcome.share)}",
            "change": f"{change(outcome.difference.mean, outcome.share)} "
            f"{change_bounds(outcome.difference, outcome.share)}",
            "n": str(outcome.after.n),
        }
        for outcome in split_outcomes(run)
        if outcome.before and outcome.after and outcome.difference
    ]


def _draw_mu(run: Run, target: Path) -> bool:
    """The weight of imitation over the steps as a picture; False where no rule moved one."""
    steps, mu = run.measured("mix/mu")
    if len(set(run.measured("mix/mu", mixing=True)[1])) < 2:
        return False
    with matplotlib.rc_context({"font.family": ["DejaVu Sans"], "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(6.0, 2.4), layout="constrained")
        axes = figure.subplots()
        axes.plot(steps, mu, color="#7048a8")
        axes.set(ylim=(-0.03, 1.03), xlabel="step", ylabel="\N{GREEK SMALL LETTER MU}, weight of imitation")
        figure.savefig(target, format="png", dpi=120, metadata={"Software": None})
    return True
