"""The speaker bootstrap against brute-force resampling, and whether its intervals cover what they say."""

from math import sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, t

from audio_engram.statistics import SpeakerBootstrap, _expanded_tail


def speech(n_speakers=6, seed=0):
    """Speakers of unequal length, each with a mean of its own; frames in mixed order."""
    rng = np.random.default_rng(seed)
    speaker = rng.permutation(np.repeat(np.arange(n_speakers) * 3 + 1, rng.integers(3, 20, n_speakers)))
    values = rng.normal(size=n_speakers)[speaker // 3] + rng.normal(size=len(speaker)) ** 3
    return torch.tensor(speaker), torch.tensor(values)


def brute_force(b, speaker, statistic):
    """The statistic recomputed on frames that are really repeated, resample by resample; of nothing there is none."""
    names = np.unique(speaker.numpy())
    found = []
    for counts in b.counts[b.counts.sum(1) > 0].int().numpy():
        rows = [np.flatnonzero(speaker.numpy() == name) for name in names]
        rows = np.concatenate([r for r, c in zip(rows, counts, strict=True) for _ in range(c)])
        found.append(statistic(rows))
    return np.array(found)


def check(interval, statistic, b, speaker):
    everything = np.arange(len(speaker))
    assert interval.value == pytest.approx(statistic(everything), rel=1e-9)
    tail = _expanded_tail(b.n_speakers)
    low, high = np.quantile(brute_force(b, speaker, statistic), [tail, 1 - tail])
    assert interval.low == pytest.approx(low, rel=1e-9)
    assert interval.high == pytest.approx(high, rel=1e-9)
    assert (interval.n_frames, interval.n_speakers) == (len(speaker), b.n_speakers)


@pytest.fixture(params=[0, 1])
def data(request):
    speaker, values = speech(seed=request.param)
    return speaker, values, SpeakerBootstrap(speaker, 300, seed=2)


def test_mean(data):
    speaker, values, b = data
    check(b.mean(values), lambda rows: values.numpy()[rows].mean(), b, speaker)


def test_ratio_and_r2(data):
    speaker, values, b = data
    top, bottom = values.square(), (values + 1).square()
    check(b.ratio(top, bottom), lambda r: top.numpy()[r].sum() / bottom.numpy()[r].sum(), b, speaker)
    check(b.r2(top, bottom), lambda r: 1 - top.numpy()[r].sum() / bottom.numpy()[r].sum(), b, speaker)


@pytest.mark.parametrize("q", [0.05, 0.3, 0.5, 0.97])
def test_quantile(data, q):
    speaker, values, b = data

    def statistic(rows):
        return np.quantile(values.numpy()[rows], q, method="inverted_cdf")

    check(b.quantile(values, q), statistic, b, speaker)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.25])
def test_trimmed_mean(data, share):
    speaker, values, b = data

    def statistic(rows):
        # Each frame is 20,000 equal shares of itself, so that a cut may fall inside a frame.
        ordered = np.sort(values.numpy()[rows])
        edges = np.arange(len(ordered) + 1)
        cut = share * len(ordered)
        kept = np.clip(np.minimum(edges[1:], len(ordered) - cut) - np.maximum(edges[:-1], cut), 0, None)
        return (kept * ordered).sum() / kept.sum()

    check(b.trimmed_mean(values, share), statistic, b, speaker)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=2, max_size=30), st.floats(0.01, 0.99))
def test_quantile_of_the_sample_is_one_of_its_values_whatever_the_ties(values, q):
    speaker = torch.arange(len(values)) % 2
    b = SpeakerBootstrap(speaker, 5)
    interval = b.quantile(torch.tensor(values, dtype=torch.float64), q)
    assert interval.value in values
    assert interval.value == np.quantile(values, q, method="inverted_cdf")


def test_the_order_of_frames_is_of_no_consequence(data):
    speaker, values, b = data
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
    other = SpeakerBootstrap(speaker[order], 300, seed=2)
    for name, arguments in (("mean", ()), ("quantile", (0.5,)), ("trimmed_mean", ())):
        one, two = getattr(b, name)(values, *arguments), getattr(other, name)(values[order], *arguments)
        assert one.value == pytest.approx(two.value)
        assert one.low == pytest.approx(two.low)


