import math

import numpy as np
import pytest

from amft.stats import ClusteredScores, estimate, iqm, mean_of_strata, resample


def table(values, counts=None, seeds=None):
    sums = np.asarray(values, dtype=np.float64)
    counts = np.ones_like(sums) if counts is None else np.asarray(counts, dtype=np.float64)
    seeds = range(len(sums)) if seeds is None else seeds
    return ClusteredScores(sums, counts, tuple(seeds), tuple(f"hand {i}" for i in range(sums.shape[1])))


def test_without_problem_spread_it_is_students_t_interval():
    # Every cluster of a run scores the same: runs .1 .2 .3 .4 .5. Mean .3, s^2 = .025, standard error sqrt(.025/5) =
    # .070711; t_4(.975) = 2.776445; .3 -+ .196324. Only the bootstrap's own error remains (2000 draws: 1.6 % of s).
    found = estimate(resample(table(np.tile([[0.1], [0.2], [0.3], [0.4], [0.5]], (1, 30))), resamples=40_000))
    assert found.value == pytest.approx(0.3)
    assert (found.seeds, found.clusters) == (5, 30)
    assert found.error == pytest.approx(0.070711, rel=0.01)
    assert (found.low, found.high) == pytest.approx((0.103676, 0.496324), abs=0.003)
    # p of t = .3/.070711 = 4.2426 at 4 degrees of freedom: 0.01324
    assert found.p == pytest.approx(0.01324, rel=0.05)


def test_without_seed_spread_it_is_the_interval_over_problems():
    # All runs equal; 200 clusters, half 0 and half 1: s = .5, standard error of the bootstrap .5/sqrt(200) = .035355;
    # df = C - 1 = 199: t = 1.971957, so .5 -+ .069719.
    found = estimate(resample(table(np.tile([0.0, 1.0], (5, 100))), resamples=40_000))
    assert found.error == pytest.approx(0.035355, rel=0.01)
    assert (found.low, found.high) == pytest.approx((0.430281, 0.569719), abs=0.002)


def test_one_seed_gives_no_bounds_and_no_spread_an_honest_margin():
    alone = estimate(resample(table([[0.0, 1.0, 1.0]])))
    assert alone.value == pytest.approx(2 / 3)
    assert math.isnan(alone.low)
    assert math.isnan(alone.p)
    assert not alone.excludes_zero
    # Nothing right in 20 clusters: 1 - .025^(1/20) = 1 - exp(ln(.025)/20) = .168433
    zero = estimate(resample(table(np.zeros((5, 20)))), limits=(0.0, 1.0))
    assert (zero.low, zero.high, zero.p) == (0.0, pytest.approx(0.168433, abs=1e-6), 1.0)


def test_draws_of_two_rules_are_paired_and_regimes_share_problems_only():
    rng = np.random.default_rng(0)
    one = table(rng.random((4, 25)))
    shifted = table(one.sums + 0.1)
    gap = resample(shifted, name="a") - resample(one, name="a")
    assert gap.draws == pytest.approx(np.full(gap.draws.size, 0.1))
    n = 2000
    here, there = resample(one, name="a").draws, resample(one, name="b").draws
    assert (here[n : 2 * n] == there[n : 2 * n]).all()
    assert not (here[:n] == there[:n]).any() or np.corrcoef(here[:n], there[:n])[0, 1] < 0.2
    assert (resample(one, name="a").draws == here).all()
    assert not (resample(one, name="a", seed=1).draws[:n] == here[:n]).all()


def test_only_keeps_the_named_seeds_in_order():
    scores = table([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]], seeds=[3, 4, 9])
    assert scores.only([9, 3]).by_run.tolist() == [1.0, 0.5]
    with pytest.raises(ValueError, match="must both be"):
        ClusteredScores(np.zeros((2, 3)), np.zeros((2, 3)), (1,), ("a", "b", "c"))


def test_mean_over_strata_by_hand():
    # Stratum a: runs .1 .2 .3 (mean .2), b: .5 .5 .5. Mean .35. Only a moves: the error of the mean is half
    # of a's (.1/sqrt(3)/2 = .028868), with a's two degrees of freedom.
    a = resample(table(np.tile([[0.1], [0.2], [0.3]], (1, 8))), name="a", resamples=40_000)
    b = resample(table(np.full((3, 8), 0.5)), name="b", resamples=40_000)
    mean = mean_of_strata([a, b])
    assert mean.value == pytest.approx(0.35)
    assert mean.seed_df == pytest.approx(2)
    assert estimate(mean).error == pytest.approx(0.028868, rel=0.02)


def simulate(rng, seeds=5, clusters=60, per=2, seed_sd=0.04, cluster_sd=0.25):
    """Binary answers, p = .4 + run effect + problem effect."""
    p = 0.4 + seed_sd * rng.normal(size=(seeds, 1)) + rng.choice([-cluster_sd, cluster_sd], size=(1, clusters))
    return table(rng.binomial(per, np.clip(p, 0, 1)), np.full((seeds, clusters), per))


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_coverage_is_nominal(seeds):
    rng = np.random.default_rng(seeds)
    trials, inside = 500, 0
    for trial in range(trials):
        found = estimate(resample(simulate(rng, seeds), resamples=300, seed=trial))
        inside += found.low <= 0.4 <= found.high
    assert 0.925 <= inside / trials <= 0.985


def test_coverage_and_false_alarms_of_a_paired_difference():
    rng = np.random.default_rng(3)
    trials, inside, alarms = 500, 0, 0
    for trial in range(trials):
        shared = rng.choice([-0.25, 0.25], size=(1, 60))
        tables = [
            table(rng.binomial(2, np.clip(0.4 + 0.04 * rng.normal(size=(5, 1)) + shared, 0, 1)), np.full((5, 60), 2))
            for _ in range(2)
        ]
        parts = [resample(t, resamples=300, seed=trial) for t in tables]
        found = estimate(parts[0] - parts[1])
        inside += found.low <= 0 <= found.high
        alarms += found.p < 0.05
        assert found.excludes_zero == (found.p < 0.05)
    assert 0.925 <= inside / trials <= 0.985
    assert alarms == trials - inside


def test_coverage_of_the_interquartile_mean():
    rng = np.random.default_rng(4)
    trials, inside = 400, 0
    for trial in range(trials):
        found = estimate(resample(simulate(rng, 8), iqm, resamples=300, seed=trial))
        inside += found.low <= 0.4 <= found.high
    assert 0.925 <= inside / trials <= 0.99
