"""Navigation: prompts, verdicts, splits, and what scripted walkers score."""

import dataclasses
import json
import random
import re
import time
from collections import Counter

import pytest

from amft.errors import TaskError
from amft.tasks.navigation import Navigation
from amft.tasks.navigation.geometry import COMPASS, TURNS
from amft.tasks.navigation.metrics import route_report, walk
from amft.tasks.navigation.splits import SPLITS, side_of_destination
from amft.tasks.navigation.state import LegWords, WalkState, read_state
from amft.tasks.navigation.verifier import judge_action
from amft.types import Problem

TASK = Navigation()
LEGS = (
    LegWords("left", "west", "red bell", "right front"),
    LegWords("slightly right", "northwest", None, None),
    LegWords("right", "east", "blue star", "left"),
)
PATH = ("start", "forward", "turn", "turn", "forward", "stop")


def at(place, actions="absolute", wording=0):
    return WalkState(LEGS, PATH[: place + 1], actions, wording)


def problem_at(place, actions="absolute"):
    return Problem(TASK.id, "id", "key", at(place, actions).params())


def test_a_prompt_word_by_word():
    [message] = TASK.prompt(problem_at(2))
    assert message["content"].splitlines() == [
        "Walk the route. Actions: forward(), stop(), turn_direction(x) with x = north, northeast, east, southeast, "
        "south, southwest, west, northwest.",
        "1. Turn left to face west.",
        "2. Go to the crossing, red bell on your right front.",
        "3. Turn slightly right to face northwest.",
        "4. Go to the crossing.",
        "5. Turn right to face east.",
        "6. Go on and stop with blue star on your left.",
        "Done:",
        "nothing -> turn_direction(west)",
        "nothing -> forward()",
        "Now: red bell on your right front; crossing",
        "Reply in JSON: observation, instruction, action.",
    ]


