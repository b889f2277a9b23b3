"""Time to divergence on windows with known faults; survival against the textbook and brute force."""

from copy import copy

import numpy as np
import pytest
import torch

from audio_engram.statistics import SpeakerBootstrap
from audio_engram.survival import CAUSES, Divergence, RealRange, finite_frames, motion, survival
from audio_engram.window_space import WindowSpace

WINDOW, HOLD = 4, 5


def noise(b=20, s=60, d=6, seed=0):
    return torch.randn(b, s, d, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def fitted():
    train = noise(60, 80)
    return RealRange(WindowSpace(train, WINDOW, 5), train, HOLD)


@pytest.fixture(scope="module")
def span(fitted):
    """Wider bounds, which only planted departures cross."""
    wide = copy(fitted)
    wide.spans = [(low / 2, 2 * high) for low, high in fitted.spans]
    return wide


def one(span, z, **how):
    """Frames, cause of a single trajectory."""
    found = span.diverge(z[None], **how)
    return int(found.frames), found.why()[0]


def test_most_real_trajectories_survive(fitted):
    # 60 fresh trajectories of 53 runs, 0.05 % beyond each of 6 bounds: at most 9.5 are expected, less as runs overlap.
    assert 1 <= fitted.diverge(noise(60, seed=1)).diverged.sum() <= 15


def test_bounds_are_those_of_runs(fitted):
    moved = motion(noise(60, 80), WINDOW).numpy()
    runs = [row[s : s + HOLD] for row in moved for s in range(77 - HOLD + 1)]
    low, high = fitted.spans[2]
    assert np.mean([run.max() < low for run in runs]) == pytest.approx(5e-4, abs=3e-4)
    assert np.mean([run.min() > high for run in runs]) == pytest.approx(5e-4, abs=3e-4)


def test_training_shorter_than_a_run():
    train = noise(9, 7)
    with pytest.raises(ValueError, match="no run of 5 windows"):
        RealRange(WindowSpace(train, WINDOW, 5), train, HOLD)


@pytest.mark.parametrize(("start", "end"), [(20, 22), (30, 36), (0, 4)])
def test_the_time_is_the_end_of_the_first_window_out(span, start, end):
    # Windows that hold any far frame are out: end - start + WINDOW - 1 in a row.
    z = noise(1, seed=3)[0]
    z[start:end] += 100
    lasting = min(end, 57) - max(start - WINDOW + 1, 0) >= HOLD
    wanted = (max(start + 1, WINDOW), "far") if lasting else (60, "")
    assert one(span, z) == wanted


def test_a_short_departure_is_forgiven_and_a_lasting_one_not(span):
    z = noise(1, seed=3)[0]
    z[20] += 100  # four windows hold it
    assert one(span, z) == (60, "")
    z[21] += 100  # five do
    assert one(span, z) == (21, "far")


def test_causes(span):
    z = noise(1, seed=3)[0]
    frozen, racing, collapsed = z.clone(), z.clone(), z.clone()
    frozen[20:] = frozen[20]
    assert one(span, frozen)[1] == "frozen"
    # Three frames that stand still are a motion no real window has; the first such window ends after frame 23.
    assert 22 <= one(span, frozen)[0] <= 24
    racing[20:] *= 3 * (-1.0) ** torch.arange(40)[:, None]
    racing = racing.clamp(-4, 4)
    assert one(span, racing)[1] in ("racing", "far")
    collapsed[20:] *= 1e-3
    assert one(span, collapsed)[1] in ("frozen", "collapsed")


def test_collapse_onto_a_moving_average_is_seen_without_freezing():
    """Frames near the mean whose increments are as long as ever: only the distances tell."""
    train = noise(60, 80)
    quiet = RealRange(WindowSpace(train, WINDOW, 5), train, HOLD)
    quiet.spans[2] = (0.0, 1e9)
    z = noise(1, seed=3)
    z[:, 20:] *= 1e-2
    assert quiet.diverge(z).why() == ["collapsed"]


def test_departure_beside_the_components_is_far():
    """Six dimensions that go together: where two part, no component of the four sees it."""
    train = noise(60, 80, 1) + 0.1 * noise(60, 80, seed=1)
    space = WindowSpace(train, WINDOW, 4)
    span = RealRange(space, train, HOLD)
    z = noise(1, d=1, seed=2) + 0.1 * noise(1, seed=3)
    assert span.diverge(z).why() == [""]
    parted = z.clone()
    parted[:, 30:, 0] += 1
    parted[:, 30:, 1] -= 1
    torch.testing.assert_close(space.distance(parted)[0], space.distance(z)[0], atol=0.02, rtol=0)
    assert span.diverge(parted).why() == ["far"]
    together = z.clone()
    together[:, 30:] = z[:, 30:].mean(2, keepdim=True)
    assert span.diverge(together).why() == ["collapsed"]


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("frame", [0, 2, 30, 59])
def test_a_frame_that_is_not_finite_ends_it_at_once(span, value, frame):
    z = noise(1, seed=3)[0]
    z[frame:, 2] = value
    assert one(span, z) == (frame + 1, "not finite")
    assert finite_frames(z[None]).tolist() == [frame]


def test_what_came_first_is_told(span):
    z = noise(1, seed=3)[0]
    z[20:] += 100
    z[23:] = torch.inf
    assert one(span, z) == (21, "far")
    assert finite_frames(noise(2)).tolist() == [60, 60]
    z = noise(1, seed=3)[0]
    z[10:30] = z[10]
    z[45:] += 100
    frames, cause = one(span, z)
    assert cause == "frozen"
    assert frames < 15


def test_padding_does_not_count(span):
    z = noise(1, seed=3)[0]
    z[40:] = torch.nan
    assert one(span, z, lengths=torch.tensor([40])) == (40, "")
    assert one(span, z, lengths=torch.tensor([41])) == (41, "not finite")
    z[34:] = 100.0
    # Windows end at 35 to 38: four, one too few to be sure.
    assert one(span, z, lengths=torch.tensor([38])) == (38, "")
    assert one(span, z, lengths=torch.tensor([39])) == (35, "far")
    assert one(span, z, lengths=torch.tensor([2])) == (2, "")


def test_motion_by_hand():
    z = torch.tensor([0.0, 1, 3, 3, 7]).view(1, 5, 1)
    assert motion(z, 3).tolist() == [[1.5, 1.0, 2.0]]


def test_a_trajectory_shorter_than_the_hold_survives(span):
    assert span.diverge(100 + noise(2, 6)).diverged.tolist() == [False, False]


# Kaplan-Meier


def divergence(frames, diverged):
    diverged = torch.tensor(diverged)
    return Divergence(torch.tensor(frames), diverged, diverged.long() * CAUSES.index("far"))


def curve(frames, diverged, horizons, speaker=None, resamples=100):
    speaker = torch.arange(len(frames)) if speaker is None else torch.tensor(speaker)
    some = divergence(frames, [bool(d) for d in diverged])
    return survival(some, torch.tensor(horizons, dtype=torch.float64), SpeakerBootstrap(speaker, resamples))


def test_the_leukaemia_trial_of_the_textbooks():
    """6-MP arm of Freireich et al. 1963; Kaplan-Meier of Kalbfleisch & Prentice, table 1.1 worked by every textbook."""
    frames = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
    event = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    found = curve(frames, event, [5, 6, 7, 10, 13, 16, 22, 23, 30])
    want = [1, 0.8571, 0.8067, 0.7529, 0.6902, 0.6275, 0.5378, 0.4482, 0.4482]
    assert [f.value for f in found] == pytest.approx(want, abs=5e-5)


def test_without_censoring_it_is_the_share_left():
    frames = [3, 9, 1, 7, 7, 2]
    found = curve(frames, [1] * 6, [0, 1, 2.5, 7, 8.9, 9])
    assert [f.value for f in found] == pytest.approx([1, 5 / 6, 4 / 6, 1 / 6, 1 / 6, 0])


def test_order_of_rows_means_nothing():
    frames, event = [5, 5, 8, 8, 3, 12], [1, 0, 1, 0, 0, 1]
    forward, back = curve(frames, event, [5, 8, 12]), curve(frames[::-1], event[::-1], [5, 8, 12])
    assert [f.value for f in forward] == pytest.approx([f.value for f in back])
    # Censored at 5 is still at risk at 5: one of five.
    assert forward[0].value == pytest.approx(4 / 5)


def test_beyond_what_was_followed_nothing_is_told():
    found = curve([10, 10, 4], [0, 0, 1], [10, 10.9, 11])
    assert [f.value for f in found[:2]] == pytest.approx([2 / 3, 2 / 3])
    assert np.isnan(found[2].value)
    assert found[2].low is None
    assert (found[2].n_frames, found[2].n_speakers) == (0, 0)  # which tells it from what broke
    assert found[1].n_frames == 3
    gone = curve([3, 4, 5], [1, 1, 1], [60])
    assert gone[0].value == 0


def test_speakers_are_resampled_with_all_their_rows():
    generator = np.random.default_rng(0)
    speaker = np.repeat(np.arange(8), 3)
    frames, event = generator.integers(1, 30, 24), generator.integers(0, 2, 24)
    some = divergence(frames.tolist(), [bool(e) for e in event])
    bootstrap = SpeakerBootstrap(torch.tensor(speaker), 200, seed=3)
    seen = {}
    bootstrap.interval = lambda values, n: seen.update(values=values) or SpeakerBootstrap.interval(bootstrap, values, n)
    survival(some, torch.tensor([12.0], dtype=torch.float64), bootstrap)
    for counts, found in zip(bootstrap.counts.int().numpy(), seen["values"][1:].tolist(), strict=True):
        rows = np.concatenate([np.flatnonzero(speaker == s) for s in range(8) for _ in range(counts[s])])
        share = 1.0
        for at in np.unique(frames[rows]):
            if at <= 12:
                share *= 1 - ((frames[rows] == at) & (event[rows] == 1)).sum() / (frames[rows] >= at).sum()
        assert found == pytest.approx(share, abs=1e-12)


def test_where_none_or_all_diverged_the_binomial_speaks():
    none = curve([9] * 12, [0] * 12, [9], speaker=list(range(6)) * 2)[0]
    assert (none.value, none.high) == (1, 1)
    assert none.low == pytest.approx(0.025 ** (1 / 6))  # Clopper-Pearson of 6 of 6
    everyone = curve([9] * 6, [1] * 6, [9])[0]
    assert (everyone.value, everyone.low) == (0, 0)
    assert everyone.high == pytest.approx(1 - 0.025 ** (1 / 6))
    mixed = curve([3, 9, 9, 9], [1, 0, 0, 0], [2, 5])
    assert mixed[0].value == 1
    assert mixed[1].low < 0.75 < mixed[1].high
