"""The named methods: each joins a balance rule with parts. Literal tables, and nothing else."""

from __future__ import annotations

from .amft import AMFT
from .amft_scalar import AMFTScalar
from .bridge import Bridge
from .fixed import Fixed, FixedWeights
from .gac import Gac
from .house_methods import HOUSE_METHODS
from .interleave import Interleave
from .log_sigma import LogSigma
from .method_spec import MethodSpec
from .reward_gap import RewardGap
from .row_sum import RowSumWeights
from .sasr import Sasr
from .scheduled import Ramp, RiseThenDecay, SwitchAt
from .self_taught_methods import SELF_TAUGHT

_PAPER = "arXiv 2508.06944"
_CONVEX = "L = (1 - mu) L_RL + mu L_SFT"
_MU = frozenset({"mu"})
_AS_PRINTED = {
    "mu_update": "paper",
    "utility": "heldout",
    "jacobian": "identity",
    "horizon": 0.0,
    "mu_init": 0.5,
    "eta_mu": 1e-4,
    "eta_h": 5e-4,
    "max_change": 1.0,
}
_ONE_EPOCH = "loss_type dr_grpo, scale_rewards none, no clipping"

AMFT_FAMILY: dict[str, MethodSpec] = {
    "amft": MethodSpec(
        AMFT,
        {},
        "learns one weight for each class of demonstrations: right, wrong, silent, times their source",
        f"{_PAPER}, eq 5, for each class",
        "L = w_RL L_RL + sum_c w_c L_c; logit w_c += eta Adam(dU/dw_c over a trace)",
        deviations="one weight for each class; see docs/method.md",
    ),
    "amft-scalar": MethodSpec(
        AMFTScalar,
        {},
        "learns mu by a scale-free meta-gradient step and an entropy term",
        f"{_PAPER}, eq 5-6",
        f"{_CONVEX}; logit mu += eta_mu Adam(dU/dmu over a trace) + eta_h (H* - H)",
        deviations="see docs/method.md",
    ),
    "amft-paper": MethodSpec(
        AMFTScalar,
        _AS_PRINTED,
        "AMFT as printed: raw eq 6, held-out utility",
        f"{_PAPER}, eq 4-6",
        f"{_CONVEX}; mu <- clip(mu + eta_mu dU/dmu + eta_h (H* - H))",
        published="PPO with a value head, lr 1e-6, batch 8, warm-up 50 of 500 steps, K = 20; mu_init 0.8 or 0.5",
        deviations="GRPO family unless loss_type is ppo; H* on rollouts, not on prompts and padding",
    ),
    "amft-meta-only": MethodSpec(
        AMFTScalar,
        {"entropy": "none"},
        "`amft-scalar` without the entropy term",
        f"{_PAPER}, ablation",
        f"{_CONVEX}; logit mu += eta_mu Adam(dU/dmu over a trace)",
        fixed=frozenset({"entropy"}),
    ),
    "amft-entropy-only": MethodSpec(
        AMFTScalar,
        {"utility": "none"},
        "`amft-scalar` without the meta-gradient: no buffer",
        f"{_PAPER}, ablation",
        f"{_CONVEX}; logit mu += eta_h (H* - H)",
        fixed=frozenset({"utility"}),
    ),
    "amft-no-warmup": MethodSpec(
        AMFTScalar,
        {"warmup": False},
        "`amft-scalar` that leaves out the run's warm-up; H* is that of the base model",
        f"{_PAPER}, ablation",
        f"{_CONVEX}; as amft-scalar, from the first step",
        fixed=frozenset({"warmup"}),
    ),
}

