"""Which routes a split draws from, and how its prompts differ from training.

A destination belongs to one side for good, by a stable hash of its name: no route to a test destination is ever
trained on, and its name is in no training prompt of its city.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ...errors import TaskError
from .city import city
from .folder import RouteFolder
from .journeys import city_routes
from .panoramas import Panoramas
from .schema import Route, parse_routes

DESTINATION_SHARES = (("test", 20), ("val", 8), ("meta", 7), ("train", 65))
"""Percent of the hash space for each side."""

AWAY_CITIES = tuple("BCDEFGHI")


@dataclass(frozen=True)
class JourneyPool:
    """Routes of some cities to the destinations of one side (None: all)."""

    cities: tuple[str, ...]
    side: str | None
    each: int
    """Routes to each destination."""


JOURNEY_POOLS: dict[str, JourneyPool] = {
    **{side: JourneyPool(("A",), side, 12) for side, _ in DESTINATION_SHARES},
    "long": JourneyPool(("A",), "test", 12),
    "other streets": JourneyPool(("R",), None, 3),
    "other cities": JourneyPool(AWAY_CITIES, None, 1),
}


@dataclass(frozen=True)
class Split:
    """What a split holds."""

    summary: str
    pool: str
    other_rule: bool = False
    """Actions are written by the rule that is not trained on."""
    wordings: tuple[int, ...] = (0,)


SPLITS: dict[str, Split] = {
    "train": Split("routes in city A to training destinations", "train"),
    "meta": Split("routes in city A to destinations for the held-out utility", "meta"),
    "val": Split("routes in city A to destinations for model selection", "val"),
    "id": Split("routes in city A to destinations never trained on", "test"),
    "rule_ood": Split("the routes of id; turns are told by the rule that is not trained, left and right", "test", True),
    "visual_ood": Split("cities B to I: other looks, colours, things, names", "other cities"),
    "layout_ood": Split("city R: rings and spokes; looks and names as in A", "other streets"),
    "length_ood": Split(
        "routes in city A to test destinations with 4 to 6 turns, not 1 to 3 (see the option turns)", "long"
    ),
    "wording_ood": Split("the routes of id in other words", "test", wordings=(1, 2)),
    "rule_visual_ood": Split("the routes of visual_ood by the rule of rule_ood", "other cities", True),
    "seen": Split("training routes, reported apart", "train"),
}


@dataclass(frozen=True)
class World:
    """Routes with the panoramas along them."""

    name: str
    """A city's, or the task option that names the folder."""
    routes: tuple[Route, ...]
    panoramas: Panoramas


def side_of_destination(destination: str) -> str:
    """The side of a destination."""
    digest = hashlib.sha256(f"navigation:{destination}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") % 100
    for side, share in DESTINATION_SHARES:
        if place < share:
            return side
        place -= share
    raise AssertionError("shares add up to 100")


MOST_TURNS = 3
"""Crossings to turn at in the routes of every pool but `long`, whose routes have one to three more than the most."""


@lru_cache(maxsize=16)
def city_worlds(pool: str, most: int = MOST_TURNS) -> tuple[World, ...]:
    """The synthetic cities of a pool, whose routes turn at most at so many crossings."""
    plan = JOURNEY_POOLS[pool]
    turns = (most + 1, most + 3) if pool == "long" else (1, most)
    worlds = []
    for name in plan.cities:
        made = city_routes(
            city(name),
            turns=turns,
            each=plan.each,
            wanted=lambda place: plan.side in (None, side_of_destination(place)),
        )
        worlds.append(World(name, parse_routes(made, f"city {name}"), city(name).panoramas))
    return tuple(worlds)


def folder_world(folder: RouteFolder, pool: str, name: str) -> World:
    """Routes of a folder of published files.

    Raises:
        TaskError: none of its routes ends at a destination of this side.
    """
    side = JOURNEY_POOLS[pool].side
    routes = [route for route in folder.routes if side in (None, side_of_destination(route.destination))]
    if not routes:
        raise TaskError(f"{folder.path}: no destination falls on the side {side!r}; give more routes")
    return World(name, tuple(routes), folder.panoramas)


def find_split(name: str, allowed: Sequence[str]) -> Split:
    """The split of this name.

    Raises:
        TaskError: there is none, or not here.
    """
    if name not in allowed:
        raise TaskError(f"split {name!r} is not one of {', '.join(allowed)}")
    return SPLITS[name]
