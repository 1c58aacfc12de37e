"""A study's run directories as plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from ...errors import RunError
from ...runs import read_json
from ...stats import ClusteredScores, pass_at_k
from ..load import Floats, Run, load_run
from ..outcomes import SELECTION
from .answers import Answers, AskedProblem, Known
from .racing import beaten


@dataclass(frozen=True, eq=False)
class StudyRun:
    """One finished run, without its samples."""

    regime: str
    rule: str
    """As the table names it: a tuned name stands for the rule that validation picked."""
    seed: int
    answers: dict[str, Answers]
    """Test split -> answers of the trained model."""
    base: dict[str, Answers]
    """The same of the model the run began with."""
    graded: dict[str, dict[str, Answers]]
    """What the task measures of each answer besides success -> test split -> answers of the trained model."""
    measured: dict[str, dict[str, float]]
    """Test split -> what the task measures besides success, of the trained model: name -> mean over answers."""
    measured_base: dict[str, dict[str, float]]
    steps: Floats
    """(E,) steps with a validation."""
    validation: Floats
    """(E,) validation success there."""
    tokens: Floats
    """(E,) generated and demonstration tokens up to there."""
    mu_steps: Floats
    mu: Floats
    costs: dict[str, float]
    """steps, generated, trained, flops, seconds."""

    def success(self, split: str) -> float:
        """Mean over problems of the trained model's score."""
        return fmean(fmean(scores) for scores in self.answers[split].values())

    @property
    def selection(self) -> float:
        """What validation says of the model that was kept: the best, or the last without `checkpoint.keep_best`."""
        return float(self.costs["selected"])


@dataclass(frozen=True, eq=False)
class Study:
    """Everything a study left behind."""

    path: Path
    spec: dict[str, Any]
    runs: dict[tuple[str, str, int], StudyRun]
    """(regime, rule, seed) -> run; tuned names among the rules."""
    unfinished: list[str]
    """`regime/rule seed n` of the runs that are not there."""
    chosen: dict[tuple[str, str], str]
    """(regime, tuned name) -> the rule that validation picked."""
    stopped: dict[tuple[str, str], str] = field(default_factory=dict)
    """(regime, rule) -> the rule that clearly beat it on the first seeds, where the study races."""
    tables: dict[tuple[str, str, str, int | None, str | None], ClusteredScores | None] = field(default_factory=dict)
    """What `scores` has already made."""

    @property
    def regimes(self) -> list[str]:
        return [*self.spec["cases"]]

    @property
    def rules(self) -> list[str]:
        """Rules but for the grid, then tuned names."""
        return [name for name in [*self.spec["arms"], *self.spec["tuned"]] if name not in self.spec["grid_names"]]

    @property
    def grid(self) -> dict[str, float]:
        """Grid rule -> its mu."""
        return dict(self.spec["grid_names"])

    @property
    def splits(self) -> list[str]:
        """Test splits, the headline first."""
        named = self.spec["metrics"]["splits"] or []
        found = dict.fromkeys([*named, *(split for run in self.runs.values() for split in run.answers)])
        first = self.spec["metrics"]["headline"]
        return sorted(found, key=lambda split: split != first) if first else [*found]

    @property
    def outcome(self) -> str | None:
        """The second outcome that regret is told by; None: success alone."""
        found: str | None = self.spec["metrics"].get("outcome")
        return found

    def of(self, regime: str, rule: str) -> list[StudyRun]:
        """The finished runs of a rule in a regime, by seed."""
        found = [self.runs.get((regime, rule, seed)) for seed in self.spec["seeds"]]
        return [run for run in found if run is not None]

    def scores(
        self, regime: str, rule: str, split: str, *, pass_at: int | None = None, outcome: str | None = None
    ) -> ClusteredScores | None:
        """Runs by clusters of problems; None when no run is finished.

        Args:
            pass_at: k of pass@k instead of the mean over answers.
            outcome: what the task measures of each answer instead of success; runs without it are left out.

        Raises:
            RunError: the outcome has values outside [0, 1].
        """
        key = regime, rule, split, pass_at, outcome
        if key not in self.tables:
            value = _mean if pass_at is None else lambda scores: _pass(scores, pass_at)
            own = [
                (run.seed, run.answers if outcome is None else run.graded.get(outcome, {}))
                for run in self.of(regime, rule)
            ]
            table = _table([(seed, answers[split]) for seed, answers in own if split in answers], value)
            if outcome is not None and table is not None and not _is_share(table):
                raise RunError(f"{self.path}: metrics.outcome: {outcome!r} must lie in [0, 1]; name another measure")
            self.tables[key] = table
        return self.tables[key]


