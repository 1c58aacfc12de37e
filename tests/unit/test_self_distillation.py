"""Self-distillation: the weights by hand, against the KL's own gradient and TRL; the teacher against transformers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny_runs import ROWS, build, one, tiny_model, tiny_tokenizer

from amft.balance.registry import build_method
from amft.data.prompt_text import informed_prompt
from amft.errors import ConfigError
from amft.losses.sft import sft_loss
from amft.weighting.base import Tokens
from amft.weighting.self_distillation import ConfidentTeacher, TowardsTeacher

MASK = torch.ones(1, 1, dtype=torch.float64)


def test_weights_by_hand() -> None:
    logps, taught = torch.tensor([[-1.0, -2.0, 9.0]]), torch.tensor([[-0.5, -3.0, 9.0]])
    mask, entropy = torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[0.0, math.log(3.0), 9.0]])
    tokens = Tokens(logps, mask, teacher_logps=taught, teacher_entropy=entropy)
    assert TowardsTeacher()(tokens)[0, :2].tolist() == [0.5, -1.0]
    # exp(-H): 1 and 1/3, mean 2/3, so weights 1.5 and .5; times .5 and -1.
    assert ConfidentTeacher()(tokens)[0, :2].tolist() == pytest.approx([0.75, -0.5])
    assert ConfidentTeacher(sharpness=0)(tokens)[0, :2].tolist() == pytest.approx([0.5, -1.0])


def test_on_average_it_is_the_gradient_of_the_kl_to_the_teacher() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, dtype=torch.float64, generator=generator, requires_grad=True)
    teacher = torch.randn(5, dtype=torch.float64, generator=generator).log_softmax(-1)
    own = logits.log_softmax(-1)
    (wanted,) = torch.autograd.grad((own.exp() * (own - teacher)).sum(), logits)
    found = torch.zeros_like(wanted)
    for token in range(5):  # every draw, as often as it comes
        own = logits.log_softmax(-1)
        logp = own[token].reshape(1, 1)
        weights = TowardsTeacher()(Tokens(logp.detach(), MASK, teacher_logps=teacher[token].reshape(1, 1)))
        loss = sft_loss(logp, MASK, count=1.0, weights=weights).loss
        (gradient,) = torch.autograd.grad(loss, logits)
        found += float(own[token].detach().exp()) * gradient
    assert torch.allclose(found, wanted, atol=1e-12)


def test_loss_and_gradient_are_those_of_trl() -> None:
    losses = pytest.importorskip("trl.experimental.sdpo.loss_utils")
    generator = torch.Generator().manual_seed(1)
    student = torch.randn(3, 4, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    teacher = torch.randn(3, 4, 6, dtype=torch.float64, generator=generator)
    ids = torch.randint(6, (3, 4), generator=generator)
    theirs = losses.compute_sampled_token_self_distillation_loss(student, teacher, ids, distillation_alpha=1.0).mean()

    def picked(logits: torch.Tensor) -> torch.Tensor:
        """[3, 4]."""
        return logits.log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1)

    logps, mask = picked(student), torch.ones(3, 4, dtype=torch.float64)
    weights = TowardsTeacher()(Tokens(logps.detach(), mask, teacher_logps=picked(teacher)))
    ours = sft_loss(logps, mask, count=12.0, weights=weights).loss
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-12)
    gradients = [torch.autograd.grad(loss, student, retain_graph=True)[0] for loss in (ours, theirs)]
    assert torch.allclose(*gradients, atol=1e-12)


@pytest.mark.parametrize("rule", ["sdft", "sdpo"])
def test_the_teacher_is_the_policy_that_has_seen_the_solution(rule: str, tmp_path: Path) -> None:
    balance = {"rule": rule, "template": "{solution} {prompt}"}
    trainer = build(tmp_path / "run", balance, one, temperature=0.5, num_prompts=3)
    batch = trainer.organs.collector.next(trainer.sources.prompts).imitate
    assert batch is not None
    reads, policy = tiny_tokenizer(), tiny_model().eval()
    shown = {row["prompt"]: row["completion"] for row in ROWS}
    width = batch.completion_mask.shape[1]
    said = [batch.ids[i, -width:][batch.completion_mask[i] > 0].tolist() for i in range(len(batch))]
    for i in range(len(batch)):
        asked = reads.decode(batch.ids[i, :-width][batch.attention_mask[i, :-width] > 0])
        peer = next(j for j in range(i - i % 4, i - i % 4 + 4) if j != i)  # all are right, and four have a prompt
        solution = shown[asked].rstrip(" .") if rule == "sdft" else reads.decode(said[peer], skip_special_tokens=True)
        prompt = reads.encode(f"{solution} {asked}")
        with torch.no_grad():
            whole = torch.tensor([[*prompt, *said[i]]])
            logps = policy(whole).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        wanted = [float(logps[t, token]) for t, token in enumerate(said[i])]
        assert batch.teacher_logps[i, : len(wanted)].tolist() == pytest.approx(wanted, abs=1e-5)
        entropy = -(logps.exp() * logps).sum(-1)
        assert batch.teacher_entropy[i, : len(wanted)].tolist() == pytest.approx(entropy.tolist(), abs=1e-5)


def test_prompts_that_show_a_solution() -> None:
    template = "{prompt}, {solution}?"
    assert informed_prompt("a {solution}", "{prompt}", template) == "a {solution}, {prompt}?"
    talk = [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}]
    assert informed_prompt(talk, "b", template) == [talk[0], {"role": "user", "content": "a, b?"}]
    image = {"type": "image", "image": None}
    seen = [{"role": "user", "content": [image, {"type": "text", "text": "a"}]}]
    assert informed_prompt(seen, "b", template) == [
        {"role": "user", "content": [image, {"type": "text", "text": "a, b?"}]}
    ]


def test_any_balance_takes_it(tmp_path: Path) -> None:
    balance = {"rule": "amft-scalar", "demo_mixer": "peer-taught", "token_weight": "towards-teacher"}
    trainer = build(tmp_path / "run", balance, max_steps=3)
    trainer.train()
    assert trainer.step == 3


def test_without_a_teacher_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no teacher; set balance.demo_mixer"):
        build(tmp_path / "run", {"rule": "sft", "token_weight": "towards-teacher"}, max_steps=1).train()
    with pytest.raises(ConfigError, match=r"balance\.sharpness"):
        build_method({"rule": "srpo", "sharpness": -1})