def test_the_same_seed_gives_the_same_draws_and_differences_pair(data):
    speaker, values, b = data
    again, other = SpeakerBootstrap(speaker, 300, seed=2), SpeakerBootstrap(speaker, 300, seed=3)
    assert b.mean(values) == again.mean(values)
    assert b.mean(values) != other.mean(values)
    ones = torch.ones_like(values)
    difference = b.ratios(values, ones) - b.ratios(values - 0.25, ones)
    assert difference.numpy() == pytest.approx(np.full(301, 0.25))


@pytest.mark.parametrize(("n_speakers", "seed"), [(8, 4), (3, 0)])
def test_speakers_without_frames_are_drawn_but_not_counted(n_speakers, seed):
    speaker, values = speech(n_speakers)
    everyone = torch.arange(60)
    b = SpeakerBootstrap(speaker, 2000, seed, everyone)
    assert torch.equal(b.counts, SpeakerBootstrap(everyone, 2000, seed).counts[:, speaker.unique()])
    assert 0 < int((b.counts.sum(1) == 0).sum()) < 200  # resamples that hold none
    assert b.n_speakers == n_speakers
    check(b.mean(values), lambda rows: values.numpy()[rows].mean(), b, speaker)
    check(b.quantile(values, 0.5), lambda r: np.quantile(values.numpy()[r], 0.5, method="inverted_cdf"), b, speaker)


def test_naming_all_that_are_drawn_changes_nothing_where_all_have_frames(data):
    speaker, values, b = data
    named = SpeakerBootstrap(speaker, 300, seed=2, among=speaker.flip(0))
    for name, more in (("mean", ()), ("quantile", (0.3,)), ("trimmed_mean", ()), ("ratio", (values.exp(),))):
        assert getattr(named, name)(values, *more) == getattr(b, name)(values, *more)


def test_a_difference_of_samples_has_the_speakers_of_the_smaller():
    everyone, few = torch.arange(60), torch.arange(7)
    values = torch.tensor(np.random.default_rng(0).normal(size=60))
    whole, part = SpeakerBootstrap(everyone, 4000), SpeakerBootstrap(few, 4000, among=everyone)
    difference = whole.ratios(values, torch.ones(60)) - part.ratios(values[:7], torch.ones(7))
    assert bool(difference.isnan().any())
    found = whole.interval(difference, 60, part)
    low, high = np.nanquantile(difference[1:], [_expanded_tail(7), 1 - _expanded_tail(7)])
    assert (found.n_speakers, found.low, found.high) == (7, pytest.approx(low), pytest.approx(high))
    assert found == part.interval(difference, 60, whole)


def test_frames_of_a_speaker_are_not_independent():
    # The same speaker means with 4 or 400 frames each: the interval must not shrink with the frames.
    rng = np.random.default_rng(0)
    means = torch.tensor(rng.normal(size=10))

    def width(n_frames):
        speaker = torch.arange(10).repeat_interleave(n_frames)
        interval = SpeakerBootstrap(speaker, 1000).mean(means[speaker])
        return interval.high - interval.low

    assert width(400) == pytest.approx(width(4), rel=1e-6)
    assert width(4) > 0.8


def test_percentiles_are_expanded_to_the_width_of_a_t_interval():
    # For a mean over speakers the bootstrap's deviation is s sqrt((n - 1) / n) / sqrt(n); with the expanded
    # percentiles the interval of Gaussian speaker means is that of Student's t. Of 20,000 resamples a
    # percentile as far out as 0.001 moves by 0.07 deviations.
    n = 6
    values = torch.tensor(norm.ppf((np.arange(n) + 0.5) / n))
    interval = SpeakerBootstrap(torch.arange(n), 20_000).mean(values)
    expected = t.ppf(0.975, n - 1) * float(values.std()) / sqrt(n)
    assert interval.high == pytest.approx(expected, rel=0.12)
    assert interval.low == pytest.approx(-expected, rel=0.12)
    assert norm.ppf(_expanded_tail(10**6)) == pytest.approx(-1.96, abs=1e-3)
    tails = [_expanded_tail(n) for n in (2, 3, 5, 10, 100)]
    assert tails == sorted(tails)
    assert tails[-1] < 0.025


