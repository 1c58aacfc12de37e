"""Synthetic cities: streets, crossings, places. All drawn from the city's name; nothing is stored.

A city is a graph of crossings (metres east and north of its origin). Panoramas stand at crossings and along streets,
where no crossing is near. A crossing may have a landmark on a corner; every street has a place in its middle, where
routes end. Landmarks and places are named by a colour and a thing, and no name is used twice in a city.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from .geometry import Point, bearing, shifted, wrap
from .panoramas import Panoramas

if TYPE_CHECKING:
    import networkx as nx

BLOCK = (130.0, 180.0)
"""Metres between rows of crossings."""
JITTER = 8.0
"""Metres by which a crossing is moved, either way."""
QUIET = 30.0
"""Metres around a crossing without panoramas."""
SPACING = 20.0
"""Metres between panoramas of a street."""
NARROWEST = 35.0
"""Degrees between two streets of a crossing at least."""
NO_LANDMARK_SHARE = 0.3

Metres = tuple[float, float]


@dataclass(frozen=True)
class Look:
    """How a city is drawn and what its places are called."""

    colours: tuple[str, ...]
    things: tuple[str, ...]
    sky: str = "#a9cdea"
    ground: str = "#8d8f86"
    road: str = "#4c4f55"
    walls: tuple[str, ...] = ("#b98e6c", "#c7b299", "#9c6f5a", "#a8a39b", "#d0c4ae")
    windows: str = "#4f6274"
    board: str = "#fdfdf6"
    rain: bool = False


HOME_COLOURS = ("red", "blue", "green", "yellow", "black", "white", "orange", "purple")
HOME_THINGS = ("star", "moon", "heart", "bell", "tree", "house", "key", "flag", "cup", "fish", "hat", "ring")
AWAY_COLOURS = ("pink", "brown", "gray", "cyan", "lime", "navy")
AWAY_THINGS = (
    "boat", "sun", "leaf", "drop", "bolt", "cross", "crown", "book", "lamp", "apple", "gem", "arrow", "cloud",
    "drum", "kite", "bone",
)  # fmt: skip

HOME = Look(HOME_COLOURS, HOME_THINGS)
AWAY = (
    Look(AWAY_COLOURS, AWAY_THINGS, "#10142c", "#2b2d36", "#1d1e25", ("#3a3a4d", "#2f3944", "#473a3f"), "#f2d675"),
    Look(AWAY_COLOURS, AWAY_THINGS, "#8b949b", "#6d726f", "#3f444b", ("#7f8a8c", "#8b8577"), "#56636b", rain=True),
    Look(AWAY_COLOURS, AWAY_THINGS, "#f0b27a", "#a58a6d", "#6b5a4e", ("#e6c9a0", "#d99a6c", "#caa27d"), "#7a4a32"),
    Look(AWAY_COLOURS, AWAY_THINGS, "#d9e6ee", "#e9eef0", "#9aa3a8", ("#8fa3b0", "#b4bfc4", "#7a8c99"), "#41525e"),
    Look(AWAY_COLOURS, AWAY_THINGS, "#7fd0c7", "#6f9e5c", "#5b5c58", ("#f1a7a0", "#f4d58d", "#a7c6ed"), "#5d4a66"),
    Look(AWAY_COLOURS, AWAY_THINGS, "#171a17", "#26302a", "#151917", ("#27423b", "#34302a"), "#9fe3c0", rain=True),
    Look(AWAY_COLOURS, AWAY_THINGS, "#c9b8e8", "#9b93ad", "#575066", ("#7d6a9c", "#b79fd0", "#5f6fa3"), "#f7efff"),
    Look(AWAY_COLOURS, AWAY_THINGS, "#e8d9a0", "#c2a56b", "#8a7350", ("#f3e7c9", "#c98f5a"), "#6b4b2a", "#fff3d6"),
)
"""Looks of the other cities: night, rain, dusk, snow, colours that the first city does not have."""


@dataclass(frozen=True)
class CityPlan:
    """What a city is made from."""

    layout: str
    """`grid` or `radial`."""
    size: tuple[int, int]
    """Columns and rows, or rings and spokes."""
    look: Look
    origin: Point


PLANS: dict[str, CityPlan] = {
    "A": CityPlan("grid", (6, 6), HOME, Point(40.7, -73.9)),
    "R": CityPlan("radial", (3, 7), HOME, Point(48.8, 2.3)),
    **{
        name: CityPlan("grid", (5, 5), look, Point(lat, lng))
        for name, look, lat, lng in zip(
            "BCDEFGHI", AWAY,
            (45.4, 28.6, -34.6, 51.5, 22.3, -37.8, 6.5, 37.7), (9.1, 77.2, -58.3, -0.1, 114.1, 144.9, 3.3, -122.4),
            strict=True,
        )
    },
}  # fmt: skip
"""City -> its plan. A is for training; B to I look otherwise and have names of their own; R has other streets."""


@dataclass(frozen=True)
class Place:
    """Something with a name."""

    name: str
    at: Metres


class City:
    """A city by name; see `PLANS`."""

    def __init__(self, name: str):
        self.name = name
        self.plan = PLANS[name]
        rng = random.Random(f"city:{name}")
        self.graph = LAYOUTS[self.plan.layout](rng, self.plan.size)
        names = [f"{colour} {thing}" for colour in self.plan.look.colours for thing in self.plan.look.things]
        rng.shuffle(names)
        self.places = {edge: _place(rng, *self._ends(edge), names.pop()) for edge in self.streets}
        self.landmarks = {
            node: Place(names.pop(), at)
            for node in sorted(self.graph)
            if rng.random() > NO_LANDMARK_SHARE and names and (at := self._corner(rng, node)) is not None
        }

    @property
    def streets(self) -> list[tuple[int, int]]:
        """Every street once, the lower crossing first."""
        return sorted((min(edge), max(edge)) for edge in self.graph.edges)

    def at(self, node: int) -> Metres:
        point: Metres = self.graph.nodes[node]["at"]
        return point

    def geocode(self, at: Metres) -> Point:
        return shifted(self.plan.origin, *at)

    def heading(self, a: Metres, b: Metres) -> int:
        """Whole degrees from a to b, as a route file has them."""
        return round(bearing(self.geocode(a), self.geocode(b))) % 360

    def stops(self, street: tuple[int, int]) -> list[Metres]:
        """Where panoramas stand along a street: in its middle, then every SPACING metres, away from crossings."""
        a, b = self._ends(street)
        length = math.dist(a, b)
        reach = int((length / 2 - QUIET) // SPACING)
        return [_along(a, b, length / 2 + SPACING * i) for i in range(-reach, reach + 1)]

    def middle(self, street: tuple[int, int]) -> Metres:
        a, b = self._ends(street)
        return _along(a, b, math.dist(a, b) / 2)

    @cached_property
    def panoramas(self) -> Panoramas:
        """Ids are the city's name and two numbers: `A-crossing-7`, `A-7-8-2`."""
        ids = {self.geocode(self.at(node)): f"{self.name}-crossing-{node}" for node in sorted(self.graph)}
        for a, b in self.streets:
            ids |= {self.geocode(at): f"{self.name}-{a}-{b}-{i}" for i, at in enumerate(self.stops((a, b)))}
        return Panoramas(ids)

    def _ends(self, street: tuple[int, int]) -> tuple[Metres, Metres]:
        return self.at(street[0]), self.at(street[1])

    def _corner(self, rng: random.Random, node: int) -> Metres | None:
        """A spot between two streets of a crossing, off both of them."""
        here = self.at(node)
        away = rng.uniform(9.0, 11.0)
        margin = math.degrees(math.asin(6.2 / away))
        gaps = [(left + margin, right - margin) for left, right in gaps_of(self.graph, node)]
        gaps = [(low, high) for low, high in gaps if high > low]
        if not gaps:
            return None
        angle = math.radians(rng.uniform(*rng.choice(gaps)))
        return here[0] + away * math.sin(angle), here[1] + away * math.cos(angle)


