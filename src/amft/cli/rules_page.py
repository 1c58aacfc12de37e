"""docs/rules.md, written from the registry by `amft rules --markdown`; its text is the template `rules.md.j2`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

_HEAD = """# Rules

Every way to mix imitation and exploration that `balance.rule` knows. Written by `amft rules --markdown`; a test
compares this page with the registry. Files are below `src/amft/`.

All rules run in one trainer and are weighted sums of the same two losses, `sft L_SFT + rl L_RL`, each over its own
global count. The run decides `loss_type`, clipping, means and the optimizer for all rules alike; what a publication
used is under "published". The warm-up (`sft_warmup_steps`) is plain imitation under every rule.

"""

_COST = """
## What the needs cost

| need | what the trainer does for it |
|---|---|
| none | weights are chosen first; a branch of weight 0 is not run |
| `policy_loss`, `sft_loss`, `sft_grad_norm`, `buffered` | nothing: they are left over from earlier steps |
| `entropy`, `reward`, `success`, `advantage_var` | the RL branch runs first, and its gradient is scaled in place |
| `nll_var`, `coef_gap` | one forward pass over the demonstrations, every `every` steps |
| `meta_grad`, `entropy_grad` | the two gradients are kept apart: one buffer as large as the parameters |
| `token_entropy` | entropies of the forward pass that is made anyway |
| `answers` | demonstrations are looked up by prompt (`completion` in `train_dataset`, or in `demonstrations`) |
| `reference` | a frozen copy of the starting model, and one forward pass over the demonstrations |

"""

_OWN = """
## A rule of your own

One file: a frozen dataclass of its settings with `needs`, `init` and `update`. `update` is pure and its state is JSON.
The weights need not sum to one.

```python
# mine.py
from dataclasses import dataclass
from typing import ClassVar

from amft.balance.base import Weights


@dataclass(frozen=True)
class Mine:
    \"\"\"Imitate while fewer than `enough` of the rollouts are right.\"\"\"

    enough: float = 0.2
    needs: ClassVar[frozenset[str]] = frozenset({"success"})

    def init(self):
        return {}

    def update(self, state, signals):
        rate = sum(signals.success or [0.0]) / max(len(signals.success or []), 1)
        return Weights(sft=float(rate < self.enough), rl=1.0), state, {"mix/rate": rate}
```

```sh
amft train general_points --output-dir runs/mine --set balance.rule=mine.py:Mine --set balance.enough=0.3 \\
    --set max_steps=2 --set sft_warmup_steps=0 --set num_prompts=2 --set num_generations=2 --set num_demos=2 \\
    --set eval.steps=0 --set eval.test_splits=[]
```

A part of your own goes into its slot in the same way: `balance.token_weight=mine.py:Weight`, `balance.demo_mixer=...`.
The protocols are in `demo_mixing/base.py` and `weighting/base.py`. Any part can be joined with any rule, for example
`balance: {rule: amft, token_weight: phi}`.

## Not here

BRIDGE (arXiv 2509.06948) needs a second module and a shadow copy of the policy; DYPO (arXiv 2604.08926) and FEST
(arXiv 2605.15012) need a third loss, on preferred pairs. `Learner.gradient` in `step/learner.py` takes any loss of
a micro-batch, so a third branch is one more call in `step/mixing.py` and one more weight in `balance/base.py`.
"""

from ..signals.base import Signal


def rules_page(
    rules: Sequence[Mapping[str, Any]], parts: Sequence[Mapping[str, Any]], signals: Iterable[Signal[Any]]
) -> str:
    """The page in Markdown.

    Args:
        rules: `balance.describe.describe()`.
        parts: `balance.describe.describe_parts()`.
        signals: the values of `signals.shipped.shipped_signals()`.
    """
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters.update(code=_code, codes=_codes, pairs=_pairs, cells=_cells)
    template = files(__package__).joinpath("rules.md.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(rules=rules, parts=parts, signals=signals)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _codes(texts: Sequence[str]) -> str:
    return ", ".join(map(_code, texts))


def _pairs(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _cells(texts: Sequence[str]) -> str:
    """The inside of a row of a Markdown table."""
    return " | ".join(text.replace("|", "\\|") for text in texts)
