"""The learned balance over classes of demonstrations: one weight each, begun where the verifier's verdict says."""

from __future__ import annotations

from dataclasses import dataclass

from ..signals.base import Observation, Signals
from ..types import DEMO_RIGHT, DEMO_SILENT, DEMO_WRONG, RL
from .amft_steps import STEPS, finite, moments, moments_start, noise_ratio
from .base import State, Update
from .checks import require_number
from .meta_gradient import EffectType, JacobianKind, MetaGradient
from .requirements import Draw, Requirements
from .verdict_classes import by_verdict_and_source, verdict_of_branch
from .weights import Weights


@dataclass(frozen=True)
class AMFT:
    """`L = w_RL L_RL + sum_c w_c L_c` over classes c of demonstrations, eq 5 of arXiv 2508.06944 for each weight.

    A class is a verdict, right, wrong or silent (the verifier cannot say); with a column `source` it is a verdict and a
    source. Each class has a trace of its effects on the parameters, `e_c <- horizon e_c + lr J g_c`, and
    `m_c = -<g_RL, e_c>` on the next rollouts is dU/dw_c. The weight climbs along it:
    `logit w_c += eta Adam(m_c)`, at most `max_change` a step, within the bounds of its verdict. A class without rows in
    a step has nothing to observe after it, and keeps its weight. So do all of them where no group of rollouts has a
    difference of rewards: exploration has no gradient there, and `m_c = 0` says nothing about demonstrations.

    Args:
        right, right_min, right_max: start and bounds of the weight of demonstrations that are right.
        silent, silent_min, silent_max: the same where the verifier cannot say.
        wrong, wrong_min, wrong_max: the same for wrong ones.
        rl: weight of exploration, constant; None: what the largest weight of a class leaves of 1. `m_c` is then still
            the effect of `w_c` alone, with exploration held.
        eta: step size, in units of the logit.
        max_change: largest change of a weight in one step.
        horizon: decay in [0, 1) of the traces; 0 looks one step ahead and saves a buffer per class.
        ageing: a demonstration that was shown k times before counts `1 / (1 + k / ageing)`.
        jacobian: of the optimizer, "exact" or the paper's "identity".
        draw: "weight" shows a class in proportion to its rows and its weight, "share" to its rows alone.
        effect_dtype: in which traces are kept, "float32" or "bfloat16" (half the memory).
        meta_skip: first optimizer steps whose effect is not observed: Adam's are ill-conditioned.
        beta1, beta2: decays of Adam's two moments.
        noise_decay: decay of the running mean and variance behind `mix/meta_grad_snr/CLASS`.
        classes: how many classes `amft plan` reckons with.

    Raises:
        ConfigError: a setting is out of range.
    """

    right: float = 0.7
    right_min: float = 0.2
    right_max: float = 0.95
    silent: float = 0.7
    silent_min: float = 0.02
    silent_max: float = 0.95
    wrong: float = 0.05
    wrong_min: float = 0.02
    wrong_max: float = 0.95
    rl: float | None = 0.5
    eta: float = 0.2
    max_change: float = 0.2
    horizon: float = 0.8
    ageing: float = 10.0
    jacobian: JacobianKind = "exact"
    effect_dtype: EffectType = "float32"
    draw: Draw = "weight"
    meta_skip: int = 5
    beta1: float = 0.9
    beta2: float = 0.99
    noise_decay: float = 0.95
    classes: int = 2

    def __post_init__(self) -> None:
        for verdict in (DEMO_RIGHT, DEMO_SILENT, DEMO_WRONG):
            start, low, high = self._prior(verdict)
            require_number(f"{verdict}_max", high, 0.0, 1.0)
            require_number(f"{verdict}_min", low, 0.0, high)
            require_number(verdict, start, low, high)
        for name, size in {"rl": self.rl or 0.0, "eta": self.eta}.items():
            require_number(name, size, 0.0, 1e6)
        require_number("max_change", self.max_change, 0.0, 1.0)
        for name, decay in {"beta1": self.beta1, "beta2": self.beta2, "noise_decay": self.noise_decay}.items():
            require_number(name, decay, 0.0, 1.0, below=True)
        _ = self.requirements  # which refuse what is theirs and out of range

    @property
    def requirements(self) -> Requirements:
        meta = MetaGradient(
            horizon=self.horizon,
            jacobian=self.jacobian,
            direction="free",
            skip=self.meta_skip,
            effect_dtype=self.effect_dtype,
        )
        return Requirements(
            meta_gradient=meta,
            split=by_verdict_and_source,
            graded=True,
            classes=self.classes,
            ageing=self.ageing,
            draw=self.draw,
        )

    def init(self) -> State:
        return {"classes": {}}

    def update(self, state: State, signals: Signals) -> Update:
        """One step of every class that was observed; what is not finite counts as absent."""
        classes = dict(state["classes"])
        metrics: dict[str, float] = {}
        for branch in signals.branches:
            kept = classes.get(branch) or {"weight": self._prior(verdict_of_branch(branch))[0], **moments_start()}
            classes[branch], found = self._moved(branch, kept, signals.meta.get(branch))
            metrics |= {f"{name}/{branch}": value for name, value in found.items()}
        weights = {branch: classes[branch]["weight"] for branch in signals.branches}
        largest = max((kept["weight"] for kept in classes.values()), default=0.0)
        rl = 1.0 - largest if self.rl is None else float(self.rl)
        return Weights({**weights, RL: rl}), {"classes": classes}, metrics

    def _prior(self, verdict: str) -> tuple[float, float, float]:
        """Start, lower and upper bound."""
        return {
            DEMO_RIGHT: (self.right, self.right_min, self.right_max),
            DEMO_SILENT: (self.silent, self.silent_min, self.silent_max),
            DEMO_WRONG: (self.wrong, self.wrong_min, self.wrong_max),
        }[verdict]

    def _moved(self, branch: str, kept: State, observed: Observation | None) -> tuple[State, dict[str, float]]:
        gradient = None if observed is None else finite(observed.dot)
        # Zeros in Adam's averages would make the rare step that is paid look large: after forty silent ones it would
        # move a weight six times as far.
        if observed is None or not gradient:
            return kept, {}
        kept = moments(kept, gradient, self.beta1, self.beta2, self.noise_decay)
        logit, (_, low, high), weight = STEPS["normalized"], self._prior(verdict_of_branch(branch)), kept["weight"]
        step = self.eta * logit.step(kept, gradient, None, self.beta1, self.beta2)
        wanted = logit.inverse(logit.coordinate(weight) + step)
        capped = min(max(wanted, weight - self.max_change), weight + self.max_change)
        metrics = {"mix/meta_grad": gradient, "mix/meta_grad_snr": noise_ratio(kept, self.noise_decay)}
        cosine = finite(observed.cos)
        return {**kept, "weight": min(max(capped, low), high)}, metrics | (
            {} if cosine is None else {"mix/meta_cos": cosine}
        )
