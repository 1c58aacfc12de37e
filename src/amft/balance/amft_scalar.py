"""One learned weight: mu climbs the utility along the measured meta-gradient, steadied by the policy's entropy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ..signals.base import Signals
from ..signals.demo_gain import DEMO_GAIN
from ..signals.entropy import ENTROPY
from .amft_steps import LAMBDA, STEPS, finite, gap_between, moments, moments_start, noise_ratio
from .base import State, Update
from .checks import require_choice, require_number
from .meta_gradient import JacobianKind, MetaGradient, Utility
from .requirements import Requirements
from .weights import Weights


@dataclass(frozen=True)
class AMFTScalar:
    """Eq 6 of arXiv 2508.06944 and two scale-free forms of it.

    One step in a coordinate x of mu: `x <- x + eta_mu * step(dU/dmu) + eta_h * entropy_sign * (H* - H)`.

    - `mu_update="paper"`: x = mu, step = dU/dmu: eq 6 as printed. Its size depends on both learning rates.
    - `mu_update="normalized"`: x = logit(mu), step = Adam's `m_hat / sqrt(v_hat)` of dU/dmu (arXiv 1412.6980).
    - `mu_update="cosine"`: x = logit(mu), step = the cosine between grad U and the effect of mu.

    mu then moves by at most `max_change` and stays in its bounds. The state is mu itself, clipped, not a free logit:
    a free logit winds up beyond a bound and needs as long to return; a sigmoid scaled into the bounds slows near
    them and never reaches them.

    Args:
        mu_update: see above.
        utility: what estimates grad U: "lookahead" (the next step's RL gradient), "heldout" (policy gradient on
            held-out prompts), "likelihood" (held-out demonstrations), "none" (no meta-gradient, no buffer: the entropy
            term alone).
        jacobian: of the optimizer, "exact" or the paper's "identity".
        horizon: decay in [0, 1) of the trace of past effects (one more buffer); 0: one step ahead.
        meta_every: steps between two measurements of the utilities heldout and likelihood.
        meta_skip: first optimizer steps whose effect is not observed: Adam's are ill-conditioned.
        prior: "none", mu begins at `mu_init`; "graded", at the gain of the demonstrations where that is higher: how
            often the verifier puts one above an answer of the policy, less how often below (`amft.signals.demo_gain`).
        mu_init, mu_min, mu_max: start and bounds of the weight of imitation.
        eta_mu: step size (the paper's meta_lr), in units of x; None takes the default of `mu_update`.
        eta_h: entropy step size (entropy_lr), in units of x per nat; None takes the default of `mu_update`. For
            `entropy="measured"` it is lambda, in utility per square nat, 0.1 by default.
        entropy: "target" (eq 6), "measured" (`lambda (H* - H) dH/dmu` joins dU/dmu: no sign is assumed), "none".
        entropy_sign: 1 is eq 6 (entropy above H* lowers mu), -1 is the paper's prose.
        max_change: largest change of mu in one step.
        beta1, beta2: decays of Adam's two moments.
        noise_decay: decay of the running mean and variance behind `mix/meta_grad_snr`.
        warmup: False leaves out the run's `sft_warmup_steps`.
        shrink: scale the meta step by `snr^2 / (1 + snr^2)`, near 0 while the mean is lost in its noise.

    Raises:
        ConfigError: a setting is out of range, or "cosine" is joined with `entropy="measured"`.
    """

    mu_update: str = "normalized"
    utility: Utility | Literal["none"] = "lookahead"
    jacobian: JacobianKind = "exact"
    horizon: float = 0.8
    meta_every: int = 10
    meta_skip: int = 5
    prior: str = "none"
    mu_init: float = 0.1
    mu_min: float = 0.05
    mu_max: float = 0.95
    eta_mu: float | None = None
    eta_h: float | None = None
    entropy: str = "target"
    entropy_sign: int = 1
    max_change: float = 0.2
    beta1: float = 0.9
    beta2: float = 0.99
    noise_decay: float = 0.95
    shrink: bool = False
    warmup: bool = True

    def __post_init__(self) -> None:
        require_choice("mu_update", self.mu_update, tuple(STEPS))
        require_choice("prior", self.prior, ("none", "graded"))
        require_choice("entropy", self.entropy, ("target", "measured", "none"))
        require_choice("entropy_sign", self.entropy_sign, (1, -1))
        require_choice("shrink", self.shrink, (True, False))
        require_number("mu_max", self.mu_max, 0.0, 1.0)
        require_number("mu_min", self.mu_min, 0.0, self.mu_max)
        require_number("mu_init", self.mu_init, self.mu_min, self.mu_max)
        require_number("max_change", self.max_change, 0.0, 1.0)
        for name, decay in {"beta1": self.beta1, "beta2": self.beta2, "noise_decay": self.noise_decay}.items():
            require_number(name, decay, 0.0, 1.0, below=True)
        for name, size in {"eta_mu": self.eta_mu, "eta_h": self.eta_h}.items():
            require_number(name, 0.0 if size is None else size, 0.0, 1e12)
        if self.entropy == "measured":
            require_choice("mu_update with entropy 'measured'", self.mu_update, ("paper", "normalized"))
            require_choice("utility with entropy 'measured'", self.utility, get_args(Utility))
        _ = self.requirements  # which refuse a utility, jacobian, horizon, meta_every, meta_skip or warmup out of range

    @property
    def requirements(self) -> Requirements:
        steers = () if self.entropy == "none" else (ENTROPY,)
        begins = (DEMO_GAIN,) if self.prior == "graded" else ()
        if self.utility == "none":
            return Requirements((*steers, *begins), warmup=self.warmup)
        measured = self.entropy == "measured"
        meta = MetaGradient(
            self.utility, self.horizon, self.jacobian, "convex", self.meta_every, self.meta_skip, measured
        )
        return Requirements((*steers, *begins), meta, warmup=self.warmup)

    def init(self) -> State:
        return {"mu": float(self.mu_init), **moments_start()}

    def update(self, state: State, signals: Signals) -> Update:
        """Eq 6 of arXiv 2508.06944 in the coordinate of `mu_update`; what is not finite counts as absent."""
        kind = STEPS[self.mu_update]
        gap = 0.0 if self.entropy == "none" else gap_between(signals.entropy_target, signals[ENTROPY])
        measured = self._measured(signals, gap)
        gradient, cosine = finite(signals.meta_grad), finite(signals.meta_cos)
        state, metrics, meta_push = dict(state), {}, 0.0
        gain = finite(signals[DEMO_GAIN]) if self.prior == "graded" and signals.step == 0 else None
        if gain is not None:
            metrics["mix/demo_gain"] = gain
            state["mu"] = max(self.mu_init, gain)
        if gradient is not None:
            metrics["mix/meta_grad"] = gradient
            gradient += measured
            state = moments(state, gradient, self.beta1, self.beta2, self.noise_decay)
            metrics["mix/meta_grad_snr"] = snr = noise_ratio(state, self.noise_decay)
            step = kind.step(state, gradient, cosine, self.beta1, self.beta2)
            eta_mu = kind.eta_mu if self.eta_mu is None else self.eta_mu
            meta_push = eta_mu * step * (snr**2 / (1.0 + snr**2) if self.shrink else 1.0)
        if cosine is not None:
            metrics["mix/meta_cos"] = cosine
        target_push = self._eta_h * self.entropy_sign * gap if self.entropy == "target" else 0.0
        mu, most = kind.inverse(kind.coordinate(state["mu"]) + meta_push + target_push), self.max_change
        capped = min(max(mu, state["mu"] - most), state["mu"] + most)
        state["mu"] = min(max(capped, self.mu_min), self.mu_max)
        metrics |= {"mix/mu": state["mu"], "mix/entropy_push": target_push + measured}
        return Weights.convex(state["mu"]), state, metrics

    @property
    def _eta_h(self) -> float:
        default = LAMBDA if self.entropy == "measured" else STEPS[self.mu_update].eta_h
        return default if self.eta_h is None else self.eta_h

    def _measured(self, signals: Signals, gap: float) -> float:
        slope = finite(signals.entropy_grad) if self.entropy == "measured" else None
        return 0.0 if slope is None else finite(self._eta_h * gap * slope) or 0.0
