"""Every optimizer of `optim` trains, is the library's own where there is one branch, and resumes to the byte."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from tiny_runs import build, parameters, train
from torch import nn

from amft.errors import ConfigError
from amft.meta import JACOBIANS, OptimizerStep
from amft.meta.jacobians import PACKED, jacobian_of
from amft.meta.packed_jacobians import SECANT
from amft.settings.config import ELEMENTWISE, AMFTConfig

OPTIMIZERS = get_args(AMFTConfig.model_fields["optim"].annotation)
OF_TORCH = (*ELEMENTWISE, "muon", "adafactor")
PACKED_ONES = [name for name in OPTIMIZERS if name not in OF_TORCH]
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="pip install 'amft[bitsandbytes]'"
)
MARKED = [name if name in OF_TORCH else pytest.param(name, marks=needs_bitsandbytes) for name in OPTIMIZERS]
pytestmark = pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
FEW = {"max_steps": 4, "learning_rate": 1e-2}


@pytest.mark.parametrize("optim", MARKED)
def test_a_run_in_two_parts_is_the_run_in_one(optim: str, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", "amft", optim=optim, **FEW)
    before = parameters(build(tmp_path / "none", "amft", optim=optim, **FEW))
    assert (parameters(whole) - before).norm() > 1e-3
    train(tmp_path / "parts", "amft", optim=optim, **{**FEW, "max_steps": 3})
    resumed = train(tmp_path / "parts", "amft", optim=optim, resume=True, **FEW)
    assert torch.equal(parameters(whole), parameters(resumed))
    found = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "parts")]
    assert found[0] == found[1]
    assert any(row.get("mix/meta_grad/sft/right") is not None for row in whole.log_history)


def test_muon_steps_on_hidden_matrices_and_adamw_on_the_rest(tmp_path: Path) -> None:
    trainer = build(tmp_path, "sft", optim="muon", weight_decay=0.1, muon_momentum=0.8, **FEW)
    model, twin = trainer.model, build(tmp_path, "sft", optim="muon", **FEW).model
    hidden = [p for name, p in twin.named_parameters() if "_proj" in name]
    others = [p for name, p in twin.named_parameters() if "_proj" not in name]
    muon = torch.optim.Muon(hidden, 1e-2, weight_decay=0.1, momentum=0.8, adjust_lr_fn="match_rms_adamw")
    decayed = [{"params": [p for p in others if p.dim() > 1], "weight_decay": 0.1}]
    adamw = torch.optim.AdamW([*decayed, {"params": [p for p in others if p.dim() < 2], "weight_decay": 0.0}], 1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
            ours.grad = torch.randn(ours.shape, generator=generator)
            theirs.grad = ours.grad.clone()
        trainer.learner.optimizer.step(imitates=False)
        muon.step()
        adamw.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    trainer.learner.optimizer.set_learning_rate(0.0)
    before = [p.detach().clone() for p in model.parameters()]
    trainer.learner.optimizer.step(imitates=False)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("optim", [name for name in OPTIMIZERS if name not in ELEMENTWISE])
def test_what_an_optimizer_is_not_for_is_one_line(optim: str) -> None:
    with pytest.raises(ConfigError, match=f"optim: {optim} reads more than a shard"):
        AMFTConfig(optim=optim, parallel="fsdp2")
    if optim in PACKED_ONES:
        with pytest.raises(ConfigError, match=f"optim: {optim} computes in float32"):
            AMFTConfig(optim=optim, dtype="float64")


def test_names_of_transformers_are_taken() -> None:
    theirs = {"adamw_bnb_8bit": "adamw_8bit", "paged_adamw_32bit": "paged_adamw", "lion_32bit": "lion"}
    assert {name: AMFTConfig(optim=name).optim for name in theirs} == theirs


def _stepped(kind: Any, options: dict[str, Any], shape: tuple[int, ...] = (48, 128)) -> tuple[Any, Any, Any, Any]:
    """Parameter, optimizer after five steps, gradient of the next one, and the change of it."""
    generator = torch.Generator().manual_seed(1)
    scale = torch.logspace(-3, 0, shape[-1])  # gradients of very different sizes share a scale in 8 bits

    def draw() -> torch.Tensor:
        return torch.randn(shape, generator=generator) * scale

    param = nn.Parameter(torch.randn(shape, generator=generator))
    optimizer, drift = kind([param], **options), draw()
    for _ in range(5):
        param.grad = drift + draw()
        optimizer.step()
    return param, optimizer, drift + draw(), draw()


def _copy(kind: Any, options: dict[str, Any], param: nn.Parameter, optimizer: Any) -> tuple[nn.Parameter, Any]:
    twin = nn.Parameter(param.detach().clone())
    other = kind([twin], **options)
    other.state[twin] = {k: v.clone() if torch.is_tensor(v) else v for k, v in optimizer.state[param].items()}
    return twin, other


def jacobian_error(kind: Any, options: dict[str, Any], h: float) -> float:
    """Relative error of `J d` against central differences of the real step, `h` of the change to either side."""
    param, optimizer, grad, d = _stepped(kind, options)
    ends = []
    for sign in (1.0, -1.0):
        twin, other = _copy(kind, options, param, optimizer)
        twin.grad = grad + sign * h * d
        other.step()
        ends.append(twin.detach().double())
    truth = -(ends[0] - ends[1]) / (2 * h)
    param.grad = grad
    optimizer.step()
    ours = d.clone()
    step = OptimizerStep(param.detach(), grad, optimizer.state[param], optimizer.param_groups[0], first=False)
    jacobian_of(optimizer).push(ours, step)
    return float((ours.double() - truth).norm() / truth.norm())


@needs_bitsandbytes
@pytest.mark.parametrize(
    ("name", "h", "most"),
    [("PagedAdamW", 1e-2, 2e-3), ("AdamW8bit", 1e-2, 0.2), ("PagedAdamW8bit", 1e-2, 0.2), ("Lion", SECANT, 1e-2)],
)
def test_the_stated_errors_of_bitsandbytes_jacobians(name: str, h: float, most: float) -> None:
    from bitsandbytes import optim

    assert name in PACKED
    options = {"lr": 1e-2, **({"betas": (0.9, 0.99)} if name == "Lion" else {})}
    error = jacobian_error(getattr(optim, name), options, h)
    print(name, error)
    assert error < most


def test_muons_rounding_is_as_large_as_stated() -> None:
    assert torch.optim.Muon in JACOBIANS
    error = jacobian_error(torch.optim.Muon, {"lr": 1e-2}, 0.1)
    print("Muon", error)
    assert error < 0.25
