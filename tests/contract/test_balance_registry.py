"""What every balance rule promises, and how recipes reach them."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import math
import random
import re
from pathlib import Path

import pytest
from given_signals import given_signals

from amft.balance.amft import AMFT
from amft.balance.base import Balance
from amft.balance.brake import Brake
from amft.balance.describe import describe, describe_parts
from amft.balance.fixed import Fixed, FixedWeights
from amft.balance.log_sigma import LogSigma
from amft.balance.method import PARTS
from amft.balance.registry import RULES, build_balance, build_method
from amft.balance.requirements import Requirements
from amft.balance.row_sum import RowSumWeights
from amft.balance.verifier_gate import VerifierGate
from amft.cli.rules_page import rules_page
from amft.errors import ConfigError
from amft.signals.shipped import shipped_signals

FREE = {
    FixedWeights: 1e6,
    RowSumWeights: 1e6,
    LogSigma: math.exp(4.0) + 1e-9,
    AMFT: 1.0,
    VerifierGate: 1.0,
    Brake: 1.0,
}
"""Rules whose weights need not sum to one, and the largest of each."""
FOLDERS = ("balance", "demo_mixing", "weighting")
HOSTILE = (None, math.nan, math.inf, -math.inf, 1e30, -1e30, 1e308, -1e308, 0.0)
VARIANTS = [{"rule": name} for name in RULES] + [
    {"rule": "amft-scalar", "mu_update": "cosine", "shrink": True},
    {"rule": "amft-scalar", "entropy": "measured", "mu_min": 0.0, "mu_max": 1.0, "max_change": 1.0},
    {"rule": "amft-scalar", "entropy": "none", "mu_min": 0.0, "mu_init": 0.0},
    {"rule": "chord-mu", "rise": 0.2, "fall": 0.6, "valley": 0.3},
]
each_rule = pytest.mark.parametrize("spec", VARIANTS, ids=lambda s: "-".join(map(str, s.values())))


def _stream(seed, values=None, n=60):
    draw = random.Random(seed)

    def value(scale):
        return draw.choice(values) if values else draw.gauss(0.2, 1.0) * scale

    return [
        given_signals(
            step,
            n,
            entropy=value(1.0),
            entropy_target=value(1.0),
            reward=value(1.0),
            meta_grad=value(1e-6),
            meta_cos=value(0.1),
            entropy_grad=value(1e-3),
            success=None if value(1.0) is None else (0.0, 0.5),
            advantage_var=value(1.0),
            nll_var=value(1.0),
            coef_gap=value(1.0),
            policy_loss=value(1.0),
            sft_loss=value(1.0),
            sft_grad_norm=value(1.0),
            buffered=draw.randrange(200),
            held_out_likelihood=value(1.0),
            verdicts={"right": draw.randrange(3), "wrong": draw.randrange(3), "silent": 1},
            paid={"wrong": (8.0, 0.0), "right": (8.0, float(draw.randrange(2)))},
        )
        for step in range(n)
    ]


@each_rule
def test_is_a_balance_with_requirements(spec):
    rule = build_balance(spec)
    assert isinstance(rule, Balance)
    assert isinstance(rule.requirements, Requirements)


@each_rule
def test_update_is_pure(spec):
    rule = build_balance(spec)
    state = rule.init()
    for signals in itertools.chain(_stream(0), _stream(0, HOSTILE)):
        before = copy.deepcopy(state)
        first, second = rule.update(state, signals), rule.update(state, signals)
        assert first == second
        assert state == before
        state = first[1]


@each_rule
def test_state_survives_json(spec):
    rule = build_balance(spec)
    state = rule.init()
    for signals in _stream(1):
        stored = json.loads(json.dumps(state, allow_nan=False))
        assert stored == state
        assert rule.update(stored, signals) == rule.update(state, signals)
        state = rule.update(state, signals)[1]


@each_rule
@pytest.mark.parametrize("seed", range(5))
def test_adversarial_signals_stay_in_bounds(spec, seed):
    rule = build_balance(spec)
    low, high = getattr(rule, "mu_min", 0.0), getattr(rule, "mu_max", FREE.get(type(rule), 1.0))
    cap = getattr(rule, "max_change", math.inf)
    state, mu = rule.init(), None
    for signals in itertools.chain(_stream(seed, HOSTILE), _stream(seed)):
        weights, state, metrics = rule.update(state, signals)
        assert low <= weights["sft"] <= high
        assert weights["rl"] == 1.0 - weights["sft"] or type(rule) in FREE
        assert 0.0 <= weights["rl"] <= FREE.get(type(rule), 1.0)
        assert mu is None or abs(weights["sft"] - mu) <= cap + 1e-12
        assert all(math.isfinite(value) and name.startswith("mix/") for name, value in metrics.items())
        json.dumps(state, allow_nan=False)
        mu = weights["sft"]


@each_rule
def test_absent_signals_hold_the_weights(spec):
    rule = build_balance(spec)
    weights = [rule.update(rule.init(), given_signals(0, 100))[0] for _ in range(2)]
    assert weights[0] == weights[1]


def test_describe_lists_every_rule_and_is_json():
    described = describe()
    assert [rule["rule"] for rule in described] == list(RULES)
    json.dumps(described, allow_nan=False)
    for rule in described:
        assert {"summary", "source", "settings", "needs"} <= rule.keys()
        open_settings = {key: value for key, value in rule["settings"].items() if value is not None}
        assert build_balance({"rule": rule["rule"], **open_settings}) == build_balance({"rule": rule["rule"]})


def test_the_page_is_what_the_registry_says():
    page = Path(__file__).parents[2] / "docs" / "rules.md"
    assert page.read_text(encoding="utf-8") == rules_page(describe(), describe_parts(), shipped_signals().values()), (
        "write it: amft rules --markdown > docs/rules.md"
    )


def test_every_rule_says_what_it_is():
    src = Path(__file__).parents[2] / "src" / "amft"
    for rule in describe():
        assert rule["equation"], rule["rule"]
        assert rule["source"], rule["rule"]
        assert (rule["status"] == "experimental") == bool(rule["unverified"])
        assert all((src / file).is_file() for file in rule["files"])


def test_settings_of_a_method_have_one_owner():
    for name, entry in RULES.items():
        classes = [entry.rule, *(PARTS[slot][part] for slot, part in entry.parts.items())]
        names = [field.name for kind in classes for field in dataclasses.fields(kind)]
        assert len(names) == len(set(names)), name
        assert not set(names) & PARTS.keys(), name
        assert entry.preset.keys() | entry.fixed <= set(names), name


def test_rule_files_are_short_and_nobody_asks_for_a_name():
    src = Path(__file__).parents[2] / "src" / "amft"
    tables = {"methods.py", "registry.py"}
    for folder in FOLDERS:
        for path in (src / folder).glob("*.py"):
            assert path.name in tables or len(path.read_text(encoding="utf-8").splitlines()) <= 150, path.name
    for path in (path for folder in (*FOLDERS, "training", "losses") for path in (src / folder).glob("*.py")):
        asked = re.findall(r"rule(?:\.name)? (?:==|in) [\"'(]", path.read_text(encoding="utf-8"))
        assert not asked, path.name


def test_presets():
    assert build_balance({"rule": "sft"}) == Fixed(1.0)
    assert build_balance({"rule": "rl"}) == Fixed(0.0)
    assert build_balance({"rule": "amft"}) == AMFT()
    paper = build_balance({"rule": "amft-paper", "eta_mu": 1.0})
    assert (paper.mu_update, paper.utility, paper.jacobian, paper.eta_mu) == ("paper", "heldout", "identity", 1.0)
    assert (paper.mu_init, paper.mu_min, paper.mu_max, paper.eta_h) == (0.5, 0.05, 0.95, 5e-4)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, ["balance.rule", "amft"]),
        ({"rule": "amtf"}, ["'amtf'", "did you mean 'amft'", "sft-then-rl"]),
        ({"rule": "amft-scalar", "mu_int": 0.5}, ["'mu_int'", "did you mean 'mu_init'", "allowed: mu_update"]),
        ({"rule": "sft", "mu": 0.5}, ["'mu'", "allowed: none"]),
        ({"rule": "fixed", "mu": 3}, ["balance.mu", "[0, 1]", "3"]),
        ({"rule": "nowhere.py:Mine"}, ["no file nowhere.py"]),
    ],
)
def test_mistakes_are_one_helpful_line(spec, words):
    with pytest.raises(ConfigError) as raised:
        build_balance(spec)
    assert all(word in str(raised.value) for word in words)
    assert "\n" not in str(raised.value)


MINE = """
from __future__ import annotations
from dataclasses import dataclass
from amft.balance import MetaGradient, Requirements, Weights

