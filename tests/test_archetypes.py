"""Directions, their nulls, and how clusters hold them, against plain arithmetic."""

from dataclasses import replace
from math import log

import pytest
import torch
import torch.nn.functional as F

from audio_engram.archetypes import (
    Space,
    cosines,
    fit_space,
    hold,
    increments,
    moments_of,
    size_entropy,
    unit_means,
)
from audio_engram.data.windows import Windows
from toys import ar_frames


def windows(split="train", frames=None):
    return Windows(frames or ar_frames(12, 400), split, 3, 1)


def test_real_increments_are_those_of_the_segments():
    w = windows()
    found = increments(w, "real", None, 0)
    torch.testing.assert_close(found.delta, w.gather(found.index).delta[:, -1])
    assert torch.equal(found.speaker, w.gather(found.index).speaker[:, -1])


def test_random_pairs_start_at_the_context_and_end_at_a_frame_of_the_same_utterance():
    # Two speakers of six utterances each, so that an utterance is less than its speaker.
    frames = ar_frames(12, 400)
    w = windows(frames=replace(frames, speaker=frames.speaker % 2))
    found = increments(w, "random_pairs", None, 0)
    reached = w.gather(found.index).context[:, -1] + found.delta
    apart = torch.cdist(reached, w.frames.z)
    near, place = apart.min(1)
    assert float(near.max()) < 0.01
    assert torch.equal(w.frames.speaker[place], found.speaker)
    assert torch.equal(w.frames.utterance[place], w.frames.utterance[w.target[found.index]])
    assert (w.frames.in_split("train")[place]).all()
    assert float((place == w.target[found.index]).double().mean()) < 0.05
    again, other = (increments(w, "random_pairs", None, seed) for seed in (0, 1))
    assert torch.equal(again.delta, found.delta)
    assert not torch.equal(other.index, found.index) or not torch.equal(other.delta, found.delta)


def test_gaussian_increments_have_the_covariance_they_were_given():
    w = windows()
    real = increments(w, "real", None, 0)
    found = increments(w, "gaussian", moments_of(real.delta), 0)
    n = len(found.delta)
    # Entries of a covariance of n rows have standard errors of at most sqrt(2 / n) of the variances; 5 of them.
    torch.testing.assert_close(found.delta.T.cov(), real.delta.T.cov(), rtol=0.0, atol=5 * (2 / n) ** 0.5)
    torch.testing.assert_close(found.delta.mean(0), real.delta.mean(0), rtol=0.0, atol=5 * (1 / n) ** 0.5)
    assert torch.equal(found.speaker, real.speaker)


def test_above_keeps_the_longer_ones_with_all_that_belongs_to_them():
    found = increments(windows(), "real", None, 0)
    longer = found.above(float(found.delta.norm(dim=1).median()))
    assert abs(len(longer.delta) - len(found.delta) / 2) < 2
    assert set(longer.index.tolist()) < set(found.index.tolist())
    assert len(longer.index) == len(longer.speaker) == len(longer.delta)


def test_the_space_holds_nine_tenths_of_the_variance_and_its_directions_are_units():
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([1.0, 0.8, 0.6, 0.1, 0.05, 0.02])
    delta = torch.randn(5000, 6, generator=generator) * scale
    space = fit_space(delta)
    assert space.vectors.shape == (6, 3)
    rows = space.directions(delta)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(5000))
    torch.testing.assert_close(rows, F.normalize(F.normalize(delta, dim=1) @ space.vectors, dim=1))
    torch.testing.assert_close(space.back(rows).norm(dim=1), torch.ones(5000))
    torch.testing.assert_close(space.directions(space.back(rows)), rows)


def test_hold_measures_cosines_to_centroids_and_squares_to_training_means():
    generator = torch.Generator().manual_seed(0)
    train, rows, centres = (F.normalize(torch.randn(n, 3, generator=generator), dim=1) for n in (60, 40, 4))
    own = torch.randint(3, (60,), generator=generator)  # the last cluster is empty
    held = hold(rows, centres, train, own)
    assert torch.equal(held.labels, (rows @ centres.T).argmax(1))
    torch.testing.assert_close(held.cosine, (rows @ centres.T).amax(1))
    means = torch.stack([*(train[own == k].mean(0) for k in range(3)), train.mean(0)])
    torch.testing.assert_close(held.within, (rows - means[held.labels]).square().sum(1))
    torch.testing.assert_close(held.total, (rows - train.mean(0)).square().sum(1))


def test_prototypes_are_mean_directions_in_all_dimensions():
    generator = torch.Generator().manual_seed(0)
    delta = torch.randn(60, 5, generator=generator) * torch.rand(60, 1, generator=generator)
    labels = torch.arange(60) % 3
    otherwise = F.normalize(torch.randn(4, 5, generator=generator), dim=1)
    found = unit_means(delta, labels, otherwise)
    for k in range(3):
        torch.testing.assert_close(found[k], F.normalize(F.normalize(delta[labels == k], dim=1).mean(0), dim=0))
    torch.testing.assert_close(found[3], otherwise[3])  # an empty cluster
    expected = torch.stack([F.cosine_similarity(delta, one, dim=1) for one in found]).amax(0)
    torch.testing.assert_close(cosines(delta, found), expected)


def test_entropy_of_sizes_is_one_where_they_are_alike():
    assert size_entropy(torch.arange(12) % 4, 4) == pytest.approx(1.0)
    assert size_entropy(torch.tensor([0, 0, 0, 1]), 4) == pytest.approx((0.75 * log(4 / 3) + 0.25 * log(4)) / log(4))
    assert size_entropy(torch.zeros(5, dtype=torch.long), 4) == pytest.approx(0.0)


def test_a_space_can_be_made_of_any_orthonormal_columns():
    vectors = torch.linalg.qr(torch.randn(5, 2, generator=torch.Generator().manual_seed(0)))[0]
    assert Space(vectors).back(torch.eye(2)).shape == (2, 5)