SCHEDULES: dict[str, MethodSpec] = {
    "fixed": MethodSpec(Fixed, {}, "a constant mu", f"{_PAPER}, eq 3", _CONVEX),
    "sft": MethodSpec(Fixed, {"mu": 1.0}, "imitation only (mu = 1)", f"{_PAPER}, eq 2", "L = L_SFT", fixed=_MU),
    "rl": MethodSpec(Fixed, {"mu": 0.0}, "RL only (mu = 0)", f"{_PAPER}, eq 1", "L = L_RL", fixed=_MU),
    "sft-then-rl": MethodSpec(
        SwitchAt,
        {},
        "imitation until `switch` (fraction or step), then RL",
        "arXiv 2604.23747",
        "L = L_SFT before the switch, L_RL after it",
        published="SFT, then 500 steps of GRPO with a new optimizer: sft_optimizer own",
    ),
    "linear": MethodSpec(
        Ramp,
        {},
        "mu moves along a straight line",
        "house",
        f"{_CONVEX}; mu = start + (stop - start) t / over",
        fixed=frozenset({"shape"}),
    ),
    "cosine": MethodSpec(
        Ramp,
        {"shape": "cosine"},
        "mu moves along half a cosine",
        "house",
        f"{_CONVEX}; mu = stop + (start - stop) (1 + cos(pi t / over)) / 2",
        fixed=frozenset({"shape"}),
    ),
    "bridge": MethodSpec(
        Bridge,
        {},
        "a constant mu, and a low-rank teacher that learns what imitation gains over exploration alone",
        "arXiv 2509.06948",
        "L = (1 - mu) L_RL + mu L_SFT at theta + w; L' = L_RL at theta' + w; theta: L; theta': L'; w: L - (1 - mu) L'",
        published="1 - mu from 0.3 to 0.7",
        deviations="three gradients of one moment; w is kept in the policy's own weights",
        experimental="read in notes on the paper, no code was found; rank, rate and start of the teacher are ours",
    ),
    "chord-mu": MethodSpec(
        RiseThenDecay,
        {},
        "mu rises to a peak, then falls to a valley",
        "arXiv 2508.11408; code modelscope/Trinity-RFT",
        f"{_CONVEX}; mu: 0 to peak linearly, peak to valley by half a cosine",
        published="rise 0, fall 200, peak 0.9, valley 0.05; clip 0.2; demonstrations are 20 % of a batch",
    ),
    "chord-phi": MethodSpec(
        Fixed,
        {"mu": 0.1},
        "a constant mu; demonstration tokens weighted by p (1 - p)",
        "arXiv 2508.11408; code modelscope/Trinity-RFT",
        "L = (1 - mu) L_RL - mu mean sg(p (1 - p)) log p",
        {"token_weight": "phi"},
        published="mu 0.1; clip 0.2",
    ),
    "chord-reward": MethodSpec(
        RewardGap,
        {},
        "imitation as long as the mean reward is below tau",
        "arXiv 2508.11408",
        f"{_CONVEX}; mu = max(0, tau - mean reward); tokens weighted by p (1 - p)",
        {"token_weight": "phi"},
        published="tau 0.5 good, 0.7 worse",
        experimental="whether phi is on in this variant",
    ),
    "gac": MethodSpec(
        Gac,
        {},
        "mu of least squared error, from the noise of both signals",
        "arXiv 2605.26184",
        f"{_CONVEX}; mu* = (a D2 + v_r) / (D2 + v_s + v_r), averaged, blended with a prior, moved a little",
        {"token_weight": "phi"},
        published="ema 0.99, a 0.5, every 10 steps, prior 0.85 to 0.15 (200, 800), mu in [0.05, 0.9], init 0.5",
        deviations="the statistics of the demonstrations take one forward pass every 10 steps",
        experimental="the blend factor of the prior, and over which pairs of tokens D2 is a mean: here all pairs",
    ),
    "sasr": MethodSpec(
        Sasr,
        {},
        "a step imitates or explores at random, by the norm of the imitation gradient",
        "arXiv 2505.13026",
        "P(SFT) = |g_sft| / (|g_sft| + gamma |g_warm|)",
        experimental="the probability is from memory of the paper; gamma's default is ours",
    ),
    "superrl-sigma": MethodSpec(
        LogSigma,
        {},
        "two learned scales, one per loss",
        "arXiv 2506.01096",
        "L = exp(-2 s_rl) L_RL + exp(-2 s_sft) L_SFT + s_rl + s_sft",
        published="s starts at 0 and 1, decay 0.99, minimum -2",
        experimental="known from notes only; which s starts where, and the step size, are ours",
    ),
}

