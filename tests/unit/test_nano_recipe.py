"""What the nano base is shown, and that its recipe makes the same base again."""

import itertools
import json
import math
import re

import pytest
import torch

from amft.pretraining import nano_corpus
from amft.pretraining.nano_corpus import allowed, conversations
from amft.pretraining.nano_recipe import nano_model, pretrain, save
from amft.tasks.general_points.solver import difficulty, solutions
from amft.tasks.general_points.splits import held_out_values
from amft.tasks.general_points.verifier import formula_value, tokenize

CARDS = re.compile(r"Make (\d+) from the cards.* J=(\d+), Q=(\d+), K=(\d+)\..*\nCards: (.*)")
NUMBERS = re.compile(r"Make (\d+) from the numbers.*\nNumbers: (.*)")
LOOKS = re.compile(r"Make (\d+): ([\d,; ]+)")
OTHERS = re.compile(
    r"Compute: [-+*/\d, ]+|Read the cards.*\n.*|Walk the route[^$]*|[^$]*\nWrite the steps, then Answer: n"
)


def shown(prompt):
    """(target, numbers, kind) that a prompt shows; None for the kinds without four numbers."""
    if found := CARDS.fullmatch(prompt):
        target, j, q, k, cards = found.groups()
        values = {"A": "1", "J": j, "Q": q, "K": k}
        return int(target), [int(values.get(card, card)) for card in cards.split(", ")], "points"
    if found := NUMBERS.fullmatch(prompt):
        return int(found[1]), [int(n) for n in found[2].split(", ")], "countdown"
    assert LOOKS.fullmatch(prompt) or OTHERS.fullmatch(prompt.replace("$", "#")), prompt
    return None


@pytest.fixture(scope="module")
def corpus():
    return [[m["content"] for m in talk] for talk in itertools.islice(conversations(0), 600)]


def test_no_held_out_hand(corpus, monkeypatch):
    held = held_out_values()
    # Every hand is offered: what is left out is left out by the filter, and much is.
    refused = []
    monkeypatch.setattr(nano_corpus, "allowed", lambda numbers: allowed(numbers) or refused.append(numbers))
    more = [[m["content"] for m in talk] for talk in itertools.islice(conversations(1), 600)]
    assert sum(len(numbers) == 4 for numbers in refused) > 100
    seen = [found for asked, _ in corpus + more if (found := shown(asked))]
    for kind in ("points", "countdown"):
        rows = [numbers for _, numbers, of in seen if of == kind and len(numbers) == 4]
        assert len(rows) > 80, kind
        assert all(tuple(sorted(numbers)) not in held for numbers in rows)


def test_allowed():
    assert allowed([3, 3, 8, 8])
    assert not allowed([10, 4, 8, 6])  # a test hand, see the pinned hashes of the splits
    assert allowed([4, 6, 8])


def test_looks_tell_the_way_or_that_there_is_none(corpus):
    known = {True: 0, False: 0}
    for asked, answer in corpus:
        if found := LOOKS.fullmatch(asked):
            said = json.loads(answer)
            for hand in found[2].split("; "):
                numbers = [int(n) for n in hand.split(",")]
                way = any(difficulty(e)[0] == 0 for e in solutions(numbers, int(found[1])))
                known[way] += 1
                assert said.pop(0) == (hand if way else f"{hand}:no")
                if way:
                    last = [said.pop(0), said.pop(0)][1]
                    left, right = last.split("=")
                    assert formula_value(tokenize(left)) == int(right) == int(found[1])
            assert said == []
    assert min(known.values()) > 400


def test_cards_are_seldom_searched_and_numbers_nearly_always(corpus):
    searched = {"points": [], "countdown": []}
    for asked, answer in corpus:
        found = shown(asked)
        if found and len(found[1]) == 4 and "steps" in asked:
            searched[found[2]].append(any(":" in step for step in json.loads(answer)["steps"]))
    share = {kind: sum(rows) / len(rows) for kind, rows in searched.items()}
    assert share["points"] < 0.3 < 0.7 < share["countdown"]


def test_answers_are_right(corpus):
    for asked, answer in corpus:
        found = shown(asked)
        if not found and not asked.startswith(("Compute", "Read")):
            continue
        fields = json.loads(answer)
        steps = [step.split(":")[0].rsplit("=", 1) for step in fields.get("steps", [])]
        assert all(formula_value(tokenize(left)) == formula_value(tokenize(right)) for left, right in steps)
        if asked.startswith("Compute: "):
            assert [left for left, _ in steps] == asked.removeprefix("Compute: ").split(", ")
        if found:
            target, numbers, _ = found
            left, right = fields["formula"].split("=")
            assert fields["number"] == numbers
            assert formula_value(tokenize(left)) == target == int(right)
            assert sorted(int(t) for t in tokenize(left) if t.isdigit()) == sorted(numbers)


def test_the_corpus_is_a_function_of_the_seed(corpus):
    again = [[m["content"] for m in talk] for talk in itertools.islice(conversations(0), 50)]
    assert again == corpus[:50]
    assert [[m["content"] for m in talk] for talk in itertools.islice(conversations(1), 50)] != again


def small(steps, seed=0, **options):
    return pretrain(
        steps=steps,
        batch_size=4,
        seed=seed,
        hidden=64,
        layers=1,
        tokenizer_sample=200,
        progress=False,
        **options,
    )


def loss_of(model, tokenizer):
    """Mean negative log-likelihood on fixed conversations the training does not draw."""
    total = 0.0
    with torch.no_grad():
        for talk in itertools.islice(conversations(99), 8):
            text = tokenizer.apply_chat_template(talk, tokenize=False)
            ids = torch.tensor([tokenizer.encode(text)])
            total += model(input_ids=ids, labels=ids).loss.item()
    return total / 8


@pytest.fixture(scope="module")
def trained():
    return small(20)


def test_pretraining_lowers_the_loss(trained):
    fresh, _ = small(0)
    model, tokenizer = trained
    before, after = loss_of(fresh, tokenizer), loss_of(model, tokenizer)
    assert before == pytest.approx(math.log(len(tokenizer)), rel=0.1)  # a random model knows nothing
    assert after < before - 0.5


def test_the_seed_decides_the_weights_and_the_global_generator_is_left_alone(trained):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    again, _ = small(20)
    assert torch.equal(torch.get_rng_state(), state)
    pairs = zip(trained[0].parameters(), again.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    other, _ = small(1, seed=1)
    assert any(not torch.equal(a, b) for a, b in zip(trained[0].parameters(), other.parameters(), strict=True))


def test_on_step_sees_every_step():
    steps = []
    small(2, on_step=lambda step, model: steps.append((step, model.training)))
    assert [step for step, _ in steps] == [1, 2]


def test_a_base_is_trained_further():
    fresh, tokenizer = small(2)
    before = [p.clone() for p in fresh.parameters()]
    model, same = pretrain(steps=1, batch_size=4, progress=False, start=(fresh, tokenizer))
    assert same is tokenizer
    assert model is fresh
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_save_and_reload(trained, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = trained
    text = "8*3="
    save(model, tokenizer, tmp_path)  # the weights are bfloat16 from here on
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).encode(text) == tokenizer.encode(text)
    assert again.dtype == torch.bfloat16
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert (tmp_path / "model.safetensors").exists()
    assert again.generation_config.eos_token_id == tokenizer.eos_token_id


def test_the_base_is_small():
    model = nano_model(1500, 0, 1)
    assert model.num_parameters() < 5_000_000
