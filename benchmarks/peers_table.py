"""The results of `peers.py` as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

TITLES = ("step", "arm", "CPU s", "wall s", "of TRL, CPU", "of TRL, wall", "peak MB", "drawing s", "share of products")
LENGTH = "length "
MARKERS = "<!-- measured by benchmarks/peers.py -->", "<!-- end -->"


def lines(name: str, result: Mapping[str, Any]) -> list[str]:
    """Rows of the table for one case."""
    if "rollouts" in result:
        return [f"| {case} | {' | '.join(cells)} |" for case, cells in rollout_cells(result["rollouts"]).items()]
    arms = result["arms"]
    return [f"| {' | '.join(cells(name, arm, arms))} |" for arm in arms]


def cells(name: str, arm: str, arms: Mapping[str, Any]) -> list[str]:
    """One arm: medians over the rounds, and the median of its ratios to TRL in the same round."""
    own, other = arms[arm]["steps"], next((arms[each]["steps"] for each in arms if each.startswith("trl")), None)

    def median(read: Callable[[Any], float]) -> float:
        return statistics.median(map(read, own))

    def ratio(what: str) -> str:
        if other is None or other is own:
            return ""
        return f"**{statistics.median(a[what] / b[what] for a, b in zip(own, other, strict=True)):.2f}**"

    training = median(lambda step: step["cpu"] - step["generating"])
    products = arms[arm].get("products")
    return [
        name,
        arm,
        f"{median(lambda step: step['cpu']):.2f}",
        f"{median(lambda step: step['wall']):.2f}",
        ratio("cpu"),
        ratio("wall"),
        f"{arms[arm]['peak_mb']:,.0f}",
        f"{median(lambda step: step['generating']):.2f}",
        "" if not products else f"{products / training:.0%}",
    ]


def rollout_cells(found: Mapping[str, Mapping[str, list[float]]]) -> dict[str, list[str]]:
    """Median tokens a CPU second of each engine, by case."""
    return {
        case: [f"{statistics.median(engines[name]):,.0f}" if engines.get(name) else "" for name in engines]
        for case, engines in found.items()
    }


def table(results: Mapping[str, Any]) -> str:
    """All of them: steps, cost of a token by length, rollouts, and what was measured where."""
    steps = {name: each for name, each in results.items() if "arms" in each and not name.startswith(LENGTH)}
    out = [_head(TITLES), *(line for name, each in steps.items() for line in lines(name, each))]
    lengths = {name: each for name, each in results.items() if name.startswith(LENGTH)}
    if lengths:
        out += ["", _head(("tokens of an answer", "CPU us a token", "peak MB")), *map(_length_row, lengths.values())]
    for each in results.values():
        if "rollouts" in each:
            engines = next(iter(each["rollouts"].values()))
            out += ["", _head(("rollouts, tokens a CPU second", *engines)), *lines("", each)]
    return "\n".join([*out, "", *_measured_where(results), ""])


def _measured_where(results: Mapping[str, Any]) -> list[str]:
    """A line for each machine and day, with its cases."""
    where: dict[str, list[str]] = {}
    for name, each in results.items():
        fact = f"{each['date']}, {each['machine']}, torch {each['torch']}, trl {each['trl']}"
        where.setdefault(fact, []).append(f"{name} (load {each['load']})")
    return [f"- {fact}: {'; '.join(names)}" for fact, names in sorted(where.items())]


def put(page: str, text: str) -> str:
    """The page with the text between its two markers.

    Raises:
        ValueError: it has none.
    """
    before, start, rest = page.partition(MARKERS[0])
    _, end, after = rest.partition(MARKERS[1])
    if not start or not end:
        raise ValueError(f"no {' ... '.join(MARKERS)} in the page")
    return f"{before}{start}\n{text}\n{end}{after}"


def _length_row(result: Mapping[str, Any]) -> str:
    (arm,) = result["arms"].values()
    drawn = arm["steps"][0]["drawn"]
    seconds = statistics.median(step["cpu"] / step["drawn"] for step in arm["steps"])
    return f"| {drawn / 16:.0f} | {seconds * 1e6:.0f} | {arm['peak_mb']:,.0f} |"


def _head(titles: tuple[str, ...]) -> str:
    return f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}"