@dataclass(frozen=True)
class Mine:
    peak: float = 0.8
    warmup: int = 0
    horizon: float = 7.0
    @property
    def requirements(self):
        return {REQUIREMENTS}
    def init(self):
        return {}
    def update(self, state, signals):
        return Weights.convex(self.peak), state, {}

class Plain:
    pass

@dataclass
class Empty:
    pass
"""


def _written(tmp_path, requirements="Requirements()"):
    path = tmp_path / "rule.py"
    path.write_text(MINE.replace("{REQUIREMENTS}", requirements))
    return path


def test_a_rule_of_ones_own_from_a_file(tmp_path):
    path = _written(tmp_path)
    rule = build_balance({"rule": f"{path}:Mine", "peak": 0.6})
    assert rule.update(rule.init(), given_signals(0, 1))[0]["sft"] == 0.6
    assert build_balance(rule) is rule
    for name, word in (("Mime", "no class"), ("Plain", "dataclass"), ("Empty", "lacks requirements, init, update")):
        with pytest.raises(ConfigError, match=word):
            build_balance({"rule": f"{path}:{name}"})
    with pytest.raises(ConfigError, match=r"peek.*did you mean 'peak'"):
        build_balance({"rule": f"{path}:Mine", "peek": 1})


@pytest.mark.parametrize(
    ("requirements", "said"),
    [
        ("Requirements(('magic',))", "'magic' is no signal; shipped: .*entropy"),
        ("Requirements(signal=())", "unexpected keyword argument 'signal'"),
        ("Requirements(meta_gradient=True)", "meta_gradient must be a MetaGradient or None, got True"),
        ("Requirements(meta_gradient=MetaGradient(horizn=0.5))", "unexpected keyword argument 'horizn'"),
        ("Requirements(meta_gradient=MetaGradient(horizon=1.5))", r"horizon must be a number in \[0, 1\), got 1.5"),
        ("Requirements(warmup=0)", "warmup must be one of True, False, got 0"),
        ("Requirements(sft_optimizer='mine')", "sft_optimizer must be one of 'shared', 'own'"),
        ("Requirements(freeze=0.5)", "freeze must be a Freeze or None, got 0.5"),
        ("Requirements(split='source')", "split must be a function of a row, got 'source'"),
        ("{'entropy'}", "requirements must be a Requirements, got {'entropy'}"),
    ],
)
def test_requirements_that_are_none_are_refused_when_the_rule_is_built(requirements, said, tmp_path):
    with pytest.raises(ConfigError, match=said) as raised:
        build_balance({"rule": f"{_written(tmp_path, requirements)}:Mine"})
    assert "\n" not in str(raised.value)


def test_fields_of_a_rule_named_like_requirements_are_its_own(tmp_path):
    asked = build_method({"rule": f"{_written(tmp_path)}:Mine", "warmup": 0, "horizon": 3.0}).requirements
    assert asked == Requirements()


def test_a_file_with_a_fault(tmp_path):
    (tmp_path / "broken.py").write_text("import nothing_of_the_kind")
    with pytest.raises(ConfigError, match=r"broken\.py cannot be imported \(ModuleNotFoundError"):
        build_balance({"rule": f"{tmp_path / 'broken.py'}:Mine"})
