"""What a prompt is about: the words of a route, and the points walked so far. Everything else follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .geometry import TURNS, turn_word
from .rail import Rail

ACTION_RULES = ("absolute", "relative")
"""How a turn is written: as the compass word of the new heading, or as a turn of the walker."""


class LegWords(NamedTuple):
    """A leg in words."""

    relative: str
    absolute: str
    landmark: str | None
    relation: str | None


class Seen(NamedTuple):
    """What there is at a point."""

    landmark: str | None
    relation: str | None
    crossing: bool

    def __str__(self) -> str:
        parts = [f"{self.landmark} on your {self.relation}"] * bool(self.landmark) + ["crossing"] * self.crossing
        return "; ".join(parts) or "nothing"


@dataclass(frozen=True)
class WalkState:
    """A walker at a point of a rail."""

    legs: tuple[LegWords, ...]
    path: tuple[str, ...]
    """Kinds of the points so far (`rail.Node.kind`); the last one is where the walker stands."""
    actions: str
    """One of ACTION_RULES."""
    wording: int
    """Which words the instructions use (`prompts.WORDINGS`)."""

    def leg(self, place: int) -> int:
        """The leg walked at a point of the path, from 0; at a turn the one that ends there."""
        return self.path[:place].count("turn")

    def seen(self, place: int) -> Seen:
        """What there is at a point of the path."""
        kind = self.path[place]
        leg = self.legs[self.leg(place)]
        if kind in ("turn", "stop"):
            return Seen(leg.landmark, leg.relation, kind == "turn")
        return Seen(None, None, False)

    def action(self, place: int) -> str:
        """The one right action at a point of the path."""
        kind = self.path[place]
        if kind in ("forward", "stop"):
            return f"{kind}()"
        leg = self.legs[self.leg(place) + (kind == "turn")]
        return f"turn_direction({getattr(leg, self.actions)})"

    def instruction(self, place: int) -> int:
        """The number, from 0, of the instruction that is followed at a point: two for each leg, turn and go."""
        kind = self.path[place]
        return 2 * self.leg(place) + {"start": 0, "forward": 1, "turn": 2, "stop": 1}[kind]

    @property
    def now(self) -> int:
        return len(self.path) - 1

    @property
    def names(self) -> set[str]:
        """All landmarks of the route."""
        return {leg.landmark for leg in self.legs if leg.landmark}

    def params(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "legs": [list(leg) for leg in self.legs],
            "path": list(self.path),
            "actions": self.actions,
            "wording": self.wording,
        }


def read_state(params: Mapping[str, Any]) -> WalkState:
    """The inverse of `State.params`."""
    legs = tuple(LegWords(*leg) for leg in params["legs"])
    return WalkState(legs, tuple(params["path"]), params["actions"], params["wording"])


def leg_words(rail: Rail) -> tuple[LegWords, ...]:
    """The legs of a rail in words; turns are differences of headings, wrapped."""
    headings = [rail.heading, *(leg.heading for leg in rail.route.legs)]
    return tuple(
        LegWords(turn_word(before, leg.heading), leg.compass, leg.landmark, leg.relation)
        for before, leg in zip(headings, rail.route.legs, strict=False)
    )


def action_words(actions: str, compass: Sequence[str]) -> Sequence[str]:
    """Words that `turn_direction` takes under a rule."""
    return compass if actions == "absolute" else TURNS
