"""Conversations grow by appending: ids, masks and the turns between answers, against whole renderings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from amft.batch import pad_batch
from amft.data.conversation import Transcript, UserTurns
from amft.data.encoding import encode_prompt
from amft.data.rewards import TaskReward
from amft.errors import DataError
from amft.evaluation.answers import answer
from amft.evaluation.score import summary
from amft.models.tokenizer import train_tokenizer
from amft.rollout.multi_turn import multi_turn_rollouts
from amft.tasks.general_points import GeneralPoints, GeneralPointsVL
from amft.types import Problem, Sample, Sampling

CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
BARE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
THINKING = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}"
    "{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
FORGETFUL = "{{ messages[0].content }}{% if add_generation_prompt %}<|assistant|>{% endif %}"

PROBLEM = Problem(
    "general_points-v1", "id", "3 8 10 10", {"cards": ["8", "3", "J", "10"], "faces": [10, 10, 10], "target": 24}
)
RIGHT = '{"cards":["8","3","J","10"],"number":[8,3,10,10],"formula":"(10-10+3)*8=24"}'
WRONG = '{"cards":["8","3","J","10"],"number":[8,3,10,10],"formula":"10+10+8+3=24"}'


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer([RIGHT, WRONG, "That is not right: the formula. Answer again."] * 3, words=40)


@pytest.fixture(autouse=True)
def _template(tokenizer: Any) -> Any:
    before = tokenizer.chat_template
    yield
    tokenizer.chat_template = before


def plain(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("template", [None, CHATML, BARE], ids=["nano", "chatml", "bare"])
def test_appending_equals_rendering_the_whole(template: str | None, tokenizer: Any) -> None:
    """Where the template treats all turns alike, the tokens are those of the whole conversation."""
    tokenizer.chat_template = template or tokenizer.chat_template
    asked = [{"role": "user", "content": "Make 24."}]
    transcript = Transcript(tuple(encode_prompt(tokenizer, asked)))
    turns = UserTurns(tokenizer)
    answered = [*plain(tokenizer, WRONG), tokenizer.eos_token_id]
    for place in range(2):
        transcript.answer(answered, WRONG, finished=True)
        transcript.reply(turns.reply(f"No, {place}.", answered[-1]), f"No, {place}.")
        asked += [{"role": "assistant", "content": WRONG}, {"role": "user", "content": f"No, {place}."}]
    whole = encode_prompt(tokenizer, asked)
    # The bare template has no end token, so there the sampled one is one more token per answer.
    if template == BARE:
        assert [token for token in transcript.so_far if token != tokenizer.eos_token_id] == whole
    else:
        assert transcript.so_far == whole


def test_mask_is_one_on_sampled_tokens_only(tokenizer: Any) -> None:
    transcript, turns, end = Transcript((5, 6)), UserTurns(tokenizer), tokenizer.eos_token_id
    transcript.answer([7, 8, end], "a", finished=True)
    said = turns.reply("No.", end)
    transcript.reply(said, "No.")
    transcript.answer([9, end], "b", finished=True)
    found = transcript.trajectory()
    assert found.prompt_ids == (5, 6)
    assert found.completion_ids == (7, 8, end, *said, 9, end)
    assert found.mask == (1, 1, 1, *[0] * len(said), 1, 1)
    user, assistant = (tokenizer.convert_tokens_to_ids(token) for token in ("<|user|>", "<|assistant|>"))
    assert (said[0], said[-1]) == (user, assistant)
    assert tokenizer.decode(said[1:-1]) == "No."
    assert transcript.text == "a\n[user] No.\nb"


def test_sampled_tokens_are_never_encoded_again(tokenizer: Any) -> None:
    """The model spells 24 with two tokens; encoding the text would give one."""
    spelled = plain(tokenizer, "2") + plain(tokenizer, "4")
    assert tokenizer.decode(spelled) == "24"
    assert plain(tokenizer, "24") != spelled
    transcript = Transcript((5,))
    transcript.answer(spelled, "24", finished=False)
    transcript.reply(UserTurns(tokenizer).reply("No.", spelled[-1]), "No.")
    assert transcript.so_far[1:3] == spelled


def test_a_cut_answer_gets_the_end_token_of_the_template(tokenizer: Any) -> None:
    turns, end = UserTurns(tokenizer), tokenizer.eos_token_id
    assert turns.reply("No.", 7) == (end, *turns.reply("No.", end))


def test_a_template_that_changes_the_last_answer_is_no_obstacle(tokenizer: Any) -> None:
    tokenizer.chat_template = THINKING
    ids = UserTurns(tokenizer).reply("No.", tokenizer.eos_token_id)
    assert tokenizer.decode(ids) == "<|user|>No.<|end|><|assistant|>"


def test_a_template_that_forgets_turns_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = FORGETFUL
    with pytest.raises(DataError, match="leaves out or rewrites turns"):
        UserTurns(tokenizer).reply("No.", 1)


def test_a_picture_needs_another_model(tokenizer: Any) -> None:
    task = GeneralPointsVL(size=112)
    with pytest.raises(DataError, match="prompt has a picture"):
        encode_prompt(tokenizer, task.prompt(task.problems("id", n=1)[0]))


class Scripted:
    """Says the same words in every conversation with the same number of answers; remembers what it was asked."""

    def __init__(self, tokenizer: Any, *turns: Sequence[str]):
        self.tokenizer, self.turns, self.asked = tokenizer, list(turns), []
        self.finished = True

    def generate(self, prompts: Any, sampling: Sampling, generator: torch.Generator) -> list[Sample]:
        self.asked.append((list(prompts), sampling.n))
        said = self.turns[len(self.asked) - 1]
        assert len(said) == len(prompts) * sampling.n
        stop = [self.tokenizer.eos_token_id] if self.finished else []
        ids = [(*plain(self.tokenizer, text), *stop) for text in said]
        owners = [tuple(prompt) for prompt in prompts for _ in range(sampling.n)]
        return [Sample(prompt, own, self.finished) for prompt, own in zip(owners, ids, strict=True)]


def play(tokenizer: Any, sampler: Scripted, task: GeneralPoints, **sampling: int) -> list[Transcript]:
    prompt = encode_prompt(tokenizer, task.prompt(PROBLEM))
    return multi_turn_rollouts(
        sampler, tokenizer, task, [{"problem": PROBLEM}], [prompt],
        sampling=Sampling(n=2, **sampling), generator=torch.Generator(),
    )  # fmt: skip


def test_only_open_episodes_are_sampled_again(tokenizer: Any) -> None:
    task = GeneralPoints(max_attempts=3)
    sampler = Scripted(tokenizer, [WRONG, RIGHT], [WRONG], [RIGHT])
    slow, quick = play(tokenizer, sampler, task)
    assert (slow.answers, quick.answers) == ([WRONG, WRONG, RIGHT], [RIGHT])
    assert slow.said == ["That is not right: the formula does not make 24. Answer again."] * 2
    assert [n for _, n in sampler.asked] == [2, 1, 1]
    first = [*slow.prompt_ids, *plain(tokenizer, WRONG), tokenizer.eos_token_id]
    (second,) = sampler.asked[1][0]
    assert second[: len(first)] == first
    (third,) = sampler.asked[2][0]
    assert third[: len(second)] == second
    assert sum(slow.mask) == sum(len(plain(tokenizer, text)) + 1 for text in slow.answers)


def test_tries_run_out(tokenizer: Any) -> None:
    found = play(tokenizer, Scripted(tokenizer, [WRONG] * 2, [WRONG] * 2), GeneralPoints(max_attempts=2))
    assert [transcript.answers for transcript in found] == [[WRONG, WRONG]] * 2
    assert all(transcript.mask[-1] == 1 for transcript in found)


def test_a_conversation_without_room_for_another_answer_ends(tokenizer: Any) -> None:
    one = len(plain(tokenizer, WRONG)) + 1
    said = "That is not right: the formula does not make 24. Answer again."
    two = one + len(UserTurns(tokenizer).reply(said, tokenizer.eos_token_id)) + 50
    for limit, answers in ((two - 1, 1), (two, 2)):
        sampler = Scripted(tokenizer, [WRONG] * 2, [WRONG] * 2)
        found = play(tokenizer, sampler, GeneralPoints(max_attempts=9), max_new_tokens=50, max_transcript=limit)
        assert [len(transcript.answers) for transcript in found] == [answers] * 2
        assert len(found[0].said) == answers - 1


def test_cut_answers_go_on_with_a_given_end_token(tokenizer: Any) -> None:
    sampler = Scripted(tokenizer, ["{", "{"], ["[", "["])
    sampler.finished = False
    found = play(tokenizer, sampler, GeneralPoints(max_attempts=2))[0]
    assert found.ids[1] == tokenizer.eos_token_id
    assert found.mask[:2] == [1, 0]
    assert not found.trajectory().finished


def test_a_given_beginning_is_part_of_the_first_answer_only(tokenizer: Any) -> None:
    task, begun = GeneralPoints(max_attempts=2), plain(tokenizer, '{"cards":')
    sampler = Scripted(tokenizer, ["5}", "6}"], ["7}", "8}"])
    prompt = encode_prompt(tokenizer, task.prompt(PROBLEM))
    found = multi_turn_rollouts(
        sampler, tokenizer, task, [{"problem": PROBLEM}], [prompt], [begun],
        sampling=Sampling(n=2), generator=torch.Generator(),
    )  # fmt: skip
    assert sampler.asked[0] == ([[*prompt, *begun]], 2)
    assert [transcript.answers for transcript in found] == [['{"cards":5}', "7}"], ['{"cards":6}', "8}"]]
    assert found[0].ids[: len(begun)] == begun
    assert found[0].mask[: len(begun) + 1] == [1] * (len(begun) + 1)


def test_answers_are_graded_as_episodes(tokenizer: Any) -> None:
    task = GeneralPoints(max_attempts=2, returns="sum")
    sampler = Scripted(tokenizer, [WRONG, RIGHT], [RIGHT])
    prompt = encode_prompt(tokenizer, task.prompt(PROBLEM))
    rows = answer(
        sampler, tokenizer, TaskReward(task), [{"prompt": "", "problem": PROBLEM}], [prompt],
        sampling=Sampling(n=2), generator=torch.Generator(),
    )  # fmt: skip
    assert [row["reward"] for row in rows] == [4.0, 5.0]  # -1 + 5, and 5
    assert [row["correct"] for row in rows] == [1.0, 1.0]
    assert [row["metrics"] for row in rows] == [{"attempts": 2.0}, {"attempts": 1.0}]
    assert [row["split"] for row in summary([{"split": "id", **row} for row in rows])] == ["id"]
    assert summary([{"split": "id", **row} for row in rows])[0]["attempts"] == 1.5


def test_batches_carry_the_mask() -> None:
    batch = pad_batch([[1], [1, 2]], [[3, 4, 5], [6]], 0, [(1, 0, 1), None])
    assert batch.completion_mask.tolist() == [[1, 0, 1], [1, 0, 0]]
    assert batch.attention_mask.tolist() == [[0, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch.tokens == 3


def test_a_task_with_one_try_is_sampled_once(tokenizer: Any) -> None:
    sampler, task = Scripted(tokenizer, [WRONG, RIGHT]), GeneralPoints()
    ids = [encode_prompt(tokenizer, task.prompt(PROBLEM))]
    rows = answer(
        sampler, tokenizer, TaskReward(task), [{"prompt": "", "problem": PROBLEM}], ids,
        sampling=Sampling(n=2), generator=torch.Generator(),
    )  # fmt: skip
    assert [row["correct"] for row in rows] == [0.0, 1.0]
    assert not any("metrics" in row for row in rows)