@pytest.mark.parametrize("n_speakers", [5, 20])
def test_coverage(n_speakers):
    # 400 corpora of speakers with means and lengths of their own. At a true coverage of 95 % the share has
    # deviation 0.011: the bounds are 4.5 deviations below and 3.5 above. An interval over frames instead of
    # speakers covers about a third.
    rng, covered = np.random.default_rng(1), 0
    for corpus in range(400):
        lengths = rng.integers(20, 40, n_speakers)
        speaker = np.repeat(np.arange(n_speakers), lengths)
        values = rng.normal(size=n_speakers)[speaker] + rng.normal(size=len(speaker))
        interval = SpeakerBootstrap(torch.tensor(speaker), 400, seed=corpus).mean(torch.tensor(values))
        covered += interval.low <= 0 <= interval.high
    assert 0.90 <= covered / 400 <= 0.99


def test_coverage_where_most_of_the_speakers_that_are_drawn_have_no_frames():
    # 8 of 60. By 20,000 other corpora these intervals cover 95.8 %, so that the bounds fail once in 15,000 seeds. With
    # the tails of 60 speakers they covered 91 %, and one in 13 was none, because a resample held nobody.
    rng, covered = np.random.default_rng(1), 0
    for corpus in range(1000):
        speaker = np.repeat(np.arange(8), rng.integers(20, 40, 8))
        values = torch.tensor(rng.normal(size=8)[speaker] + rng.normal(size=len(speaker)))
        interval = SpeakerBootstrap(torch.tensor(speaker), 400, corpus, torch.arange(60)).mean(values)
        covered += interval.low is not None and interval.low <= 0 <= interval.high
    assert 0.93 <= covered / 1000 <= 0.98


def test_few_speakers_are_wider():
    rng = np.random.default_rng(0)
    widths = []
    for n in (3, 6, 12, 48):
        each = [
            SpeakerBootstrap(torch.arange(n), 400, seed=i).mean(torch.tensor(rng.normal(size=n))) for i in range(60)
        ]
        widths.append(np.mean([(i.high - i.low) * sqrt(n) for i in each]))
    assert widths[1] > widths[2] > widths[3]
    assert widths[3] == pytest.approx(2 * 1.96, rel=0.12)


def test_no_interval_from_one_speaker_or_where_a_resample_is_not_finite():
    one = SpeakerBootstrap(torch.zeros(5, dtype=torch.long), 100).mean(torch.arange(5.0))
    assert (one.value, one.low, one.high) == (2.0, None, None)
    values = torch.tensor([1.0, float("inf"), 2.0, 3.0])
    broken = SpeakerBootstrap(torch.tensor([0, 0, 1, 1]), 100).mean(values)
    assert broken.value == float("inf")
    assert (broken.low, broken.high) == (None, None)
    empty = SpeakerBootstrap(torch.tensor([0, 1]), 100).ratio(torch.ones(2), torch.tensor([1.0, 0.0]))
    assert (empty.low, empty.high) == (None, None)
    undefined = SpeakerBootstrap(torch.tensor([0, 1]), 100).ratio(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0]))
    assert (undefined.value, undefined.low, undefined.high) == (1.0, None, None)
    alone = SpeakerBootstrap(torch.zeros(5, dtype=torch.long), 100, among=torch.arange(9)).mean(torch.arange(5.0))
    assert (alone.value, alone.low, alone.n_speakers) == (2.0, None, 1)


def test_values_in_float32_are_summed_in_float64():
    speaker = torch.arange(2).repeat_interleave(200_000)
    values = torch.full((400_000,), 0.1)
    assert SpeakerBootstrap(speaker, 10).mean(values).value == pytest.approx(float(values[0]), rel=1e-12)
