"""The house's own methods: by verdicts on demonstrations, or by products of gradients. Literal tables alone."""

from __future__ import annotations

from .brake import Brake
from .gram_pair import GramPairRule
from .method_spec import MethodSpec
from .success_gap import SuccessGap
from .verifier_gate import VerifierGate

HOUSE_METHODS: dict[str, MethodSpec] = {
    "verifier-gate": MethodSpec(
        VerifierGate,
        {},
        "constant weights; demonstrations graded wrong are left out, known and repeated ones count less",
        "house",
        "L = rl L_RL + imitation sum over demonstrations not wrong of (1 - pi(y)) / (1 + k / ageing) NLL",
        {"token_weight": "unmastered"},
    ),
    "success-gap": MethodSpec(
        SuccessGap,
        {},
        "imitation as long as demonstrations succeed more often than the policy",
        "house",
        "L = (1 - mu) L_RL + mu L_SFT; mu = most max(0, q - p) / q",
    ),
    "gram-pair": MethodSpec(
        GramPairRule,
        {},
        "mu of the step that gains most reward for its length, from products of the two gradients",
        "house",
        "L = (1 - mu) L_RL + mu L_SFT; mu : 1 - mu = c (T_rl - r) : r T_sft - c^2",
    ),
    "brake": MethodSpec(
        Brake,
        {},
        "constant weights for what is not wrong, lowered when held-out right answers become less likely",
        "house",
        "L = rl L_RL + b imitation L_(right, silent); b falls with the held-out likelihood",
    ),
}