def gaps_of(graph: nx.Graph, node: int) -> Iterator[tuple[float, float]]:
    """The angles between neighbouring streets of a crossing: (from, to), clockwise, in degrees."""
    here = graph.nodes[node]["at"]
    headings = sorted(_heading(here, graph.nodes[other]["at"]) for other in graph[node])
    yield from zip(headings, [*headings[1:], headings[0] + 360], strict=True)


def _heading(a: Metres, b: Metres) -> float:
    return math.degrees(math.atan2(b[0] - a[0], b[1] - a[1])) % 360


def _along(a: Metres, b: Metres, metres: float) -> Metres:
    share = metres / math.dist(a, b)
    return a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])


def _place(rng: random.Random, a: Metres, b: Metres, name: str) -> Place:
    """A place beside the middle of a street, on either side, a little before, at or after it."""
    side, ahead = rng.choice((-8.0, 8.0)), rng.choice((-6.0, 0.0, 6.0))
    x, y = _along(a, b, math.dist(a, b) / 2 + ahead)
    dx, dy = (b[0] - a[0]) / math.dist(a, b), (b[1] - a[1]) / math.dist(a, b)
    return Place(name, (x + side * dy, y - side * dx))


def _grid(rng: random.Random, size: tuple[int, int]) -> nx.Graph:
    """Rows and columns, turned as a whole, some diagonals, some streets taken away."""
    columns, rows = size
    xs, ys = _rows(rng, columns), _rows(rng, rows)
    turn = math.radians(rng.uniform(-20, 20))
    graph = _streetless()
    for i in range(columns):
        for j in range(rows):
            x, y = xs[i] + rng.uniform(-JITTER, JITTER), ys[j] + rng.uniform(-JITTER, JITTER)
            at = (x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn))
            graph.add_node(i * rows + j, at=at)
    for i in range(columns):
        for j in range(rows):
            for di, dj in ((1, 0), (0, 1)):
                if i + di < columns and j + dj < rows:
                    graph.add_edge(i * rows + j, (i + di) * rows + j + dj)
    corners = [(i, j) for i in range(columns - 1) for j in range(rows - 1)]
    for i, j in rng.sample(corners, len(corners) // 4):
        one, other = (i * rows + j, (i + 1) * rows + j + 1), (i * rows + j + 1, (i + 1) * rows + j)
        graph.add_edge(*rng.choice((one, other)))
    return _thinned(rng, graph, share=0.1)


def _radial(rng: random.Random, size: tuple[int, int]) -> nx.Graph:
    """A crossing in the middle, rings around it, spokes between them."""
    rings, spokes = size
    graph = _streetless()
    graph.add_node(0, at=(0.0, 0.0))
    turn = rng.uniform(0, 360)
    for ring in range(1, rings + 1):
        for spoke in range(spokes):
            angle = math.radians(turn + 360 * spoke / spokes + rng.uniform(-4, 4))
            reach = ring * BLOCK[1] + rng.uniform(-JITTER, JITTER)
            node = 1 + (ring - 1) * spokes + spoke
            graph.add_node(node, at=(reach * math.sin(angle), reach * math.cos(angle)))
            graph.add_edge(node, 0 if ring == 1 else node - spokes)
        first = 1 + (ring - 1) * spokes
        for spoke in range(spokes):
            graph.add_edge(first + spoke, first + (spoke + 1) % spokes)
    return _thinned(rng, graph, share=0.1)


LAYOUTS = {"grid": _grid, "radial": _radial}


def _streetless() -> nx.Graph:
    import networkx as nx

    return nx.Graph()


def _rows(rng: random.Random, n: int) -> list[float]:
    places = [0.0]
    for _ in range(n - 1):
        places.append(places[-1] + rng.uniform(*BLOCK))
    return places


def _thinned(rng: random.Random, graph: nx.Graph, share: float) -> nx.Graph:
    """Without streets that leave a crossing at too narrow an angle, and without some more; still connected."""
    for edge in sorted(graph.edges):
        if any(_narrow(graph, node) for node in edge):
            _remove(graph, edge)
    for edge in rng.sample(sorted(graph.edges), int(share * graph.number_of_edges())):
        _remove(graph, edge)
    return graph


def _narrow(graph: nx.Graph, node: int) -> bool:
    return graph.degree[node] > 1 and any(abs(wrap(right - left)) < NARROWEST for left, right in gaps_of(graph, node))


def _remove(graph: nx.Graph, edge: tuple[int, int]) -> None:
    import networkx as nx

    graph.remove_edge(*edge)
    if not nx.is_connected(graph):
        graph.add_edge(*edge)


@lru_cache(maxsize=16)
def city(name: str) -> City:
    """The city of this name, made once."""
    return City(name)
