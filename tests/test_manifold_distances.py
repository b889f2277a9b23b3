"""Fréchet distance and MMD against closed forms, SciPy and enumeration; halves and their jackknife."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.spatial.distance import pdist
from scipy.stats import t

from audio_engram.against_real import MOST_GROUPS, Halves, paired, random_halves, spread
from audio_engram.group_moments import GroupMoments, Points, finite_pairs
from audio_engram.set_distances import (
    Frechet,
    MeanDiscrepancy,
    frechet_distance,
    frechet_figure,
    frechet_times,
    kernel_sums,
    median_distance,
    mmd_figure,
)
from audio_engram.statistics import SpeakerBootstrap


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(k, seed, rank=None):
    a = normal(k, rank or 2 * k, seed=seed)
    return a @ a.T / a.shape[1]


def points(n_groups=5, each=7, k=3, seed=0, scale=1.0):
    group = torch.arange(n_groups).repeat_interleave(each)
    return Points(scale * normal(n_groups * each, k, seed=seed), group)


def halves(n_speakers=6, seed=0, each=1):
    bootstrap = SpeakerBootstrap(torch.arange(n_speakers).repeat_interleave(each), 10)
    return Halves(bootstrap, torch.Generator().manual_seed(seed))


# Fréchet distance


def test_diagonal_gaussians_in_closed_form():
    mean1, mean2, sd1, sd2 = normal(4, 5, seed=1).split(1)
    want = (mean1 - mean2).square().sum() + (sd1.abs() - sd2.abs()).square().sum()
    found = frechet_distance(mean1, torch.diag_embed(sd1.square()), mean2, torch.diag_embed(sd2.square()))
    assert float(found) == pytest.approx(float(want), rel=1e-13)


@pytest.mark.parametrize("k", [1, 2, 8, 32])
def test_gaussians_against_scipy(k):
    one, other, means = covariance(k, 1), covariance(k, 2), normal(2, k, seed=3)
    root = sqrtm(one.numpy() @ other.numpy()).real
    want = float((means[0] - means[1]).square().sum()) + np.trace(one.numpy() + other.numpy() - 2 * root)
    found = frechet_distance(means[:1], one[None], means[1:], other[None])
    assert float(found) == pytest.approx(want, rel=1e-11)


def test_singular_covariances():
    one, zero = covariance(20, 1, rank=3)[None], torch.zeros(1, 20, dtype=torch.float64)
    assert float(frechet_distance(zero, one, zero, one)) < 1e-12
    # Of S and c^2 S: (1 - c)^2 tr S.
    want = 0.25 * float(one[0].trace())
    assert float(frechet_distance(zero, one, zero, 0.25 * one)) == pytest.approx(want, rel=1e-12)


def test_moments_that_are_not_finite_give_nan_beside_others():
    one = torch.stack([covariance(3, 1), torch.full((3, 3), torch.nan, dtype=torch.float64)])
    zero = torch.zeros(2, 3, dtype=torch.float64)
    found = frechet_distance(zero, one, zero, torch.stack([covariance(3, 2)] * 2))
    assert found.isnan().tolist() == [False, True]


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_group_moments_are_those_of_repeated_rows(offset):
    some = points(seed=4)
    some = Points(some.rows + offset, some.group)
    weights = torch.tensor([[1.0, 1, 1, 1, 1], [0, 2, 1, 0, 3]], dtype=torch.float64)
    mean, cov = GroupMoments(some, 5, some.rows.mean(0))(weights)
    for row, m, c in zip(weights, mean, cov, strict=True):
        rows = some.rows.repeat_interleave(row[some.group].long(), 0).numpy()
        np.testing.assert_allclose(m, rows.mean(0), rtol=1e-12)
        np.testing.assert_allclose(c, np.cov(rows.T), rtol=1e-8 if offset else 1e-12)


def test_frechet_of_weighted_groups():
    generated, real = points(seed=1, scale=2.0), points(seed=2)
    first, second = torch.eye(5).double()[:1] + torch.eye(5).double()[1:2], torch.eye(5).double()[3:4]
    found = Frechet(generated, real, 5)("generated", "real", first, second)
    one, other = generated.rows[generated.group < 2].numpy(), real.rows[real.group == 3].numpy()
    root = sqrtm(np.cov(one.T) @ np.cov(other.T)).real
    want = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(np.cov(one.T) + np.cov(other.T) - 2 * root)
    assert float(found) == pytest.approx(want, rel=1e-10)


def test_what_is_not_finite_leaves_both_sets():
    generated, real = normal(2, 4, 3), normal(2, 4, 3, seed=1)
    generated[0, 1, 2], real[1, 3, 0] = torch.inf, torch.nan
    one, other = finite_pairs(generated, real, torch.tensor([7, 9]))
    assert one.group.tolist() == other.group.tolist() == [7, 7, 7, 9, 9, 9]
    assert torch.equal(one.rows[0], generated[0, 0])
    assert torch.equal(other.rows[-1], real[1, 2])


# MMD


def kernel(x, y, bandwidth):
    return float(torch.exp(-(x - y).square().sum() / (2 * bandwidth**2)))


def test_kernel_sums_by_loops():
    one, other = points(3, 4, seed=1), points(3, 5, seed=2)
    want = torch.zeros(3, 3, dtype=torch.float64)
    for x, g in zip(one.rows, one.group, strict=True):
        for y, h in zip(other.rows, other.group, strict=True):
            want[g, h] += kernel(x, y, 1.3)
    torch.testing.assert_close(kernel_sums(one, other, 3, 1.3), want, rtol=1e-12, atol=0)


def test_a_group_of_more_windows_than_a_chunk():
    one = Points(normal(600, 2), torch.zeros(600, dtype=torch.long))
    want = torch.exp(-torch.cdist(one.rows, one.rows).square() / 2).sum()
    assert float(kernel_sums(one, one, 1, 1.0)) == pytest.approx(float(want), rel=1e-9)


def pairs_mean(rows, columns, same):
    """Mean of the kernel over pairs of (group, point), without those of one group unless `same`."""
    values = [kernel(x, y, 1.0) for (g, x), (h, y) in product(rows, columns) if same or g != h]
    return sum(values) / len(values)


@pytest.mark.parametrize("same", [True, False])
def test_both_statistics_by_enumerating_pairs(same):
    generated, real = points(4, 3, seed=1), points(4, 2, seed=2)
    mmd = MeanDiscrepancy(generated, real, 4, 1.0)
    all_of_them = torch.ones(1, 4, dtype=torch.float64)
    found = (mmd.biased if same else mmd.unbiased)("generated", "real", all_of_them, all_of_them)
    x, y = (list(zip(s.group.tolist(), s.rows, strict=True)) for s in (generated, real))
    want = pairs_mean(x, x, same) + pairs_mean(y, y, same) - 2 * pairs_mean(x, y, same)
    assert float(found) == pytest.approx(want, abs=1e-13)


def test_unbiased_over_every_sample_there_is():
    """Speakers draw one of three possible (generated, real) pairs that depend on each other: mean over all samples."""
    x, y = normal(3, 2, seed=1), normal(3, 2, seed=2)
    x[0] = y[0]  # a rollout near its own speaker's real frames must not count as likeness of the sets
    ones, group = torch.ones(1, 3, dtype=torch.float64), torch.arange(3)
    unbiased, biased = [], []
    for drawn in product(range(3), repeat=3):
        mmd = MeanDiscrepancy(Points(x[list(drawn)], group), Points(y[list(drawn)], group), 3, 1.0)
        unbiased.append(float(mmd.unbiased("generated", "real", ones, ones)))
        biased.append(float(mmd.biased("generated", "real", ones, ones)))
    x, y = list(enumerate(x)), list(enumerate(y))
    truth = pairs_mean(x, x, True) + pairs_mean(y, y, True) - 2 * pairs_mean(x, y, True)
    assert np.mean(unbiased) == pytest.approx(truth, abs=1e-14)
    assert abs(np.mean(biased) - truth) > 0.01


def test_median_distance():
    some = normal(50, 3)
    assert median_distance(some) == pytest.approx(np.sort(pdist(some.numpy()))[(50 * 49 // 2 - 1) // 2], rel=1e-12)
    assert median_distance(normal(5000, 3)) == pytest.approx(median_distance(normal(5000, 3, seed=1)), rel=0.05)


# Halves and the jackknife


@pytest.mark.parametrize("n", [2, 5, 8])
def test_halves_are_equal_and_share_nobody(n):
    first, second = random_halves(n, torch.Generator().manual_seed(0))
    assert not (first & second).any()
    assert (first.sum(1) == n // 2).all()
    assert (second.sum(1) == n // 2).all()
    # Everybody is on either side, and out if the number is odd, in some of the 32.
    assert first.any(0).all()
    assert second.any(0).all()


def test_many_speakers_are_dealt_into_equal_groups():
    some = halves(70, each=2)
    assert some.n_groups == MOST_GROUPS
    sizes = torch.bincount(some.group, minlength=MOST_GROUPS)
    assert sizes.min() == 4
    assert sizes.max() == 6
    assert (some.group[::2] == some.group[1::2]).all()
    assert halves(9).group.unique().tolist() == list(range(9))


def test_the_jackknife_of_a_mean_is_the_t_interval():
    values, some = normal(9), halves(9)
    without = (values.sum() - values) / 8
    interval = some.interval(torch.cat([values.mean()[None], without]))
    half_width = t.ppf(0.975, 8) * float(values.std()) / 3
    assert interval.value == float(values.mean())
    assert interval.low == pytest.approx(float(values.mean()) - half_width)
    assert interval.high == pytest.approx(float(values.mean()) + half_width)
    logs = some.interval(torch.cat([values.mean()[None], without]).exp(), log=True)
    assert [logs.low, logs.high] == pytest.approx([np.exp(interval.low), np.exp(interval.high)])


def test_no_interval_where_there_can_be_none():
    assert halves(1).interval(torch.ones(2, dtype=torch.float64)).low is None
    values = torch.ones(7, dtype=torch.float64)
    values[3] = torch.nan
    assert halves(6).interval(values).high is None
    assert halves(6).interval(torch.zeros(7, dtype=torch.float64), log=True).low is None
    assert spread(torch.tensor([1.0, torch.nan, 3.0]), 5, 2).low is None
    assert spread(torch.arange(41.0), 5, 2).low == pytest.approx(1)


def test_each_deletion_is_a_set_of_halves_without_a_group():
    some = halves(6)
    found = some.each(lambda first, second: first @ (2.0 ** torch.arange(6).double()))
    assert found.shape == (7, 32)
    full = found[0]
    for group in range(6):
        assert set((full - found[1 + group]).tolist()) <= {0.0, 2.0**group}
    torch.testing.assert_close(some.mean(lambda first, second: first.sum(1))[0], torch.tensor(3.0).double())


def test_the_same_distribution_has_ratio_1():
    """24 pairs of sets with speaker means: at 5 % misses each, more than 5 come by luck once in 3,000."""
    missed, unbiased = 0, []
    for seed in range(24):
        some = halves(10, seed=seed)
        mean = 0.7 * normal(10, 3, seed=100 + seed).repeat_interleave(8, 0)
        one, other = (points(10, 8, seed=seed + extra) for extra in (200, 300))
        one, other = (Points(p.rows + mean, p.group) for p in (one, other))
        ratio = frechet_figure((one, other), some).ratio
        missed += not ratio.low < 1 < ratio.high
        unbiased.append(mmd_figure((one, other), some, 2.0).generated.value)
    assert missed <= 5
    # Within 4 standard errors, one in 16,000.
    assert abs(np.mean(unbiased)) < 4 * np.std(unbiased) / 24**0.5


def test_another_distribution_has_not():
    some = halves(10)
    wide, real = points(10, 8, seed=1, scale=2.0), points(10, 8, seed=2)
    found = frechet_figure((wide, real), some)
    assert found.ratio.low > 1
    # The biases of two distances of this size differ by less than either.
    assert found.ratio.value == pytest.approx(found.generated.value / found.real.value, abs=3)
    assert mmd_figure((wide, real), some, 2.0).generated.low > 0


def three_sets(offset=0.0, n=24, seed=0):
    """Windows of two generated sets, one of them moved, each beside those of real trajectories of the same speakers."""
    bootstrap = SpeakerBootstrap(torch.arange(n), 10)
    some = Halves(bootstrap, torch.Generator().manual_seed(0))
    one, other, real = normal(3, n, 20, 3, seed=seed)
    return finite_pairs(one + offset, real, some.group), finite_pairs(other, real, some.group), some


def test_times_as_far_is_the_ratio_of_ratios_both_ways_around():
    one, other, some = three_sets(offset=1.0)
    found, back = frechet_times(one, other, some), frechet_times(other, one, some)
    want = frechet_figure(one, some).ratio.value / frechet_figure(other, some).ratio.value
    assert found.value == pytest.approx(want, rel=1e-12)
    assert (found.low, found.high) == pytest.approx((1 / back.high, 1 / back.low), rel=1e-9)
    assert found.low > 1.5
    assert (found.n_speakers, found.n_frames) == (24, 24)
    same = frechet_times(one, one, some)
    assert (same.value, same.low, same.high) == pytest.approx((1.0, 1.0, 1.0))


def shrunk(scale, seed, n=24, each=6, k=8):
    """Windows of which no component varies as much as those of real speech, and others that vary as much."""
    some = Halves(SpeakerBootstrap(torch.arange(n), 10), torch.Generator().manual_seed(0))
    one, other, real = normal(3, n, each, k, seed=seed)
    return finite_pairs(scale * one, real, some.group), finite_pairs(other, real, some.group), some


def test_less_variance_is_no_nearer_for_the_want_of_windows():
    """Distances themselves are smaller among so few; their ratios are of distances with the bias of real ones. With a
    truth of 1 the mean is 4 standard errors above it once in 30,000."""
    sets = [shrunk(0.85, seed, n=16, each=4, k=16) for seed in range(24)]
    raw = [frechet_figure(a, h).generated.value / frechet_figure(b, h).generated.value for a, b, h in sets]
    times = np.array([frechet_times(*three).value for three in sets])
    assert np.mean(raw) < 0.97
    assert times.mean() > 1 + 4 * times.std() / 24**0.5


@pytest.mark.parametrize("scale", [0.6, 0.8, 1.0, 1.4])
def test_a_ratio_is_that_of_the_true_distance_and_the_bias_of_real_sets(scale):
    """k (1 - s)^2 for s times as wide: (ratio - 1) real distances, within 4 standard errors, outside once in 16,000."""
    found = []
    for seed in range(24):
        one, _, some = shrunk(scale, seed)
        figure = frechet_figure(one, some)
        found.append((figure.ratio.value - 1) * figure.real.value)
    error = np.mean(found) - 8 * (1 - scale) ** 2
    assert abs(error) < 4 * np.std(found) / 24**0.5


def test_two_draws_of_one_distribution_are_as_far():
    """95 % intervals, 40 draws: fewer than 33 that hold 1 have probability 0.0009 if they are exact."""
    intervals = [frechet_times(*three_sets(seed=seed)) for seed in range(40)]
    assert sum(i.low < 1 < i.high for i in intervals) >= 33


def test_a_set_that_is_nowhere_finite_is_no_times_as_far():
    one, other, some = three_sets(offset=float("nan"))
    found = frechet_times(one, other, some)
    assert found.value != found.value
    assert found.low is None


def test_paired_takes_both_sets_of_the_same_resample():
    bootstrap = SpeakerBootstrap(torch.arange(5), 200)
    values = torch.tensor([1.0, 2, 4, 8, 16], dtype=torch.float64)
    figure = paired(lambda w: w @ (3 * values), lambda w: w @ values, bootstrap, torch.Generator().manual_seed(0))
    assert (figure.ratio.low, figure.ratio.value, figure.ratio.high) == pytest.approx((3, 3, 3))
    assert figure.generated.value == 93
    assert figure.generated.high > 100
    # One speaker of five stays out; the extremes are {1, 2} against {8, 16} and back.
    assert figure.halves.low >= 3 / 24
    assert figure.halves.high <= 24 / 3