ROUTED: dict[str, MethodSpec] = {
    "luffy": MethodSpec(
        Fixed,
        {"mu": 0.0},
        "a demonstration is one row of each group, with a shaped ratio on its tokens",
        "arXiv 2504.14945; code ElliottYan/LUFFY",
        "L = -mean A f(p) on the demonstration, f(p) = p / (p + gamma); the policy loss on the rollouts",
        {"demo_mixer": "row", "off_policy": "shaped"},
        fixed=_MU,
        published=f"8 rows of which 1 demonstration, gamma 0.1, {_ONE_EPOCH}, entropy_coef 0.001, lr 1e-6",
        deviations="clipping and mean are those of loss_type",
    ),
    "srft": MethodSpec(
        RowSumWeights,
        {},
        "one stage, rows weighted by entropy; the demonstration is a row of the group and is imitated too",
        "arXiv 2506.19767; code TsinghuaC3I/Unify-Post-Training (re-implementation)",
        "L = 0.5 sg(exp(-H)) NLL(y*) + L_off(y*) - 0.1 sg(exp(H)) log p on right rollouts + log p on wrong ones",
        {
            "demo_mixer": "row-imitated",
            "token_weight": "low-entropy-rows",
            "advantage": "signed",
            "off_policy": "p",
        },
        published=f"8 rows, {_ONE_EPOCH}, lr 1e-6, 500 steps",
        deviations="H per row, as in the re-implementation; + log p on wrong rows is bounded by the clip of loss_type; "
        "its RL losses are a mean over rows, the code's a sum over a micro-batch: row_sum 8 is one of eight",
    ),
    "hpt": MethodSpec(
        RowSumWeights,
        {},
        "per prompt: imitation where at most `gate` rollouts are right, else RL",
        "arXiv 2509.04419; code TsinghuaC3I/Unify-Post-Training",
        "L = L_RL over prompts with success + sft mean NLL over the demonstrations of the others",
        {"demo_mixer": "switch"},
        published=f"8 rollouts, gate 0, sft 1 (0.3 for 1.5B), {_ONE_EPOCH}, lr 5e-6, steps with a norm over 80 skipped",
        deviations="no step is skipped for its norm; RL losses are a mean over rows, the code's a sum over those of a "
        "micro-batch, so its sft 1 is that many times lighter: row_sum 8 is one of eight",
    ),
    "hpt-soft": MethodSpec(
        RowSumWeights,
        {},
        "per prompt: three coefficients from tables weigh rollouts, the demonstration as a row, and its imitation",
        "arXiv 2509.04419; code TsinghuaC3I/Unify-Post-Training",
        "L = sum over prompts of a L_RL + b L_off(y*) + c NLL(y*), a, b, c by the share of right rollouts",
        {"demo_mixer": "soft-switch", "off_policy": "shaped"},
        published="soft_type 0: a 0 to 1, b 0, 0.5, 1, 0.5, 0.25, 0.125, 0, 0, c 1 to 0, by right ones of 7 rollouts; "
        "soft_type 1 and 2: b 1 and 0 everywhere",
        deviations="the published actor never reads the coefficients that its trainer writes; row_sum 1 is a mean",
    ),
    "superrl": MethodSpec(
        FixedWeights,
        {},
        "per prompt: imitation where all rewards are zero, else RL",
        "arXiv 2506.01096",
        "L = L_RL over prompts with a reward + mean NLL over the demonstrations of the others",
        {"demo_mixer": "dead-reward"},
        fixed=frozenset({"gate"}),
        published="rewards and advantages up to 1e-8 count as zero; GRPO or PPO",
        deviations="only the reward is tested: a group of zero rewards has zero advantages",
    ),
    "relift": MethodSpec(
        Interleave,
        {},
        "RL steps, and an imitation step whenever enough failed prompts have gathered",
        "arXiv 2506.07527; code TheRoadQaQ/ReLIFT",
        "L = L_RL; L = L_SFT on the first failed prompts once `size` wait",
        {"demo_mixer": "hard"},
        fixed=frozenset({"freeze", "history"}),
        published=f"size 128 (32 in the yaml), own optimizer, 8 rollouts, {_ONE_EPOCH}, entropy_coef 0.001, lr 1e-6",
        deviations="the imitation step is a step of its own, without entropy bonus, at the run's learning rate",
    ),
    "mifo": MethodSpec(
        Interleave,
        {"freeze": 0.5},
        "ReLIFT's buffer; imitates high-entropy tokens only, and leaves alone what RL changed most",
        "arXiv 2510.04454",
        "NLL on the 20 % of tokens with the highest entropy; entries with the largest RL changes keep their values",
        {"demo_mixer": "hard", "token_weight": "high-entropy-tokens"},
        experimental="both shares, the interval and the history factor",
    ),
    "prefix-rft": MethodSpec(
        Fixed,
        {"mu": 0.0},
        "one row of each group continues the beginning of the demonstration",
        "arXiv 2507.01679; code ZeroYuHuang/prefix_rft",
        "policy loss; prefix tokens: A = (R - mean plain) / continuations on the 20 % of highest entropy",
        {"demo_mixer": "prefix", "advantage": "uncertain-prefix"},
        fixed=_MU,
        published="dr_grpo preferred, clip 0.2, dual clip 3, entropy_coef 0.001, lr 1e-6",
        deviations="no dual clip; the 20 % are those of a row, not of a batch",
        experimental="the share of prefix tokens (20 %), and the ends of the length schedule",
    ),
    "trapo": MethodSpec(
        Fixed,
        {"mu": 0.0},
        "four passes of rollouts, each further into the demonstration while too few are right",
        "arXiv 2512.17636; code Su-my/TRAPO",
        "policy loss; prefix tokens: A = 1, f(p) = p / max(sg(p), 0.1)",
        {"demo_mixer": "staircase", "off_policy": "floored"},
        fixed=_MU,
        published=f"8 rows as 4, 2, 1, 1; {_ONE_EPOCH}; lr 1e-6",
        deviations="clipping and mean are those of loss_type; other group sizes in proportion",
    ),
    "uft": MethodSpec(
        FixedWeights,
        {"sft": 0.001},
        "the beginning of the demonstration as a hint in the prompt, with a little imitation of it",
        "arXiv 2505.16984; code liumy2010/UFT",
        "L = L_RL + 0.001 mean NLL on hint tokens; k ~ Binomial(5, p_t) parts, p_t 0.95 to 0.05, then none",
        {"demo_mixer": "hinted"},
        published="4 rollouts, hints in 300 of 500 steps, KL and entropy bonus",
        deviations="parts of equal token length, not sentences",
    ),
    "ampo": MethodSpec(
        Fixed,
        {"mu": 0.0},
        "demonstrations take the place of rollouts where none is right",
        "arXiv 2510.02227; code SII-Enigma/AMPO",
        "as luffy on the demonstration rows, which come in only where success < 1/n; the likeliest of several",
        {"demo_mixer": "injected", "off_policy": "shaped"},
        fixed=_MU,
        published="2 of 4 teachers, gamma 0.1, loss_type dapo without KL, scale_rewards none",
        deviations="mean over rows as loss_type has it, not a mean per demonstration",
    ),
    "tapo": MethodSpec(
        Fixed,
        {"mu": 0.0},
        "part of each group sees a hint in its prompt; no imitation",
        "arXiv 2505.15692",
        "L = L_RL over groups of plain and guided rows",
        {"demo_mixer": "guided"},
        fixed=_MU,
        deviations="the hint is the demonstration's beginning; there is no library of thought patterns",
        experimental="no code was found; shares and form of the hints are ours",
    ),
}

TOKENS: dict[str, MethodSpec] = {
    "dft": MethodSpec(
        Fixed,
        {"mu": 1.0},
        "imitation with each token weighted by its probability",
        "arXiv 2508.05629; code yongliang-wu/DFT",
        "L = -mean sg(p) log p",
        {"token_weight": "dft"},
        published="lr 5e-5, batch 256, one epoch of 100k examples",
    ),
    "iw-sft": MethodSpec(
        Fixed,
        {"mu": 1.0},
        "imitation with each row weighted by how much likelier it has become",
        "arXiv 2507.12856; code emmyqin/iw_sft",
        "L = -mean sg(clamp(exp(T mean_t(log p - log p_ref)), 0, 16)) log p",
        {"token_weight": "importance"},
        published="lr 1e-5, 5 epochs of 1000 examples",
    ),
}

RULES: dict[str, MethodSpec] = {
    **AMFT_FAMILY,
    **HOUSE_METHODS,
    **SCHEDULES,
    **ROUTED,
    **SELF_TAUGHT,
    **TOKENS,
}
