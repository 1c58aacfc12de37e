"""Published route files: a folder made by hand in that schema, every way to spoil it, and the city's own files."""

import copy
import json
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amft.errors import DataError, TaskError
from amft.tasks.navigation import Navigation, NavigationVL
from amft.tasks.navigation.city import city
from amft.tasks.navigation.folder import load_folder
from amft.tasks.navigation.geometry import Point
from amft.tasks.navigation.journeys import city_routes, write_city
from amft.tasks.navigation.rail import build_rail
from amft.tasks.navigation.schema import parse_milestones, parse_routes
from amft.tasks.navigation.splits import DESTINATION_SHARES, side_of_destination
from amft.tasks.navigation.state import leg_words

START, CORNER, END = [40.75, -73.99], [40.7509, -73.99], [40.7509, -73.9888]
"""About 100 m to the north, then 101 m to the east."""
ON_THE_WAY = [40.75045, -73.99]

MILESTONES = """{
"intersection_idx": "1",
"landmarks": "Rosa's "Corner" Bakery is on your left front",
"distance": "100 meters",
"human_heading": "300",
"to_next_intersection_heading": "0 (north)",
}
{
"intersection_idx": "2",
"landmarks": "Old Mill Books is on your right",
"distance": "101 meters",
"human_heading": "0",
"to_next_intersection_heading": "90 (east)",
}
"""


def place(name, at, **more):
    fields = {
        "name": name, "geocode": at, "relocated_geocode": at, "place_id": f"id-{name}", "rating": 4.5, "n_reviews": 120,
        "distance": 12.0, "heading": 310.0, "place_types": ["store"], "vicinity": "1 Mill Road", "region": "NY",
        "plus_code": "", "photo_reference": None,
    }  # fmt: skip
    return {**fields, **more}


def route(destination="Old Mill Books"):
    bakery = place(
        "Rosa's", [40.751, -73.9901], spatial_relation="left front", expression="Rosa's is on your left front"
    )
    return {
        "start_place": place("Start", START),
        "dest_place": place(destination, [40.7508, -73.9888]),
        "route_results": {
            "geocode_list": [CORNER, END],
            "distance_list": [100, 101],
            "time_list": [80, 81],
            "instructions": ["Head <b>north</b>", "Turn <b>right</b>"],
            "polyline": "abc",
            "distance": 201,
            "time": 161,
            "n_landmarks": 1,
            "landmark_list": [bakery],
        },
        "init_heading": 300,
        "instruction": "Walk up to the bakery, then go right.",
        "milestone_info": MILESTONES,
    }


MAPPING = {tuple(START): "p0", tuple(ON_THE_WAY): "p1", tuple(CORNER): "p2", tuple(END): "p3"}
ROTATION = 40


def folder(path, routes=None, *, as_pickle=False):
    """A folder in the published layout; every panorama has its azimuth, from north, in its pixels."""
    routes = [route()] if routes is None else routes
    (path / "street_views").mkdir(parents=True)
    (path / "route_infos.json").write_text(json.dumps([routes, len(routes)]), encoding="utf-8")
    if as_pickle:
        (path / "gps_pano_mapping.pkl").write_bytes(pickle.dumps(MAPPING))
    else:
        mapping = {f"{lat},{lng}": pano for (lat, lng), pano in MAPPING.items()}
        (path / "gps_pano_mapping.json").write_text(json.dumps(mapping), encoding="utf-8")
    north = (np.arange(720) / 2 - 180 + ROTATION) % 360  # the middle column looks toward ROTATION
    pixels = np.broadcast_to((north / 360 * 255).astype(np.uint8)[None, :, None], (360, 720, 3))
    for pano in MAPPING.values():
        Image.fromarray(np.ascontiguousarray(pixels)).save(path / "street_views" / f"{pano}.jpg", quality=95)
        (path / "street_views" / f"{pano}.metadata.json").write_text(json.dumps({"rotation": ROTATION}))
    return str(path)


