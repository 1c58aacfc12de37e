"""The task: one point of a route, one action."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ...errors import TaskError
from ...extras import require_extra
from ...types import Grade, Message, Problem
from ..episode import FEEDBACK_LEVELS, RETURNS, episode_grade
from .feedback import action_feedback
from .folder import load_folder
from .metrics import route_figures, whole_routes
from .prompts import action_question, expert_action
from .rail import Rail, build_rail
from .scene import scene_of
from .splits import JOURNEY_POOLS, MOST_TURNS, SPLITS, World, city_worlds, find_split, folder_world
from .state import ACTION_RULES, WalkState, leg_words, read_state
from .verifier import ACTION_REWARDS, grade_action

MOST_ATTEMPTS = 10


@dataclass(frozen=True)
class Navigation:
    """Follow the instructions of a route, one action at a time (text).

    State: a route of legs, the points walked so far, what there is at each. A route is on rails: only the right
    action moves on, so every point is a problem of its own, with a history of right actions (teacher-forced).
    Prompt: one user message: the actions allowed, numbered instructions (both words of every turn, whatever the
    rule), the points so far with what there was and what was done, and what there is now.
    Answer: a JSON object with `observation`, `instruction` (the sentence that is followed) and `action`: `forward()`,
    `stop()` or `turn_direction(x)`, x a compass word (absolute) or left, right, slightly left, slightly right,
    around (relative). A turn also moves on. The last complete object with an `action` counts (docs/verdicts.md).
    Outcomes and rewards: parse_error -1, correct +1; a wrong action is wrong_landmark -1.5 (the landmark there is is
    not named, or one that is not), else wrong_crossing -1.5, else wrong_action -1; or 0/1 with `reward="binary"`. With
    `max_attempts` above 1 (2 in the original) a wrong answer is followed by a user message (`feedback_level`) and
    another try; the first right answer ends the episode, and its reward is the return of all answers (`returns`).
    Splits: by a hash of the destination.
    Metrics: success per point; landmark, crossing, relation and instruction of every answer apart; per route with
    `metrics.route_report`. Intervals are clustered by route.
    Differences from the original (arXiv 2501.17161): a synthetic city (or published route files); held-out
    destinations; headings are wrapped, and a turn back has a word; landmark and instruction are scored; the
    crossing check reads the crossing; legs of any length have their two instructions; one outcome per answer.
    History: v1 (2026-11). Later, without a change of the defaults: the option turns.
    """

    id: ClassVar[str] = "navigation-v1"
    splits: ClassVar[Mapping[str, str]] = {name: split.summary for name, split in SPLITS.items()}
    test_splits: ClassVar[tuple[str, ...]] = tuple(name for name in SPLITS if name not in ("train", "meta", "val"))
    seen_splits: ClassVar[tuple[str, ...]] = ("seen",)

    actions: str = "absolute"
    """The rule that is trained: `absolute` or `relative`; the other one is `rule_ood`."""
    reward: str = "outcome"
    """`outcome`: the table above; `binary`: 0/1."""
    max_attempts: int = 1
    feedback_level: str = "outcome"
    """`none`, `binary`, `outcome` or `detailed`."""
    returns: str = "discounted"
    """Reward of several tries: `final`, `sum`, or `discounted` with 0.9 for each further try."""
    turns: int = MOST_TURNS
    """Most crossings to turn at, 1 to 3; `length_ood` has one to three more. Not of published routes."""
    routes: str | None = None
    """A folder of published route files in place of city A."""
    other_routes: str | None = None
    """A folder for `visual_ood` and `rule_visual_ood`."""
    read_pickle: bool = False
    """Read `gps_pano_mapping.pkl` where there is no `.json`; only plain values are accepted."""

    def __post_init__(self) -> None:
        require_extra(self.id, "navigation", "networkx")
        choices: dict[str, Iterable[Any]] = {
            "actions": ACTION_RULES, "reward": ACTION_REWARDS, "feedback_level": FEEDBACK_LEVELS, "returns": RETURNS,
            "read_pickle": (False, True), "max_attempts": range(1, MOST_ATTEMPTS + 1),
            "turns": range(1, MOST_TURNS + 1),
        }  # fmt: skip
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise TaskError(f"task.{name}: {getattr(self, name)!r} is not one of {', '.join(map(str, allowed))}")
        if self.other_routes is not None and self.routes is None:
            raise TaskError("task.other_routes: give routes as well")
        if self.routes is not None and self.turns != MOST_TURNS:
            raise TaskError("task.turns: published routes are as long as they are; leave it out")

    def problems(self, split: str, *, seed: int = 0, n: int | None = None) -> list[Problem]:
        """`n` problems (None: every route once): all points of one route after another."""
        out: list[Problem] = []
        for route in self._rails(split, seed, endless=n is not None):
            out += route
            if n is not None and len(out) >= n:
                break
        return out[:n]

    def rails(self, split: str, *, seed: int = 0, n: int | None = None) -> list[list[Problem]]:
        """`n` routes (None: each once), each a list of its points; `problems` is these in a row."""
        out: list[list[Problem]] = []
        for route in self._rails(split, seed, endless=n is not None):
            if len(out) == n:
                break
            out.append(route)
        return out

    def prompt(self, problem: Problem) -> list[Message]:
        return [{"role": "user", "content": action_question(read_state(problem.params), picture=False)}]

    def grade(self, problem: Problem, answer: str) -> Grade:
        return grade_action(answer, read_state(problem.params), self.reward)

    def feedback(self, problem: Problem, answers: Sequence[str]) -> str | None:
        last = self.grade(problem, answers[-1])
        if last.correct or len(answers) >= self.max_attempts:
            return None
        return action_feedback(self.feedback_level, last.outcome, last.info["metrics"])

    def grade_episode(self, problem: Problem, answers: Sequence[str]) -> Grade:
        return episode_grade([self.grade(problem, answer) for answer in answers], self.returns)

    def demonstrate(self, problem: Problem) -> str:
        """What there is, the instruction, the action."""
        return expert_action(read_state(problem.params))

    def spoil(self, problem: Problem) -> str:
        """The expert's answer with another action."""
        right = read_state(problem.params).action(len(problem.params["path"]) - 1)
        return self.demonstrate(problem).replace(right, "stop()" if right == "forward()" else "forward()")

    def group_figures(
        self, problems: Sequence[Problem], solved: Sequence[bool], attempts: Sequence[int]
    ) -> dict[str, float]:
        """Of the whole routes among the problems; see `metrics.route_figures`."""
        routes = whole_routes(problems)
        rails = [[problems[i] for i in route] for route in routes]
        right = [[solved[i] for i in route] for route in routes]
        tried = [[attempts[i] for i in route] for route in routes]
        return {"routes": len(routes), **route_figures(rails, right, tried)}

    def _rails(self, split: str, seed: int, *, endless: bool) -> Iterator[list[Problem]]:
        """Splits of one pool draw the same rails for a seed, so that they can be compared route by route."""
        plan = find_split(split, self._splits())
        rng = random.Random(f"navigation:{plan.pool}:{seed}")
        words = random.Random(f"navigation wording:{plan.pool}:{seed}")
        pairs = [(world, route) for world in self._worlds(plan.pool) for route in world.routes]
        rule = ACTION_RULES[(ACTION_RULES.index(self.actions) + plan.other_rule) % len(ACTION_RULES)]
        while True:
            for world, route in rng.sample(pairs, len(pairs)):
                rail = build_rail(route, rng, world.panoramas)
                yield self._points(split, world, rail, rule, words.choice(plan.wordings))
            if not endless:
                return

    def _points(self, split: str, world: World, rail: Rail, rule: str, wording: int) -> list[Problem]:
        legs, kinds = leg_words(rail), tuple(node.kind for node in rail.nodes)
        out = []
        for place, node in enumerate(rail.nodes):
            params = WalkState(legs, kinds[: place + 1], rule, wording).params()
            params["scene"] = scene_of(world, rail, node)
            out.append(Problem(self.id, split, rail.route.key, params))
        return out

    def _splits(self) -> tuple[str, ...]:
        """Published files have one set of streets and no length of their own."""
        if self.routes is None:
            return tuple(SPLITS)
        pools = [side for side, pool in JOURNEY_POOLS.items() if pool.cities == ("A",) and side != "long"]
        pools += ["other cities"] if self.other_routes else []
        return tuple(name for name, split in SPLITS.items() if split.pool in pools)

    def _worlds(self, pool: str) -> tuple[World, ...]:
        if self.routes is None:
            return city_worlds(pool, self.turns)
        option = "other_routes" if pool == "other cities" else "routes"
        folder = load_folder(getattr(self, option), read_pickle=self.read_pickle)
        return (folder_world(folder, pool, option),)
