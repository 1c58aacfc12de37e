"""The same task with pictures in place of told observations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ...errors import TaskError
from ...extras import require_extra
from ...types import Message, Problem
from .folder import check_pictures, load_folder
from .geometry import Point
from .panorama import panorama_view
from .prompts import action_question
from .splits import World
from .state import read_state
from .task import Navigation
from .views import draw_views

if TYPE_CHECKING:
    from PIL import Image

SIZES = (56, 1200)
"""Least and most pixels of a view's side."""
VIEW_HEADINGS = (0, 90, 180, 270)
"""Headings of the four views, from the walker's own: front, right, back, left."""


@dataclass(frozen=True)
class NavigationVL(Navigation):
    """Follow the instructions of a route, seeing four views (pictures and text).

    State: as in navigation-v1.
    Prompt: one user message: a picture, then text. The picture has four views, 90 degrees wide each: front and right
    above, back and left below. The text has the actions, the instructions and the actions done so far; nothing that
    can be seen, now or before, is told. A landmark near by is a board with its name and an icon in its colour; a
    crossing has traffic lights and zebra stripes.
    Answer: as in navigation-v1; `observation` is read off the picture.
    Outcomes and rewards: as in navigation-v1.
    Splits: as in navigation-v1, problem by problem.
    Metrics: as in navigation-v1; `landmark`, `crossing` and `relation` are recognition.
    Differences from the original (arXiv 2501.17161): those of navigation-v1; the views are where the prompt says they
    are; the history tells no landmarks, so that they must be seen; each picture is drawn once; a view is 112 pixels
    wide, not 1200.
    History: v1 (2026-11).
    """

    id: ClassVar[str] = "navigation_vl-v1"

    view_size: int = 112
    """Pixels of a view's side; the picture is twice as wide and as high."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_extra(self.id, "navigation", "PIL")
        if type(self.view_size) is not int or not SIZES[0] <= self.view_size <= SIZES[1]:
            raise TaskError(f"task.view_size: {self.view_size!r} is not a whole number from {SIZES[0]} to {SIZES[1]}")

    def prompt(self, problem: Problem) -> list[Message]:
        text = action_question(read_state(problem.params), picture=True)
        parts = [{"type": "image", "image": self.picture(problem)}, {"type": "text", "text": text}]
        return [{"role": "user", "content": parts}]

    def picture(self, problem: Problem) -> Image.Image:
        """What the walker sees."""
        scene = problem.params["scene"]
        signs = tuple((name, lat, lng) for name, lat, lng in scene["signs"])
        folder = getattr(self, scene["world"], None)
        at, heading = tuple(scene["at"]), scene["heading"]
        return _picture(folder, scene["world"], scene["panorama"], at, heading, signs, self.view_size).copy()

    def _worlds(self, pool: str) -> tuple[World, ...]:
        worlds = super()._worlds(pool)
        for world in worlds:
            if folder := getattr(self, world.name, None):
                _checked(folder, self.read_pickle)
        return worlds


@lru_cache(maxsize=256)
def _picture(
    folder: str | None, world: str, pano: str, at: tuple[float, float], heading: float, signs: Any, size: int
) -> Image.Image:
    if folder is None:
        return four_views(draw_views(world, Point(*at), heading, signs, size))
    return four_views([panorama_view(Path(folder), pano, heading=heading + turn, size=size) for turn in VIEW_HEADINGS])


def four_views(views: list[Image.Image]) -> Image.Image:
    """Front and right above, back and left below, with a black line between them."""
    from PIL import Image, ImageDraw

    size = views[0].width
    image = Image.new("RGB", (2 * size, 2 * size))
    for view, place in zip(views, ((0, 0), (size, 0), (0, size), (size, size)), strict=True):
        image.paste(view, place)
    draw = ImageDraw.Draw(image)
    draw.line((size, 0, size, 2 * size), fill="black")
    draw.line((0, size, 2 * size, size), fill="black")
    return image


@lru_cache(maxsize=8)
def _checked(folder: str, read_pickle: bool) -> None:
    check_pictures(load_folder(folder, read_pickle=read_pickle))
