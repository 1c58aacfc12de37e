"""How many seeds a study needs: for differences of a few points, and for its target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...stats import Resampled, mean_of_strata, seeds_needed, spread
from .against import paired
from .load import Study
from .regret import Bench
from .significance import settled

MARGINS = (0.01, 0.02, 0.03, 0.05)
"""Points of success that one may want to tell."""
CHANCE = 0.8
MOST_SEEDS = 200
"""More seeds than these are not looked for."""


def needed(study: Study) -> list[dict[str, Any]]:
    """Per measure of the subject: seeds per regime that tell a true value each of MARGINS off a bound from it.

    Rows: `measure`, `seeds` seen, `needed` margin -> seeds, None when more seeds alone would not do. Regimes that must
    all be told count with the one that needs most.
    """
    rows = []
    for measure, parts in _measures(study).items():
        if all(part.seeds >= 2 for part in parts):
            counts = {str(margin): most_needed(parts, margin) for margin in MARGINS}
            rows.append({"measure": measure, "seeds": min(part.seeds for part in parts), "needed": counts})
    return rows


def targets(study: Study, regret: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The study's target for the subject, `mean` and `worst` regret: what was found, the word, the seeds to settle it.

    `needed`: seeds that settle it if the true regret is the one found.
    """
    wanted, subject = study.spec.get("target"), study.spec["subject"]
    row = next((row for row in regret.get("rules", ()) if row["rule"] == subject), None)
    if wanted is None:
        return []
    measures = _measures(study)
    rows = []
    for kind in ("mean", "worst"):
        found = row[kind] if row else {"value": None, "low": None, "high": None, "seeds": 0}
        off = abs(wanted[kind] - found["value"]) if row else 0.0
        count = most_needed(measures[f"{kind} regret"], off) if off else None
        rows.append({"kind": kind, "target": wanted[kind], **found, "judged": settled(found, wanted[kind]),
                     "needed": count})  # fmt: skip
    return rows


def most_needed(parts: Sequence[Resampled], margin: float) -> int | None:
    """The most seeds that any of them needs; None when one cannot be told by seeds alone."""
    counts = [seeds_needed(spread(part), margin, chance=CHANCE, most=MOST_SEEDS) for part in parts]
    whole = [count for count in counts if count is not None]
    return max(whole) if len(whole) == len(counts) else None


def _measures(study: Study) -> dict[str, list[Resampled]]:
    """What is judged of the subject; several parts where each must be told."""
    subject, found = study.spec["subject"], {}
    if not study.splits:
        return {}
    for outcome in dict.fromkeys([None, study.outcome]) if study.grid else ():
        regret = Bench(study, study.splits[0], outcome).of(subject)
        by = f" by {outcome}" if outcome else ""
        if regret.common:
            found[f"mean regret{by}"] = [regret.mean]
            found[f"worst regret{by}"] = [part.resampled for part in regret.common]
    baseline = study.spec["baseline"]
    if subject != baseline:
        gaps = [gap for _, gap in paired(study, study.splits[0], subject, baseline)]
        if gaps:
            found[f"success minus {baseline}, all regimes"] = [mean_of_strata(gaps)]
    return found