def test_a_route_is_read_field_by_field():
    [read] = parse_routes([[route()], 1], "f.json")
    assert (read.destination, read.start, read.heading) == ("Old Mill Books", Point(*START), 300)
    one, two = read.legs
    assert (one.heading, one.compass, one.end) == (0, "north", Point(*CORNER))
    assert (one.landmark, one.relation, one.landmark_at) == (
        "Rosa's \"Corner\" Bakery", "left front", Point(40.751, -73.9901),
    )  # fmt: skip
    assert (two.heading, two.landmark, two.relation, two.end) == (90, "Old Mill Books", "right", Point(*END))
    rail = build_rail(read, random.Random(0))
    # From 300 to 0 is 60 degrees to the right, wrapped: slightly right. From 0 to 90 is right.
    assert [leg.relative for leg in leg_words(rail)] == ["slightly right", "right"]
    assert [(node.kind, node.heading) for node in rail.nodes if node.kind != "forward"] == [
        ("start", 300), ("turn", 0), ("stop", 90),
    ]  # fmt: skip


def test_a_route_without_a_first_heading_has_one_drawn():
    bare = route()
    del bare["init_heading"]
    assert parse_routes([[bare], 1], "f.json")[0].heading == 0


def test_the_key_of_a_route_is_the_same_in_another_file_and_another_for_another_way():
    other = copy.deepcopy(route())
    other["route_results"]["geocode_list"][0] = [40.7508, -73.99]
    a, b, c = parse_routes([[route(), other, route()], 3], "f.json")
    assert a.key == c.key != b.key


def without(path):
    def spoil(raw):
        *parents, last = path.split(".")
        for name in parents:
            raw = raw[name]
        del raw[last]

    return spoil


def put(path, value):
    def spoil(raw):
        *parents, last = path.split(".")
        for name in parents:
            raw = raw[name]
        raw[last] = value

    return spoil


def said(old, new):
    return lambda raw: raw.update(milestone_info=raw["milestone_info"].replace(old, new))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("start_place"), "start_place.relocated_geocode is missing"),
        (without("start_place.relocated_geocode"), "start_place.relocated_geocode is missing"),
        (put("start_place.relocated_geocode", [40.75]), "start_place.relocated_geocode is not [latitude, longitude]"),
        (put("start_place.relocated_geocode", "x"), "start_place.relocated_geocode is str, not list"),
        (put("start_place.relocated_geocode", [91, 0]), "start_place.relocated_geocode is not [latitude, longitude]"),
        (put("start_place.relocated_geocode", [float("nan"), 0]), "start_place.relocated_geocode is not [latitude"),
        (without("dest_place.name"), "dest_place.name is missing"),
        (put("dest_place.name", None), "dest_place.name is NoneType, not str"),
        (put("init_heading", "north"), "init_heading is str, not int or float"),
        (put("init_heading", True), "init_heading is bool, not int or float"),
        (put("init_heading", float("inf")), "init_heading is not a number of degrees"),
        (without("route_results.geocode_list"), "route_results.geocode_list is missing"),
        (put("route_results.geocode_list", [CORNER, None]), "route_results.geocode_list[1] is not [latitude"),
        (put("route_results.geocode_list", [CORNER]), "route_results.geocode_list has 1 points, milestone_info 2"),
        (put("route_results.geocode_list", []), "route_results.geocode_list has 0 points, milestone_info 2"),
        (put("route_results.landmark_list", []), "route_results.landmark_list has 0 entries for 1 turn points"),
        (put("route_results.landmark_list", [{}]), "route_results.landmark_list[0]: geocode is missing"),
        (without("milestone_info"), "milestone_info is missing"),
        (put("milestone_info", ""), "route_results.geocode_list has 2 points, milestone_info 0"),
        (said('"landmarks": "Old', '"seen": "Old'), "milestone_info[1].landmarks is missing"),
        (said("Old Mill Books is on your right", "Old Mill Books"), "milestone_info[1].landmarks: 'Old Mill Books' is"),
        (said("on your right", "on your roof"), "milestone_info[1].landmarks: 'Old Mill Books is on your roof'"),
        (said('"0 (north)"', '"north"'), "milestone_info[0].to_next_intersection_heading: 'north' is not"),
        (said("(north)", "(up)"), "milestone_info[0].to_next_intersection_heading: '0 (up)' is not like"),
        (said("(east)", "(west)"), "milestone_info[1].to_next_intersection_heading: 90 degrees is east"),
        (said('"distance": "100 meters",', "distance 100"), "milestone_info[0]: 'distance 100' is not \"key\""),
    ],
)  # fmt: skip
def test_every_malformed_route_gets_one_line_that_names_file_route_and_field(tmp_path, spoil, message):
    bad = route()
    spoil(bad)
    path = folder(tmp_path / "f", [route(), bad])
    with pytest.raises(DataError) as error:
        load_folder(path)
    text = str(error.value)
    assert text.startswith(f"{tmp_path}/f/route_infos.json, route 1: {message}")
    assert "\n" not in text


