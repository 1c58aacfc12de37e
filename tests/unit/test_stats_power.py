import numpy as np
import pytest

from amft.stats import (
    ClusteredScores,
    Resampled,
    Spread,
    estimate,
    mean_of_strata,
    power,
    resample,
    seeds_needed,
    spread,
)


@pytest.mark.parametrize(("effect", "seeds"), [(1.0, 10), (0.8, 15), (0.5, 34), (0.2, 199)])
def test_seeds_are_those_of_the_textbooks_t_test(effect, seeds):
    # One-sample t test, two-sided at 5 %, power 80 %: the sample sizes of Cohen's tables as G*Power 3.1 gives them.
    assert seeds_needed(Spread(per_seed=1.0, problems=0.0), effect) == seeds
    assert power(Spread(1.0, 0.0), seeds - 1, effect) < 0.8 <= power(Spread(1.0, 0.0), seeds, effect)


def test_more_seeds_do_not_help_against_few_problems():
    # Problems alone give a standard error of 1 point: 2 points are then told with a chance of about one half at best.
    seen = Spread(per_seed=0.04**2, problems=0.01**2, clusters=200)
    assert seeds_needed(seen, 0.02) is None
    assert power(seen, 1000, 0.02) == pytest.approx(0.51, abs=0.02)
    assert seeds_needed(seen, 0.04) == pytest.approx(17, abs=2)


def test_no_spread_and_refusals():
    assert power(Spread(0.0, 0.0), 2, 0.01) == 1
    assert seeds_needed(Spread(0.0, 0.0), 0.01) == 2
    for seeds, margin in ((1, 0.1), (5, 0.0)):
        with pytest.raises(ValueError, match="seeds must be at least 2 and margin above 0"):
            power(Spread(1.0, 0.0), seeds, margin)
    with pytest.raises(ValueError, match="one seed"):
        spread(Resampled(0.1, np.zeros(30), 1, 20, 0))


def scores(rng, seeds, level=0.5, seed_sd=0.03, suits=0.15, problems=100):
    """One answer per problem, right with level + luck of the run + how it suits the arm (the problem)."""
    p = level + seed_sd * rng.normal(size=(seeds, 1)) + rng.choice([-suits, suits], size=(1, problems))
    sums = (rng.random((seeds, problems)) < p).astype(np.float64)
    return ClusteredScores(sums, np.ones_like(sums), tuple(range(seeds)), tuple(range(problems)))


def test_the_spread_is_split_into_seeds_and_problems():
    # Of a run: .03^2 + (.25 - .15^2)/100 = .0009 + .002275 = .003175 (answers are drawn by each run for itself);
    # of the problems: .15^2/100 = .000225.
    rng = np.random.default_rng(0)
    found = [spread(resample(scores(rng, 10), resamples=400, seed=i)) for i in range(200)]
    assert np.mean([each.per_seed for each in found]) == pytest.approx(0.003175, rel=0.08)
    assert np.mean([each.problems for each in found]) == pytest.approx(0.000225, rel=0.25)
    assert (found[0].strata, found[0].clusters) == (1, 100)


def test_the_foretold_share_of_studies_tells_the_difference():
    # Three regimes; the truth lies 3 points below the target. Power as foretold from the true spread, 8 seeds.
    rng = np.random.default_rng(5)
    seen = Spread(0.003175 / 3, 0.000225 / 3, strata=3, clusters=100)
    trials, told = 400, 0
    for trial in range(trials):
        parts = [resample(scores(rng, 8), name=str(r), resamples=200, seed=trial) for r in range(3)]
        told += estimate(mean_of_strata(parts)).high < 0.53
    assert told / trials == pytest.approx(power(seen, 8, 0.03), abs=0.07)
    assert 0.3 < told / trials < 0.9
