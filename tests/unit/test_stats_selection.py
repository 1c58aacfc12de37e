import itertools

import numpy as np
import pytest

from amft.stats import ClusteredScores, cross, estimate, mean_of_strata, resample, worst_crossed
from amft.stats.crossed import problem_draws, seed_draws
from amft.stats.selection import cuts


def table(values):
    sums = np.asarray(values, dtype=np.float64)
    return ClusteredScores(
        sums, np.ones_like(sums), tuple(range(len(sums))), tuple(f"hand {i}" for i in range(sums.shape[1]))
    )


def flat(scores):
    """Runs that score the same on each of four problems."""
    return table(np.tile(np.asarray(scores)[:, None], (1, 4)))


def test_three_seeds_by_hand():
    # Seeds .6 .2 .3 for a, .1 .5 .2 for b. Without seed 0: a .5, b .7, so b, which has .1 there. Without seed 1: a .9,
    # b .3, so a: .2. Without seed 2: a .8, b .6: a, .3. Mean (.1 + .2 + .3)/3 = .2, though a alone has .3667.
    found = cross([flat([0.6, 0.2, 0.3]), flat([0.1, 0.5, 0.2])])
    assert cuts(3).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert found.held == pytest.approx([0.1, 0.2, 0.3])
    assert found.kept == pytest.approx([0.35, 0.45, 0.4])
    assert found.resampled.value == pytest.approx(0.2)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7, 10, 11, 20])
def test_every_seed_is_held_out_equally_often_a_third_of_them_at_a_time(size):
    found = cuts(size)
    assert set(found.sum(1)) == {max(1, round(size / 3))}
    assert len(set(found.sum(0))) == 1
    assert len(np.unique(found, axis=0)) > 0.9 * len(found)


def one_by_one(arms, name, resamples):
    """The draws of `cross`, by loops over draws and cuts."""
    y = np.stack([arm.by_run for arm in arms])
    redrawn = np.stack([problem_draws(arm, resamples, 0) for arm in arms], axis=1)
    size = y.shape[1]
    places = seed_draws(0, name, arms[0].seeds, resamples)

    def value(drawn, scores):
        found = []
        for cut in cuts(size):
            held = [drawn[i] for i in range(size) if cut[i]]
            rest = [drawn[i] for i in range(size) if not cut[i] and drawn[i] not in held]
            rest = rest or [seed for seed in range(size) if seed not in held]
            arm = max(range(len(y)), key=lambda a: sum(y[a, seed] for seed in rest))
            found.append(np.mean([scores[arm, seed] for seed in held]))
        return np.mean(found)

    own = list(range(size))
    return [
        *(value(drawn, y) for drawn in places),
        *(value(own, scores) for scores in redrawn),
        *(value(drawn, scores) for drawn, scores in zip(places, redrawn, strict=True)),
    ]


@pytest.mark.parametrize("size", [2, 3, 5, 10])
def test_draws_are_those_of_plain_loops(size):
    rng = np.random.default_rng(size)
    arms = [table(rng.random((size, 12))) for _ in range(4)]
    assert cross(arms, name="a", resamples=30).resampled.draws == pytest.approx(one_by_one(arms, "a", 30))


def test_one_arm_is_its_plain_mean_draw_by_draw():
    alone = table(np.random.default_rng(0).random((7, 20)))
    crossed, plain = cross([alone], name="a").resampled, resample(alone, name="a")
    assert crossed.value == pytest.approx(plain.value)
    assert crossed.draws == pytest.approx(plain.draws)
    assert crossed.seed_df == plain.seed_df


def test_no_copy_of_a_seed_chooses_what_another_scores():
    # Each arm is right on its own seed alone. Chosen on other seeds an arm never scores above 0; one copy of a seed
    # that chose for the other would score 1.
    arms = [flat(row) for row in np.eye(5)]
    found = cross(arms).resampled
    assert found.value == 0
    assert not found.draws.any()


def test_refusals():
    with pytest.raises(ValueError, match="same seeds, at least two"):
        cross([flat([0.5])])
    with pytest.raises(ValueError, match="same seeds"):
        cross([flat([0.5, 0.4]), flat([0.5, 0.4, 0.1])])


def test_worst_by_hand():
    # Gaps of the two strata, by seed: a .3 .0 .0, b .1 .1 .1. Without seed 0, b looks worst (.1 against 0): .1 there.
    # Without seed 1, a (.15): 0 there. Without seed 2, a: 0. Mean .0333; the plain worst is .1.
    nothing = cross([flat([0.0] * 3)])
    parts = [cross([flat(gaps)]) - nothing for gaps in ([0.3, 0.0, 0.0], [0.1, 0.1, 0.1])]
    found = worst_crossed(parts)
    assert found.value == pytest.approx(0.1 / 3)
    ends = [(estimate(part.resampled, level=0.975).low, estimate(part.resampled).high) for part in parts]
    assert (found.low, found.high) == (min(max(low for low, _ in ends), found.value), max(high for _, high in ends))
    assert found.high > 0.3


def regrets(rng, levels, rule, seeds, spread=0.04):
    """Crossed regret per regime (rows of levels), and the regret in hindsight; scores without answers."""
    parts, hindsight = [], []
    for number, row in enumerate(levels):
        arms = [flat(level + spread * rng.normal(size=seeds)) for level in row]
        ours = flat(rule[number] + spread * rng.normal(size=seeds))
        how = {"name": str(number), "resamples": 200, "seed": int(rng.integers(2**31))}
        parts.append(cross(arms, **how) - cross([ours], **how))
        hindsight.append(max(arm.by_run.mean() for arm in arms) - ours.by_run.mean())
    return parts, float(np.mean(hindsight))


def test_on_a_flat_grid_there_is_no_regret_and_the_interval_says_so():
    rng = np.random.default_rng(11)
    trials, found, hindsight, inside, worst = 250, [], [], 0, 0
    for _ in range(trials):
        parts, biased = regrets(rng, np.full((3, 5), 0.5), [0.5] * 3, 5)
        mean, most = estimate(mean_of_strata([part.resampled for part in parts])), worst_crossed(parts)
        found.append((mean.value, most.value))
        hindsight.append(biased)
        inside += mean.low <= 0 <= mean.high
        worst += most.low <= 0 <= most.high
    # The SD of a study's mean is about .018, of its worst .03: standard errors .0012 and .002.
    assert np.mean(found, axis=0) == pytest.approx([0, 0], abs=0.006)
    assert np.mean(hindsight) > 0.015
    assert 0.92 <= inside / trials <= 0.99
    assert worst / trials >= 0.95


def test_where_one_constant_is_far_best_it_is_chosen_and_its_regret_covered():
    rng = np.random.default_rng(12)
    levels, rule = np.array([[0.5, 0.2, 0.2], [0.2, 0.5, 0.2]]), [0.48, 0.42]
    trials, values, inside, worst = 250, [], 0, 0
    for _ in range(trials):
        parts, _ = regrets(rng, levels, rule, 5)
        mean, most = estimate(mean_of_strata([part.resampled for part in parts])), worst_crossed(parts)
        values.append(mean.value)
        inside += mean.low <= 0.05 <= mean.high
        worst += most.low <= 0.08 <= most.high
    assert np.mean(values) == pytest.approx(0.05, abs=0.005)
    assert 0.91 <= inside / trials <= 0.985
    assert worst / trials >= 0.93


def test_all_cuts_are_there_while_they_are_few():
    assert sorted(map(tuple, cuts(5).tolist())) == sorted(
        tuple(float(i in held) for i in range(5)) for held in itertools.combinations(range(5), 2)
    )
