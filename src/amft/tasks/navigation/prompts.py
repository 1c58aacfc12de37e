"""What the model reads and what an expert writes."""

from __future__ import annotations

import json
from dataclasses import dataclass

from .geometry import COMPASS
from .state import WalkState, action_words


@dataclass(frozen=True)
class ActionWording:
    """One way to put the instructions."""

    turn: str
    go: str
    go_seen: str
    end: str
    end_seen: str


WORDINGS = (
    ActionWording(
        "Turn {relative} to face {absolute}.",
        "Go to the crossing.",
        "Go to the crossing, {landmark} on your {relation}.",
        "Go to the end and stop.",
        "Go on and stop with {landmark} on your {relation}.",
    ),
    ActionWording(
        "Face {absolute}: this is a turn {relative}.",
        "Walk until the next crossing.",
        "Walk until {landmark} is on your {relation} at a crossing.",
        "Walk until the end of the street.",
        "Walk until {landmark} is on your {relation}; this is the end.",
    ),
    ActionWording(
        "Now {relative}, so that you look {absolute}.",
        "Follow the street to a crossing.",
        "Follow the street to a crossing; you pass {landmark}, it is on your {relation}.",
        "Follow the street to where it ends.",
        "Follow the street; you have arrived when {landmark} is on your {relation}.",
    ),
)
"""The first is for training; the others are paraphrases, one of which names the compass word first."""

PICTURE = "The picture has four views. Top: front, right. Bottom: back, left."
ACTION_KEYS = ("observation", "instruction", "action")


def instructions(state: WalkState) -> list[str]:
    """Two sentences for each leg. They hold both words of every turn, whatever the rule."""
    words = WORDINGS[state.wording]
    out = []
    for place, leg in enumerate(state.legs):
        bare, seen = (words.end, words.end_seen) if place == len(state.legs) - 1 else (words.go, words.go_seen)
        out += [sentence.format(**leg._asdict()) for sentence in (words.turn, seen if leg.landmark else bare)]
    return out


def action_question(state: WalkState, *, picture: bool) -> str:
    """The user's message. With a picture nothing that can be seen in it, now or before, is told."""
    turns = ", ".join(action_words(state.actions, COMPASS))
    lines = [f"Walk the route. Actions: forward(), stop(), turn_direction(x) with x = {turns}."]
    lines += [PICTURE] if picture else []
    lines += [f"{number}. {sentence}" for number, sentence in enumerate(instructions(state), 1)]
    lines.append("Done:")
    for place in range(state.now):
        lines.append(state.action(place) if picture else f"{state.seen(place)} -> {state.action(place)}")
    lines.append("Now: see the picture" if picture else f"Now: {state.seen(state.now)}")
    lines.append(f"Reply in JSON: {', '.join(ACTION_KEYS)}.")
    return "\n".join(lines)


def expert_action(state: WalkState) -> str:
    """The demonstration: what there is, the instruction that is followed, the action."""
    fields = (str(state.seen(state.now)), instructions(state)[state.instruction(state.now)], state.action(state.now))
    return json.dumps(dict(zip(ACTION_KEYS, fields, strict=True)), ensure_ascii=False)
