"""Keys that have another name now, most of them in a group, for the line that refuses the old one."""

MOVED_KEYS = {
    "gamma": "ppo.gamma",
    "lam": "ppo.lam",
    "vf_coef": "ppo.vf_coef",
    "cliprange_value": "ppo.cliprange_value",
    "value_trunk": "ppo.value_trunk",
    "value_learning_rate": "ppo.value_learning_rate",
    "vllm_importance_sampling_correction": "importance_sampling.correction",
    "vllm_importance_sampling_mode": "importance_sampling.mode",
    "vllm_importance_sampling_clip_max": "importance_sampling.clip_max",
    "vllm_importance_sampling_clip_min": "importance_sampling.clip_min",
    "eval_problems": "eval.problems",
    "test_splits": "eval.test_splits",
    "test_problems": "eval.test_problems",
    "test_samples": "eval.test_samples",
    "keep_best": "checkpoint.keep_best",
    "meta_every": "balance.meta_every",
    "meta_skip": "balance.meta_skip",
    "padding_free": "prefix_tree",
}
"""Old name -> new name, dotted where it is in a group."""
