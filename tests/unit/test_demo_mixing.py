"""How demonstrations enter a step, with a context that answers from a table."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from amft.balance.method import PARTS
from amft.demo_mixing.apart import Apart
from amft.demo_mixing.base import IMITATES, DemoMixer
from amft.demo_mixing.generation import Generation
from amft.demo_mixing.hard import Hard
from amft.demo_mixing.hints import Guided, Hinted
from amft.demo_mixing.instead import DeadReward, Injected, Switch
from amft.demo_mixing.prefix import Prefix, Staircase
from amft.demo_mixing.privileged import Privileged
from amft.demo_mixing.rows import DemoRow, DemoRowImitated
from amft.demo_mixing.self_taught import DemonstrationTaught, PeerTaught, RoutedPeerTaught
from amft.demo_mixing.soft_switch import SoftSwitch
from amft.errors import ConfigError
from amft.types import Sample

DEMO = (10, 11, 12, 13, 14, 15, 16, 17, 18, 0)


class FakeContext:
    """Rollouts of prompt p are right as often as `right[p]` says, the first ones; prompts in `bare` have no answer."""

    def __init__(self, right=(0, 2), n=4, progress=(0, 10), bare=(), demos=1):
        self.right, self.n, self.progress, self.bare, self.demos = right, n, progress, bare, demos
        self.num_prompts, self.random, self.asked = len(right), random.Random(0), []
        self.drawn = [0] * len(right)

    def sample(self, requests, n):
        self.asked.append((list(requests), n))
        groups = []
        for request in requests:
            samples = []
            for _ in range(n):
                right = self.drawn[request.prompt_index] < self.right[request.prompt_index]
                self.drawn[request.prompt_index] += 1
                sample = Sample(
                    (1, *request.hint),
                    (*request.prefix, 5),
                    prompt_index=request.prompt_index,
                    prefix_len=len(request.prefix),
                    hint=request.hint,
                )
                said = f"{request.prompt_index}.{self.drawn[request.prompt_index]}"
                samples.append(replace(sample, reward=float(right), correct=right, text=said))
            groups.append(samples)
        return groups

    def answers(self, prompt_index):
        if prompt_index in self.bare:
            return []
        return [
            Sample((1,), (*DEMO[:-1], i), prompt_index=prompt_index, prefix_len=len(DEMO), reward=1.0, correct=True)
            for i in range(self.demos)
        ]

    def informed(self, prompt_index, solution, template):
        return (prompt_index, *template.format(prompt="?", solution=solution).encode())

    def likelihood(self, samples):
        return [float(sample.completion_ids[-1]) for sample in samples]

    def generation(self, explore, imitate=None, hard=()):
        chosen = list(range(self.num_prompts))
        return Generation(chosen, explore, imitate, [], [i in hard for i in chosen])


def shape(groups):
    """Per prompt, `r` for a rollout, `d` for a demonstration, a digit for the given tokens of a hybrid."""
    words = {0: "r", len(DEMO): "d"}
    return ["".join(words.get(sample.prefix_len, str(sample.prefix_len)) for sample in group) for group in groups]


def test_every_part_is_a_demo_mixer():
    for kind in PARTS["demo_mixer"].values():
        made = kind()
        assert isinstance(made, DemoMixer)
        assert made.imitates in IMITATES


def test_apart_asks_once_for_everything():
    context = FakeContext()
    generation = Apart().mix(context)
    assert shape(generation.explore) == ["rrrr", "rrrr"]
    assert generation.imitate is None
    assert [(len(requests), n) for requests, n in context.asked] == [(2, 4)]


def test_a_row_of_the_group():
    generation = DemoRow().mix(FakeContext(bare=(1,)))
    assert shape(generation.explore) == ["rrrd", "rrrr"]
    assert generation.imitate is None
    assert shape(DemoRowImitated().mix(FakeContext(bare=(1,))).imitate) == ["d", ""]


@pytest.mark.parametrize(
    ("right", "explore", "imitate"),
    [((0, 0), ["", ""], ["d", "d"]), ((4, 1), ["rrrr", "rrrr"], ["", ""]), ((0, 1), ["", "rrrr"], ["d", ""])],
    ids=["all imitated", "all explored", "one of each"],
)
def test_switch(right, explore, imitate):
    generation = Switch().mix(FakeContext(right))
    assert (shape(generation.explore), shape(generation.imitate)) == (explore, imitate)


def test_the_gate_counts_rights():
    assert shape(Switch(gate=2).mix(FakeContext((2, 3))).explore) == ["", "rrrr"]
    assert shape(Switch(gate=-1).mix(FakeContext((0, 0))).explore) == ["rrrr", "rrrr"]


def test_a_failed_prompt_without_demonstration_is_left_alone():
    generation = Switch().mix(FakeContext((0, 0), bare=(0,)))
    assert (shape(generation.explore), shape(generation.imitate)) == (["rrrr", ""], ["", "d"])


def test_dead_reward_asks_for_the_reward_not_for_rights():
    # A group that is all right has no advantage either, but a reward: it is not imitated.
    generation = DeadReward().mix(FakeContext((0, 4)))
    assert (shape(generation.explore), shape(generation.imitate)) == (["", "rrrr"], ["d", ""])


def test_soft_switch():
    # 3 rollouts and the demonstration. 1 of 3 right is a third of the way, so between entries 2 and 3 of eight, at 7/3:
    # explore .25 + (.5 - .25) / 3, off-policy row 1 - .5 / 3, imitate .25 - .125 / 3; with 3 of 3 right 1, 0, 0.
    generation = SoftSwitch().mix(FakeContext((1, 4, 4), bare=(2,)))
    assert shape(generation.explore) == ["rrrd", "rrrd", "rrrr"]
    assert [sample.weight for sample in generation.explore[0]] == pytest.approx([1 / 3] * 3 + [5 / 6])
    assert [sample.weight for sample in generation.explore[1]] == [1.0, 1.0, 1.0, 0.0]
    assert [sample.weight for sample in generation.explore[2]] == [1.0] * 4
    assert [[sample.weight for sample in group] for group in generation.imitate] == [
        [pytest.approx(0.25 - 0.125 / 3)],
        [0.0],
        [],
    ]


def test_soft_switch_without_the_demonstration_as_a_row_has_a_rollout_in_its_place():
    generation = SoftSwitch(explore=[0, 1], off_policy_row=[0, 0], imitate=[1, 0]).mix(FakeContext((1, 4)))
    assert shape(generation.explore) == ["rrrr", "rrrr"]
    assert [group[0].weight for group in generation.explore] == [0.25, 1.0]
    assert [group[0].weight for group in generation.imitate] == [0.75, 0.0]


@pytest.mark.parametrize("right", range(8))
def test_soft_switch_at_seven_rollouts_reads_the_published_tables(right):
    # `coef_dict` of the published trainer, soft_type 0, whose keys also count the right demonstration.
    published = {
        1: (0.0, 0.0, 1.0), 2: (0.125, 0.5, 0.5), 3: (0.25, 1.0, 0.25), 4: (0.5, 0.5, 0.125),
        5: (1.0, 0.25, 0.0), 6: (1.0, 0.125, 0.0), 7: (1.0, 0.0, 0.0), 8: (1.0, 0.0, 0.0),
    }  # fmt: skip
    generation = SoftSwitch().mix(FakeContext((right,), n=8))
    found = generation.explore[0][0], generation.explore[0][7], generation.imitate[0][0]
    assert tuple(sample.weight for sample in found) == pytest.approx(published[right + 1])


def test_privileged_draws_failed_prompts_anew_behind_ever_longer_prefixes():
    # Prompt 0 is right at once; prompt 1 from its fifth draw on: behind the first prefix, a quarter of nine tokens;
    # prompt 2 never; prompt 3 has no demonstration.
    context = FakeContext((4, 0, 0, 0), bare=(3,))
    sample = context.sample

    def later(requests, n):
        context.right = (4, 8 if context.drawn[1] else 0, 0, 0)
        return sample(requests, n)

    context.sample = later
    generation = Privileged().mix(context)
    asked = [[request.prompt_index for request in requests] for requests, _ in context.asked]
    assert asked == [[0, 1, 2, 3], [1, 2], [2], [2]]
    assert [{row.hint for row in group} for group in generation.explore] == [{()}, {DEMO[:2]}, {()}, {()}]
    assert [len(requests[-1].hint) for requests, _ in context.asked] == [0, 2, 4, 6]
    assert shape(generation.explore) == ["rrrr"] * 4
    assert generation.imitate is None


def test_injected_demonstrations_are_the_likeliest():
    generation = Injected().mix(FakeContext((0, 1), demos=3))
    assert shape(generation.explore) == ["rrdd", "rrrr"]
    assert [sample.completion_ids[-1] for sample in generation.explore[0][2:]] == [2, 1]
    assert shape(Injected(teachers=9).mix(FakeContext((0, 0), demos=9)).explore) == ["rddd", "rddd"]


def test_hard_prompts_are_named():
    generation = Hard().mix(FakeContext((0, 2, 0), bare=(2,)))
    assert (shape(generation.explore), generation.hard) == (["rrrr"] * 3, [True, False, False])
    assert Hard(gate=2).mix(FakeContext((0, 2, 3))).hard == [True, True, False]


def test_prefix_grows_shorter():
    # At the start the low end is the high end: floor(.95 * 10) = 9 tokens. Never the whole demonstration.
    assert shape(Prefix().mix(FakeContext(bare=(1,))).explore) == ["rrr9", "rrrr"]
    assert shape(Prefix(high=1.0).mix(FakeContext()).explore) == ["rrr9", "rrr9"]
    ends = {shape(Prefix().mix(context).explore)[0][3:] for context in _late(40)}
    assert ends - {"9"}
    assert "d" not in ends


def _late(n):
    for seed in range(n):
        context = FakeContext(progress=(10, 10))
        context.random = random.Random(seed)
        yield context


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        (8, "rrrrrrrr"),  # always right: never helped
        (0, "rrrr2r5d"),  # never: 25 % (one of two learns it), 50 %, the demonstration itself
        (2, "rrrrrr5d"),  # 2 of 4 is enough for the second pass, 2 of 6 and of 7 is not for the others
        (5, "rrrrrrrd"),  # 5 of 6 is enough, 5 of 7 is not
    ],
)
def test_staircase_of_eight(right, expected):
    context = FakeContext((right,), n=8)
    (group,) = Staircase().mix(context).explore
    assert shape([group]) == [expected]
    assert [sample.hint for sample in group if sample.hint] == ([DEMO[:2]] if right == 0 else [])


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 16])
def test_staircase_fills_the_group_whatever_its_size(n):
    for right in (0, 1, n):
        (group,) = Staircase().mix(FakeContext((right,), n=n)).explore
        assert len(group) == n


def test_hints_are_in_the_prompt_and_imitated():
    # p = .95 at the start: with this seed all five parts, but never the last token.
    context = FakeContext((0,), progress=(0, 100))
    generation = Hinted(start=1.0).mix(context)
    assert shape(generation.explore) == ["rrrr"]
    assert generation.explore[0][0].prompt_ids == (1, *DEMO[:9])
    (shown,) = generation.imitate[0]
    assert (shown.prompt_ids, shown.completion_ids) == ((1,), DEMO[:9])
    late = Hinted().mix(FakeContext((0,), progress=(60, 100)))
    assert late.explore[0][0].hint == ()
    assert late.imitate == [[]]


def test_hints_have_the_length_of_their_parts():
    # 5 parts of 2 tokens, p = 0 at the end of the share: nothing; k of them before.
    lengths = set()
    for seed in range(60):
        context = FakeContext((0,), progress=(30, 100))
        context.random = random.Random(seed)
        lengths.add(len(Hinted().mix(context).explore[0][0].hint))
    assert lengths <= {0, 2, 4, 6, 8, 9}
    assert {2, 4, 6} <= lengths


def test_guided_rows():
    generation = Guided().mix(FakeContext(bare=(1,)))
    assert [[sample.hint for sample in group] for group in generation.explore] == [
        [(), (), DEMO[:3], DEMO[:3]],
        [()] * 4,
    ]
    assert shape(generation.explore) == ["rrrr", "rrrr"]


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: DemoRow(pool="none"), "balance.pool"),
        (lambda: Switch(gate=1.5), "balance.gate"),
        (lambda: Injected(teachers=0), "balance.teachers"),
        (lambda: SoftSwitch(explore=(1.0,)), "balance.explore"),
        (lambda: SoftSwitch(imitate=(2.0, 0.0)), "balance.imitate"),
        (lambda: Privileged(prefixes=()), "balance.prefixes"),
        (lambda: Privileged(prefixes=(1.5,)), "balance.prefixes"),
        (lambda: PeerTaught(template="{prompt}"), "balance.template"),
        (lambda: Prefix(high=1.5), "balance.high"),
        (lambda: Hinted(segments=0), "balance.segments"),
        (lambda: Guided(length="x"), "balance.length"),
    ],
)
def test_mistakes(make, word):
    with pytest.raises(ConfigError, match=word):
        make()


def lessons(groups):
    """Per prompt: which draw is taught by what it has seen."""
    return [[f"{sample.text}<{bytes(sample.teacher_ids[1:]).decode()}" for sample in group] for group in groups]


def test_peers_teach_each_other_and_nobody_itself():
    generation = PeerTaught(template="{solution}|{prompt}").mix(FakeContext((0, 1, 2), n=3))
    assert lessons(generation.imitate) == [
        [],
        ["1.2<1.1|?", "1.3<1.1|?"],
        ["2.1<2.2|?", "2.2<2.1|?", "2.3<2.1|?"],
    ]
    assert [[sample.weight for sample in group] for group in generation.explore] == [[1.0] * 3] * 3
    assert shape(generation.explore) == ["rrr"] * 3


def test_the_demonstration_teaches_every_rollout():
    context = FakeContext((0, 2), n=2, bare=(1,))
    context.answers = lambda i: [] if i else [Sample((1,), DEMO, text="shown")]
    generation = DemonstrationTaught(template="{prompt}{solution}").mix(context)
    assert lessons(generation.imitate) == [["0.1<?shown", "0.2<?shown"], []]


def test_routing_takes_wrong_rollouts_with_a_teacher_out_of_exploration():
    generation = RoutedPeerTaught(template="{prompt}{solution}").mix(FakeContext((0, 1, 3), n=3))
    assert lessons(generation.imitate) == [[], ["1.2<?1.1", "1.3<?1.1"], []]
    weights = [[sample.weight for sample in group] for group in generation.explore]
    assert weights == [[1.0] * 3, [1.0, 0.0, 0.0], [1.0] * 3]
