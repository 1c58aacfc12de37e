"""What a method needs of the data, checked before anything is trained."""

from __future__ import annotations

from ..balance.method import Method
from ..errors import ConfigError
from ..experience.sources import Sources
from ..losses.choices import POLICY_LOSSES
from ..settings.config import AMFTConfig
from ..signals.base import Cost
from ..step.balancer import Balancer
from ..step.lr_schedule import LRSchedule
from ..types import SFT

MOST_CLASSES = 32
"""Of demonstrations."""


def check_sources(
    config: AMFTConfig, method: Method, sources: Sources, balancer: Balancer, schedule: LRSchedule, warmup_steps: int
) -> None:
    """Refuse a run whose data lacks what its method reads.

    Raises:
        ConfigError: names what is missing and who needs it.
    """
    rule, asked = config.balance.get("rule"), method.requirements
    meta, weights = asked.meta_gradient, balancer.blind_weights()
    streams = method.demo_mixer.imitates == "stream" and (meta is not None or weights.imitates)
    if sources.all_filtered and (warmup_steps or (streams and not weights.explores)):
        raise ConfigError(
            f"demonstrations.filter: {config.demonstrations.filter} keeps none, and there is nothing else to learn "
            "from; choose another filter, or explore"
        )
    if sources.demonstrations is None and not sources.all_filtered and (streams or warmup_steps):
        raise ConfigError(f"demonstrations: balance rule {rule} imitates, but there are none; give some")
    if sources.scorer is None and (meta is not None or asked.reads_this_step or weights.explores):
        raise ConfigError(f"reward_funcs: balance rule {rule} explores, but there is none; give at least one")
    if method.demo_mixer.needs_answers and not any(sources.prompts.answers or () if sources.prompts else ()):
        raise ConfigError(f"demonstrations: balance rule {rule} needs them for the prompts of train_dataset")
    if POLICY_LOSSES[config.loss_type].credit == "token" and method.demo_mixer.pool not in ("all",):
        raise ConfigError(
            f"loss_type: {config.loss_type} has advantages per token, and balance rule {rule} compares rows; "
            "choose another loss_type"
        )
    if meta is not None and meta.utility == "likelihood" and sources.meta_demonstrations is None:
        raise ConfigError("balance.utility: likelihood needs 10 or more rows with a completion in train_dataset")
    if meta is not None and meta.utility == "heldout" and sources.val is None:
        raise ConfigError(
            "balance.utility: heldout needs 10 or more different prompts in train_dataset, or val_dataset"
        )
    if len(balancer.branches) > 1 and (unmeasured := asked.costs(Cost.DEMONSTRATIONS)):
        names = ", ".join(signal.name for signal in unmeasured)
        raise ConfigError(f"balance: {names} cannot be measured over {len(balancer.branches)} imitation branches")
    if len(balancer.branches) > MOST_CLASSES:
        raise ConfigError(
            f"balance: {len(balancer.branches)} classes of demonstrations, at most {MOST_CLASSES}; each costs a buffer "
            "as large as what is trained, so name fewer sources"
        )
    if meta is not None and meta.utility == "gram" and len(balancer.branches) > 1:
        raise ConfigError("balance: the utility gram measures one imitation branch; leave out the split")
    if schedule.follows_metric and (sources.val is None or not config.eval.steps):
        name = config.lr_scheduler_type
        raise ConfigError(f"lr_scheduler_type: {name} follows validation; set eval.steps and give problems for it")
    if balancer.branches != (SFT,) and method.demo_mixer.imitates != "stream":
        raise ConfigError(
            f"balance: demo_mixer chooses what is imitated, so its rows cannot be split into {len(balancer.branches)} "
            "branches; use one that leaves demonstrations apart, or a rule of one weight, such as amft-scalar"
        )