def load_study(path: str | Path) -> Study:
    """Read a study directory.

    Raises:
        RunError: there is no study in it, or a file is damaged.
    """
    folder = Path(path)
    spec = read_json(folder / "study.json")
    if not isinstance(spec, dict) or not {"order", "cases", "arms", "seeds", "tuned", "grid_names"} <= spec.keys():
        raise RunError(f"{folder / 'study.json'}: does not describe a study; run amft compare again")
    spec |= {name: {key: spec[name][key] for key in keys} for name, keys in spec["order"].items()}
    runs: dict[tuple[str, str, int], StudyRun] = {}
    known: Known = {}
    unfinished = []
    for regime in spec["cases"]:
        for rule in spec["arms"]:
            for seed in spec["seeds"]:
                place = folder / "runs" / regime / rule / f"seed-{seed}"
                found = _read(place, regime, rule, seed, known)
                if found is not None:
                    runs[regime, rule, seed] = found
    stopped = _race(spec, runs)
    for regime in spec["cases"]:
        for rule in spec["arms"]:
            due = spec["seeds"][: spec["racing"]] if (regime, rule) in stopped else spec["seeds"]
            unfinished += [f"{regime}/{rule} seed {seed}" for seed in due if (regime, rule, seed) not in runs]
    chosen = _tune(spec, runs)
    return Study(folder, spec, runs, unfinished, chosen, stopped)


def is_study(path: str | Path) -> bool:
    """Whether a directory holds a study."""
    return (Path(path) / "study.json").is_file()


def _read(place: Path, regime: str, rule: str, seed: int, known: Known) -> StudyRun | None:
    if not (place / "config.json").exists():
        return None
    run = load_run(place)
    answers, base = _answers(run, "policy", known), _answers(run, "base", known)
    if not answers or {s: a.keys() for s, a in answers.items()} != {s: a.keys() for s, a in base.items()}:
        return None
    steps, validation = run.measured(f"eval/{SELECTION}/success")
    mu_steps, mu = run.measured("mix/mu")
    spent = np.nancumsum(_metric(run, "tokens/rollout") + _metric(run, "tokens/demo"))
    return StudyRun(
        regime, rule, seed, answers, base, _graded(run, known), _measured(run, "policy"), _measured(run, "base"),
        steps.astype(np.float64), validation,
        spent[np.searchsorted(run.steps, steps)], mu_steps.astype(np.float64), mu, _costs(run, validation),
    )  # fmt: skip


def _answers(run: Run, model: str, known: Known) -> dict[str, Answers]:
    """A run that was cut off while it answered has written some answers twice; the last one counts."""
    rows = {
        (str(row["split"]), str(row["key"]), row["problem"], row["sample"]): float(row["correct"])
        for row in run.scores
        if row.get("model") == model and row.get("correct") is not None
    }
    found: dict[str, dict[AskedProblem, list[float]]] = {}
    for (split, key, problem, _), correct in sorted(rows.items(), key=lambda item: item[0][3]):
        found.setdefault(split, {}).setdefault((key, problem), []).append(correct)
    return {split: Answers(given, known) for split, given in found.items()}


def _graded(run: Run, known: Known) -> dict[str, dict[str, Answers]]:
    rows = {
        (str(row["split"]), str(row["key"]), row["problem"], row["sample"], name): float(value)
        for row in run.scores
        if row.get("model") == "policy"
        for name, value in (row.get("metrics") or {}).items()
    }
    found: dict[str, dict[str, dict[AskedProblem, list[float]]]] = {}
    for (split, key, problem, _, name), value in sorted(rows.items(), key=lambda item: item[0][3]):
        found.setdefault(name, {}).setdefault(split, {}).setdefault((key, problem), []).append(value)
    return {name: {split: Answers(given, known) for split, given in splits.items()} for name, splits in found.items()}


