"""The figures of a run: what each shows, in a sentence, and where its numbers come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from ..stats import Interval
from .class_weights import class_curves, class_panel
from .load import Run
from .outcomes import SELECTION, SplitOutcome
from .plot_style import BLUE, GREEN, GRID, INK, MUTED, ORANGE, PURPLE, Curve, Panel, draw_figure, step_figure
from .text import visible


@dataclass(frozen=True)
class Drawing:
    """A figure for the page."""

    title: str
    caption: str
    svg: str


def drawings(run: Run) -> list[Drawing]:
    """Every figure over steps for which something was measured, in reading order."""
    made = [Drawing(title, caption, _over_steps(run, title, panels(run))) for title, caption, panels in _FIGURES]
    return [drawing for drawing in made if drawing.svg]


def balance_and_success(run: Run) -> str:
    """Mu and success over the steps in one figure, flat and wide; empty when neither was measured."""
    success = [_validation(run), _curve(run, "success", "training problems", BLUE, smooth=True, dash="--")]
    (balance,) = class_panel(run) or _mu(run)
    if len(balance.curves) == 1:
        balance = replace(balance, levels={}, curves=[replace(balance.curves[0], label="μ, the weight of imitation")])
    panels = [balance]
    return _over_steps(run, "Balance and success", [*panels, Panel(success, limits=(0, None))], height=2.7)


def before_after_figure(outcomes: Sequence[SplitOutcome]) -> str:
    """Success per split before (open circle) and after (filled), with 95 % intervals; empty when nothing was scored."""
    rows = [outcome for outcome in outcomes if outcome.share and (outcome.before or outcome.after)]

    def paint(axes: Sequence[Axes]) -> None:
        ax = axes[0]
        for y, outcome in enumerate(rows):
            _bar(ax, y - 0.13, outcome.before, MUTED, hollow=True, label="before" if y == 0 else None)
            _bar(ax, y + 0.13, outcome.after, BLUE, hollow=False, label="after" if y == 0 else None)
        ax.set_yticks(range(len(rows)), [visible(row.split)[:24] for row in rows], color=INK)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_xlim(-3, 103)
        ax.grid(axis="x", color=GRID, lw=0.6)
        ax.grid(visible=False, axis="y")
        ax.set_xlabel("success, %")
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)

    label = "Success before and after training"
    left = 0.05 + 0.0185 * max((len(visible(row.split)[:24]) for row in rows), default=0)
    return draw_figure(label, 1, paint, height=0.9 + 0.5 * len(rows), left=left) if rows else ""


def _bar(ax: Axes, y: float, found: Interval | None, colour: str, *, hollow: bool, label: str | None) -> None:
    if found is None:
        return
    if np.isfinite(found.low):
        ax.plot([100 * found.low, 100 * found.high], [y, y], color=colour, lw=2.2, solid_capstyle="butt")
    face: dict[str, Any] = {"markerfacecolor": "none"} if hollow else {}
    ax.plot([100 * found.mean], [y], "o", color=colour, ms=7, mew=1.8, label=label, clip_on=False, **face)


def _over_steps(run: Run, title: str, panels: Sequence[Panel], **size: float) -> str:
    shaded = run.steps[run.warmup]
    warmup = (int(shaded[0]), int(shaded[-1])) if shaded.size else None
    return step_figure(title, panels, warmup=warmup, last=run.last_step, **size)


def _curve(run: Run, name: str, label: str, colour: str, **look: Any) -> Curve:
    return Curve(*run.measured(name), label, colour, **look)


def _mu_alone(run: Run) -> list[Panel]:
    return [] if class_panel(run) else _mu(run)


def _validation(run: Run) -> Curve:
    """From step 0 on, where the model as it came was validated."""
    curve = _curve(run, f"eval/{SELECTION}/success", "success: validation", GREEN, marker="o")
    if run.first_validation is None or not len(curve.steps):
        return curve
    return replace(curve, steps=np.insert(curve.steps, 0, 0), values=np.insert(curve.values, 0, run.first_validation))


def _mu(run: Run) -> list[Panel]:
    ends = {"mu_min": run.balance.get("mu_min"), "mu_max": run.balance.get("mu_max")}
    levels = {name: (float(v), MUTED) for name, v in ends.items() if isinstance(v, (int, float))}
    return [Panel([_curve(run, "mix/mu", "μ", PURPLE)], levels, (-0.03, 1.03))]


def _reward(run: Run) -> list[Panel]:
    success = [_validation(run), _curve(run, "success", "rollouts", BLUE, dash="--", smooth=True)]
    return [
        Panel([_curve(run, "reward", "mean reward of rollouts", BLUE, smooth=True)]),
        Panel(success, limits=(0 if all((curve.values >= 0).all() for curve in success) else None, None)),
    ]


def _entropy(run: Run) -> list[Panel]:
    target = _curve(run, "entropy_target", "H*", MUTED, dash="--")
    return [Panel([_curve(run, "entropy", "entropy H, nats", BLUE, smooth=True), target], limits=(0, None))]


def _gradients(run: Run) -> list[Panel]:
    norms = [
        _curve(run, "mix/grad_norm_sft", "norm: imitation", ORANGE, smooth=True),
        *class_curves(run, "mix/grad_norm", "norm: "),
        _curve(run, "mix/grad_norm_rl", "exploration", BLUE, dash="--", smooth=True),
        _curve(run, "mix/grad_norm/rl", "exploration", BLUE, dash="--", smooth=True),
    ]
    positive = [c for c in norms if len(c.values) and c.values.min() > 0]
    return [
        Panel(norms, log=len(positive) == sum(len(c.values) > 0 for c in norms)),
        Panel(_one_or_each(run, "mix/grad_cos", "cosine between the two", "cosine: "), {"": (0.0, MUTED)}),
    ]


def _meta(run: Run) -> list[Panel]:
    return [
        Panel(_one_or_each(run, "mix/meta_grad", "meta-gradient dU/dμ", "dU/dw: "), {"": (0.0, MUTED)}),
        Panel(
            _one_or_each(run, "mix/meta_grad_snr", "its signal-to-noise ratio", "SNR: ", smooth=False),
            {"": (0.0, MUTED)},
        ),
    ]


def _one_or_each(run: Run, name: str, label: str, each: str, *, smooth: bool = True) -> list[Curve]:
    """The metric of the one imitation branch, or of each class of demonstrations."""
    return class_curves(run, name, each, smooth=smooth) or [_curve(run, name, label, PURPLE, smooth=smooth)]


def _implicit(run: Run) -> list[Panel]:
    return [
        Panel(
            [
                _curve(run, "implicit_reward/demo", "of demonstrations", ORANGE, marker="o"),
                _curve(run, "implicit_reward/rollout", "of rollouts", BLUE, dash="--", marker="o"),
            ],
            {"": (0.0, MUTED)},
        )
    ]


def _losses(run: Run) -> list[Panel]:
    return [
        Panel([_curve(run, "sft/loss", "imitation loss, nats per token", ORANGE, smooth=True)]),
        Panel([_curve(run, "policy_loss", "policy loss (a surrogate)", BLUE, smooth=True)]),
    ]


def _lengths(run: Run) -> list[Panel]:
    limit = run.config.get("max_completion_length")
    levels = {"limit": (float(limit), MUTED)} if isinstance(limit, (int, float)) else {}
    return [
        Panel([_curve(run, "completions/mean_length", "mean length, tokens", BLUE, smooth=True)], levels, (0, None)),
        Panel(
            [_curve(run, "completions/clipped_ratio", "share cut off at the limit", ORANGE, smooth=True)],
            limits=(0, None),
        ),
    ]


def _spread(run: Run) -> list[Panel]:
    flat = _curve(run, "frac_reward_zero_std", "share of groups without spread", ORANGE, smooth=True)
    return [
        Panel([flat], limits=(-0.03, 1.03)),
        Panel(
            [_curve(run, "reward_std", "mean standard deviation within groups", BLUE, smooth=True)], limits=(0, None)
        ),
    ]


_FIGURES: list[tuple[str, str, Callable[[Run], list[Panel]]]] = [
    ("The balance μ", "1 is pure imitation, 0 pure exploration. Shaded: warm-up, imitation only.", _mu_alone),
    (
        "Weights of the classes of demonstrations",
        "Each class is what the verifier says of a demonstration, with its source where rows name one.",
        class_panel,
    ),
    ("Reward and success", "Rollouts on training problems, and greedy answers to validation problems.", _reward),
    ("Entropy", "How undecided the policy is about its next token, against the target H*.", _entropy),
    (
        "Meta-gradient",
        "What a little more weight would do to the reward. Faint: measured; solid: running mean.",
        _meta,
    ),
    ("Gradient norms", "The gradients before weighting, and the cosine between imitation and exploration.", _gradients),
    (
        "Implicit reward",
        "How much likelier an answer is than right after the warm-up, in nats times beta. Imitation raises it.",
        _implicit,
    ),
    ("Losses", "The policy loss is a surrogate: its level says little, its jumps do.", _losses),
    ("Length of completions", "A completion cut off at the limit did not get to its end.", _lengths),
    (
        "Spread of rewards",
        "A group in which all rewards are equal teaches nothing to a loss that compares within groups.",
        _spread,
    ),
]