def write(name, text):
    return lambda path: (path / name).write_text(text, encoding="utf-8")


def drop(name):
    return lambda path: (path / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop("route_infos.json"), "route_infos.json: No such file or directory"),
        (write("route_infos.json", "[["), "route_infos.json: not JSON"),
        (write("route_infos.json", "[" * 100_000), "route_infos.json: not JSON"),
        (write("route_infos.json", "{}"), "route_infos.json: not a route file; it must hold a list of two"),
        (write("route_infos.json", "[[], 0]"), "route_infos.json: no routes"),
        (write("route_infos.json", "[[5], 1]"), "route_infos.json, route 0: start_place.relocated_geocode is missing"),
        (drop("gps_pano_mapping.json"), "gps_pano_mapping.json: No such file or directory"),
        (write("gps_pano_mapping.json", "[]"), "gps_pano_mapping.json: not a map from places to panorama ids"),
        (write("gps_pano_mapping.json", "{}"), "gps_pano_mapping.json: not a map from places to panorama ids"),
        (write("gps_pano_mapping.json", '{"a": "p"}'), "gps_pano_mapping.json: key 'a' is not 'latitude,longitude'"),
        (write("gps_pano_mapping.json", '{"1": "p"}'), "gps_pano_mapping.json: key '(1.0,)' is not a latitude and"),
        (write("gps_pano_mapping.json", '{"1,2": 5}'), "gps_pano_mapping.json: the panorama of (1.0, 2.0) is '5', not"),
        (write("gps_pano_mapping.json", '{"1,2": "../x"}'), "gps_pano_mapping.json: the panorama of (1.0, 2.0) is"),
    ],
)  # fmt: skip
def test_every_spoilt_file_gets_one_line(tmp_path, spoil, message):
    path = folder(tmp_path / "f")
    spoil(tmp_path / "f")
    with pytest.raises(DataError) as error:
        load_folder(path)
    assert str(error.value).startswith(f"{path}/{message}")
    assert "\n" not in str(error.value)


def side(name):
    """A route to a destination of a side."""
    number = next(n for n in range(1000) if side_of_destination(f"place {n}") == name)
    return route(f"place {number}")


SIDES = [side(name) for name, _ in DESTINATION_SHARES]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (drop("street_views/p2.jpg"), "street_views/p2.jpg: missing; gps_pano_mapping names this panorama"),
        (drop("street_views/p2.metadata.json"), "street_views/p2.metadata.json: No such file"),
        (write("street_views/p2.metadata.json", "{}"), "street_views/p2.metadata.json: rotation is not a number"),
        (write("street_views/p0.jpg", "no picture"), "street_views/p0.jpg: not a picture that can be read"),
    ],
)  # fmt: skip
def test_a_missing_panorama_is_named_before_training(tmp_path, spoil, message):
    path = folder(tmp_path / "f", SIDES)
    spoil(tmp_path / "f")
    assert Navigation(routes=path).problems("id", n=4)  # text needs no pictures
    task = NavigationVL(routes=path)
    with pytest.raises(DataError) as error:
        task.prompt(task.problems("id", n=1)[0])
    assert str(error.value).startswith(f"{path}/{message}")


def test_a_route_without_a_panorama_at_a_turn_is_named(tmp_path):
    path = folder(tmp_path / "f", SIDES)
    write("gps_pano_mapping.json", json.dumps({f"{START[0]},{START[1]}": "p0"}))(tmp_path / "f")
    with pytest.raises(DataError, match="no panorama within 20 m of the end of leg 0"):
        Navigation(routes=path).problems("id", n=1)


