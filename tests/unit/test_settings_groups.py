"""Nested settings: three ways to write a group, what a wrong one is told, and the old flat keys."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from amft.balance.amft_scalar import AMFTScalar
from amft.errors import ConfigError
from amft.settings.borrowed_names import BORROWED
from amft.settings.config import GROUPS, AMFTConfig, dotted
from amft.settings.groups import CheckpointSettings, EvalSettings, ImportanceSamplingSettings, PPOSettings
from amft.settings.moved_keys import MOVED_KEYS
from amft.settings.recipe import load_recipe
from amft.settings.strict_model import StrictModel
from amft.training.same_run import FREE_TO_CHANGE, changed_settings

KINDS = {
    "ppo": PPOSettings,
    "importance_sampling": ImportanceSamplingSettings,
    "eval": EvalSettings,
    "checkpoint": CheckpointSettings,
}


def refusal(call: Any, *args: Any, **settings: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*args, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_mapping_and_its_model_are_the_same_group() -> None:
    config = AMFTConfig(eval={"steps": 5})  # type: ignore[arg-type]
    assert config == AMFTConfig(eval=EvalSettings(steps=5))
    assert config.eval.steps == 5
    assert config.eval.problems == AMFTConfig().eval.problems == 128


def test_dots_set_one_key_of_a_group_and_leave_the_rest(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("task: general_points-v1\neval: {steps: 7, problems: 9}\n")
    changed = load_recipe(recipe, ["eval.steps=5", "checkpoint.keep_best=true"])
    assert (changed.eval.steps, changed.eval.problems) == (5, 9)
    assert changed.checkpoint == CheckpointSettings(keep_best=True)
    assert load_recipe(recipe, ["eval={steps: 5}"]).eval == EvalSettings(steps=5)  # the whole key is replaced


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"eval": {"steps": -1}}, "eval.steps: expected a whole number >= 0, got -1"),
        ({"eval": {"stps": 1}}, "eval.stps: unknown key; did you mean 'eval.steps'?"),
        ({"eval": 3}, "eval: expected a mapping, got 3"),
        ({"ppo": None}, "ppo: expected a mapping, got null"),
        ({"checkpoint": {"keep_best": 1}}, "checkpoint.keep_best: expected true or false, got 1"),
        ({"ppo": {"lam": 0.5}}, "ppo.lam: only loss_type ppo has a value head, this is dapo; leave ppo.lam out"),
        (
            {"importance_sampling": {"clip_min": 3.0}},
            "importance_sampling: clip_min 3.0 must be less than clip_max 3.0",
        ),
        (
            {"importance_sampling": {"mode": "sequence_truncate", "clip_max": None}},
            "importance_sampling: mode sequence_truncate needs clip_max or clip_min",
        ),
    ],
)
def test_a_wrong_group_names_the_dotted_key(given: dict[str, Any], line: str) -> None:
    assert refusal(AMFTConfig, **given) == line


def test_a_group_made_by_itself_is_refused_in_one_line_too() -> None:
    assert refusal(EvalSettings, steps=-1) == "steps: expected a whole number >= 0, got -1"
    assert refusal(PPOSettings, lamb=1.0).startswith("lamb: unknown key")


@pytest.mark.parametrize("kind", KINDS.values())
def test_groups_are_frozen_and_every_field_is_described(kind: type[StrictModel]) -> None:
    assert all(field.description for field in kind.model_fields.values())
    with pytest.raises(ValueError, match="frozen"):
        setattr(kind(), next(iter(kind.model_fields)), 1)


@pytest.mark.parametrize("old", MOVED_KEYS)
def test_an_old_key_is_unknown_and_told_its_new_name(old: str, tmp_path: Path) -> None:
    line = f"{old}: unknown key; did you mean {MOVED_KEYS[old]!r}?"
    assert refusal(AMFTConfig, **{old: 1}) == line
    recipe = tmp_path / "r.yaml"
    recipe.write_text("task: general_points-v1\n")
    assert refusal(load_recipe, recipe, [f"{old}=1"]) == line


def test_the_table_of_old_keys_leads_to_every_key_of_the_groups() -> None:
    assert {*GROUPS} - {*KINDS} == {"demonstrations", "implicit_reward", "rewards"}, "never flat"
    grouped = {f"{name}.{key}" for name in KINDS for key in KINDS[name].model_fields}
    of_the_rule = {f"balance.{field.name}" for field in fields(AMFTScalar)}
    younger = {"eval.answer_probability", "checkpoint.async_save"}
    assert grouped - younger - {*BORROWED.values()} <= {*MOVED_KEYS.values()} <= grouped | of_the_rule | {"prefix_tree"}
    assert not MOVED_KEYS.keys() & BORROWED.keys(), "a name of TRL or transformers that means the same is taken"
    assert len(set(MOVED_KEYS.values())) == len(MOVED_KEYS)
    assert not MOVED_KEYS.keys() & AMFTConfig.model_fields.keys()


def test_the_changelog_lists_every_old_key() -> None:
    changelog = (Path(__file__).parents[2] / "CHANGELOG.md").read_text(encoding="utf-8")
    assert all(f"| `{old}` | `{new}` |" in changelog for old, new in MOVED_KEYS.items())


def test_dotted_spells_out_the_groups_and_nothing_else() -> None:
    given = {"eval": {"steps": 5, "test_splits": ["id"]}, "balance": {"rule": "amft"}, "eval.problems": 3, "ppo": None}
    assert dotted(given) == {
        "eval.steps": 5,
        "eval.test_splits": ["id"],
        "balance": {"rule": "amft"},
        "eval.problems": 3,
        "ppo": None,
    }


def test_what_may_change_on_resume_is_a_setting() -> None:
    assert dotted(AMFTConfig().model_dump()).keys() >= FREE_TO_CHANGE


def test_a_resume_compares_keys_within_groups() -> None:
    began = AMFTConfig().model_dump()
    free = AMFTConfig(checkpoint=CheckpointSettings(total_limit=7, only_model=True), max_seconds=9.0)
    assert changed_settings(began, free.model_dump()) == []
    other = AMFTConfig(checkpoint=CheckpointSettings(keep_best=True), eval=EvalSettings(problems=3))
    told = ["checkpoint.keep_best was False, is True", "eval.problems was 128, is 3"]
    assert changed_settings(began, other.model_dump()) == told
