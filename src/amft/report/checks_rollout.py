"""Checks of the rollouts: do groups teach, is the policy still exploring, does it get to finish?"""

from __future__ import annotations

from .finding import Level, Remark, down, up
from .load import Run
from .outcomes import SELECTION
from .progress import rose

FLAT, MOSTLY_FLAT = 0.5, 0.8
COLLAPSE, BLOW_UP = 0.3, 2.5
"""Of the target entropy."""
CUT, MOSTLY_CUT = 0.1, 0.5
ABSTAINED = 0.2
HALF, NEARLY_SOLVED = 0.5, 0.9
UNGROUPED = ("reinforce", "reinforce_plus_plus", "ppo")
"""Losses that compare no completion with others of its prompt, so that equal rewards teach too."""


def zero_spread(run: Run) -> Remark | None:
    """Whether most groups have equal rewards, and whether that is because they are all right or all wrong."""
    flat = run.late("frac_reward_zero_std")
    if not flat.size or flat.mean() <= FLAT or run.config.get("loss_type") in UNGROUPED:
        return None
    grave: Level = "bad" if flat.mean() > MOSTLY_FLAT else "warn"
    known = success_level(run)
    evidence = f"{100 * flat.mean():.0f} % of the groups in the second half have equal rewards and teach nothing"
    told = "" if known is None else f"; {known[1]} {100 * known[0]:.0f} %"
    # Groups that are all right hold at most all right answers, and those that are all wrong all wrong ones.
    right = 0.0 if known is None else flat.mean() - (1 - known[0])
    wrong = 0.0 if known is None else flat.mean() - known[0]
    title, tries, hint = "Most groups have no spread of rewards", up("num_generations"), "Look at the samples first."
    if right > flat.mean() / 2:
        title, tries = f"{title}: mostly all right", up("temperature", "num_generations")
        hint = "Or take harder problems."
        if known is not None and known[0] >= NEARLY_SOLVED and rose(run):
            return Remark(
                "note", "The training problems are solved", f"{evidence}{told}.", hint="Take harder problems."
            )
    elif wrong > flat.mean() / 2:
        title, tries = f"{title}: mostly all wrong", up("sft_warmup_steps", "num_generations")
        hint = "Or take easier problems."
    return Remark(grave, title, f"{evidence}{told}.", tries, hint)


def success_level(run: Run) -> tuple[float, str] | None:
    """How often the policy is right of late, and how that is known: of the rollouts if it can be."""
    rollouts = run.late("success")
    if rollouts.size:
        return float(rollouts.mean()), "success of rollouts there:"
    reward = run.late("reward")
    if reward.size and reward.min() >= 0 and reward.max() <= 1:
        return float(reward.mean()), "mean reward:"
    late = [row for row in run.samples if row["step"] > run.last_step / 2]
    words = [done.get("outcome") for row in late for done in row.get("completions") or []]
    if any(word == "correct" for word in words):
        return sum(word == "correct" for word in words) / len(words), "correct among the sample rollouts:"
    steps, success = run.measured(f"eval/{SELECTION}/success")
    if success.size and 0 <= success[-1] <= 1:
        return float(success[-1]), f"validation success at step {steps[-1]}:"
    return None


def entropy_drift(run: Run) -> Remark | None:
    """Whether entropy left its target (or, without one, its start) far behind, and nothing was gained by it."""
    _, entropy = run.measured("entropy", mixing=True)
    if len(entropy) < 10:
        return None
    tail = float(entropy[-max(5, len(entropy) // 10) :].mean())
    target = run.late("entropy_target")
    reference, name = (float(target[-1]), "H*") if target.size else (float(entropy[:5].mean()), "at the start")
    evidence = f"Mean entropy of the last steps {tail:.3f} nats, {name} {reference:.3f}."
    if tail < COLLAPSE * reference and reference - tail > 0.05:
        return _collapsed(run, evidence)
    if tail > BLOW_UP * reference and tail - reference > 0.1:
        tries = (*down("learning_rate", "entropy_coef"), *up("balance.mu_min", "balance.right_min"))
        return Remark("warn", "Entropy has blown up", evidence, tries)
    return None


def _collapsed(run: Run, evidence: str) -> Remark | None:
    """A policy that has learned is surer of itself: that is what entropy measures, and no fault."""
    known, title = success_level(run), "Entropy has collapsed"
    often = 0.0 if known is None else known[0]
    if rose(run) and often >= HALF:
        return None
    if often >= NEARLY_SOLVED:
        return Remark("note", title, f"{evidence} The problems are nearly solved, so little is lost.")
    tries = (*up("entropy_coef", "temperature"), *down("learning_rate"))
    if rose(run):
        return Remark("note", title, f"{evidence} Success rose, but most answers are still wrong.", tries)
    return Remark("warn", title, f"{evidence} Success did not clearly rise.", tries)


def truncation(run: Run) -> Remark | None:
    """Whether completions run into the token limit."""
    cut = run.late("completions/clipped_ratio")
    if not cut.size or cut.mean() <= CUT:
        return None
    masked = run.config.get("mask_truncated_completions")
    hint = "" if masked else "mask_truncated_completions keeps them out of the RL loss."
    evidence = f"{100 * cut.mean():.0f} % of the completions in the second half were cut off at the limit."
    grave: Level = "bad" if cut.mean() > MOSTLY_CUT else "warn"
    return Remark(grave, "Completions are cut off", evidence, up("max_completion_length"), hint)


def abstentions(run: Run) -> Remark | None:
    """Whether reward functions declined to score completions."""
    share = run.late("frac_reward_abstained")
    if not share.size:
        rows = (run.config.get("num_prompts") or 1) * (run.config.get("num_generations") or 1)
        counted = run.late("rewards/abstained")
        share = counted / rows if counted.size and counted.max() > 1 else counted
    if not share.size or share.mean() == 0:
        return None
    evidence = (
        f"{100 * share.mean():.1f} % of the completions in the second half got no reward; they carry no exploration."
    )
    hint = "Their reward is null in samples.jsonl: a reward function returned None, or see the grader's `outcome`."
    return Remark(
        "warn" if share.mean() > ABSTAINED else "note", "Some completions were not scored", evidence, hint=hint
    )