def _measured(run: Run, model: str) -> dict[str, dict[str, float]]:
    rows = {
        (str(row["split"]), str(row["key"]), row["problem"], row["sample"]): row.get("metrics") or {}
        for row in run.scores
        if row.get("model") == model
    }
    values: dict[str, dict[str, list[float]]] = {}
    for (split, *_), metrics in rows.items():
        for name, value in metrics.items():
            values.setdefault(split, {}).setdefault(name, []).append(float(value))
    return {split: {name: fmean(found) for name, found in names.items()} for split, names in values.items()}


def _metric(run: Run, name: str) -> Floats:
    values = run.metrics.get(name)
    return np.zeros(len(run.steps)) if values is None else np.nan_to_num(values)


def _costs(run: Run, validation: Floats) -> dict[str, float]:
    """What a run spent. FLOPs: `2 N` a token read or generated, `6 N` a token trained, prompts included.

    Validation and test answers are not counted, nor are passes a rule makes for itself.
    """
    rollout, demo = _metric(run, "tokens/rollout").sum(), _metric(run, "tokens/demo").sum()
    asked, shown = _metric(run, "tokens/rollout_prompt").sum(), _metric(run, "tokens/demo_prompt").sum()
    thrown = float(_metric(run, "dynamic_sampling/discarded_tokens").sum())
    uses = float(run.config.get("num_iterations") or 1)
    parameters = float(run.env.get("parameters") or np.nan)
    best = bool(run.setting("checkpoint.keep_best")) and len(validation)
    return {
        "steps": float(run.last_step),
        "generated": float(rollout) + thrown,
        "trained": float(uses * rollout + demo),
        "flops": parameters * float(2 * (rollout + thrown + asked) + 6 * (uses * (rollout + asked) + demo + shown)),
        "seconds": float(run.seconds.get("time/step", np.zeros(0)).sum()),
        "selected": float(validation.max() if best else validation[-1]) if len(validation) else np.nan,
    }


def _race(spec: Mapping[str, Any], runs: Mapping[tuple[str, str, int], StudyRun]) -> dict[tuple[str, str], str]:
    if not spec.get("racing"):
        return {}

    def validation(regime: str, rule: str, seed: int) -> float | None:
        run = runs.get((regime, rule, seed))
        return None if run is None else run.selection

    spared = {spec["subject"], spec["baseline"]}
    return beaten([*spec["cases"]], [*spec["arms"]], spec["seeds"][: spec["racing"]], spared, validation)


def _tune(spec: Mapping[str, Any], runs: dict[tuple[str, str, int], StudyRun]) -> dict[tuple[str, str], str]:
    """Add each tuned name: per regime, the member whose kept models did best on validation, over all seeds."""
    chosen = {}
    for name, members in spec["tuned"].items():
        for regime in spec["cases"]:
            found = {m: [runs[regime, m, s] for s in spec["seeds"] if (regime, m, s) in runs] for m in members}
            whole = {m: r for m, r in found.items() if len(r) == len(spec["seeds"])}
            if not whole:
                continue
            best = max(whole, key=lambda member: np.mean([run.selection for run in whole[member]]))
            chosen[regime, name] = best
            for run in whole[best]:
                runs[regime, name, run.seed] = StudyRun(**{**vars(run), "rule": name})
    return chosen


def _table(found: Sequence[tuple[int, Answers]], value: Callable[[list[float]], float]) -> ClusteredScores | None:
    if not found:
        return None
    clusters = sorted({key for _, answers in found for key, _ in answers})
    place = {key: i for i, key in enumerate(clusters)}
    sums, counts = np.zeros((len(found), len(clusters))), np.zeros((len(found), len(clusters)))
    for row, (_, answers) in enumerate(found):
        for (key, _), scores in answers.items():
            sums[row, place[key]] += value(scores)
            counts[row, place[key]] += 1
    return ClusteredScores(sums, counts, tuple(seed for seed, _ in found), tuple(clusters))


def _is_share(table: ClusteredScores) -> bool:
    return bool((table.sums >= 0).all() and (table.sums <= table.counts).all())


def _mean(scores: list[float]) -> float:
    return fmean(scores)


def _pass(scores: list[float], k: int) -> float:
    return float(pass_at_k([len(scores)], [sum(score >= 1 for score in scores)], k)[0])
