"""The audit passes on our trainer, and each bug that published baselines had is found by the check that is for it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from tiny_runs import ROWS, build, tiny_model, tiny_tokenizer

import amft.experience.sources as sources
import amft.losses.sft as sft
import amft.step.learner as learner
from amft.audit.gradients import relative_distance, sampled_gradient
from amft.audit.rows import gives_away
from amft.audit.run import audit_trainer
from amft.cli import main
from amft.data.encoding import EncodedDemos
from amft.errors import ConfigError
from amft.step.learner import Learner
from amft.step.objective import Objective

UNEVEN = [{**row, "completion": " a" * (1 + i % 4) + " b ."} for i, row in enumerate(ROWS)]


def rulings(directory, rule="amft", **changes):
    rows = changes.pop("rows", UNEVEN)
    trainer = build(directory, rule, rows=rows, **changes)
    return {answer.check: answer for answer in audit_trainer(trainer)}


def wrong(found):
    return {name for name, answer in found.items() if answer.ruling == "wrong"}


@pytest.mark.parametrize(
    ("rule", "changes"),
    [
        ("amft", {}),
        ("fixed", {"loss_type": "grpo", "beta": 0.1, "label_smoothing": 0.1}),
        ("sft", {"prefix_tree": False}),
        ("luffy", {}),
        ("uft", {}),
        ("hpt", {}),
        ("amft", {"loss_type": "ppo", "gradient_checkpointing": True}),
    ],
)
def test_our_trainer_passes(tmp_path, rule, changes) -> None:
    found = rulings(tmp_path / "run", rule, **changes)
    assert wrong(found) == set()
    assert {answer.ruling for answer in found.values()} == {"ok"}
    assert len(found) == 9
    assert not (tmp_path / "run").exists(), "an audit writes nothing"


def test_streams_and_gradients_are_as_before(tmp_path) -> None:
    trainer = build(tmp_path / "run", "amft", rows=UNEVEN)
    before = {name: stream.state_dict() for name, stream in trainer.sources.streams.items()}
    audit_trainer(trainer)
    assert {name: stream.state_dict() for name, stream in trainer.sources.streams.items()} == before
    assert [name for name, p in trainer.model.named_parameters() if p.grad is not None] == []


def forgets_what_was_there(patch):
    own = Learner.gradient

    def gradient(self, *arguments):
        self.clear()
        return own(self, *arguments)

    patch.setattr(Learner, "gradient", gradient)


def divides_by_its_own_count(patch):
    own = Objective.sft
    patch.setattr(Objective, "sft", lambda self, model, batch, _: own(self, model, batch, self.token_count(batch)))


def loses_the_remainder(patch):
    def micro_batches(batch, limit, ranks):
        size = limit.rows
        n = len(batch) // ranks.size
        mine = batch.take(list(range(ranks.rank * n, (ranks.rank + 1) * n)))
        return [(list(range(i, i + size)), mine.rows(i, i + size)) for i in range(0, n, size)]

    patch.setattr(learner, "micro_batches", micro_batches)


def keeps_the_last_micro_batch(patch):
    own = learner.micro_batches
    patch.setattr(learner, "micro_batches", lambda *arguments: list(own(*arguments))[-1:])


def trains_the_padding(patch):
    def reduce(values, mask, how, count):
        return values.sum() / count

    patch.setattr(sft, "reduce", reduce)


def takes_the_mean_of_means(patch):
    def reduce(values, mask, how, count):
        return ((values * mask).sum(-1) / mask.sum(-1).clamp(min=1)).sum() / 5

    patch.setattr(sft, "reduce", reduce)


def skips_the_first_token(patch):
    own = sources.pad_batch

    def pad_batch(*arguments):
        batch = own(*arguments)
        mask = batch.completion_mask.clone()
        mask[:, 0] = 0.0
        return replace(batch, completion_mask=mask)

    patch.setattr(sources, "pad_batch", pad_batch)


def shows_the_answer(patch):
    own = sources.encode_prompts

    def encode_prompts(tokenizer, source, **options):
        shown = [{**row, "prompt": row["prompt"] + row["completion"][:-2]} for row in source.rows]
        return own(tokenizer, replace(source, rows=shown), **options)

    patch.setattr(sources, "encode_prompts", encode_prompts)


def cuts_long_demonstrations(patch):
    own = sources.encode_demonstrations

    def encode_demonstrations(*arguments, max_completion_length, **options):
        found = own(*arguments, max_completion_length=99, **options)
        cut = [replace(demo, completion_ids=demo.completion_ids[:max_completion_length]) for demo in found.rows]
        return EncodedDemos(cut, [])

    patch.setattr(sources, "encode_demonstrations", encode_demonstrations)


def leaves_out_in_silence(patch):
    own = sources.encode_demonstrations
    patch.setattr(sources, "encode_demonstrations", lambda *a, **k: replace(own(*a, **k), left_out=[]))


def scores_the_next_token(patch):
    own = Objective.sft

    def shifted(self, model, batch, count):
        return own(self, model, replace(batch, ids=batch.ids.roll(1, 1)), count)

    patch.setattr(Objective, "sft", shifted)


BUGS = {
    forgets_what_was_there: "accumulation",
    divides_by_its_own_count: "micro-batches",
    loses_the_remainder: "ranks",
    keeps_the_last_micro_batch: "arrivals",
    trains_the_padding: "mask",
    takes_the_mean_of_means: "token-mean",
    skips_the_first_token: "first-token",
    shows_the_answer: "prompts",
    cuts_long_demonstrations: "demonstrations",
    leaves_out_in_silence: "demonstrations",
    scores_the_next_token: "token-mean",
}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_found(tmp_path, monkeypatch, bug) -> None:
    bug(monkeypatch)
    found = rulings(tmp_path / "run", max_completion_length=5)
    assert BUGS[bug] in wrong(found), {name: answer.evidence for name, answer in found.items()}


def test_what_was_left_out_is_counted(tmp_path) -> None:
    answer = rulings(tmp_path / "run", max_completion_length=5)["demonstrations"]
    assert answer.ruling == "ok"
    assert "given" in answer.evidence
    assert "the completion is longer than max_completion_length 5" in answer.evidence


def test_rows_that_give_their_answer_away_are_named(tmp_path) -> None:
    answer = " a b c d e f g h ."
    rows = [
        {"prompt": f"{row['prompt']}{answer}" if i == 7 else row["prompt"], "completion": answer}
        for i, row in enumerate(ROWS)
    ]
    found = rulings(tmp_path / "run", rows=rows, max_completion_length=12)["prompts"]
    assert found.ruling == "wrong"
    assert "1 prompts hold their own demonstration" in found.evidence


def test_short_answers_that_stand_in_a_prompt_are_no_accident_worth_telling() -> None:
    assert not gives_away({"prompt": "max 3 7:", "completion": "7"})
    assert gives_away({"prompt": "Say: seven is the larger", "completion": "seven is the larger"})
    message = [{"role": "user", "content": "Say: seven is the larger"}]
    assert gives_away({"prompt": message, "completion": [{"role": "assistant", "content": "seven is the larger"}]})


def test_a_recipe_without_one_of_the_branches_is_audited_for_the_other(tmp_path) -> None:
    prompts = [{"prompt": row["prompt"]} for row in ROWS]
    found = rulings(tmp_path / "run", "rl", rows=prompts)
    assert {name for name, answer in found.items() if answer.ruling == "none"} == {"token-mean", "demonstrations"}
    assert wrong(found) == set()


def test_bfloat16_is_refused_since_rounding_would_hide_bugs(tmp_path) -> None:
    with pytest.raises(ConfigError, match="set dtype: float32"):
        rulings(tmp_path / "run", dtype="bfloat16")


def test_distance_is_relative() -> None:
    assert relative_distance(torch.tensor([3.0, 4.4]), torch.tensor([3.0, 4.0])) == pytest.approx(0.08)
    assert relative_distance(torch.zeros(2), torch.zeros(2)) == 0.0
    assert relative_distance(torch.ones(2), torch.zeros(2)) == float("inf")


def test_a_gradient_that_nothing_reached_is_zeros() -> None:
    model = tiny_model()
    assert not sampled_gradient(model).any()
    assert len(sampled_gradient(model)) == sum(p.numel() for p in model.parameters())


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_model().save_pretrained("model")
    tiny_tokenizer().save_pretrained("model")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in UNEVEN), encoding="utf-8")
    (tmp_path / "reward.py").write_text("def one(completions, **columns):\n    raise SystemExit('never called')\n")
    (tmp_path / "mine.yaml").write_text(
        "model: model\ndata: {train: rows.jsonl, rewards: [reward.py:one]}\nmax_completion_length: 8\ndtype: bfloat16\n"
    )
    return "mine.yaml"


def test_the_command_tells_in_lines_that_fit_and_exits_with_0(recipe, capsys) -> None:
    assert main(["audit", recipe]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "all 9 checks passed"
    assert max(map(len, lines)) <= 80


def test_the_command_fails_on_a_bug(recipe, capsys, monkeypatch) -> None:
    takes_the_mean_of_means(monkeypatch)
    assert main(["audit", recipe, "--json"]) == 1
    found = {answer["check"]: answer["ruling"] for answer in json.loads(capsys.readouterr().out)}
    assert found["token-mean"] == "wrong"
