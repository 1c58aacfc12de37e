"""Routes through a synthetic city, written as a published route file would have them (`schema.py`)."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .city import City, Metres, Place
from .geometry import bearing, compass_word, distance, relation_word, wrap
from .schema import NO_LANDMARK, SEEN_AT

LABELABLE = (23.0, 157.0)
"""Degrees of a turn that has a clear word."""
BORDER_DEGREES = 10.0
"""Degrees that a landmark stays away from the border between two relations."""
FIRST_LEG = 35.0
"""Metres from the start to the first turn at least."""
ATTEMPTS = 60
"""Draws for each route asked for; a small city may not have as many."""

Street = tuple[int, int]


def city_routes(
    city: City, *, turns: tuple[int, int], each: int, wanted: Callable[[str], bool] | None = None
) -> list[Any]:
    """A route file's content: up to `each` different routes to every place of a city.

    Args:
        city: the streets.
        turns: fewest and most crossings to turn at.
        each: routes per place.
        wanted: which places, by name (None: all); a place's routes do not depend on the others.
    """
    routes: list[dict[str, Any]] = []
    for street in city.streets:
        if wanted is not None and not wanted(city.places[street].name):
            continue
        rng = random.Random(f"routes:{city.name}:{street}:{turns}")
        found: dict[tuple[Any, ...], dict[str, Any]] = {}
        for attempt in range(each * ATTEMPTS):
            if len(found) == each:
                break
            n = turns[0] + attempt % (turns[1] - turns[0] + 1)
            way = _way(city, street, n, rng)
            if way is not None and (way[0], way[1]) not in found:
                found[way[0], way[1]] = _record(city, street, *way)
        routes += found.values()
    return [routes, len(routes)]


def _way(city: City, street: Street, turns: int, rng: random.Random) -> tuple[Metres, tuple[int, ...], int] | None:
    """Start, crossings, first heading: walked backwards from the place, turning at every crossing. None: no luck."""
    crossings = [rng.choice(street)]
    after = city.middle(street)
    for _ in range(turns - 1):
        here = city.at(crossings[0])
        choice = [node for node in city.graph[crossings[0]] if node not in (*crossings, *street)]
        choice = [node for node in choice if _can_turn(city, city.at(node), here, after)]
        if city.graph.degree[crossings[0]] < 3 or not choice:
            return None
        after = here
        crossings.insert(0, rng.choice(choice))
    first = crossings[0]
    if city.graph.degree[first] < 3:
        return None
    starts = [
        at
        for node in city.graph[first]
        if node not in (*crossings, *street)
        for at in city.stops((min(first, node), max(first, node)))
        if distance(city.geocode(at), city.geocode(city.at(first))) >= FIRST_LEG
        and _can_turn(city, at, city.at(first), after)
    ]
    if not starts:
        return None
    start = rng.choice(starts)
    turned = rng.choice((-1, 1)) * rng.randint(*map(int, LABELABLE))
    heading = (city.heading(start, city.at(first)) - turned) % 360 or 1
    clear = LABELABLE[0] <= abs(wrap(city.heading(start, city.at(first)) - heading)) <= LABELABLE[1]
    return (start, tuple(crossings), heading) if clear else None


def _can_turn(city: City, a: Metres, b: Metres, c: Metres) -> bool:
    angle = abs(wrap(city.heading(b, c) - city.heading(a, b)))
    return LABELABLE[0] <= angle <= LABELABLE[1]


def _record(city: City, street: Street, start: Metres, crossings: tuple[int, ...], heading: int) -> dict[str, Any]:
    """One route with every field that `schema.py` reads."""
    ends = [city.at(node) for node in crossings] + [city.middle(street)]
    marks: list[Place | None] = [city.landmarks.get(node) for node in crossings]
    seen, blocks, before = [], [], start
    facing = heading
    for i, (end, mark) in enumerate(zip(ends, [*marks, city.places[street]], strict=True)):
        leg = city.heading(before, end)
        place = _seen(city, end, leg, mark)
        seen.append(place)
        fields = {
            "intersection_idx": i + 1,
            "landmarks": place["expression"] if place else NO_LANDMARK,
            "distance": f"{distance(city.geocode(before), city.geocode(end)):.0f} meters",
            "human_heading": facing,
            "to_next_intersection_heading": f"{leg} ({compass_word(leg)})",
        }
        blocks.append("{\n" + "".join(f'"{key}": "{value}",\n' for key, value in fields.items()) + "}\n")
        before, facing = end, leg
    destination = _seen(city, ends[-1], facing, city.places[street])
    assert destination is not None, "places stand clear of every border"
    return {
        "start_place": {"name": "start", "relocated_geocode": list(city.geocode(start))},
        "dest_place": {**destination, "relocated_geocode": list(city.geocode(ends[-1]))},
        "init_heading": heading,
        "route_results": {
            "geocode_list": [list(city.geocode(end)) for end in ends],
            "n_landmarks": sum(place is not None for place in seen[:-1]),
            "landmark_list": seen[:-1],
        },
        "milestone_info": "".join(blocks),
    }


def _seen(city: City, here: Metres, heading: int, place: Place | None) -> dict[str, Any] | None:
    """The place as someone who arrives at `here` sees it; None where its relation would be unclear."""
    if place is None:
        return None
    toward = bearing(city.geocode(here), city.geocode(place.at))
    if abs((toward - heading) % 45 - 22.5) < BORDER_DEGREES:
        return None
    relation = relation_word(heading, toward)
    return {
        "name": place.name,
        "geocode": list(city.geocode(place.at)),
        "heading": round(toward, 1),
        "spatial_relation": relation,
        "expression": f"{place.name}{SEEN_AT}{relation}",
    }


def write_city(city: City, folder: Path, *, turns: tuple[int, int], each: int) -> None:
    """Write a city as a folder of route files that `load_routes` reads: routes and panorama ids, no pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "route_infos.json").write_text(json.dumps(city_routes(city, turns=turns, each=each)), encoding="utf-8")
    mapping = {f"{point.lat!r},{point.lng!r}": pano for point, pano in city.panoramas.ids.items()}
    (folder / "gps_pano_mapping.json").write_text(json.dumps(mapping), encoding="utf-8")