def test_the_rule_changes_actions_and_nothing_else():
    one, other = (TASK.prompt(problem_at(3, rule))[0]["content"].splitlines() for rule in ("absolute", "relative"))
    changed = [place for place, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
    assert changed == [0, 8, 10]  # the list of actions, and the two turns that were made
    assert other[0].endswith("x = left, right, slightly left, slightly right, around.")


@pytest.mark.parametrize(
    ("place", "absolute", "relative", "instruction"),
    [
        (0, "turn_direction(west)", "turn_direction(left)", 0),
        (1, "forward()", "forward()", 1),
        (2, "turn_direction(northwest)", "turn_direction(slightly right)", 2),
        (3, "turn_direction(east)", "turn_direction(right)", 4),
        (4, "forward()", "forward()", 5),
        (5, "stop()", "stop()", 5),
    ],
)
def test_the_right_action_and_the_instruction_followed(place, absolute, relative, instruction):
    assert at(place).action(place) == absolute
    assert at(place, "relative").action(place) == relative
    assert at(place).instruction(place) == instruction


def answer(action, observation="nothing", instruction="Go to the crossing."):
    return json.dumps({"observation": observation, "instruction": instruction, "action": action})


@pytest.mark.parametrize(
    ("place", "text", "outcome"),
    [
        (2, answer("turn_direction(northwest)", "nonsense"), "correct"),
        (2, answer(" Turn_direction( northwest ) "), "correct"),
        (2, answer("turn_direction(north)", "red bell on your right front; crossing"), "wrong_action"),
        (2, answer("turn_direction(slightly right)", "red bell on your right front; crossing"), "wrong_action"),
        (2, answer("forward()", "red bell on your right front"), "wrong_crossing"),
        (2, answer("forward()", "red bell on your left; no crossing"), "wrong_crossing"),
        (2, answer("forward()", "nothing; crossing"), "wrong_landmark"),
        (2, answer("forward()", "red bell, blue star on your left; crossing"), "wrong_landmark"),
        (3, answer("forward()", "crossing"), "wrong_action"),
        (3, answer("forward()", "nothing"), "wrong_crossing"),
        (3, answer("forward()", "red bell on your left; crossing"), "wrong_landmark"),
        (3, answer("forward()", "green cow on your left; crossing"), "wrong_landmark"),
        (3, answer("forward()", ""), "wrong_landmark"),
        (5, answer("forward()", "Blue Star on your left"), "wrong_action"),
        (5, "{'observation': 'nothing', 'action': 'stop()',}", "correct"),
        (5, "stop()", "parse_error"),
        (5, '{"observation": "nothing"}', "parse_error"),
        (5, '{"action": ["stop()"]}', "parse_error"),
        (5, '{"action": "stop()', "parse_error"),
    ],
)
def test_outcomes(place, text, outcome):
    assert judge_action(text, at(place))[0] == outcome


def test_details_are_scored_apart_from_the_action():
    right = {"landmark": 1.0, "crossing": 1.0, "relation": 1.0, "instruction": 1.0}
    sentence = "Turn slightly right to face northwest."
    gold = answer("turn_direction(northwest)", "red bell on your right front; crossing", sentence)
    assert judge_action(gold, at(2)) == ("correct", right)
    numbered = answer("forward()", "red bell on your right front; crossing", f"3. {sentence}")
    assert judge_action(numbered, at(2)) == ("wrong_action", right)
    other = answer("turn_direction(northwest)", "red bell on your right", "Turn right to face east.")
    assert judge_action(other, at(2)) == ("correct", {**right, "crossing": 0.0, "relation": 0.0, "instruction": 0.0})


def test_rewards_and_tries():
    task = Navigation(max_attempts=2)
    problem = problem_at(2)
    wrong, lost, right = answer("forward()", "nothing"), "?", task.demonstrate(problem)
    assert [task.grade(problem, text).reward for text in (wrong, lost, right)] == [-1.5, -1.0, 1.0]
    assert task.feedback(problem, [wrong]) == "That is wrong: the landmark here is not what you say. Answer again."
    assert task.feedback(problem, [wrong, lost]) is None
    assert task.feedback(problem, [right]) is None
    episode = task.grade_episode(problem, [wrong, right])
    assert episode.correct
    assert episode.reward == pytest.approx(-1.5 + 0.9 * 1)
    assert Navigation(reward="binary").grade(problem, wrong).reward == 0


@pytest.mark.parametrize("level", ["none", "binary", "outcome", "detailed"])
def test_feedback_never_tells_the_action(level):
    task = Navigation(max_attempts=2, feedback_level=level)
    for problem in task.problems("rule_ood", n=60):
        said = task.feedback(problem, [task.spoil(problem)])
        assert said.endswith("nswer again.")
        assert not set(re.findall(r"\w+", said)) & {*COMPASS, *TURNS, "forward", "stop"}


def test_every_point_has_exactly_one_right_action():
    actions = {
        "absolute": [f"turn_direction({word})" for word in COMPASS],
        "relative": [f"turn_direction({word})" for word in TURNS],
    }
    for split in ("id", "rule_ood", "layout_ood"):
        for problem in TASK.problems(split, n=150):
            rule = problem.params["actions"]
            right = [a for a in ("forward()", "stop()", *actions[rule]) if TASK.grade(problem, answer(a)).correct]
            assert right == [json.loads(TASK.demonstrate(problem))["action"]]


def test_the_expert_is_right_in_every_detail_everywhere():
    for split in TASK.splits:
        for problem in TASK.problems(split, n=200):
            grade = TASK.grade(problem, TASK.demonstrate(problem))
            assert grade.correct
            assert set(grade.info["metrics"].values()) == {1.0}


def test_turns_have_clear_words_and_landmarks_one_name_each():
    names = {}
    for split in ("id", "length_ood", "visual_ood"):
        for rail in TASK.rails(split, n=60):
            state = read_state(rail[-1].params)
            assert "around" not in {leg.relative for leg in state.legs}
            assert len(state.names) == sum(leg.landmark is not None for leg in state.legs)
            assert state.legs[-1].landmark is not None
            names.setdefault(split, set()).update(state.names)
    assert not names["id"] & names["visual_ood"]
    words = {split: {word for name in found for word in name.split()} for split, found in names.items()}
    assert not words["id"] & words["visual_ood"]


def test_no_test_destination_is_in_a_training_prompt():
    train = {problem.key.rsplit(" ", 1)[0] for problem in TASK.problems("train")}
    text = "\n".join(TASK.prompt(problem)[0]["content"] for problem in TASK.problems("train", n=2000))
    for split in ("meta", "val", "id", "rule_ood", "length_ood", "wording_ood"):
        held = {problem.key.rsplit(" ", 1)[0] for problem in TASK.problems(split)}
        assert not held & train
        assert not [name for name in held if name in text]
    assert {side_of_destination(name) for name in train} == {"train"}


def test_splits_differ_from_training_in_what_they_say_they_do():
    turns = {split: {len(rail[-1].params["legs"]) - 1 for rail in TASK.rails(split, n=40)} for split in TASK.splits}
    assert turns["length_ood"] == {4, 5, 6}
    assert turns["train"] == turns["id"] == turns["visual_ood"] == turns["layout_ood"] == {1, 2, 3}
    for split in TASK.splits:
        some = TASK.problems(split, n=80)
        assert {p.params["actions"] for p in some} == {"relative" if SPLITS[split].other_rule else "absolute"}
        assert {p.params["wording"] for p in some} == ({1, 2} if split == "wording_ood" else {0})
    assert {p.params["scene"]["world"] for p in TASK.problems("visual_ood", n=500)} == set("BCDEFGHI")
    assert {p.params["scene"]["world"] for p in TASK.problems("layout_ood", n=50)} == {"R"}


def test_rule_and_wording_splits_walk_the_same_rails_as_id():
    def rails(split):
        return [(p.key, p.params["path"], p.params["scene"]) for p in TASK.problems(split, seed=3, n=100)]

    assert rails("id") == rails("rule_ood") == rails("wording_ood")
    assert rails("id") != [(p.key, p.params["path"], p.params["scene"]) for p in TASK.problems("id", seed=4, n=100)]


def test_training_by_the_other_rule_swaps_the_splits():
    task = Navigation(actions="relative")
    assert task.problems("train", n=1)[0].params["actions"] == "relative"
    assert task.problems("rule_ood", n=1)[0].params["actions"] == "absolute"


def test_problems_are_the_rails_in_a_row():
    rails = TASK.rails("id", seed=5, n=4)
    flat = [problem for rail in rails for problem in rail]
    assert TASK.problems("id", seed=5, n=len(flat) - 1) == flat[:-1]
    assert all(rail[0].params["path"] == ["start"] and rail[-1].params["path"][-1] == "stop" for rail in rails)


def test_a_problem_survives_json():
    for problem in TASK.problems("wording_ood", n=30):
        back = Problem(**json.loads(json.dumps(dataclasses.asdict(problem))))
        assert TASK.prompt(back) == TASK.prompt(problem)
        assert TASK.demonstrate(back) == TASK.demonstrate(problem)


# Scripted walkers. Each reads the prompt as a model would; none sees the problem.


def read(messages):
    """Instructions, number of turns made so far, what there is now."""
    lines = messages[0]["content"].splitlines()
    done = lines.index("Done:")
    now = next(place for place, line in enumerate(lines) if line.startswith("Now: "))
    turned = sum("turn_direction" in line for line in lines[done:now])
    return lines[1:done], turned, lines[now].removeprefix("Now: "), lines[0]


def follow(word, sees_crossings=True):
    """A walker that copies `word(turn sentence)` at crossings, stops where the last sentence says, else goes on."""

    def walker(messages):
        sentences, turned, seen, actions = read(messages)
        landmark = seen.split(" on your ")[0] if " on your " in seen else None
        last = turned == len(sentences) // 2
        known = not sees_crossings and landmark is not None and any(landmark in line for line in sentences)
        if last and landmark and landmark in sentences[-1]:
            return answer("stop()")
        if turned == 0 or (sees_crossings and "crossing" in seen) or known:
            return answer(f"turn_direction({word(sentences[2 * turned], actions)})")
        return answer("forward()")

    return walker


def absolute(sentence, actions):
    return re.search(r"to face (\w+)", sentence)[1]


def relative(sentence, actions):
    return re.search(r"Turn (.*) to face", sentence)[1]


def told(sentence, actions):
    return (absolute if "north" in actions else relative)(sentence, actions)


def figures(split, walker, n=60):
    rails = TASK.rails(split, n=n)
    kinds = Counter(p.params["path"][-1] for rail in rails for p in rail)
    shares = {kind: count / kinds.total() for kind, count in kinds.items()}
    return route_report(rails, [walk(TASK, rail, walker) for rail in rails]), shares, rails


@pytest.mark.parametrize("split", ["id", "rule_ood", "visual_ood", "layout_ood", "length_ood", "rule_visual_ood"])
def test_who_follows_the_instructions_by_the_rule_arrives(split):
    report, _, _ = figures(split, follow(told))
    assert report["route_success"] == report["teacher_forced"] == report["rolled"] == 1


def test_always_forward_scores_the_points_between_turns_and_never_leaves_the_start():
    for split in ("id", "rule_ood"):
        report, shares, _ = figures(split, lambda messages: answer("forward()"))
        assert report["teacher_forced"] == pytest.approx(shares["forward"])
        assert (report["teacher_forced_forward"], report["teacher_forced_turn"], report["teacher_forced_stop"]) == (
            1,
            0,
            0,
        )
        assert report["route_success"] == report["rolled"] == 0


@pytest.mark.parametrize(("word", "knows", "fails"), [(absolute, "id", "rule_ood"), (relative, "rule_ood", "id")])
def test_who_copies_one_kind_of_word_has_learned_one_rule(word, knows, fails):
    assert figures(knows, follow(word))[0]["route_success"] == 1
    report, shares, _ = figures(fails, follow(word))
    # Every turn is wrong, the first one too: no route gets anywhere, the rest of the points is right.
    assert report["teacher_forced"] == pytest.approx(shares["forward"] + shares["stop"])
    assert (report["route_success"], report["rolled"], report["teacher_forced_turn"]) == (0, 0, 0)


def test_who_does_not_see_crossings_misses_those_without_a_landmark():
    report, _, rails = figures("id", follow(told, sees_crossings=False), n=100)
    bare = [
        p
        for rail in rails
        for p in rail
        if p.params["path"][-1] == "turn" and read_state(p.params).seen(len(p.params["path"]) - 1).landmark is None
    ]
    assert report["teacher_forced"] == pytest.approx(1 - len(bare) / report["points"])
    blocked = {id(rail) for rail in rails for p in rail if any(p is other for other in bare)}
    assert report["route_success"] == pytest.approx(1 - len(blocked) / len(rails))
    assert 0.1 < report["route_success"] < 0.9


def test_figures_of_routes_by_hand():
    # Two routes: the first fails at its second of three points after two tries; the second is solved, one retry.
    task = Navigation(max_attempts=2)
    rails = [[problem_at(0), problem_at(1), problem_at(5)], [problem_at(0), problem_at(5)]]
    right, wrong = (lambda p: task.grade(p, task.demonstrate(p))), (lambda p: task.grade(p, task.spoil(p)))
    one, two = rails
    grades = [
        [[right(one[0])], [wrong(one[1]), wrong(one[1])], [right(one[2])]],
        [[wrong(two[0]), right(two[0])], [right(two[1])]],
    ]
    report = route_report(rails, grades)
    assert report["route_success"] == 1 / 2
    assert report["rolled"] == pytest.approx((1 + 1 + 1) / (1 + 2 + 2 + 1))
    assert report["teacher_forced"] == 4 / 5
    assert report["teacher_forced_turn"] == 1
    assert report["teacher_forced_forward"] == 0
    assert (
        report["outcomes"] == {"correct": 4, "wrong_action": 2, "wrong_landmark": 1}
        or sum(report["outcomes"].values()) == 7
    )


def test_a_second_try_is_made_in_the_same_conversation():
    task = Navigation(max_attempts=2)
    [rail] = task.rails("id", n=1)
    seen = []

    def walker(messages):
        seen.append(len(messages))
        return "?" if len(messages) == 1 else answer("forward()")

    grades = walk(task, rail, walker)
    assert [len(point) for point in grades] == [2] * len(rail)
    assert seen == [1, 3] * len(rail)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"actions": "both"}, "task.actions: 'both' is not one of absolute, relative"),
        ({"max_attempts": 0}, "task.max_attempts: 0 is not one of 1, 2"),
        ({"other_routes": "x"}, "task.other_routes: give routes as well"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(TaskError, match=re.escape(message)):
        Navigation(**options)
    with pytest.raises(TaskError, match="split 'test' is not one of train, meta"):
        TASK.problems("test")


def test_no_global_randomness():
    state = random.getstate()
    TASK.problems("id", n=20)
    assert random.getstate() == state


HOSTILE = [
    "",
    "{" * 100_000,
    '{"action": ' * 5_000,
    '{"action": "' + "forward()" * 10_000 + '"}',
    "{\"action\": \"__import__('os').system('touch /tmp/mark')\"}",
    '{"action": {"action": ["stop()"]}}',
    '{"action": "stop()"} {"action": "turn_direction(west)"}',
    '{"action": 1e999, "observation": NaN}',
    '{"action": "stop()", "action": "turn_direction(west)"}',
    '{"action": "stop() forward() turn_direction(west) turn_direction(left)"}',
    '{"action": "stop()\\u0000", "observation": ["red bell"]}',
    '{"action": "ſtop()", "observation": "' + "your " * 700 + '"}',
    "stop() forward() turn_direction(west)",
    "\ud800{'action': 'x'}",
]


@pytest.mark.parametrize("place", [1, 2, 3, 5])
def test_adversarial_answers_are_wrong_and_cost_nothing(place):
    expert = TASK.demonstrate(problem_at(place))
    for text in HOSTILE:
        start = time.process_time()
        outcome, metrics = judge_action(text, at(place))
        assert time.process_time() - start < 0.1
        assert outcome != "correct", text[:60]
        assert set(metrics.values()) <= {0.0, 1.0}
    assert judge_action(expert, at(place))[0] == "correct"


def test_naming_everything_there_is_does_not_pass_for_seeing():
    everything = "red bell on your right front; blue star on your left; nothing; crossing"
    assert judge_action(answer("forward()", everything), at(2))[0] == "wrong_landmark"
    assert judge_action(answer("forward()", everything), at(3))[0] == "wrong_landmark"


@pytest.mark.parametrize(("turns", "longer"), [(1, {2, 3, 4}), (3, {4, 5, 6})])
def test_routes_turn_at_so_many_crossings_at_most(turns, longer):
    task = Navigation(turns=turns)

    def crossings(split):
        return {[problem.params["path"][-1] for problem in rail].count("turn") for rail in task.rails(split, n=40)}

    for split in ("train", "id", "visual_ood", "layout_ood"):
        assert crossings(split) == set(range(1, turns + 1)), split
    assert crossings("length_ood") == longer


def test_turns_of_published_routes_are_not_chosen():
    with pytest.raises(TaskError, match="^task.turns: published routes are as long as they are"):
        Navigation(routes="somewhere", turns=1)
    with pytest.raises(TaskError, match="^task.turns: 4 is not one of 1, 2, 3"):
        Navigation(turns=4)
