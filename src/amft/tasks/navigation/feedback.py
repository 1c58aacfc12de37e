"""What the user says after a wrong answer. The right action is never given away."""

from __future__ import annotations

from collections.abc import Mapping

ACTION_REASONS: Mapping[str, str] = {
    "parse_error": "there is no JSON object with an action in it",
    "wrong_landmark": "the landmark here is not what you say",
    "wrong_crossing": "look again whether this is a crossing",
    "wrong_action": "this is not what to do here",
}

DETAILS: Mapping[str, str] = {
    "landmark": "wrong landmark",
    "relation": "wrong side",
    "crossing": "wrong about the crossing",
    "instruction": "not the instruction to follow now",
}


def action_feedback(level: str, outcome: str, metrics: Mapping[str, float]) -> str:
    """The next user message.

    Args:
        level: `none` asks again; `binary` says the answer is wrong; `outcome` says which check failed; `detailed`
            lists everything in the answer that is wrong.
        outcome: of the last answer, not `correct`.
        metrics: its details, from `verifier.judge_action`.
    """
    wrong = [text for name, text in DETAILS.items() if not metrics[name]]
    details = f" ({', '.join(wrong)})" if wrong and outcome != "parse_error" else ""
    said = {
        "none": "Answer",
        "binary": "That is wrong. Answer",
        "outcome": f"That is wrong: {ACTION_REASONS[outcome]}. Answer",
        "detailed": f"That is wrong: {ACTION_REASONS[outcome]}{details}. Answer",
    }
    return f"{said[level]} again."
