"""The named methods that need no teacher of their own: self-distillation, and exploration with a solution in view."""

from __future__ import annotations

from .fixed import Fixed, FixedWeights
from .method_spec import MethodSpec

SELF_TAUGHT: dict[str, MethodSpec] = {
    "sdpo": MethodSpec(
        Fixed,
        {"mu": 1.0},
        "self-distillation: rollouts move towards what the policy says once it has seen a right one",
        "arXiv 2601.20802; code huggingface/trl 1.16",
        "L = (1 - mu) L_RL + mu L_SFT; L_SFT = KL(pi || sg pi(. | another right rollout)) on drawn tokens",
        {"demo_mixer": "peer-taught", "token_weight": "towards-teacher"},
        published="mu 1, the teacher an average of the weights (rate 0.05), ratio capped at 2, feedback where there is",
        deviations="the teacher is the policy that drew the rollouts; a mean over tokens, not rows; no cap or feedback",
    ),
    "sdft": MethodSpec(
        Fixed,
        {"mu": 1.0},
        "self-distillation: rollouts move towards what the policy says once it has seen the demonstration",
        "arXiv 2601.19897; code huggingface/trl 1.16",
        "L = (1 - mu) L_RL + mu L_SFT; L_SFT = KL(pi || sg pi(. | y*)) on drawn tokens",
        {"demo_mixer": "demonstration-taught", "token_weight": "towards-teacher"},
        published="mu 1: no reward is read",
        deviations="the teacher is the policy that drew the rollouts; a mean over tokens, not rows",
    ),
    "srpo": MethodSpec(
        FixedWeights,
        {},
        "right rollouts are explored, wrong ones are taught by the policy that has seen a right one",
        "arXiv 2604.02288",
        "L = L_RL over rollouts right or without a teacher + w KL(pi || sg pi(. | a right rollout)) over the others",
        {"demo_mixer": "routed-peer-taught", "token_weight": "confident-teacher"},
        deviations="on drawn tokens, not on all of the vocabulary",
        experimental="the routing was read, the form of the entropy weight and the relation of the two losses were not",
    ),
    "pope": MethodSpec(
        Fixed,
        {"mu": 0.0},
        "failed prompts are explored again behind the shortest prefix of the demonstration that helps; no imitation",
        "arXiv 2601.18779",
        "L = L_RL over plain groups with success and guided groups of the others; the prefix carries no loss",
        {"demo_mixer": "privileged"},
        fixed=frozenset({"mu"}),
        deviations="the prefix begins the answer, it is not quoted in an instruction; there are as many guided "
        "groups as failed prompts, not half; lengths are tried in each step, not once beforehand",
        experimental="known from the abstract and summaries; the ladder of prefix lengths is ours",
    ),
}