def test_files_are_a_task(tmp_path):
    path = folder(tmp_path / "f", SIDES)
    task = NavigationVL(routes=path, view_size=64)
    for split in ("train", "meta", "val", "id", "rule_ood", "wording_ood", "seen"):
        for problem in task.problems(split):
            assert task.grade(problem, task.demonstrate(problem)).correct
    [rail] = task.rails("id", n=1)
    assert json.loads(task.demonstrate(rail[-1]))["observation"] == "Old Mill Books on your right"
    with pytest.raises(TaskError, match="split 'layout_ood' is not one of train"):
        task.problems("layout_ood")
    assert NavigationVL(routes=path, other_routes=path).problems("visual_ood")
    with pytest.raises(TaskError, match="no destination falls on the side 'meta'"):
        Navigation(routes=folder(tmp_path / "g", SIDES[:1])).problems("meta")


def test_the_four_views_of_a_panorama_look_front_right_back_left(tmp_path):
    """At the start the walker faces 300: the middles of the views are 300, 30, 120 and 210 degrees from north."""
    task = NavigationVL(routes=folder(tmp_path / "f", SIDES), view_size=64)
    start = task.problems("id", n=1)[0]
    assert start.params["scene"]["heading"] == 300
    pixels = np.asarray(task.picture(start)).astype(float)[..., 0] / 255 * 360
    middles = {view: pixels[32 + 64 * row, 32 + 64 * column] for view, (column, row) in
               {"front": (0, 0), "right": (1, 0), "back": (0, 1), "left": (1, 1)}.items()}  # fmt: skip
    assert middles == pytest.approx({"front": 300, "right": 30, "back": 120, "left": 210}, abs=6)


def test_a_pickle_is_read_only_when_asked_to(tmp_path):
    path = folder(tmp_path / "f", as_pickle=True)
    with pytest.raises(DataError, match=r"gps_pano_mapping.pkl: a pickle is read only with read_pickle: true"):
        load_folder(path)
    same = load_folder(folder(tmp_path / "g"))
    assert load_folder(path, read_pickle=True).panoramas.ids == same.panoramas.ids


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    "data",
    [
        lambda mark: pickle.dumps(Bomb(mark)),
        lambda mark: pickle.dumps({(1.0, 2.0): Bomb(mark)}),
        lambda mark: pickle.dumps(np.float64(1.0)),
        lambda mark: b"cposix\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR.",
        lambda mark: pickle.dumps(MAPPING)[:-5],
        lambda mark: b"",
        lambda mark: b"P1\n.",
    ],
)
def test_a_pickle_that_asks_for_more_than_plain_values_is_refused(tmp_path, data):
    folder(tmp_path / "f", as_pickle=True)
    mark = tmp_path / "mark"
    (tmp_path / "f" / "gps_pano_mapping.pkl").write_bytes(data(mark))
    with pytest.raises(DataError, match=r"gps_pano_mapping.pkl: refused") as error:
        load_folder(str(tmp_path / "f"), read_pickle=True)
    assert "\n" not in str(error.value)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["A", "E", "R"])
def test_a_city_written_to_files_gives_the_same_rails(tmp_path, name):
    town = city(name)
    write_city(town, tmp_path / name, turns=(1, 3), each=2)
    read = load_folder(str(tmp_path / name))
    made = parse_routes(city_routes(town, turns=(1, 3), each=2), "memory")
    assert read.routes == made
    assert read.panoramas.ids == town.panoramas.ids
    for a, b in zip(read.routes, made, strict=True):
        one = build_rail(a, random.Random(a.key), read.panoramas)
        assert one == build_rail(b, random.Random(b.key), town.panoramas)
        assert {read.panoramas.ids[node.at].split("-")[0] for node in one.nodes} == {name}


def test_milestones_are_read_line_by_line():
    blocks = parse_milestones(MILESTONES, "here")
    assert [block["intersection_idx"] for block in blocks] == ["1", "2"]
    assert blocks[0]["landmarks"] == 'Rosa\'s "Corner" Bakery is on your left front'
