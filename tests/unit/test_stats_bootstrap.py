import itertools
import math

import numpy as np
import pytest

from amft.stats import Interval, clustered_interval, paired_difference, success_difference, success_interval
from amft.stats import bootstrap as module


def test_two_clusters_by_hand():
    # Clusters a = {0, 0, 0, 1} (sum 1 of 4) and b = {1, 1} (sum 2 of 2): mean 3/6. A draw of two clusters is
    # aa (p 1/4) -> 1/4, ab or ba (p 1/2) -> 3/6, bb (p 1/4) -> 2/2. So 95 % lies on [1/4, 1], and 40 %
    # (from quantile 0.3 to 0.7) inside the middle half, which is 1/2 on both sides.
    values, clusters = [0, 0, 0, 1, 1, 1], list("aaaabb")
    assert clustered_interval(values, clusters) == Interval(0.5, 0.25, 1.0, 6, 2)
    assert clustered_interval(values, clusters, level=0.4) == Interval(0.5, 0.5, 0.5, 6, 2)


def test_quantiles_match_full_enumeration():
    # Three clusters with sums 0, 1, 2 of one value each: all 27 equally likely draws can be listed.
    means = [sum(draw) / 3 for draw in itertools.product([0.0, 1.0, 2.0], repeat=3)]
    found = clustered_interval([0, 1, 2], [7, 8, 9], resamples=40_000, level=0.8)
    assert found.mean == 1.0
    assert found.low == pytest.approx(sorted(means)[2], abs=1e-9)  # 1/27 at 0, 3/27 at 1/3: quantile .1 is 1/3
    assert found.high == pytest.approx(sorted(means)[-3], abs=1e-9)


def test_seed_decides_and_chunks_do_not(monkeypatch):
    rng = np.random.default_rng(1)
    values, clusters = rng.normal(size=60), np.repeat(np.arange(20), 3)
    first = clustered_interval(values, clusters, seed=3)
    assert clustered_interval(values, clusters, seed=3) == first
    assert clustered_interval(values, clusters, seed=4) != first
    monkeypatch.setattr(module, "_CHUNK", 20 * 7)
    chunked = clustered_interval(values, clusters, seed=3)
    assert (chunked.low, chunked.high) == pytest.approx((first.low, first.high), rel=1e-12)


def simulate(rng, clusters=40, per=5):
    """Values with a shared cluster effect (intraclass correlation 1/2) around 0.3, in clusters of unequal size."""
    sizes = rng.integers(1, 2 * per, size=clusters)
    labels = np.repeat(np.arange(clusters), sizes)
    return 0.3 + rng.normal(size=clusters)[labels] + rng.normal(size=labels.size), labels


def test_coverage_is_nominal_and_ignoring_clusters_is_not():
    rng = np.random.default_rng(0)
    runs, clustered, naive = 600, 0, 0
    for _ in range(runs):
        values, labels = simulate(rng)
        found = clustered_interval(values, labels, resamples=500)
        clustered += found.low <= 0.3 <= found.high
        alone = clustered_interval(values, np.arange(values.size), resamples=200)
        naive += alone.low <= 0.3 <= alone.high
    assert 0.92 <= clustered / runs <= 0.975
    assert naive / runs < 0.85


def test_paired_difference_removes_difficulty():
    # Problem difficulty spreads over [0, 1]; every problem gains exactly 0.1: the paired width is zero.
    before = np.linspace(0, 0.9, 30)
    found = paired_difference(before, before + 0.1, np.arange(30))
    assert (found.mean, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert found.excludes_zero
    apart = clustered_interval(before, np.arange(30))
    assert apart.high - apart.low > 0.1


def test_paired_difference_by_hand_and_sign():
    # Problems a: 0 -> 1, b: 1 -> 1, c: 1 -> 0, d: 0 -> 1 have differences 1, 0, -1, 1: mean 1/4.
    found = paired_difference([0, 1, 1, 0], [1, 1, 0, 1], list("abcd"))
    assert found.mean == 0.25
    assert not found.excludes_zero
    assert paired_difference([1] * 9, [0] * 9, range(9)).mean == -1


def test_edges():
    empty = clustered_interval([], [])
    assert (empty.n, empty.clusters) == (0, 0)
    assert math.isnan(empty.mean)
    assert not empty.excludes_zero
    one = clustered_interval([1, 0, 1, 1], ["a"] * 4)
    assert one.mean == 0.75
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert not one.excludes_zero
    assert clustered_interval([2.0] * 6, list("aabbcc")) == Interval(2.0, 2.0, 2.0, 6, 3)


def test_success_interval_is_not_certain_from_a_streak():
    # 0 of 30 clusters right: the upper bound p solves (1 - p)^30 = 0.025, p = 1 - 0.025^(1/30) = 0.1157.
    nothing = success_interval([False] * 60, np.repeat(np.arange(30), 2))
    assert (nothing.low, nothing.high) == (0.0, pytest.approx(0.1157, abs=1e-4))
    everything = success_interval([True] * 30, np.arange(30))
    assert (everything.low, everything.high) == (pytest.approx(1 - 0.1157, abs=1e-4), 1.0)
    mixed = [0, 1] * 15
    assert success_interval(mixed, np.arange(30)) == clustered_interval(mixed, np.arange(30))


def test_no_spread_is_not_certainty_for_partial_success_and_one_cluster():
    # Ten clusters, each with one right and one wrong answer: m = 1 - 0.025^(1/10) = 0.3085, half of it either way.
    halves = success_interval([0, 1] * 10, np.repeat(np.arange(10), 2))
    assert (halves.mean, halves.low, halves.high) == pytest.approx((0.5, 0.5 - 0.15425, 0.5 + 0.15425), abs=1e-4)
    # One cluster: m = 0.975.
    alone = success_interval([1, 1], ["a", "a"])
    assert (alone.low, alone.high) == pytest.approx((0.025, 1.0))
    assert success_interval([], []).clusters == 0


def test_success_difference_without_a_change_is_not_certain():
    still = success_difference([0, 1] * 15, [0, 1] * 15, np.arange(30))
    assert (still.mean, still.low, still.high) == pytest.approx((0.0, -0.1157, 0.1157), abs=1e-4)
    # All 30 went from wrong to right: a share m of all others may go from right to wrong, so 1 - 2m.
    gained = success_difference([0] * 30, [1] * 30, np.arange(30))
    assert (gained.low, gained.high) == (pytest.approx(1 - 2 * 0.1157, abs=1e-4), 1.0)
    before, after = [0, 1, 0, 0] * 5, [1, 1, 0, 1] * 5
    assert success_difference(before, after, range(20)) == paired_difference(before, after, range(20))


@pytest.mark.parametrize(
    ("values", "clusters", "options"),
    [
        ([1, 2], ["a"], {}),
        ([math.nan], ["a"], {}),
        ([[1.0]], ["a"], {}),
        ([1], ["a"], {"level": 1.0}),
        ([1], ["a"], {"resamples": 0}),
    ],
)
def test_refusals(values, clusters, options):
    with pytest.raises(ValueError, match="must"):
        clustered_interval(values, clusters, **options)


def test_pair_and_success_refusals():
    with pytest.raises(ValueError, match="same problems"):
        paired_difference([1, 0], [1], ["a"])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        success_interval([2.0], ["a"])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        success_difference([0.0], [-1.0], ["a"])
